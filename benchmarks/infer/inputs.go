package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"github.com/disintegration/imaging"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

// net is a network and how pictures are prepared for it.
type net struct {
	name, file string
	preset     string
}

var nets = []net{
	{name: "ResNet-18", file: "resnet18.onnx", preset: "imagenet"},
	{name: "ViT-B/32", file: "vitb32.onnx", preset: "clip"},
}

// makeNets writes the networks into a folder. It runs in a process of its own:
// see proc.Usage for why a benchmark has to stay small.
func makeNets(dir string) error {
	for i, g := range []*onnx.Graph{testnet.ResNet18(0), testnet.ViTB32()} {
		if err := g.WriteFile(filepath.Join(dir, nets[i].file)); err != nil {
			return err
		}
	}
	return nil
}

// set is a folder of images.
type set struct {
	name, dir string
	one       string // a folder with the first alone
	n         int
}

// What images of the small set are: parts of the photographs, made smaller.
const (
	smallWidth, smallHeight = 341, 256   // px
	partWidth, partHeight   = 1364, 1024 // px
)

const describedSets = "The 12 MP images are these photographs, as often as it takes, each time with another comment in the file, so that no two files are equal; those of 256 pixels are parts of 1364x1024, resized to 341x256 (Lanczos, imaging) and written in the same way."

// makeSet writes a set: large|small, how many images, the photographs' folder,
// the set's folder.
func makeSet(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	from, to := args[2], args[3]
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
		variant := func(i int) ([]byte, error) { return commented(data, i) }
		if args[0] == "small" {
			img, err := jpeg.Decode(bytes.NewReader(data))
			if err != nil {
				return err
			}
			rnd := rand.New(rand.NewPCG(uint64(p), 0))
			variant = func(int) ([]byte, error) { return part(img, rnd) }
		}
		for i := p; i < n; i += len(entries) {
			b, err := variant(i)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(to, fmt.Sprintf("%05d.jpg", i)), b, 0o666); err != nil {
				return err
			}
		}
	}
	return nil
}

// commented is the JPEG with a comment segment after its first marker.
func commented(data []byte, i int) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0xff, 0xd8}) {
		return nil, errors.New("not a JPEG")
	}
	text := fmt.Appendf(nil, "copy %d", i)
	b := append([]byte{}, data[:2]...)
	b = append(b, 0xff, 0xfe)
	b = binary.BigEndian.AppendUint16(b, uint16(2+len(text)))
	return append(append(b, text...), data[2:]...), nil
}

// part is a small JPEG of a part of the photograph.
func part(img image.Image, rnd *rand.Rand) ([]byte, error) {
	x, y := rnd.IntN(photos.Width-partWidth+1), rnd.IntN(photos.Height-partHeight+1)
	var cut image.Image = imaging.Resize(imaging.Crop(img, image.Rect(x, y, x+partWidth, y+partHeight)), smallWidth, smallHeight, imaging.Lanczos)
	var b bytes.Buffer
	err := jpeg.Encode(&b, cut, &jpeg.Options{Quality: photos.Quality})
	return b.Bytes(), err
}
