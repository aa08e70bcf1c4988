package sheet_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/jpeg"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/stages/compare/sheet"
)

func TestShown(t *testing.T) {
	const (
		hundredth = 10 * time.Millisecond
		ms        = time.Millisecond
	)
	for name, tt := range map[string]struct {
		n          int
		loop, unit time.Duration
		first      []time.Duration
		each       []time.Duration // that there are
	}{
		"gif, 30 fps":  {60, 2 * time.Second, hundredth, []time.Duration{30 * ms, 40 * ms, 30 * ms, 30 * ms, 40 * ms, 30 * ms}, []time.Duration{30 * ms, 40 * ms}},
		"webp, 30 fps": {60, 2 * time.Second, ms, []time.Duration{33 * ms, 34 * ms, 33 * ms}, []time.Duration{33 * ms, 34 * ms}},
		"gif, 25 fps":  {50, 2 * time.Second, hundredth, []time.Duration{40 * ms}, []time.Duration{40 * ms}},
		"gif, 50 fps":  {7, 140 * ms, hundredth, []time.Duration{20 * ms}, []time.Duration{20 * ms}},
		"webp, 7 fps":  {7, time.Second, ms, nil, []time.Duration{142 * ms, 143 * ms}},
		"a third":      {20, 2 * time.Second / 3, hundredth, nil, []time.Duration{30 * ms, 40 * ms}},
	} {
		t.Run(name, func(t *testing.T) {
			var all []time.Duration
			var sum time.Duration
			for i := range tt.n {
				d := sheet.Shown(i, tt.n, tt.loop, tt.unit)
				all = append(all, d)
				// Neither early nor late by more than half a unit.
				if ideal := tt.loop * time.Duration(i) / time.Duration(tt.n); (sum - ideal).Abs() > tt.unit/2+tt.loop%tt.unit {
					t.Errorf("frame %d comes at %v, not %v", i, sum, ideal)
				}
				sum += d
			}
			if want := tt.loop.Round(tt.unit); sum != want {
				t.Errorf("all take %v, not %v", sum, want)
			}
			if !slices.Equal(all[:len(tt.first)], tt.first) {
				t.Errorf("they begin with %v", all)
			}
			slices.Sort(all)
			if got := slices.Compact(all); !slices.Equal(got, tt.each) {
				t.Errorf("there are %v, want %v", got, tt.each)
			}
		})
	}
}

// photo is a piece of a photograph, and the same as a coarse JPEG.
func photo(t *testing.T) (before, after sheet.Picture) {
	t.Helper()
	data, err := os.ReadFile("../../../testdata/photos/flower.jpg")
	if err != nil {
		t.Fatal(err)
	}
	m, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	a := image.NewRGBA(image.Rect(0, 0, 160, 120))
	draw.Draw(a, a.Rect, m, image.Pt(300, 200), draw.Src)
	var b bytes.Buffer
	if err := jpeg.Encode(&b, a, &jpeg.Options{Quality: 5}); err != nil {
		t.Fatal(err)
	}
	coarse, err := jpeg.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	return sheet.Picture{Name: "coarse", Image: coarse}, sheet.Picture{Name: "fine", Image: a}
}

func encode(t *testing.T, before, after sheet.Picture, o sheet.Options) []byte {
	t.Helper()
	var b, again bytes.Buffer
	if _, err := sheet.Encode(t.Context(), &b, before, after, o); err != nil {
		t.Fatal(err)
	}
	if _, err := sheet.Encode(t.Context(), &again, before, after, o); err != nil || !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Errorf("the same pictures give other bytes (%v)", err)
	}
	return b.Bytes()
}

// played are the canvases of a GIF after each frame.
func played(t *testing.T, data []byte) (g *gif.GIF, canvas []*image.RGBA) {
	t.Helper()
	g, err := gif.DecodeAll(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	now := image.NewRGBA(image.Rect(0, 0, g.Config.Width, g.Config.Height))
	for i, m := range g.Image {
		if g.Disposal[i] != gif.DisposalNone {
			t.Errorf("frame %d does not stay", i)
		}
		draw.Draw(now, m.Rect, m, m.Rect.Min, draw.Src)
		canvas = append(canvas, drawn(image.NewRGBA(now.Rect), now))
	}
	return g, canvas
}

func TestGIF(t *testing.T) {
	before, after := photo(t)
	bare := sheet.Options{Format: sheet.GIF, NoLabels: true, MaxSide: 160}
	for transition, tt := range map[sheet.Transition]struct{ moving, still int }{
		sheet.Fade: {29, 31}, sheet.Wipe: {30, 30}, sheet.Cut: {2, 58},
	} {
		t.Run(string(transition), func(t *testing.T) {
			o := bare
			o.Transition = transition
			g, canvas := played(t, encode(t, before, after, o))
			sum := 0
			still := 0
			for i, d := range g.Delay {
				sum += d
				if g.Image[i].Rect.Dx() == 1 && g.Image[i].Rect.Dy() == 1 {
					still++
				}
			}
			if len(g.Image) != 60 || sum != 200 || g.LoopCount != 0 {
				t.Errorf("%d frames in %d hundredths of a second, repeated %d times", len(g.Image), sum, g.LoopCount)
			}
			if still < tt.still-3 || still > tt.still {
				t.Errorf("%d frames change nothing, want %d", still, tt.still)
			}
			for i, want := range map[int]image.Image{0: before.Image, 14: before.Image, 31: after.Image, 44: after.Image} {
				if d, err := sheet.Compare(t.Context(), want, canvas[i], sheet.Options{}); err != nil || d.PSNR < 27 || d.Enlarged {
					t.Errorf("frame %d is not the picture: %v, %v", i, d, err)
				}
			}
			// A third of the way, the left side still is before when a line moves.
			left := image.Rect(0, 0, 60, 120)
			like := func(p sheet.Picture) float64 {
				d, err := sheet.Compare(t.Context(), drawn(image.NewRGBA(left), p.Image), canvas[20].SubImage(left), sheet.Options{})
				if err != nil {
					t.Fatal(err)
				}
				return d.PSNR
			}
			if a, b := like(before), like(after); transition == sheet.Wipe && a < b {
				t.Errorf("left of the line there is after (PSNR %v), and not before (%v)", b, a)
			}
			if d, err := sheet.Compare(t.Context(), canvas[20], canvas[38], sheet.Options{}); err != nil || d.Max == 0 {
				t.Errorf("frame 20 is as frame 38, which has another share of the two (%v)", err)
			}
		})
	}
}

// What does not change does not flicker: a pixel that is the same in both pictures keeps
// its colour in every frame, and the mean of a flat area is what it should be.
func TestGIFDoesNotFlicker(t *testing.T) {
	before, after := photo(t)
	a, b := drawn(image.NewRGBA(image.Rect(0, 0, 160, 120)), before.Image), drawn(image.NewRGBA(image.Rect(0, 0, 160, 120)), after.Image)
	// All around something changes, so that every frame is written as a whole.
	same, flat := image.Rect(20, 20, 140, 100), image.Rect(20, 60, 140, 100)
	for _, m := range []*image.RGBA{a, b} {
		draw.Draw(m, same, after.Image, image.Pt(20, 20), draw.Src)
		draw.Draw(m, flat, image.NewUniform(color.RGBA{87, 143, 201, 255}), image.Point{}, draw.Src)
	}
	_, canvas := played(t, encode(t, sheet.Picture{Image: a}, sheet.Picture{Image: b}, sheet.Options{Format: sheet.GIF, NoLabels: true, MaxSide: 160, FPS: 10}))
	for i, m := range canvas[1:] {
		for y := same.Min.Y; y < same.Max.Y; y++ {
			for x := same.Min.X; x < same.Max.X; x++ {
				if m.RGBAAt(x, y) != canvas[0].RGBAAt(x, y) {
					t.Fatalf("frame %d: the pixel %d, %d changes from %v to %v", i+1, x, y, canvas[0].RGBAAt(x, y), m.RGBAAt(x, y))
				}
			}
		}
	}
	var sum [3]int
	for y := flat.Min.Y; y < flat.Max.Y; y++ {
		for x := flat.Min.X; x < flat.Max.X; x++ {
			c := canvas[0].RGBAAt(x, y)
			sum[0], sum[1], sum[2] = sum[0]+int(c.R), sum[1]+int(c.G), sum[2]+int(c.B)
		}
	}
	for i, want := range []int{87, 143, 201} {
		if got := sum[i] / (flat.Dx() * flat.Dy()); got < want-4 || got > want+4 {
			t.Errorf("the flat area has %d in channel %d on the mean, not %d", got, i, want)
		}
	}
}

// A loop is as long as it should be, whatever the speed.
func TestLengths(t *testing.T) {
	before, after := photo(t)
	for name, tt := range map[string]struct {
		o      sheet.Options
		frames int
		loop   int // hundredths of a second
	}{
		"twice as fast": {sheet.Options{Speed: 2}, 30, 100},
		"slow":          {sheet.Options{Seconds: 1, Speed: 0.5, FPS: 10}, 20, 200},
		"odd":           {sheet.Options{Seconds: 1.5, FPS: 7}, 11, 150},
		"short":         {sheet.Options{Seconds: 0.1, FPS: 1}, 2, 10},
	} {
		o := tt.o
		o.Format, o.MaxSide, o.NoLabels = sheet.GIF, 64, true
		g, _ := played(t, encode(t, before, after, o))
		sum := 0
		for _, d := range g.Delay {
			sum += d
		}
		if len(g.Image) != tt.frames || sum != tt.loop {
			t.Errorf("%s: %d frames in %d hundredths of a second, want %d in %d", name, len(g.Image), sum, tt.frames, tt.loop)
		}
	}
}

func TestWebPAnimation(t *testing.T) {
	if _, err := imageio.WebPLibrary(); err != nil {
		t.Skip(err)
	}
	before, after := photo(t)
	data := encode(t, before, after, sheet.Options{Format: sheet.WebP, Transition: sheet.Wipe})
	frames, sum, bytes := 0, 0, 0
	for rest := data[12:]; len(rest) > 0; {
		n := int(binary.LittleEndian.Uint32(rest[4:]))
		if string(rest[:4]) == "ANMF" {
			frames++
			sum += int(rest[20]) | int(rest[21])<<8
			bytes = max(bytes, n)
		}
		rest = rest[8+n+n%2:]
	}
	if frames != 60 || sum != 2000 || len(data) > 12*bytes {
		t.Errorf("%d frames in %d ms, %d bytes, of which the largest frame has %d", frames, sum, len(data), bytes)
	}
}

// Labels change from one name to the other when more than half of the way is gone.
func TestLabelsOfAnimations(t *testing.T) {
	before, after := photo(t)
	g, canvas := played(t, encode(t, before, after, sheet.Options{Format: sheet.GIF, MaxSide: 160, FPS: 10}))
	if g.Config.Height <= 120+20 || g.Config.Width < 160 {
		t.Fatalf("the frames have %d x %d pixels", g.Config.Width, g.Config.Height)
	}
	label := func(i int) []byte { return canvas[i].Pix[:canvas[i].Stride*(g.Config.Height-120)] }
	if !bytes.Equal(label(0), label(7)) || !bytes.Equal(label(8), label(14)) || bytes.Equal(label(0), label(10)) {
		t.Error("the labels are not those of before until the middle and of after from then on")
	}
}

func TestShortened(t *testing.T) {
	for text, want := range map[string]string{
		"a.png":                                  "a.png",
		"a-long-name-that-does-not-fit-0001.png": "a-long-na…0001.png",
		"写真-é-жук-λ.png":                         "□□-é-жук-λ.png",
		"a\x00\n\xff.png":                        "a□□�.png",
	} {
		if got, err := sheet.Shortened(text, 130); err != nil || got != want {
			t.Errorf("%q is written as %q, want %q (%v)", text, got, want, err)
		}
	}
}

func TestScale(t *testing.T) {
	const l = 257 // a level
	for name, tt := range map[string]struct {
		counts map[uint16]uint64
		end    float64
		over   bool
	}{
		"nothing":            {map[uint16]uint64{0: 100}, 1, false},
		"few levels":         {map[uint16]uint64{0: 1e6, 3 * l: 5}, 4, false},
		"up to the end":      {map[uint16]uint64{4 * l: 100}, 4, false},
		"one in 2000 beyond": {map[uint16]uint64{0: 1e6, 3 * l: 2000, 200 * l: 1}, 4, true},
		"one in 500 beyond":  {map[uint16]uint64{3 * l: 2000, 200 * l: 4}, 255, false},
		"all there is":       {map[uint16]uint64{255 * l: 1}, 255, false},
		"half a level":       {map[uint16]uint64{l / 2: 10}, 0.5, false},
	} {
		end, over := sheet.Scale(tt.counts)
		if over != tt.over || end < tt.end || end > tt.end+1/256. {
			t.Errorf("%s: the scale ends at %v (%v), want %v (%v)", name, end, over, tt.end, tt.over)
		}
	}
	for v, want := range map[float64]string{0: "0", 32: "32", 63.75: "64", 0.5: "0.5", 0.251: "0.25", 1.5: "1.5", 1. / 128: "0.0078"} {
		if got := sheet.LevelOf(v); got != want {
			t.Errorf("%v is written as %s, want %s", v, got, want)
		}
	}
}
