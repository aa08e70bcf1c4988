package stagetest

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math/rand/v2"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
)

// Noise fills a picture with samples that differ everywhere, the same ones each
// time, and returns it. Alpha is at least a half.
func Noise(img draw.Image) draw.Image {
	b := img.Bounds()
	r := rand.New(rand.NewPCG(1, uint64(b.Dx())))
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			img.Set(x, y, color.NRGBA64{R: uint16(r.Uint32()), G: uint16(r.Uint32()), B: uint16(r.Uint32()), A: uint16(r.Uint32()) | 1<<15})
		}
	}
	return img
}

// Gray is noise in gray.
func Gray(w, h int) draw.Image { return Noise(image.NewGray(image.Rect(0, 0, w, h))) }

// Same reports the first pixel in which two pictures differ, wherever they lie.
func Same(a, b image.Image) error {
	if a.Bounds().Size() != b.Bounds().Size() {
		return fmt.Errorf("sizes %v and %v", a.Bounds().Size(), b.Bounds().Size())
	}
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			ca, cb := a.At(a.Bounds().Min.X+x, a.Bounds().Min.Y+y), b.At(b.Bounds().Min.X+x, b.Bounds().Min.Y+y)
			if ca != cb {
				return fmt.Errorf("at %d, %d: %v and %v", x, y, ca, cb)
			}
		}
	}
	return nil
}

// Cost is what a stage says that it takes for one input, and for planning.
func Cost(t testing.TB, s Step, in pipeline.Input) (one, planned pipeline.Cost) {
	t.Helper()
	b := New(t, Source{in})
	c, err := pipeline.NewConfig(s.Info, s.Values)
	if err != nil {
		t.Fatal(err)
	}
	stage, err := s.Info.New(t.Context(), c, pipeline.Env{Limits: b.Limits})
	if err != nil {
		t.Fatal(err)
	}
	coster := stage.(pipeline.Coster)
	err = b.Add(pipeline.Step{ID: "cost", Stage: pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		one = coster.Cost(pipeline.Host, []*pipeline.Item{it})
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	b.Run(t, pipeline.RunOptions{NoStore: true})
	return one, coster.Cost(pipeline.Host, nil)
}
