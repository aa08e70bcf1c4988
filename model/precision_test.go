package model_test

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

// given is a tensor of random numbers of that type.
func given(t ort.ElementType, shape ...int64) *ort.Tensor {
	x := ort.NewTensor(t, shape...)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range len(x.Data) / t.Size() {
		v := float32(r.IntN(256)) / 256 // which both types hold
		if t == ort.Float32 {
			x.Float32s()[i] = v
		} else {
			h := onnx.Half(v)
			x.Data[2*i], x.Data[2*i+1] = byte(h), byte(h>>8)
		}
	}
	return x
}

// A network gives about the same in either precision.
func TestPrecisionOfNetworks(t *testing.T) {
	type network struct {
		path string
		side int64
	}
	nets := map[string]network{}
	for _, n := range testnet.All() {
		switch n.Name {
		case "several ports", "no image", "unknown operator", "nan", "hog", "resnet18", "resnet18 features":
			continue // they do not run on a picture, not to numbers, or for long
		case "embedder of gray", "embedder of four channels":
			continue
		}
		nets[n.Name] = network{saved(t, n.Build()), 64}
	}
	for _, name := range []string{"shuffle.legacy", "shuffle.dynamo", "rrdb_unshuffled.dynamo", "viewed.legacy", "attention.legacy", "attention.dynamo", "unet.dynamo"} {
		nets[name] = network{filepath.Join("onnx", "testdata", name+".onnx"), 32}
	}
	for name, n := range nets {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := model.Open(n.path, model.FileOptions{})
			if err != nil {
				t.Fatal(err)
			}
			run := func(f *model.File) []float32 {
				s, err := f.Load(t.Context(), model.SessionOptions{})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				out, err := s.Run(t.Context(), []*ort.Tensor{given(f.ElementType(), 1, 3, n.side, n.side)}, ort.RunOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if got := onnx.ElementType(out[0].Type); got != f.Outputs[0].Type {
					t.Errorf("an output of %v, and %v is said", got, f.Outputs[0].Type)
				}
				return out[0].Numbers()
			}
			other := model.Float16
			if f.Spec.Element == model.Float16 {
				other = model.Float32
			}
			as := f.As(other)
			if as.Hash == f.Hash || as.Spec.Element != other || f.As(f.Spec.Element) != f {
				t.Errorf("%+v", as)
			}
			want, got := run(f), run(as)
			var largest, apart float64
			for i := range want {
				largest = max(largest, math.Abs(float64(want[i])))
				apart = max(apart, math.Abs(float64(want[i]-got[i])))
			}
			if len(got) != len(want) || largest == 0 || !(apart <= largest/100) {
				t.Errorf("%v apart of %v, %d and %d numbers", apart, largest, len(got), len(want))
			}
			t.Logf("%.2g", apart/largest)
		})
	}
}
