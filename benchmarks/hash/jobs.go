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
	"github.com/forgepipe/forgepipe/internal/phash"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
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
		file := filepath.Join(folder, e.Name())
		var img image.Image
		if what == "pixels" {
			if img, err = decode(file); err != nil {
				return err
			}
		}
		wall, cpu := time.Now(), cpuNow()
		for range repeats {
			if what == "file" {
				if img, err = decode(file); err != nil {
					return err
				}
			}
			a.Hashes[e.Name()] = hash(kind, img)
		}
		a.Wall += time.Since(wall).Seconds() / repeats
		a.CPU += (cpuNow() - cpu).Seconds() / repeats
	}
	return json.NewEncoder(os.Stdout).Encode(a)
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

func hash(kind string, img image.Image) string {
	switch kind {
	case "pdq":
		h, _ := phash.PDQ(img)
		return hex.EncodeToString(h[:])
	case "phash":
		return fmt.Sprintf("%016x", phash.PHash(img))
	case "dhash":
		return fmt.Sprintf("%016x", phash.DHash(img))
	}
	panic("BUG: there is no hash " + kind)
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
	p.SetSource(source{dot, len(hashes)})
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

type source struct {
	file string
	n    int
}

func (s source) Emit(_ context.Context, emit func(pipeline.Input) error) error {
	for i := range s.n {
		if err := emit(pipeline.Input{Name: fmt.Sprintf("%07d.png", i), Path: s.file}); err != nil {
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
