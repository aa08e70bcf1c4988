package model

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

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
	fmt.Fprintf(sum, "arch %d quick gelu %t\n", arch.Version, o.QuickGELU)
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
		return nil
	}
	if _, err := Convert(f.network, ConvertOptions{QuickGELU: o.QuickGELU}, paths...); err != nil {
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

// ConvertOptions say how a checkpoint becomes a network. The zero value is what Open does
// with one.
type ConvertOptions struct {
	// Element is the type that the network computes with; "" is Float32.
	Element Element
	// QuickGELU is that of FileOptions.
	QuickGELU bool
}

// Convert builds the network whose weights the checkpoints have, which together are one,
// and writes it as an ONNX file: whole, or not at all. It tells what the network is. Weights are copied from
// file to file and not read into memory, but for the few that are computed. An error that
// is arch.ErrUnknown says that no known architecture has such weights.
func Convert(out string, o ConvertOptions, checkpoints ...string) (*arch.Network, error) {
	var files []*checkpoint.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	for _, path := range checkpoints {
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
	n, err := arch.Build(arch.Options{Type: element, QuickGELU: o.QuickGELU}, files...)
	if err != nil {
		return nil, fmt.Errorf("converting the checkpoint %s: %w", checkpoints[0], err)
	}
	if err := n.Graph.WriteFile(out); err != nil {
		return nil, fmt.Errorf("converting the checkpoint %s: %w", checkpoints[0], err)
	}
	n.Graph = nil // it reads the files
	return n, nil
}

// ReadHeader reads what a model's file, as Open takes it, says of its network.
func ReadHeader(path string, o FileOptions) (*onnx.Header, error) {
	f := &File{Path: path, network: path}
	err := f.read(o)
	return f.Header, err
}

// prepared is how pictures are prepared for a network that says so itself, where nothing
// else is asked for.
func (f *File) prepared(asked Spec) Spec {
	i := slices.IndexFunc(presets, func(p struct {
		name string
		spec Spec
	}) bool {
		return p.name == f.Header.Metadata[arch.PresetKey]
	})
	if i < 0 || asked != (Spec{}) {
		return asked
	}
	return presets[i].spec
}
