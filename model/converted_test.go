package model_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// compactCheckpoint is a safetensors file of an SRVGGNetCompact that doubles pictures.
// Its convolutions do nothing: what it makes is the picture with its pixels repeated.
func compactCheckpoint(bias float32) []byte {
	header, data := map[string]any{}, []byte(nil)
	for name, shape := range map[string][]int{
		"body.0.weight": {4, 3, 3, 3}, "body.0.bias": {4}, "body.1.weight": {4}, "body.2.weight": {12, 4, 3, 3}, "body.2.bias": {12},
	} {
		n := 1
		for _, d := range shape {
			n *= d
		}
		from := len(data)
		for range n {
			v := float32(0)
			if name == "body.2.bias" {
				v = bias
			}
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
		header[name] = map[string]any{"dtype": "F32", "shape": shape, "data_offsets": []int{from, len(data)}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), data...)
}

// written is a file of that content in a new folder; the user's cache is a new folder too.
func written(t *testing.T, name string, content []byte) (path, cache string) {
	t.Helper()
	cache = t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, cache
}

func inCache(t *testing.T, cache string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cache, "*", "networks", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A checkpoint is used like an ONNX file: it is converted once, and known by what is in it.
func TestCheckpointIsANetwork(t *testing.T) {
	path, cache := written(t, "anything.bin", compactCheckpoint(0.25))
	f, err := model.Open(path, model.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if f.Path != path || f.Header.Metadata["architecture"] != "SRVGGNetCompact" || len(f.Outputs) != 1 {
		t.Errorf("%s is %v with %v", f.Path, f.Header.Metadata, f.Outputs)
	}
	if g, err := f.Geometry("output"); err != nil || g.Up != 2 || g.Down != 1 {
		t.Errorf("its geometry is %+v, %v", g, err)
	}
	s, err := f.Load(t.Context(), model.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := &model.Tensor{Type: f.ElementType(), Shape: []int64{1, 3, 1, 1}, Data: make([]byte, 12)}
	out, err := s.Run(t.Context(), []*model.Tensor{in}, model.SessionRun{})
	if err != nil || out[0].Float32s()[7] != 0.25 {
		t.Errorf("it makes %v of black, %v", out, err)
	}

	made := inCache(t, cache)
	if len(made) != 1 {
		t.Fatalf("the cache has %v", made)
	}
	before, err := os.Stat(made[0])
	if err != nil {
		t.Fatal(err)
	}
	again, err := model.Open(path, model.FileOptions{})
	if err != nil || again.Hash != f.Hash {
		t.Errorf("opened again it has the hash %s and not %s, %v", again.Hash, f.Hash, err)
	}
	if after, err := os.Stat(made[0]); err != nil || !os.SameFile(before, after) {
		t.Errorf("it was converted again: %v", err)
	}
	other, _ := written(t, "anything.bin", compactCheckpoint(0.5))
	if o, err := model.Open(other, model.FileOptions{}); err != nil || o.Hash == f.Hash {
		t.Errorf("another checkpoint has the same hash, or %v", err)
	}
}

// A file in the cache that is damaged is made again, and many who open a checkpoint at
// once all get a whole one.
func TestCacheOfCheckpoints(t *testing.T) {
	path, cache := written(t, "x2.safetensors", compactCheckpoint(0))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			f, err := model.Open(path, model.FileOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			s, err := f.Load(t.Context(), model.SessionOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			_ = s.Close()
		})
	}
	all.Wait()
	made := inCache(t, cache)
	if len(made) != 1 {
		t.Fatalf("the cache has %v", made)
	}
	if err := os.Truncate(made[0], 100); err != nil {
		t.Fatal(err)
	}
	f, err := model.Open(path, model.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Load(t.Context(), model.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
}

// What has not been used for long leaves the cache, and so does what was never finished.
func TestCacheIsCleaned(t *testing.T) {
	path, cache := written(t, "x2.safetensors", compactCheckpoint(0))
	dir := filepath.Join(cache, "forgepipe", "networks")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"used.onnx": 24 * time.Hour, "old.onnx": 31 * 24 * time.Hour, ".old.onnx.123": 2 * time.Hour, ".new.onnx.456": time.Minute} {
		file := filepath.Join(dir, name)
		then := time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Chtimes(file, then, then)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := model.Open(path, model.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{".new.onnx.456", f.Hash + ".onnx", "used.onnx"}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("the cache has %q, want %q", names, want)
	}
}

// What cannot be used says which file it is and what is wrong with it.
func TestCheckpointsThatCannotBeUsed(t *testing.T) {
	whole := compactCheckpoint(0)
	for name, tt := range map[string]struct {
		content []byte
		cause   string
		is      error
	}{
		"cut short":    {whole[:len(whole)-1], "not copied whole", nil},
		"not known":    {[]byte(strings.ReplaceAll(string(whole), "body.", "limb.")), "torch.onnx.export", arch.ErrUnknown},
		"code":         {append([]byte("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}."), "\x80\x02cos\nsystem\nU\x02id\x85R."...), "os.system", nil},
		"a zip of any": {[]byte("PK\x03\x04 and so on"), "zip archive", nil},
	} {
		t.Run(name, func(t *testing.T) {
			path, cache := written(t, "net.pth", tt.content)
			_, err := model.Open(path, model.FileOptions{})
			if err == nil || !strings.Contains(err.Error(), tt.cause) || !strings.Contains(err.Error(), path) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("the error is %v, and should say %q and %s", err, tt.cause, path)
			}
			if made := inCache(t, cache); len(made) > 0 {
				t.Errorf("the cache has %v", made)
			}
		})
	}
}

// A network is written as float16 when that is asked for, and stays as it was when it
// cannot be written.
func TestConvert(t *testing.T) {
	content := compactCheckpoint(0)
	path, _ := written(t, "x2.safetensors", content)
	out := filepath.Join(t.TempDir(), "x2.onnx")
	n, err := model.Convert(t.Context(), out, model.ConvertOptions{Element: model.Float16}, path)
	if err != nil || n.Architecture != "SRVGGNetCompact" || n.Details != "2x, 2 convolutions of 4 features" {
		t.Errorf("it is %+v, %v", n, err)
	}
	if h, err := onnx.ReadHeader(out); err != nil || h.Inputs[0].Type != onnx.Float16 {
		t.Errorf("what was written takes %+v, %v", h, err)
	}
	// A checkpoint is not replaced by its own network, and what is cancelled writes nothing.
	if _, err := model.Convert(t.Context(), path, model.ConvertOptions{}, path); err == nil || !strings.Contains(err.Error(), "another name") {
		t.Errorf("onto itself: %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, content) {
		t.Errorf("the checkpoint is another one: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	other := filepath.Join(t.TempDir(), "other.onnx")
	if _, err := model.Convert(ctx, other, model.ConvertOptions{}, path); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(other)); err != nil || len(left) > 0 {
		t.Errorf("cancelled, it left %v, %v", left, err)
	}
	if _, err := model.Convert(t.Context(), filepath.Join(out, "x2.onnx"), model.ConvertOptions{}, path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the error is %v", err)
	}
}

// Parts are networks of their own, and only checkpoints have them.
func TestOpenedInParts(t *testing.T) {
	path, _ := written(t, "net.safetensors", compactCheckpoint(0))
	if _, err := model.Open(path, model.FileOptions{Part: arch.Head}); err == nil || errors.Is(err, model.ErrNoParts) || !strings.Contains(err.Error(), `no part "head"`) {
		t.Errorf("of an architecture without parts: %v", err)
	}
	out := filepath.Join(t.TempDir(), "net.onnx")
	if _, err := model.Convert(t.Context(), out, model.ConvertOptions{}, path); err != nil {
		t.Fatal(err)
	}
	if _, err := model.Open(out, model.FileOptions{Part: arch.Head}); !errors.Is(err, model.ErrNoParts) {
		t.Errorf("of an ONNX file: %v", err)
	}
}
