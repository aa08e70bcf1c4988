package main

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
)

// parts is what the stages cost by themselves, with all cores busy, in seconds of
// CPU time for one image.
type parts struct {
	Decode, Prepare float64
	// Inference is that of one session with a thread for each core, and of as many
	// sessions with one thread each.
	Shared, Apart float64
	// Loop is the time, not CPU time, of an image where every core does all three, one
	// after the other, and nothing else: no queue, no hash, no record. Other work on the
	// other core costs more than the same, so that it is more than the sum.
	Loop    float64
	Runtime string // the runtime's version
}

// inference is that of the better way.
func (p parts) inference() float64 { return min(p.Shared, p.Apart) }

func (p parts) sum() float64 { return p.Decode + p.Prepare + p.inference() }

func readParts(b []byte) (p parts, err error) { return p, json.Unmarshal(b, &p) }

// kept is how many decoded images are there at once.
const kept = 16

// bareJob measures the parts: MODEL PRESET exact|fast FOLDER.
func bareJob(args []string) error {
	runtime.GOMAXPROCS(threads)
	ctx := context.Background()
	spec, ok := model.Preset(args[1])
	if !ok {
		return fmt.Errorf("there is no preset %s", args[1])
	}
	network, err := model.Open(args[0], model.FileOptions{Spec: spec})
	if err != nil {
		return err
	}
	b := bare{spec: network.Spec, fast: args[2] == "fast"}
	if err := b.read(args[3]); err != nil {
		return err
	}
	var p parts
	if p.Decode, err = busy(threads, len(b.files), func(_, i int) error {
		_, _, err := b.decode(i)
		return err
	}); err != nil {
		return err
	}
	tensors, err := b.prepared(ctx, &p)
	if err != nil {
		return err
	}
	library, err := ort.Load("")
	if err != nil {
		return err
	}
	p.Runtime = library.Version
	if p.Shared, err = b.infer(ctx, library, args[0], tensors, 1, threads); err != nil {
		return err
	}
	if p.Apart, err = b.infer(ctx, library, args[0], tensors, threads, 1); err != nil {
		return err
	}
	if p.Loop, err = b.loop(ctx, library, args[0]); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(p)
}

// bare has the files of a folder in memory.
type bare struct {
	spec  model.Spec
	fast  bool
	files [][]byte
}

func (b *bare) read(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return err
		}
		b.files = append(b.files, data)
	}
	return nil
}

// busy calls f on that many goroutines, with the goroutine's number and the
// numbers below n, and returns the seconds of CPU time of one call.
func busy(goroutines, n int, f func(goroutine, i int) error) (float64, error) {
	runtime.GC() // of what came before
	var wg sync.WaitGroup
	var next atomic.Int64
	errs := make([]error, goroutines)
	began := cpuNow()
	for g := range goroutines {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || errs[g] != nil {
					return
				}
				errs[g] = f(g, i)
			}
		})
	}
	wg.Wait()
	took := cpuNow() - began
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return took.Seconds() / float64(n), nil
}

// decode decodes a file as the stage does, and tells where in the upright
// picture the result is.
func (b *bare) decode(i int) (image.Image, model.Part, error) {
	data := b.files[i]
	h, err := imageio.ReadHeader(data, imageio.DefaultLimits())
	if err != nil {
		return nil, model.Part{}, err
	}
	whole := image.Pt(h.Width, h.Height)
	least := b.spec.Least(whole)
	if !b.fast || least == whole {
		img, err := imageio.Decode(data, h, imageio.DefaultLimits())
		return img, model.Part{Scale: 1, Size: whole}, err
	}
	img, err := imageio.DecodeScaled(data, h, imageio.DefaultLimits(), least)
	return img, model.Part{Scale: float64(h.Eighths(least)) / 8, Size: whole}, err
}

// fill prepares a picture for the network.
func (b *bare) fill(ctx context.Context, dst []byte, img image.Image, part model.Part) error {
	if b.fast && part.Scale != 1 {
		return b.spec.FillPart(ctx, dst, img, part)
	}
	return b.spec.Fill(ctx, dst, img)
}

// prepared measures the preparation, on pictures that are decoded before, and
// returns full batches of them.
func (b *bare) prepared(ctx context.Context, p *parts) ([]*ort.Tensor, error) {
	type picture struct {
		img  image.Image
		part model.Part
	}
	pictures := make([]picture, min(kept, len(b.files)))
	for i := range pictures {
		var err error
		if pictures[i].img, pictures[i].part, err = b.decode(i); err != nil {
			return nil, err
		}
	}
	bytes := int(b.spec.TensorBytes(pictures[0].part.Size))
	tensors := make([]*ort.Tensor, kept/batch)
	for i := range tensors {
		tensors[i] = ort.NewTensor(ort.Float32, b.spec.Shape(batch, pictures[0].part.Size)...)
	}
	n := (len(b.files) + kept - 1) / kept * kept // so that all places are filled
	var err error
	p.Prepare, err = busy(threads, n, func(_, i int) error {
		pic, at := pictures[i%len(pictures)], i%batch
		dst := tensors[i/batch%len(tensors)].Data[at*bytes : (at+1)*bytes]
		return b.fill(ctx, dst, pic.img, pic.part)
	})
	return tensors, err
}

// infer measures the bare runtime on filled tensors, in seconds an image.
func (b *bare) infer(ctx context.Context, library *ort.Library, file string, tensors []*ort.Tensor, sessions, threads int) (float64, error) {
	open, err := sessionsOf(ctx, library, file, tensors[:1], sessions, threads)
	if err != nil {
		return 0, err
	}
	defer closeAll(open)
	runs := max(len(b.files)/batch, sessions)
	seconds, err := busy(sessions, runs, func(g, i int) error {
		_, err := open[g].Run(ctx, tensors[i%len(tensors):][:1], ort.RunOptions{})
		return err
	})
	return seconds / batch, err
}

// loop measures all three, in batches as small as forgepipe's, and returns the
// seconds of one image.
func (b *bare) loop(ctx context.Context, library *ort.Library, file string) (float64, error) {
	const n = batch / threads
	_, first, err := b.decode(0)
	if err != nil {
		return 0, err
	}
	shape := b.spec.Shape(n, first.Size)
	open, err := sessionsOf(ctx, library, file, []*ort.Tensor{ort.NewTensor(ort.Float32, shape...)}, threads, 1)
	if err != nil {
		return 0, err
	}
	defer closeAll(open)
	began := time.Now()
	_, err = busy(threads, len(b.files)/n, func(g, i int) error {
		t := ort.NewTensor(ort.Float32, shape...)
		bytes := len(t.Data) / n
		for at := range n {
			img, part, err := b.decode(i*n + at)
			if err != nil {
				return err
			}
			if err := b.fill(ctx, t.Data[at*bytes:(at+1)*bytes], img, part); err != nil {
				return err
			}
			imageio.Recycle(img)
		}
		_, err := open[g].Run(ctx, []*ort.Tensor{t}, ort.RunOptions{})
		return err
	})
	return time.Since(began).Seconds() / float64(len(b.files)/n*n), err
}

// sessionsOf opens sessions and runs each once, as the first run takes longer.
func sessionsOf(ctx context.Context, library *ort.Library, file string, in []*ort.Tensor, n, threads int) (open []*ort.Session, err error) {
	for range n {
		s, err := library.Open(ctx, file, ort.SessionOptions{Threads: threads})
		if err != nil {
			closeAll(open)
			return nil, err
		}
		open = append(open, s)
		if _, err := s.Run(ctx, in, ort.RunOptions{}); err != nil {
			closeAll(open)
			return nil, err
		}
	}
	return open, nil
}

func closeAll(open []*ort.Session) {
	for _, s := range open {
		_ = s.Close()
	}
}

func cpuNow() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
