package stagetest

import (
	"context"
	"errors"
	"image"
	"image/png"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
)

// Tree makes files below a new folder: a name that ends in a slash is a folder,
// "name -> target" a link, "name |" a named pipe, "name !" a socket, anything
// else a file that holds a picture when it is an image and "x" otherwise. The
// nth name's picture is n pixels wide and 1 high.
func Tree(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range names {
		name, target, isLink := strings.Cut(name, " -> ")
		name, isPipe := strings.CutSuffix(name, " |")
		name, isSocket := strings.CutSuffix(name, " !")
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case isLink:
			err = os.Symlink(target, file)
		case isPipe:
			err = syscall.Mkfifo(file, 0o666)
		case isSocket:
			var l net.Listener
			if l, err = net.Listen("unix", file); err == nil {
				t.Cleanup(func() { _ = l.Close() })
			}
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(file, 0o777)
		case isPicture(name):
			err = WritePicture(file, image.Pt(1+i, 1))
		default:
			err = os.WriteFile(file, []byte("x"), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func isPicture(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".png", ".jpg", ".gif", ".pic", ".jpeg":
		return true
	}
	return filepath.Base(name) == "bare"
}

// WritePicture writes a black PNG, whatever the file is called.
func WritePicture(file string, size image.Point) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(png.Encode(f, image.NewGray(image.Rectangle{Max: size})), f.Close())
}

// Emitted is what a source emitted.
type Emitted struct {
	Inputs   []pipeline.Input
	Order    []string          // names of all but what was ignored
	Ignored  map[string]string // reason by name
	Failed   map[string]string // cause by name, of what the source failed
	Keep     []string          // names with KeepExtension
	Sidecars map[string][]string
	Counted  int64 // what the source counts that can count; otherwise -1
}

// Emit runs a pipeline on the source and tells what it emitted, and what it counts. A
// run that has no inputs ends with an error, which is none of the test's.
func Emit(t testing.TB, source pipeline.Info, values map[string]any) (Emitted, *Bench, *pipeline.Summary) {
	t.Helper()
	e := Emitted{Ignored: map[string]string{}, Failed: map[string]string{}, Sidecars: map[string][]string{}}
	b := New(t, nil)
	var counter pipeline.Counter
	newSource := source.NewSource
	source.NewSource = func(ctx context.Context, c pipeline.Config, env pipeline.Env) (pipeline.Source, error) {
		s, err := newSource(ctx, c, env)
		counter, _ = s.(pipeline.Counter)
		return &recorder{s, &e}, err
	}
	if err := b.UseSource(t.Context(), pipeline.NewRegistry(source), source.Name, values); err != nil {
		t.Fatal(err)
	}
	s, err := b.Try(t, pipeline.RunOptions{})
	if err != nil && s.In > 0 {
		t.Fatal(err)
	}
	e.Counted = -1
	if counter == nil {
		return e, b, s
	}
	if n, err := counter.Count(t.Context()); err == nil {
		if e.Counted = n; n != int64(len(e.Order)) {
			t.Errorf("the source counts %d, and offers %d", n, len(e.Order))
		}
	}
	return e, b, s
}

type recorder struct {
	pipeline.Source
	e *Emitted
}

func (r *recorder) Emit(ctx context.Context, emit func(pipeline.Input) error) error {
	return r.Source.Emit(ctx, func(in pipeline.Input) error {
		r.e.Inputs = append(r.e.Inputs, in)
		if in.Ignored != "" {
			r.e.Ignored[in.Name] = in.Ignored
			return emit(in)
		}
		r.e.Order = append(r.e.Order, in.Name)
		if in.Err != nil {
			r.e.Failed[in.Name] = in.Err.Error()
		}
		if in.KeepExtension {
			r.e.Keep = append(r.e.Keep, in.Name)
		}
		for _, sc := range in.Sidecars {
			r.e.Sidecars[in.Name] = append(r.e.Sidecars[in.Name], filepath.Base(sc.Path))
		}
		return emit(in)
	})
}
