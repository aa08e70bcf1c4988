package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

// net is a network with random weights.
type net struct {
	name, file string
	build      func() *onnx.Graph
	shape      []int64 // of one item
}

// nets are those of a GPU, and the small ones that take their place without: an embedder
// of convolutions, one of attention, and an upscaler.
func nets(small bool) []net {
	if small {
		return []net{
			{"small embedder", "embedder-small.onnx", func() *onnx.Graph { return testnet.Embedder(testnet.EmbedderOptions{Size: 64}) }, []int64{3, 64, 64}},
			{"small ViT", "vit-small.onnx", func() *onnx.Graph {
				return testnet.ViT(testnet.ViTOptions{Image: 64, Patch: 16, Width: 64, Layers: 2, Heads: 4, Dim: 32})
			}, []int64{3, 64, 64}},
			{"small Compact x4", "compact-small.onnx", func() *onnx.Graph { return testnet.Compact(4, 16, 2) }, []int64{3, 32, 32}},
		}
	}
	return []net{
		{"ResNet-18", "resnet18.onnx", func() *onnx.Graph { return testnet.ResNet18(0) }, []int64{3, 224, 224}},
		{"ViT-B/32", "vitb32.onnx", testnet.ViTB32, []int64{3, 224, 224}},
		{"Compact x4", "compact.onnx", func() *onnx.Graph { return testnet.Compact(4, 64, 16) }, []int64{3, 128, 128}},
	}
}

// makeNets writes them into a folder.
func makeNets(dir string, small bool) error {
	for _, n := range nets(small) {
		to := filepath.Join(dir, n.file)
		if err := n.build().WriteFile(to + ".new"); err != nil {
			return err
		}
		if err := os.Rename(to+".new", to); err != nil {
			return err
		}
	}
	return nil
}

// prepareNets has them made by a process of its own, unless they are there: making the
// largest takes more memory than what is measured.
func prepareNets(dir string, small bool) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	missing := false
	for _, n := range nets(small) {
		if _, err := os.Stat(filepath.Join(dir, n.file)); err != nil {
			missing = true
		}
	}
	if !missing {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	msg, err := exec.Command(self, "-job", "nets", "-dir", dir, "-without-gpu="+strconv.FormatBool(small)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("making the networks: %w\n%s", err, msg)
	}
	return nil
}

// look reads a network's header.
func (s settings) look(n net) (*model.File, error) {
	return model.Open(filepath.Join(s.dir, n.file), model.FileOptions{})
}

// filled is a batch of pictures of noise, always the same ones.
func filled(items int, shape []int64) *model.Tensor {
	t := ort.NewTensor(ort.Float32, append([]int64{int64(items)}, shape...)...)
	random := rand.New(rand.NewPCG(1, 2))
	for i, all := 0, t.Float32s(); i < len(all); i++ {
		all[i] = random.Float32()
	}
	return t
}

// run runs a session once on a batch.
func run(ctx context.Context, s model.Session, in *model.Tensor, o model.SessionRun) ([]float32, error) {
	out, err := s.Run(ctx, []*model.Tensor{in}, o)
	if err != nil {
		return nil, err
	}
	if len(out) != 1 {
		return nil, errors.New("the network has not one output")
	}
	return out[0].Float32s(), nil
}
