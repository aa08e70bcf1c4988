package main

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strconv"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

const netScale = 4

// Files of the networks.
const (
	compactFile = "compact.onnx"
	rrdbFile    = "rrdb.onnx"
)

const describedNets = "The networks enlarge four times and have random weights. Compact is SRVGGNetCompact with 64 features and 16 convolutions (0.6 M parameters), RRDB is RRDBNet with 64 features and 23 blocks (16.7 M)."

// makeNets writes the networks into a folder, in a process of its own: see proc.Usage
// for why a benchmark has to stay small.
func makeNets(dir string) error {
	for file, g := range map[string]*onnx.Graph{
		compactFile: testnet.Compact(netScale, 64, 16),
		rrdbFile:    testnet.RRDB(testnet.RRDBOptions{Features: 64, Blocks: 23}),
	} {
		if err := g.WriteFile(filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	return nil
}

const describedSets = "The pictures are parts of these photographs, made smaller (Lanczos, imaging), 8-bit PNG."

// makeSet writes a set of pictures: how many, their width and height, the photographs'
// folder, the set's folder.
func makeSet(args []string) error {
	var numbers [3]int
	for i := range numbers {
		var err error
		if numbers[i], err = strconv.Atoi(args[i]); err != nil {
			return err
		}
	}
	n, w, h := numbers[0], numbers[1], numbers[2]
	from, to := args[3], args[4]
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o777); err != nil {
		return err
	}
	for p, e := range entries[:min(n, len(entries))] {
		data, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		img, err := jpeg.Decode(bytes.NewReader(data))
		if err != nil {
			return err
		}
		for i := p; i < n; i += len(entries) {
			// Each time another part, a little farther to the right.
			x := i / len(entries) * 150
			part := imaging.Crop(img, image.Rect(x, 0, min(x+photos.Height, photos.Width), photos.Height))
			var b bytes.Buffer
			if err := png.Encode(&b, imaging.Fill(part, w, h, imaging.Center, imaging.Lanczos)); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(to, fmt.Sprintf("%05d.png", i)), b.Bytes(), 0o666); err != nil {
				return err
			}
		}
	}
	return nil
}
