package imageio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/draw"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"golang.org/x/image/webp"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

func frames(all ...imageio.AnimationFrame) iter.Seq2[imageio.AnimationFrame, error] {
	return func(yield func(imageio.AnimationFrame, error) bool) {
		for _, f := range all {
			if !yield(f, nil) {
				return
			}
		}
	}
}

// shownWebP is an animation as it is read by the container's specification (RFC 9649):
// the canvas after each frame, how long it is shown, and what part of it was written.
type shownWebP struct {
	canvas []*image.RGBA
	ms     []int
	part   []image.Rectangle
	flags  byte
	icc    []byte
	loops  int
}

func readAnimation(t *testing.T, data []byte) shownWebP {
	t.Helper()
	le := binary.LittleEndian
	if string(data[:4]) != "RIFF" || string(data[8:12]) != "WEBP" || int(le.Uint32(data[4:])) != len(data)-8 || len(data)%2 != 0 {
		t.Fatalf("% x in %d bytes is no RIFF container", data[:12], len(data))
	}
	u24 := func(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }
	out := shownWebP{loops: -1}
	var canvas *image.RGBA
	var order []string
	for rest := data[12:]; len(rest) > 0; {
		name, n := string(rest[:4]), int(le.Uint32(rest[4:]))
		body := rest[8 : 8+n]
		rest = rest[8+n+n%2:]
		order = append(order, name)
		switch name {
		case "VP8X":
			out.flags = body[0]
			canvas = image.NewRGBA(image.Rect(0, 0, u24(body[4:])+1, u24(body[7:])+1))
		case "ICCP":
			out.icc = body
		case "ANIM":
			out.loops = int(le.Uint16(body[4:]))
		case "ANMF":
			at := image.Pt(2*u24(body), 2*u24(body[3:]))
			size := image.Pt(u24(body[6:])+1, u24(body[9:])+1)
			if body[15] != 2 {
				t.Errorf("a frame has the flags %#x, not those of one that replaces and stays", body[15])
			}
			file := append([]byte("RIFF\x00\x00\x00\x00WEBP"), body[16:]...)
			le.PutUint32(file[4:], uint32(len(file)-8))
			m, err := webp.Decode(bytes.NewReader(file))
			if err != nil || m.Bounds().Size() != size {
				t.Fatalf("a frame of %v: %v", size, err)
			}
			part := image.Rectangle{Max: size}.Add(at)
			if !part.In(canvas.Rect) {
				t.Fatalf("the frame %v lies outside of %v", part, canvas.Rect)
			}
			draw.Draw(canvas, part, m, m.Bounds().Min, draw.Src)
			out.canvas = append(out.canvas, &image.RGBA{Pix: bytes.Clone(canvas.Pix), Stride: canvas.Stride, Rect: canvas.Rect})
			out.ms, out.part = append(out.ms, u24(body[12:])), append(out.part, part)
		default:
			t.Errorf("a chunk %q", name)
		}
	}
	if got := strings.Join(order, " "); !strings.HasPrefix(strings.Replace(got, "ICCP ", "", 1), "VP8X ANIM ANMF") {
		t.Errorf("the chunks come in the order %s", got)
	}
	return out
}

// picture is noise, of which a part is red.
func picture(w, h int, red image.Rectangle) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(m, m.Rect, opaque(noise(w, h)), image.Point{}, draw.Src)
	draw.Draw(m, red, image.NewUniform(color.RGBA{255, 0, 0, 255}), image.Point{}, draw.Src)
	return m
}

func TestWebPAnimation(t *testing.T) {
	needWebP(t)
	a, b, c := picture(41, 33, image.Rectangle{}), picture(41, 33, image.Rect(7, 5, 12, 6)), picture(41, 33, image.Rect(40, 32, 41, 33))
	ms := time.Millisecond
	icc := make([]byte, 131)
	copy(icc[16:], "RGB ")
	var file, again bytes.Buffer
	all := frames(imageio.AnimationFrame{Image: a, Shown: 33 * ms}, imageio.AnimationFrame{Image: b, Shown: 34 * ms},
		imageio.AnimationFrame{Image: b, Shown: 70000 * ms}, imageio.AnimationFrame{Image: c, Shown: 0})
	for _, w := range []io.Writer{&file, &again} {
		if err := imageio.EncodeWebPAnimation(w, all, imageio.WebPOptions{Lossless: true, ICC: icc}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(file.Bytes(), again.Bytes()) {
		t.Error("the same frames give other bytes")
	}
	got := readAnimation(t, file.Bytes())
	for i, want := range []*image.RGBA{a, b, b, c} {
		if !bytes.Equal(got.canvas[i].Pix, want.Pix) {
			t.Errorf("frame %d shows another picture", i)
		}
		if got.ms[i] != []int{33, 34, 70000, 0}[i] {
			t.Errorf("frame %d is shown for %d ms", i, got.ms[i])
		}
		// Corners are even; what has not changed is not written again.
		if want := []image.Rectangle{a.Rect, image.Rect(6, 4, 12, 6), image.Rect(0, 0, 1, 1), image.Rect(6, 4, 41, 33)}[i]; got.part[i] != want {
			t.Errorf("frame %d writes %v, want %v", i, got.part[i], want)
		}
	}
	if got.flags != 0x22 || got.loops != 0 || !bytes.Equal(got.icc, icc) {
		t.Errorf("flags %#x, %d loops, a profile of %d bytes", got.flags, got.loops, len(got.icc))
	}
	// What shows animations as their first frame, or refuses them, knows this for one.
	if _, err := imageio.ReadHeader(file.Bytes(), imageio.Limits{}); !errors.Is(err, imageio.ErrUnsupported) {
		t.Errorf("read as a picture: %v", err)
	}
}

func TestWebPAnimationErrors(t *testing.T) {
	needWebP(t)
	a := imageio.AnimationFrame{Image: picture(8, 8, image.Rectangle{}), Shown: time.Second}
	full, broken := errors.New("disk full"), errors.New("broken")
	long, large := a, a
	long.Shown = 1 << 24 * time.Millisecond
	large.Image = picture(9, 8, image.Rectangle{})
	fails := func(yield func(imageio.AnimationFrame, error) bool) { _ = yield(a, nil) && yield(a, broken) }
	for name, tt := range map[string]struct {
		frames iter.Seq2[imageio.AnimationFrame, error]
		w      io.Writer
		want   string
	}{
		"no frame":        {frames(), io.Discard, "encoding webp: the animation has no frame"},
		"another size":    {frames(a, large), io.Discard, "encoding webp: a frame has (9,8) pixels and the one before (8,8)"},
		"too long":        {frames(long), io.Discard, "encoding webp: a frame cannot be shown for 4h39m37.216s"},
		"its own":         {fails, io.Discard, "broken"},
		"no room":         {frames(a), &limited{0, full}, "encoding webp: disk full"},
		"no room for all": {frames(a), &limited{60, full}, "encoding webp: disk full"},
	} {
		err := imageio.EncodeWebPAnimation(tt.w, tt.frames, imageio.WebPOptions{})
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
