package upscale_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"testing"

	"github.com/forgepipe/forgepipe/internal/resample"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// A result of 12 MB under a limit that leaves 16 MiB, the source's 2 MiB and what the
// filter takes included, is the one that it is in memory.
func TestResultLargerThanMemory(t *testing.T) {
	img := stagetest.Noise(image.NewGray16(image.Rect(0, 0, 800, 480)))
	b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)}, step(values{"scale": 4, "method": "lanczos"}))
	b.HostLimit = pipeline.Amount{Bytes: 80 << 20}
	size := img.Bounds().Size().Mul(4)
	err := b.Add(pipeline.Step{ID: "look", Stage: pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		f, err := it.Frame(ctx)
		if err != nil {
			return err
		}
		want := resample.Resize(img, size, resample.Named("lanczos")).(*image.Gray16)
		if got := f.Image.(*image.Gray16); got.Rect != want.Rect || !bytes.Equal(got.Pix, want.Pix) {
			return errors.New("it is another")
		}
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := b.Run(t, pipeline.RunOptions{NoStore: true})
	if s.Out != 1 {
		t.Errorf("failed %v", s.Failed)
	}
	if peak := s.Devices[0].Peak; peak > 10<<20 {
		t.Errorf("%d bytes were leased", peak)
	}
}
