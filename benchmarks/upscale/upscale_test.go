package main

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"strings"
	"testing"
)

func TestSides(t *testing.T) {
	for _, tt := range []struct {
		tile, overlap, n int
		want             string
	}{
		{512, 18, 64, "[64]"},   // whole
		{512, 18, 512, "[512]"}, // just
		{512, 18, 513, "[280 280]"},
		{512, 18, 512 + 476, "[512 512]"},
		{512, 18, 512 + 477, "[360 360 360]"},
	} {
		if got := fmt.Sprint(tiling{tile: tt.tile, overlap: tt.overlap}.sides(tt.n)); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// All tiles of all pictures are run bare, and small pictures in batches.
func TestRuns(t *testing.T) {
	large := task{size: image.Pt(200, 100), n: 3, tiling: tiling{tile: 128, overlap: 16, batch: 1}}
	if got, want := strings.Join(large.runs(), " "), "6x1x100x120"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := large.share(), 1./6; math.Abs(got-want) > 1e-9 {
		t.Errorf("%g of the work is done twice, want %g", got, want)
	}
	small := task{size: image.Pt(64, 48), n: 200, tiling: tiling{tile: 512, overlap: 18, batch: 64}}
	if got, want := strings.Join(small.runs(), " "), "3x64x48x64 1x8x48x64"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDoes(t *testing.T) {
	const printed = `{"summary": {"out": 2, "governed": [{"runs": 3, "items": 12, "largest_batch": 4}], "stages": [{"id": "upscale", "note": "tiles of up to 96 x 96 with an overlap of 18 px: overlaps and borders took 9 % of the work"}]}}`
	d, note, err := does([]byte(printed), 2)
	if err != nil || d != (done{3, 12, 4}) || !tilesNote.MatchString(note) {
		t.Errorf("%+v, %q, %v", d, note, err)
	}
	if _, _, err := does([]byte(printed), 3); err == nil {
		t.Error("a picture is missing, and nobody says so")
	}
}

func TestPSNR(t *testing.T) {
	a, b := image.NewNRGBA(image.Rect(0, 0, 4, 4)), image.NewRGBA(image.Rect(0, 0, 4, 4))
	for i := range 16 {
		a.Set(i%4, i/4, color.NRGBA{uint8(16 * i), 100, 7, 255})
		b.Set(i%4, i/4, color.NRGBA{uint8(16 * i), 100, 7, 255})
	}
	if db, err := psnr(a, b); err != nil || !math.IsInf(db, 1) {
		t.Errorf("equal ones: %g, %v", db, err)
	}
	for i := range 16 {
		b.Set(i%4, i/4, color.NRGBA{uint8(16 * i), 99, 7, 255}) // off by one in one of three
	}
	if db, err := psnr(a, b); err != nil || math.Abs(db-10*math.Log10(255*255*3)) > 1e-9 {
		t.Errorf("%g, %v", db, err)
	}
	if _, err := psnr(a, image.NewNRGBA(image.Rect(0, 0, 4, 3))); err == nil {
		t.Error("pictures of other sizes are compared")
	}
	if s := spread(a); s != 0 {
		t.Errorf("the spread of flat green is %g", s)
	}
}
