package infer

import (
	"context"
	"errors"
	"fmt"
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
		Name:  "infer",
		Short: "Runs a neural network on every image and keeps what it gives.",
		Long: `Runs a network (an ONNX file that takes pictures) on every image. What becomes of its outputs is said by attributes, vectors and image, of which at least one is needed; the network runs once for all of them, and outputs that nobody names are not computed. For one number there is also score, for vectors of length 1 embed, and for enlarging upscale, which cuts large images into tiles.

attributes sets numbers, each written as NAME, for the output of that name or else the only one, or as NAME = NUMBER, where NUMBER is one of these:

` + readout.Doc + `

vectors sets whole outputs, each written as NAME, for the output of that name or else the only one, or as NAME = OUTPUT. All numbers of the output are taken as the network gives them, whatever its shape; embed brings them to length 1. Some networks have several outputs and one that is meant where none is named: those of LPIPS have output, of which the squared length of a difference is the distance of two pictures, and pooled, a short vector of which that is never more than the distance. A vector with a number that is not finite, or too large for float16, fails the item.

image replaces the picture by the one that an output shows: one of 1 channel becomes gray, one of 3 has colours, both with 8 bits for a sample and without transparency, whatever the image had before. It has the size that comes from the network: where pictures are squashed to the size that it wants, that of the output; the border that multiple adds is taken off again, and where the file tells what sides must be multiples of, multiple need not be said. What lies below black or above white is cut off. The whole image goes through at once: for large ones upscale takes less memory. Attributes and vectors describe pixels, so those set before are gone; those that the same infer sets belong to the picture that the network saw. Of a pair, the high-quality image is run, and its new picture must have the same size.

Size, channels, layout and element type are read from the network's file. What it cannot tell is how pictures are prepared: preset has that of known networks, and the other fields replace parts of it, as in embed. Transparent pixels count with the colour they have.

` + network.Devices + `

The run is repeatable to within what the network's kernels differ by for batches of different sizes.`,
		Examples: []pipeline.Example{
			{Doc: "The probability of the second class of a classifier, and the place of the most likely one.", YAML: "infer:\n  model: ./classifier.onnx\n  preset: imagenet\n  attributes: [\"unsafe = softmax(logits)[1]\", \"class = argmax(logits)\"]"},
			{Doc: "Two outputs of one network: a number for filters, and a vector that is stored as it is.", YAML: "infer: {model: ./quality.onnx, attributes: quality, vectors: [features]}"},
			{Doc: "A network that takes noise away: the image becomes what its output shows.", YAML: "infer: {model: ./denoise.onnx, image: output}"},
		},
		Fields: slices.Concat(
			[]pipeline.Field{
				network.ModelField("./classifier.onnx"),
				{Name: "attributes", Type: pipeline.FieldStrings, Doc: "Numbers to set as attributes: NAME, or NAME = NUMBER.", Examples: []string{"quality", `[quality, "ugly = logits[2]"]`, `unsafe = softmax(logits)[1]`}},
				{Name: "vectors", Type: pipeline.FieldStrings, Doc: "Outputs to set as vectors: NAME, or NAME = OUTPUT.", Examples: []string{"features", `[features, "clip = image_embeds"]`}},
				{Name: "image", Type: pipeline.FieldString, Doc: "The output whose picture replaces the image.", Examples: []string{"output"}},
			},
			network.PreparationFields(),
			[]pipeline.Field{
				{Name: "dtype", Type: pipeline.FieldEnum, Enum: []string{"float32", "float16"}, Default: "float32", Doc: "How vectors are stored. float16 takes half the room and rounds components to 11 bits."},
				{Name: "image_range", Type: pipeline.FieldEnum, Enum: network.Ranges(), Doc: "What black and white are in the output that image names. Without it the picture is taken to come out as it went in: range, mean and std are undone."},
				{Name: "scale", Type: pipeline.FieldInt, Unit: "times", Min: 1, Max: 16, Cosmetic: true, Doc: "How many times as wide and as high as what goes in the image is that comes out, where the network's file does not tell. Memory is planned with it, and a larger image fails."},
			},
			network.RunFields(),
		),
		Makes:   makes,
		Pure:    true,
		Waits:   true,
		Version: 2,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

// makes is what the configuration names; what is wrong with it newStage says.
func makes(c pipeline.Config) []pipeline.Made {
	var made []pipeline.Made
	for _, text := range c.Strings("attributes") {
		d := declare(text)
		n, _ := readout.Parse(d.right) // a faulty one is a float
		made = append(made, pipeline.Made{Name: d.name, Type: n.Type(), Doc: "what the network makes of the image: " + d.right})
	}
	for _, text := range c.Strings("vectors") {
		d := declare(text)
		made = append(made, pipeline.Made{Name: d.name, Vector: true, Doc: "what the network makes of the image: " + d.right})
	}
	return made
}

// Stage sets what a network gives. What runs it is a network.Stage.
type Stage struct {
	*network.Stage
	file    *model.File
	numbers []number
	vectors []vector
	half    bool
	image   *painter // nil: the picture stays
}

var (
	_ pipeline.Stage       = (*Stage)(nil)
	_ pipeline.VectorSizer = (*Stage)(nil)
)

// A number becomes an attribute.
type number struct {
	name   string
	output int // among those that the network is asked for
	readout.Number
}

// A vector is a whole output.
type vector struct {
	name   string
	output int
}

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	if len(c.Strings("attributes")) == 0 && len(c.Strings("vectors")) == 0 && c.String("image") == "" {
		return nil, c.Errorf("attributes", 0, "say what becomes of what the network gives: attributes, vectors or image")
	}
	m, err := network.Find(c)
	if err != nil {
		return nil, err
	}
	s := &Stage{half: c.String("dtype") == "float16"}
	w := wanted{c: c, have: m.Header.Outputs, usual: model.DefaultOutput(m.Header)}
	if s.numbers, s.vectors, err = w.all(); err != nil {
		return nil, err
	}
	at := -1
	if name := c.String("image"); name != "" {
		if at, err = w.use(name); err != nil {
			return nil, c.Errorf("image", 0, "%w", err)
		}
	}
	if s.file, err = m.Open(w.names...); err != nil {
		return nil, err
	}
	o := network.Running(c)
	if at >= 0 {
		if s.image, err = newPainter(c, s.file, at, e.Limits.MaxPixels); err != nil {
			return nil, err
		}
		o.Scale = s.image.scale
	} else if err := onlyForImages(c); err != nil {
		return nil, err
	}
	s.Stage, err = network.NewAll(e, s.file, o, s.take)
	if err != nil {
		return nil, c.Errorf("library", 0, "%w", err)
	}
	return s, nil
}

// onlyForImages refuses what nothing would come of.
func onlyForImages(c pipeline.Config) error {
	for _, f := range []string{"image_range", "scale"} {
		if c.IsSet(f) {
			return c.Errorf(f, 0, "it is for a network whose picture is taken: name the output with image, or leave %s out", f)
		}
	}
	return nil
}

// take sets what the network gave for a picture.
func (s *Stage) take(it *pipeline.Item, out []*model.Tensor) error {
	for _, n := range s.numbers {
		v, err := n.Of(out[n.output])
		if err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
		it.SetAttr(n.name, v)
	}
	for _, v := range s.vectors {
		data := out[v.output].Numbers()
		if err := s.storable(data); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		it.SetVector(pipeline.Vector{Name: v.name, Model: s.file.Kind(v.output), Half: s.half, Data: data})
	}
	if s.image == nil {
		return nil
	}
	img, err := s.image.picture(out[s.image.output], it.Size())
	if err == nil {
		it.SetImage(img)
	}
	return err
}

// maxHalf is the largest number that a float16 holds.
const maxHalf = 65504

// storable reports numbers that no vector holds.
func (s *Stage) storable(data []float32) error {
	if len(data) == 0 {
		return errors.New("the network gives no numbers")
	}
	if err := readout.Finite(data); err != nil {
		return err
	}
	if !s.half {
		return nil
	}
	for _, x := range data {
		if math.Abs(float64(x)) > maxHalf {
			return fmt.Errorf("the network gives %g, and float16 holds no more than %d: store the vector as float32", x, maxHalf)
		}
	}
	return nil
}

// VectorSizes are how many numbers the vectors have.
func (s *Stage) VectorSizes() map[string]int {
	numbers, sizes := s.Numbers(), map[string]int{}
	for _, v := range s.vectors {
		sizes[v.name] = numbers[v.output]
	}
	return sizes
}
