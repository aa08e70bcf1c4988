package upscale_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// repeater is a network that repeats each pixel, of pictures with so many channels and of
// that size (0: any). then may do something more.
func repeater(scale float32, channels, side int, then func(*onnx.Graph, *onnx.Value) *onnx.Value) *onnx.Graph {
	g := onnx.NewGraph("repeater")
	sides := []int{side, side}
	if side == 0 {
		sides = []int{g.Dim("height"), g.Dim("width")}
	}
	x := g.Input("input", onnx.Float32, g.Dim("batch"), channels, sides[0], sides[1])
	y := g.Resize(x, onnx.ResizeOptions{Mode: "nearest", Coordinates: "asymmetric", Nearest: "floor", Scales: []float32{1, 1, scale, scale}})
	if then != nil {
		y = then(g, y)
	}
	g.Output("output", y)
	return g
}

// repeated is what it makes of a picture.
func repeated(img image.Image, scale int) image.Image {
	return resample.Resize(img, img.Bounds().Size().Mul(scale), resample.Named("nearest"))
}

// Whatever a picture consists of, and however the network wants to see it, what repeats
// its pixels gives the same samples again, in the same type.
func TestSamplesAreKept(t *testing.T) {
	r := image.Rect(0, 0, 70, 45)
	opaque := image.NewNRGBA(r)
	draw.Draw(opaque, r, stagetest.Noise(image.NewGray16(r)), image.Point{}, draw.Src)
	colours := stagetest.Noise(image.NewNRGBA(r)).(*image.NRGBA)
	for i := 3; i < len(colours.Pix); i += 4 {
		colours.Pix[i] = 255
	}
	palette := image.NewPaletted(r, color.Palette{color.NRGBA{10, 200, 30, 255}, color.NRGBA{250, 0, 7, 255}})
	for i := range palette.Pix {
		palette.Pix[i] = uint8(i % 2)
	}
	jpeg := image.NewYCbCr(r, image.YCbCrSubsampleRatio420)
	for i := range jpeg.Y {
		jpeg.Y[i] = uint8(i * 7)
	}
	for i := range jpeg.Cb {
		jpeg.Cb[i], jpeg.Cr[i] = uint8(i*5), uint8(i*3)
	}
	three, one := saved(t, repeater(2, 3, 0, nil)), saved(t, repeater(2, 1, 0, nil))
	last := saved(t, func() *onnx.Graph {
		g := onnx.NewGraph("pixels")
		x := g.Input("input", onnx.Float32, g.Dim("batch"), g.Dim("height"), g.Dim("width"), 3)
		g.Output("output", g.Resize(x, onnx.ResizeOptions{Mode: "nearest", Coordinates: "asymmetric", Nearest: "floor", Scales: []float32{1, 2, 2, 1}}))
		return g
	}())
	for name, img := range map[string]image.Image{
		"gray": stagetest.Gray(70, 45), "gray of 16 bits": stagetest.Noise(image.NewGray16(r)),
		"gray colours": opaque, "colours": colours, "colours of 16 bits": noise(70, 45), "a palette": palette, "a JPEG": jpeg,
		"a part": colours.SubImage(image.Rect(3, 5, 60, 41)), "an odd part": jpeg.SubImage(image.Rect(3, 5, 60, 42)),
	} {
		for way, v := range map[string]values{
			"plain":       {"model": three, "tile": 32},
			"one channel": {"model": one, "tile": 32},
			"pixels":      {"model": last, "tile": 32},
			"BGR":         {"model": three, "tile": 32, "channels": "bgr"},
			"prepared":    {"model": three, "range": "-1..1", "mean": []string{"0.1", "0.2", "0.3"}, "std": []string{"0.5"}},
			"0..255":      {"model": three, "range": "0..255"},
		} {
			got, want := enlarged(t, img, v), repeated(img, 2)
			if err := near(got, want, 1); err != nil {
				t.Errorf("%s, %s: %v", name, way, err)
			}
			deep := strings.Contains(name, "16 bits")
			kind := map[bool]map[bool]string{true: {true: "*image.Gray16", false: "*image.Gray"}, false: {true: "*image.NRGBA64", false: "*image.NRGBA"}}
			if k := fmt.Sprintf("%T", got); k != kind[strings.HasPrefix(name, "gray") && name != "gray colours"][deep] {
				t.Errorf("%s, %s: a %s", name, way, k)
			}
		}
	}
}

// near reports samples that differ by more than so many levels of 16 bits.
func near(got, want image.Image, most float64) error {
	g, w := got.Bounds(), want.Bounds()
	if g.Size() != w.Size() {
		return fmt.Errorf("it has %v, want %v", g.Size(), w.Size())
	}
	for y := range g.Dy() {
		for x := range g.Dx() {
			a := color.NRGBA64Model.Convert(got.At(g.Min.X+x, g.Min.Y+y)).(color.NRGBA64)
			b := color.NRGBA64Model.Convert(want.At(w.Min.X+x, w.Min.Y+y)).(color.NRGBA64)
			for _, d := range []float64{float64(a.R) - float64(b.R), float64(a.G) - float64(b.G), float64(a.B) - float64(b.B), float64(a.A) - float64(b.A)} {
				if math.Abs(d) > most {
					return fmt.Errorf("at %d, %d: %v, want %v", x, y, a, b)
				}
			}
		}
	}
	return nil
}

func TestDepth(t *testing.T) {
	gradient := image.NewGray16(image.Rect(0, 0, 200, 50))
	for y := range 50 {
		for x := range 200 {
			gradient.SetGray16(x, y, color.Gray16{uint16(30000 + 200*y + x)})
		}
	}
	file := saved(t, testnet.Compact(2, 8, 1))
	levels := func(depth string) int {
		seen := map[uint16]bool{}
		img := enlarged(t, gradient, values{"model": file, "tile": 64, "depth": depth})
		for y := range 100 {
			for x := range 400 {
				seen[color.Gray16Model.Convert(img.At(x, y)).(color.Gray16).Y] = true
			}
		}
		return len(seen)
	}
	if keep, eight := levels("keep"), levels("8"); keep < 5000 || eight > 256 {
		t.Errorf("%d levels of 16 bits, %d of 8", keep, eight)
	}
	if img, ok := enlarged(t, stagetest.Gray(9, 7), values{"model": file, "depth": "16"}).(*image.Gray16); !ok {
		t.Errorf("8 bits become a %T", img)
	}
}

func TestAlpha(t *testing.T) {
	r := image.Rect(0, 0, 70, 45)
	for name, img := range map[string]draw.Image{"8 bits": image.NewNRGBA(r), "16 bits": image.NewNRGBA64(r)} {
		stagetest.Noise(img)
		file := saved(t, repeater(2, 3, 0, nil))
		alphaOf := func(img image.Image) image.Image {
			a := image.NewGray16(img.Bounds())
			for y := range img.Bounds().Dy() {
				for x := range img.Bounds().Dx() {
					_, _, _, v := img.At(x, y).RGBA()
					a.SetGray16(x, y, color.Gray16{uint16(v)})
				}
			}
			return a
		}
		v := values{"model": file, "tile": 32}
		resized := resample.Resize(alphaOf(img), r.Size().Mul(2), resample.Named("bicubic"))
		if err := near(alphaOf(enlarged(t, img, v)), resized, 1.5*257); err != nil {
			t.Errorf("%s, resized: %v", name, err)
		}
		v["alpha"] = "upscale"
		if err := near(enlarged(t, img, v), repeated(img, 2), 1); err != nil {
			t.Errorf("%s, upscaled: %v", name, err)
		}
		v["alpha"] = "drop"
		got := enlarged(t, img, v)
		if m, ok := got.(interface{ Opaque() bool }); !ok || !m.Opaque() {
			t.Errorf("%s, dropped: not opaque", name)
		}
	}
}

// What is hidden below transparent pixels makes no difference, and colours that were
// multiplied with alpha are divided by it first.
func TestHiddenColours(t *testing.T) {
	r := image.Rect(0, 0, 60, 40)
	file := saved(t, testnet.Compact(2, 8, 2))
	of := func(hidden color.NRGBA) *image.NRGBA {
		img := image.NewNRGBA(r)
		for y := range 40 {
			for x := range 60 {
				c := color.NRGBA{200, uint8(4 * x), 30, 255}
				switch {
				case x > 20 && (x+y)%3 > 0:
					c = hidden
				case x > 15:
					c.A = 128
				}
				img.SetNRGBA(x, y, c)
			}
		}
		return img
	}
	black, green := of(color.NRGBA{}), of(color.NRGBA{0, 255, 0, 0})
	for _, alpha := range []string{"resize", "upscale"} {
		a, b := enlarged(t, black, values{"model": file, "alpha": alpha}), enlarged(t, green, values{"model": file, "alpha": alpha})
		if err := stagetest.Same(a, b); err != nil {
			t.Errorf("%s: %v", alpha, err)
		}
		for i, v := range a.(*image.NRGBA).Pix {
			if alpha == "resize" && v > 0 && a.(*image.NRGBA).Pix[i|3] == 0 {
				t.Fatalf("sample %d is %d below a transparent pixel", i, v)
			}
		}
		premultiplied := image.NewRGBA(r)
		draw.Draw(premultiplied, r, black, image.Point{}, draw.Src)
		if err := near(enlarged(t, premultiplied, values{"model": file, "alpha": alpha}), a, 2.5*257); err != nil {
			t.Errorf("%s, premultiplied: %v", alpha, err)
		}
	}
}

// Gray with alpha stays gray, as gray does, though it is decoded as colours.
func TestGrayWithAlphaStaysGray(t *testing.T) {
	file := saved(t, repeater(2, 3, 0, func(g *onnx.Graph, y *onnx.Value) *onnx.Value { return g.Sqrt(y) }))
	tint := []string{"-0.1", "-0.2", "-0.3"} // other roots in each channel
	r := image.Rect(0, 0, 50, 40)
	for name, tt := range map[string]struct {
		gray, img draw.Image
	}{
		"8 bits":  {stagetest.Noise(image.NewGray(r)), image.NewNRGBA(r)},
		"16 bits": {stagetest.Noise(image.NewGray16(r)), image.NewNRGBA64(r)},
	} {
		for y := range 40 {
			for x := range 50 {
				v := color.Gray16Model.Convert(tt.gray.At(x, y)).(color.Gray16).Y
				tt.img.Set(x, y, color.NRGBA64{v, v, v, uint16(x*1285 + 257)})
				if m, ok := tt.img.(*image.NRGBA); ok { // whose Set is not exact
					m.SetNRGBA(x, y, color.NRGBA{uint8(v >> 8), uint8(v >> 8), uint8(v >> 8), uint8(x*5 + 1)})
				}
			}
		}
		want := enlarged(t, tt.gray, values{"model": file, "mean": tint})
		for _, alpha := range []string{"resize", "upscale", "drop"} {
			got := enlarged(t, tt.img, values{"model": file, "mean": tint, "alpha": alpha})
			a, b := resample.Read(got), resample.Read(want)
			n := a.Depth / 8
			for y := range 80 {
				colours, gray := a.Row(y), b.Row(y)
				for x := range 100 {
					for c := range 3 {
						if p := colours[(4*x+c)*n:][:n]; !bytes.Equal(p, gray[x*n:][:n]) {
							t.Fatalf("%s, %s: sample %d of %d, %d is %v, want %v", name, alpha, c, x, y, p, gray[x*n:][:n])
						}
					}
				}
			}
		}
		tt.img.Set(49, 39, color.NRGBA{200, 10, 10, 200})
		if c := color.NRGBAModel.Convert(enlarged(t, tt.img, values{"model": file, "mean": tint}).At(2, 2)).(color.NRGBA); c.R == c.G && c.G == c.B {
			t.Errorf("%s: colours become gray: %v", name, c)
		}
	}
}

// Sides become what the network wants with a mirrored border, which is cut off again.
func TestSides(t *testing.T) {
	img := stagetest.Noise(image.NewNRGBA64(image.Rect(0, 0, 75, 50)))
	for name, tt := range map[string]struct {
		net *onnx.Graph
		v   values
	}{
		"a fixed size":    {repeater(2, 3, 64, nil), values{}},
		"a small one":     {repeater(2, 3, 32, nil), values{"overlap": 3}},
		"a multiple":      {repeater(2, 3, 0, nil), values{"multiple": 16, "tile": 32}},
		"a larger one":    {repeater(2, 3, 0, nil), values{"multiple": 64}},
		"without overlap": {repeater(2, 3, 0, nil), values{"tile": 32, "overlap": 0}},
	} {
		tt.v["model"], tt.v["alpha"] = saved(t, tt.net), "upscale"
		if err := near(enlarged(t, img, tt.v), repeated(img, 2), 1); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Another scale than the network's is come to by resizing what that makes.
func TestAnotherScale(t *testing.T) {
	file := saved(t, repeater(4, 3, 0, nil))
	img := stagetest.Noise(image.NewNRGBA(image.Rect(0, 0, 40, 30)))
	large := repeated(img, 4)
	for scale := 1; scale <= 5; scale++ {
		want := resample.Resize(large, img.Bounds().Size().Mul(scale), resample.Named("bilinear"))
		got := enlarged(t, img, values{"model": file, "scale": scale, "filter": "bilinear", "alpha": "upscale"})
		if err := near(got, want, 1); err != nil {
			t.Errorf("%d times: %v", scale, err)
		}
	}
}

// What is resized is resized strip by strip, and never there as a whole: the limit holds
// for the result.
func TestAnotherScaleInStrips(t *testing.T) {
	small := noise(40, 203).(*image.NRGBA64)
	colours := image.NewNRGBA(small.Rect)
	for i := range colours.Pix {
		colours.Pix[i] = small.Pix[2*i]
	}
	for name, img := range map[string]image.Image{"8 bits": colours, "16 bits": small, "gray": stagetest.Gray(40, 203)} {
		large := repeated(img, 4)
		for scale := 1; scale <= 5; scale++ {
			for _, filter := range []string{"nearest", "lanczos"} {
				want := resample.Resize(large, img.Bounds().Size().Mul(scale), resample.Named(filter))
				v := values{"model": saved(t, repeater(4, 3, 0, nil)), "scale": scale, "filter": filter, "alpha": "upscale", "tile": 32, "overlap": 5}
				b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)})
				b.Limits = imageio.Limits{MaxPixels: max(40*203*int64(scale*scale), 160*48*4), MaxFileBytes: 1 << 20} // the whole has 160*812
				if err := b.Use(t.Context(), pipeline.NewRegistry(step(nil).Info), "upscale", "upscale", v); err != nil {
					t.Fatal(err)
				}
				sum, seen := b.Run(t, pipeline.RunOptions{NoStore: true})
				if len(sum.Failed) > 0 {
					t.Fatalf("%s, %d times, %s: %v", name, scale, filter, sum.Failed[0].Cause)
				}
				if err := near(seen["p"].Image, want, 1); err != nil {
					t.Errorf("%s, %d times, %s: %v", name, scale, filter, err)
				}
			}
		}
	}
}

// Where what is needed at once of what is resized is beyond the limit, memory has to hold it.
func TestLimitOfWhatIsResized(t *testing.T) {
	img := image.NewGray16(image.Rect(0, 0, 4000, 256))
	file := saved(t, repeater(4, 3, 0, nil))
	for _, tt := range []struct {
		host int64 // bytes
		want string
	}{{1 << 30, ""}, {120 << 20, "16000 x 544 pixels are needed at once"}} {
		b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)})
		b.Limits = imageio.Limits{MaxPixels: 4000 * 256, MaxFileBytes: 1 << 20}
		b.HostLimit = pipeline.Amount{Bytes: tt.host}
		if err := b.Use(t.Context(), pipeline.NewRegistry(step(nil).Info), "upscale", "upscale", values{"model": file, "scale": 1, "tile": 128, "threads": 1}); err != nil {
			t.Fatal(err)
		}
		sum, seen := b.Run(t, pipeline.RunOptions{NoStore: true})
		switch {
		case tt.want == "" && (len(sum.Failed) > 0 || seen["p"].Size != img.Rect.Size()):
			t.Errorf("under %d bytes failed %v", tt.host, sum.Failed)
		case tt.want != "" && (len(sum.Failed) != 1 || !strings.Contains(sum.Failed[0].Cause, tt.want) || !strings.Contains(sum.Failed[0].Cause, "set a smaller tile")):
			t.Errorf("under %d bytes failed %v", tt.host, sum.Failed)
		}
	}
}

// Strips of tiles that pass into each other, and of what becomes of alpha, are those of
// what the network makes.
func TestStripsAreThoseOfTheWhole(t *testing.T) {
	file, img := saved(t, testnet.Compact(4, 8, 2)), stagetest.Noise(image.NewNRGBA(image.Rect(0, 0, 45, 150)))
	for _, alpha := range []string{"resize", "upscale", "drop"} {
		v := values{"model": file, "tile": 32, "overlap": 2, "alpha": alpha, "filter": "bicubic"}
		large := enlarged(t, img, v)
		v["scale"] = 3
		if err := near(enlarged(t, img, v), resample.Resize(large, image.Pt(135, 450), resample.Named("bicubic")), 1); err != nil {
			t.Errorf("%s: %v", alpha, err)
		}
	}
}

func TestPairsWithANetwork(t *testing.T) {
	hq, lq := stagetest.Gray(64, 32), stagetest.Gray(16, 8)
	in, companion := stagetest.Picture("p", hq), stagetest.Picture("lq", lq)
	in.LQ, in.Scale = &companion, 4
	file := saved(t, repeater(2, 3, 0, nil))
	sum, _ := stagetest.New(t, stagetest.Source{in}, step(values{"model": file})).Run(t, pipeline.RunOptions{})
	if len(sum.Failed) != 1 || !strings.Contains(sum.Failed[0].Cause, "set apply: both") {
		t.Errorf("failed %v", sum.Failed)
	}
	b := stagetest.New(t, stagetest.Source{in}, step(values{"model": file, "apply": "both"}))
	look := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := it.PairFrame(ctx)
		if err != nil {
			return err
		}
		return near(f.Image, repeated(lq, 2), 1)
	})
	if err := b.Add(pipeline.Step{ID: "look", Stage: look}); err != nil {
		t.Fatal(err)
	}
	sum, seen := b.Run(t, pipeline.RunOptions{})
	if err := near(seen["p"].Image, repeated(hq, 2), 1); err != nil || len(sum.Failed) > 0 {
		t.Errorf("%v, failed %v", err, sum.Failed)
	}
}

// Items of which nothing can be made fail, each for itself.
func TestItemsFail(t *testing.T) {
	shrink := func(g *onnx.Graph, y *onnx.Value) *onnx.Value { // which is followed by nobody, and leaves everything as it is
		return g.Node(onnx.Node{Op: "Shrink", In: []*onnx.Value{y}, Attrs: []onnx.Attr{onnx.Float("bias", 0), onnx.Float("lambd", 0)},
			Out: []onnx.Out{{Type: onnx.Float32, Dims: []int{onnx.Dynamic, 3, onnx.Dynamic, onnx.Dynamic}}}})[0]
	}
	dark := func(g *onnx.Graph, y *onnx.Value) *onnx.Value { // roots of what is less than 0 for black
		return g.Sqrt(g.Sub(y, g.Scalar(onnx.Float32, 0.5)))
	}
	black, white := image.NewGray(image.Rect(0, 0, 20, 20)), image.NewGray(image.Rect(0, 0, 20, 20))
	for i := range white.Pix {
		white.Pix[i] = 255
	}
	for name, tt := range map[string]struct {
		net    *onnx.Graph
		v      values
		want   string
		failed int
	}{
		"no numbers":      {repeater(2, 3, 0, dark), values{}, "not finite", 1},
		"another scale":   {repeater(2, 3, 0, shrink), values{"scale": 4}, "makes pictures 2 times as large, and not 4 times: set scale: 2", 2},
		"the right scale": {repeater(2, 3, 0, shrink), values{"scale": 2}, "", 0},
		"too large":       {repeater(2, 3, 0, nil), values{}, "2 times 20 x 20 would have more than the 1599 pixels that limits.pixels allows", 2},
	} {
		tt.v["model"] = saved(t, tt.net)
		b := stagetest.New(t, stagetest.Source{stagetest.Picture("black", black), stagetest.Picture("white", white)})
		if name == "too large" {
			b.Limits = imageio.Limits{MaxPixels: 1599, MaxFileBytes: 1 << 20}
		}
		if err := b.Use(t.Context(), pipeline.NewRegistry(step(nil).Info), "upscale", "upscale", tt.v); err != nil {
			t.Fatal(err)
		}
		sum, _ := b.Run(t, pipeline.RunOptions{})
		if len(sum.Failed) != tt.failed {
			t.Errorf("%s: failed %v", name, sum.Failed)
		}
		for _, f := range sum.Failed {
			if !strings.Contains(f.Cause, tt.want) {
				t.Errorf("%s: %s failed: %s", name, f.ID, f.Cause)
			}
		}
	}
}

func TestWrongNetworks(t *testing.T) {
	half := func() *onnx.Graph {
		g := onnx.NewGraph("half")
		x := g.Input("input", onnx.Float32, g.Dim("batch"), 3, g.Dim("height"), g.Dim("width"))
		g.Output("output", g.PixelUnshuffle(x, 2))
		return g
	}
	unfollowed := repeater(2, 3, 0, func(g *onnx.Graph, y *onnx.Value) *onnx.Value {
		return g.Node(onnx.Node{Op: "Shrink", In: []*onnx.Value{y}, Out: []onnx.Out{{Type: onnx.Float32}}})[0]
	})
	for name, tt := range map[string]struct {
		net   *onnx.Graph
		v     values
		field string
		want  string
	}{
		"a vector":            {testnet.Embedder(testnet.EmbedderOptions{}), values{}, "model", "makes no pictures of pictures"},
		"no pictures":         {testnet.NoImage(), values{}, "model", "no input for pictures"},
		"a smaller picture":   {half(), values{}, "model", "1/2 times as large"},
		"a fraction":          {repeater(1.5, 3, 0, nil), values{}, "model", "3/2 times as large"},
		"no scale":            {unfollowed, values{}, "model", "set scale"},
		"a tile is a block":   {testnet.Compact(2, 4, 1), values{"tile": 32, "multiple": 32}, "tile", "with an overlap of 3 pixels on each side nothing of a tile of 32 would be its own, where sides are multiples of 32: use a tile of 64 or more"},
		"a fixed size":        {repeater(2, 3, 64, nil), values{"multiple": 96}, "multiple", "nothing of a tile of 64 would be its own, where sides are multiples of 96: use a smaller one"},
		"all is overlap":      {testnet.Compact(2, 4, 1), values{"tile": 32, "overlap": 16}, "overlap", "nothing of a tile of 32 would be its own"},
		"a tile of its own":   {repeater(2, 3, 64, nil), values{"tile": 128}, "tile", "leave tile out"},
		"two numbers":         {testnet.Compact(2, 4, 1), values{"mean": []string{"1", "2"}}, "mean", "one number is wanted, or three"},
		"another output":      {testnet.Compact(2, 4, 1), values{"output": "depth"}, "model", `no output "depth"`},
		"channels it has not": {testnet.Compact(2, 4, 1), values{"channels": "gray"}, "model", "takes 3 channels"},
	} {
		tt.v["model"] = saved(t, tt.net)
		err := stagetest.Err(t, step(tt.v))
		if fe := fieldOf(err); fe != tt.field || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want one of %s with %q", name, err, tt.field, tt.want)
		}
	}
}
