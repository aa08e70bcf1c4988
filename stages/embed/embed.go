package embed

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/readout"
	"github.com/forgepipe/forgepipe/stages/network"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "embed",
		Short: "Makes a vector of every image with a neural network.",
		Long: `Runs a network (an ONNX file that takes pictures) on every image and sets what it gives as a vector of length 1 (L2-normalised), for dedup, for later stages and for the manifest. All values of the network's output are taken, whatever its shape. Of a pair, the high-quality image is embedded; transparent pixels count with the colour they have.

Size, channels, layout and element type are read from the network's file. What it cannot tell is how pictures are prepared: preset has that of known networks, and the other fields replace parts of it. A network of which nothing is known gets red, green and blue in 0..1, squashed to the size that it wants. The prepared pictures are those of Pillow and torchvision.

` + network.Devices + `

The run is repeatable to within what the network's kernels differ by for batches of different sizes, about 1e-6 of a component.`,
		Examples: []pipeline.Example{
			{Doc: "A CLIP network, on the GPUs that can be used and else on the CPU.", YAML: "embed: {model: ./clip-vit-b32.onnx, preset: clip}"},
			{Doc: "The same from the store of models, where forgepipe models fetch has put it, with its preset.", YAML: "embed: {model: clip-vit-b32}"},
			{Doc: "A network of which nothing is known, on all GPUs, with vectors that take half the room.", YAML: "device: gpu\nembed:\n  model: ./dino.onnx\n  mean: [0.485, 0.456, 0.406]\n  std: [0.229, 0.224, 0.225]\n  dtype: float16"},
		},
		Fields: slices.Concat(
			[]pipeline.Field{
				network.ModelField("./clip-vit-b32.onnx", "clip-vit-b32"),
				{Name: "name", Type: pipeline.FieldString, Doc: "What the vector is called; by default like the file, without its extension."},
				{Name: "output", Type: pipeline.FieldString, Doc: "Which of the network's outputs, where it has several."},
			},
			network.PreparationFields(),
			[]pipeline.Field{
				{Name: "dtype", Type: pipeline.FieldEnum, Enum: []string{"float32", "float16"}, Default: "float32", Doc: "How the vector is stored. float16 takes half the room and rounds components to 11 bits."},
			},
			network.RunFields(),
		),
		Makes: func(c pipeline.Config) []pipeline.Made {
			return []pipeline.Made{{Name: name(c), Vector: true, Doc: "what the network makes of the image, of length 1"}}
		},
		Pure:    true,
		Waits:   true,
		Version: 2,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

// name is that of the vector.
func name(c pipeline.Config) string { return cmp.Or(c.String("name"), network.NameOf(c)) }

// Stage sets a vector. What runs the network is a network.Stage.
type Stage struct {
	*network.Stage
	name string
	kind string // of the vectors
	half bool
}

var (
	_ pipeline.Stage       = (*Stage)(nil)
	_ pipeline.VectorSizer = (*Stage)(nil)
)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	m, err := network.Find(c)
	if err != nil {
		return nil, err
	}
	var outputs []string
	if output := c.String("output"); output != "" {
		outputs = []string{output}
	}
	f, err := m.Open(outputs...)
	if err != nil {
		return nil, err
	}
	s := &Stage{name: name(c), kind: f.Kind(0), half: c.String("dtype") == "float16"}
	o := network.Running(c)
	o.Doing = "embedding"
	s.Stage, err = network.New(e, f, o, s.take)
	if err != nil {
		return nil, c.Errorf("library", 0, "%w", err)
	}
	return s, nil
}

// take gives the item its vector.
func (s *Stage) take(it *pipeline.Item, out *model.Tensor) error {
	v, err := s.vector(out)
	if err == nil {
		it.SetVector(v)
	}
	return err
}

// vector is the output, brought to length 1.
func (s *Stage) vector(out *model.Tensor) (pipeline.Vector, error) {
	data := out.Numbers()
	var sum float64
	for _, x := range data {
		sum += float64(x) * float64(x)
	}
	switch {
	case len(data) == 0:
		return pipeline.Vector{}, errors.New("the network gives no numbers")
	case math.IsNaN(sum) || math.IsInf(sum, 0):
		return pipeline.Vector{}, readout.ErrNotFinite
	case sum == 0:
		return pipeline.Vector{}, errors.New("the network gives nothing but zeros, which have no direction")
	}
	scale := 1 / math.Sqrt(sum)
	for i, x := range data {
		data[i] = float32(float64(x) * scale)
	}
	return pipeline.Vector{Name: s.name, Model: s.kind, Half: s.half, Data: data}, nil
}

// VectorSizes is how many numbers the vector has.
func (s *Stage) VectorSizes() map[string]int { return map[string]int{s.name: s.Numbers()[0]} }
