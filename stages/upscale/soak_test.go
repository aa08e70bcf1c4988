//go:build soak

package upscale_test

import (
	"context"
	"image"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
	"github.com/forgepipe/forgepipe/stages/upscale"
)

// A result of 768 MB is the same with 300 MiB of memory as with 8 GiB.
func TestSoakResultsLargerThanMemory(t *testing.T) {
	img := image.NewYCbCr(image.Rect(0, 0, 4000, 3000), image.YCbCrSubsampleRatio420)
	for i := range img.Y {
		img.Y[i] = uint8(i%4000/20 + i/60000)
	}
	for i := range img.Cb {
		img.Cb[i], img.Cr[i] = uint8(i*31), uint8(i/7000)
	}
	file := saved(t, testnet.Compact(4, 8, 2))
	run := func(limit int64) (rows []uint8) {
		b := stagetest.New(t, stagetest.Source{stagetest.Picture("p", img)})
		b.HostLimit = pipeline.Amount{Bytes: limit}
		b.Limits = imageio.Limits{MaxPixels: 1e9, MaxFileBytes: 1 << 30}
		if err := b.Use(t.Context(), pipeline.NewRegistry(upscale.Info()), "upscale", "upscale", values{"model": file}); err != nil {
			t.Fatal(err)
		}
		keep := pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
			f, err := it.Frame(ctx)
			if err != nil {
				return err
			}
			large := f.Image.(*image.NRGBA)
			for y := 0; y < 12000; y += 7 {
				rows = append(rows, large.Pix[y*large.Stride:][:4*16000]...)
			}
			return nil
		})
		if err := b.Add(pipeline.Step{ID: "keep", Stage: keep}); err != nil {
			t.Fatal(err)
		}
		if sum, _ := b.Run(t, pipeline.RunOptions{}); len(sum.Failed) > 0 {
			t.Fatal(sum.Failed)
		}
		return rows
	}
	little, much := run(300<<20), run(8<<30)
	for i, v := range much {
		if d := int(v) - int(little[i]); d > 1 || d < -1 {
			t.Fatalf("sample %d of row %d is %d, and %d with little memory", i%64000, i/64000*7, v, little[i])
		}
	}
}
