package main

import (
	"bufio"
	"image"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"github.com/disintegration/imaging"
	"github.com/sourcegraph/conc/pool"
)

var pngLevels = map[string]struct {
	name  string
	level png.CompressionLevel
}{
	"default":   {"DefaultCompression", png.DefaultCompression},
	"BestSpeed": {"BestSpeed", png.BestSpeed},
}

// imagingJob is the job as a Go program does it that uses the library imaging:
// an image per goroutine, as many goroutines as the others have threads, and
// encoders that use their buffers again.
func imagingJob(level, in, out string) error {
	runtime.GOMAXPROCS(threads)
	enc := &png.Encoder{CompressionLevel: pngLevels[level].level, BufferPool: &buffers{}}
	entries, err := os.ReadDir(in)
	if err != nil {
		return err
	}
	p := pool.New().WithErrors().WithMaxGoroutines(threads)
	for _, e := range entries {
		p.Go(func() error {
			return cutImage(enc, filepath.Join(in, e.Name()), filepath.Join(out, strings.TrimSuffix(e.Name(), ".jpg")))
		})
	}
	return p.Wait()
}

func cutImage(enc *png.Encoder, file, to string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	img, err := jpeg.Decode(bufio.NewReader(f))
	if err != nil {
		return err
	}
	b := img.Bounds()
	for y := 0; y+size <= b.Dy(); y += size {
		for x := 0; x+size <= b.Dx(); x += size {
			if err := writePNG(enc, named(to, x, y), imaging.Crop(img, image.Rect(x, y, x+size, y+size))); err != nil {
				return err
			}
		}
	}
	return nil
}

func writePNG(enc *png.Encoder, file string, img image.Image) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err := enc.Encode(w, img); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// buffers lets image/png use its buffers again.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() *png.EncoderBuffer {
	buf, _ := b.pool.Get().(*png.EncoderBuffer)
	return buf
}

func (b *buffers) Put(buf *png.EncoderBuffer) { b.pool.Put(buf) }
