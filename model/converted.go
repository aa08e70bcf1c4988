package model

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/model/checkpoint"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// isCheckpoint tells whether a file is one of weights alone, by its first bytes.
func isCheckpoint(path string) (bool, error) {
	info, err := os.Stat(path) // a pipe must not be opened: that waits for a writer
	if err != nil || !info.Mode().IsRegular() {
		return false, nil //nolint:nilerr // whoever reads it as a network says what is wrong
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	first := make([]byte, 16)
	n, err := io.ReadFull(f, first)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil //nolint:nilerr // it is empty
	}
	return checkpoint.Sniff(first[:n]), nil
}

// fromCheckpoint makes f that of a checkpoint's network, which is built once and kept in
// the user's cache.
func (f *File) fromCheckpoint(o FileOptions) error {
	sum := sha256.New()
	// What is made of the files belongs to what they are as well as to how it is made.
	gelu := activation(o.Preset)
	fmt.Fprintf(sum, "arch %d gelu %s\n", arch.Version, gelu)
	if o.Part != "" {
		fmt.Fprintf(sum, "part %s\n", o.Part)
	}
	paths := append([]string{f.Path}, o.Beside...)
	for _, path := range paths {
		if err := f.add(sum, path); err != nil {
			return err
		}
	}
	f.Hash = hex.EncodeToString(sum.Sum(nil))
	dir, err := cacheDir()
	if err != nil {
		return fmt.Errorf("converting it: %w", err)
	}
	f.network = filepath.Join(dir, f.Hash+".onnx")
	if f.Header, err = onnx.ReadHeader(f.network); err == nil {
		now := time.Now()
		_ = os.Chtimes(f.network, now, now) // it is in use: see clean
		return nil
	}
	clean(dir)
	if _, err := Convert(context.Background(), f.network, ConvertOptions{GELU: gelu, Part: o.Part}, paths...); err != nil {
		return err
	}
	f.Header, err = onnx.ReadHeader(f.network)
	return err
}

// cacheDir is where networks that were built of checkpoints are kept.
func cacheDir() (string, error) {
	root, err := os.UserCacheDir()
	if err != nil {
		root = filepath.Join(os.TempDir(), "forgepipe-"+strconv.Itoa(os.Getuid()))
	}
	dir := filepath.Join(root, "forgepipe", "networks")
	return dir, os.MkdirAll(dir, 0o700)
}

// activation is that of the CLIP networks which a preset is for.
func activation(preset string) arch.GELU {
	switch preset {
	case "clip":
		return arch.ExactGELU
	case clipOpenAI:
		return arch.QuickGELU
	}
	return ""
}

// unusedAfter is when a network that nobody has opened leaves the cache, and staleAfter
// when a file that is half written is not being written any more.
const (
	unusedAfter = 30 * 24 * time.Hour
	staleAfter  = time.Hour
)

// clean takes networks out of the cache that have long not been used, and what a process
// that was killed has left.
func clean(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // it is no worse than before
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		age := time.Since(info.ModTime())
		if age > unusedAfter || age > staleAfter && filepath.Ext(e.Name()) != ".onnx" {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// ConvertOptions say how a checkpoint becomes a network. The zero value is what Open does
// with one.
type ConvertOptions struct {
	// Element is the type that the network computes with; "" is Float32.
	Element Element
	// GELU and Part are those of arch.Options.
	GELU arch.GELU
	Part arch.Part
}

// Convert builds the network whose weights the checkpoints have, which together are one,
// and writes it as an ONNX file: whole, or not at all. It tells what the network is. Weights are copied from
// file to file and not read into memory, but for the few that are computed. An error that
// is arch.ErrUnknown says that no known architecture has such weights; out must not be one
// of the checkpoints. When ctx ends, so does the work, with ctx's error.
func Convert(ctx context.Context, out string, o ConvertOptions, checkpoints ...string) (*arch.Network, error) {
	var files []*checkpoint.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	for _, path := range checkpoints {
		if same(path, out) {
			return nil, fmt.Errorf("converting the checkpoint %s: it would be replaced by the network: give another name", path)
		}
		f, err := checkpoint.Open(path)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	element := onnx.Float32
	if o.Element == Float16 {
		element = onnx.Float16
	}
	var n *arch.Network
	err := files[0].Use(func() (err error) {
		if n, err = arch.Build(arch.Options{Type: element, GELU: o.GELU, Part: o.Part}, files...); err != nil {
			return err
		}
		return n.Graph.WriteFileContext(ctx, out)
	})
	if err != nil {
		return nil, fmt.Errorf("converting %w", err)
	}
	n.Graph = nil // it reads the files
	return n, nil
}

// same tells whether two paths are of one file.
func same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// ReadHeader reads what a model's file, as Open takes it, says of its network.
func ReadHeader(path string, o FileOptions) (*onnx.Header, error) {
	f := &File{Path: path, network: path}
	err := f.read(o)
	return f.Header, err
}

// prepared is how pictures are prepared for a network that says so itself, where nothing
// else is asked for.
func (f *File) prepared(o FileOptions) Spec {
	if o.Spec != (Spec{}) {
		return o.Spec
	}
	s, _ := Preset(cmp.Or(o.Preset, f.Header.Metadata[arch.PresetKey]))
	return s
}
