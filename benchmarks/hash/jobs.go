package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	stage "github.com/forgepipe/forgepipe/stages/hash"
)

// hashJob hashes the images of a folder on one thread: KIND file|pixels FOLDER.
func hashJob(args []string) error {
	kind, what, folder := args[0], args[1], args[2]
	runtime.GOMAXPROCS(1)
	a := answer{Hashes: map[string]string{}}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		in := pipeline.Input{Path: filepath.Join(folder, e.Name())}
		if what == "pixels" {
			img, err := decode(in.Path)
			if err != nil {
				return err
			}
			in = pipeline.Input{Image: img}
		}
		wall, cpu := time.Now(), cpuNow()
		if a.Hashes[e.Name()], err = hash(kind, in); err != nil {
			return err
		}
		a.Wall += time.Since(wall).Seconds() / repeats
		a.CPU += (cpuNow() - cpu).Seconds() / repeats
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

// hash computes the hash of one image as often as is to be, in a pipeline of the
// stage alone.
func hash(kind string, in pipeline.Input) (string, error) {
	ctx := context.Background()
	p := pipeline.New("bench", pipeline.Options{})
	p.SetSource(source{in, repeats})
	if err := p.Use(ctx, pipeline.NewRegistry(stage.Info()), "hash", "hash", map[string]any{"by": kind}); err != nil {
		return "", err
	}
	var found string
	take := pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		v, _ := it.Attr(kind)
		found = hex.EncodeToString(v.Hash())
		return nil
	})
	if err := p.Add(pipeline.Step{ID: "take", Stage: take, Workers: 1}); err != nil {
		return "", err
	}
	_, err := p.Run(ctx, pipeline.RunOptions{NoStore: true})
	return found, err
}

func decode(file string) (image.Image, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	h, err := imageio.ReadHeader(b, imageio.DefaultLimits())
	if err != nil {
		return nil, err
	}
	return imageio.Decode(b, h, imageio.DefaultLimits())
}

func cpuNow() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// dedupJob runs the stage dedup over items that have their hashes already: KIND
// DISTANCE FILE STATE, with a hash on each line of the file. It is a pipeline
// with its run store, whose source offers the same small image under as many
// names as there are hashes.
func dedupJob(args []string) error {
	kind, distance, file, state := args[0], args[1], args[2], args[3]
	ctx := context.Background()
	runtime.GOMAXPROCS(threads)
	dot := filepath.Join(state, "dot.png")
	if err := writeDot(dot); err != nil {
		return err
	}
	began := time.Now()
	hashes, err := readHashes(file)
	if err != nil {
		return err
	}
	p := pipeline.New("bench", pipeline.Options{})
	p.SetSource(source{pipeline.Input{Path: dot}, len(hashes)})
	set := pipeline.Info{
		Name: "set", Short: "sets the hashes",
		Makes: func(pipeline.Config) []pipeline.Made { return []pipeline.Made{{Name: kind, Type: pipeline.TypeHash}} },
		New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
			return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
				var i int
				if _, err := fmt.Sscanf(it.ID(), "%d.png", &i); err != nil {
					return err
				}
				it.SetAttr(kind, pipeline.Hash(hashes[i]))
				return nil
			}), nil
		},
	}
	r := pipeline.NewRegistry(set, dedup.Info())
	if err := p.Use(ctx, r, "set", "set", nil); err != nil {
		return err
	}
	if err := p.Use(ctx, r, "dedup", "dedup", map[string]any{"by": map[string]any{kind: map[string]any{"max_distance": distance}}}); err != nil {
		return err
	}
	s, err := p.Run(ctx, pipeline.RunOptions{StateDir: filepath.Join(state, "state")})
	if err != nil {
		return err
	}
	a := answer{Wall: time.Since(began).Seconds(), CPU: cpuNow().Seconds(), Found: int(s.Rejected["dedup"]["duplicate"])}
	return json.NewEncoder(os.Stdout).Encode(a)
}

// source offers the same input under n names.
type source struct {
	in pipeline.Input
	n  int
}

func (s source) Emit(_ context.Context, emit func(pipeline.Input) error) error {
	for i := range s.n {
		s.in.Name = fmt.Sprintf("%07d.png", i)
		if err := emit(s.in); err != nil {
			return err
		}
	}
	return nil
}

func writeDot(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := png.Encode(f, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		return err
	}
	return f.Close()
}

func readHashes(file string) ([][]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var hashes [][]byte
	for s := bufio.NewScanner(f); s.Scan(); {
		h, err := hex.DecodeString(s.Text())
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, h)
	}
	return hashes, nil
}
