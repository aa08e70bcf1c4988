package embed

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

// Info declares the stage.
func Info() pipeline.Info {
	words := func(list ...string) []string { return list }
	return pipeline.Info{
		Name:  "embed",
		Short: "Makes a vector of every image with a neural network.",
		Long: `Runs a network (an ONNX file that takes pictures) on every image and sets what it gives as a vector of length 1 (L2-normalised), for dedup, for later stages and for the manifest. All values of the network's output are taken, whatever its shape. Of a pair, the high-quality image is embedded; transparent pixels count with the colour they have.

Size, channels, layout and element type are read from the network's file. What it cannot tell is how pictures are prepared: preset has that of known networks, and the other fields replace parts of it. A network of which nothing is known gets red, green and blue in 0..1, squashed to the size that it wants. The prepared pictures are those of Pillow and torchvision.

With device: gpu it runs on all NVIDIA GPUs, if the ONNX Runtime in use can, and with device: gpu:1 on that one; with device: auto, and without a device, it takes the GPUs where there are some that can be used and the CPU otherwise, also for pictures that have no room on a GPU.

The run is repeatable to within what the network's kernels differ by for batches of different sizes, about 1e-6 of a component.`,
		Examples: []pipeline.Example{
			{Doc: "A CLIP network, on the GPUs that can be used and else on the CPU.", YAML: "embed: {model: ./clip-vit-b32.onnx, preset: clip}"},
			{Doc: "A network of which nothing is known, on all GPUs, with vectors that take half the room.", YAML: "device: gpu\nembed:\n  model: ./dino.onnx\n  mean: [0.485, 0.456, 0.406]\n  std: [0.229, 0.224, 0.225]\n  dtype: float16"},
		},
		Fields: []pipeline.Field{
			{Name: "model", Type: pipeline.FieldPath, Required: true, Doc: "The network, an ONNX file. Results belong to its content, not to its name.", Examples: words("./clip-vit-b32.onnx")},
			{Name: "name", Type: pipeline.FieldString, Doc: "What the vector is called; by default like the file, without its extension."},
			{Name: "output", Type: pipeline.FieldString, Doc: "Which of the network's outputs, where it has several."},
			{Name: "preset", Type: pipeline.FieldEnum, Enum: model.Presets(), Doc: "How pictures are prepared, as the network of that name wants them."},
			{Name: "resize", Type: pipeline.FieldEnum, Enum: words(string(model.Squash), string(model.Shortest), string(model.NoResize)), Doc: "How pictures come to their size: squash to width x height, by the shortest side, or none."},
			{Name: "filter", Type: pipeline.FieldString, Doc: "The filter that resizes, bicubic by default.", Examples: words("bilinear", "bicubic", "lanczos")},
			{Name: "shorter", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 16, Doc: "The shorter side after resizing by the shortest side."},
			{Name: "width", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 16, Doc: "The width after squashing or cropping."},
			{Name: "height", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 16, Doc: "The height after squashing or cropping."},
			{Name: "crop", Type: pipeline.FieldEnum, Enum: words(string(model.Centre), string(model.NoCrop)), Doc: "What is cut out after resizing."},
			{Name: "multiple", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 12, Doc: "Both sides are made multiples of it, with a mirrored border, for networks that want that."},
			{Name: "layout", Type: pipeline.FieldEnum, Enum: words(string(model.NCHW), string(model.NHWC)), Doc: "The order of the axes, where the file leaves it open."},
			{Name: "channels", Type: pipeline.FieldEnum, Enum: words(string(model.RGB), string(model.BGR), string(model.Gray)), Doc: "The channels and their order."},
			{Name: "range", Type: pipeline.FieldEnum, Enum: words(string(model.ZeroToOne), string(model.MinusOneToOne), string(model.ZeroTo255)), Doc: "What black and white become, before mean and std."},
			{Name: "mean", Type: pipeline.FieldStrings, Doc: "Taken from each sample: one number, or one each for red, green and blue.", Examples: words("[0.485, 0.456, 0.406]")},
			{Name: "std", Type: pipeline.FieldStrings, Doc: "What each sample is divided by, after mean.", Examples: words("[0.229, 0.224, 0.225]")},
			{Name: "dtype", Type: pipeline.FieldEnum, Enum: words("float32", "float16"), Default: "float32", Doc: "How the vector is stored. float16 takes half the room and rounds components to 11 bits."},
			{Name: "decode", Type: pipeline.FieldEnum, Enum: words("exact", "fast"), Default: "exact", Doc: "fast decodes JPEGs at a smaller scale, at least twice the size that is wanted: quicker, and vectors differ a little."},
			{Name: "infer_batch", Type: pipeline.FieldInt, Unit: "images", Min: 1, Max: 4096, Cosmetic: true, Doc: "How many pictures one run of the network takes, at most. By default the governor finds out on a GPU, and on the CPU up to 8, or 4 where several runs go on at once (see threads). Pictures of different sizes go one by one."},
			{Name: "threads", Type: pipeline.FieldInt, Unit: "threads", Min: 0, Max: 1024, Default: "0", Cosmetic: true, Doc: "How many threads compute on the CPU; 0 is one for each core. They run a batch each; or several a batch, where memory is short or pictures come in different sizes."},
			{Name: "library", Type: pipeline.FieldPath, Cosmetic: true, Doc: "Another ONNX Runtime than the one that forgepipe brings: the path of libonnxruntime.so."},
		},
		Makes: func(c pipeline.Config) []pipeline.Made {
			return []pipeline.Made{{Name: name(c), Vector: true, Doc: "what the network makes of the image, of length 1"}}
		},
		Pure:    true,
		Waits:   true,
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

// name is that of the vector.
func name(c pipeline.Config) string {
	if n := c.String("name"); n != "" {
		return n
	}
	base := filepath.Base(c.String("model"))
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// Stage sets a vector. What runs the network is a network.Stage.
type Stage struct {
	*network.Stage
	file *model.File
	name string
	half bool
}

var _ pipeline.Stage = (*Stage)(nil)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	spec, err := specOf(c)
	if err != nil {
		return nil, err
	}
	var outputs []string
	if name := c.String("output"); name != "" {
		outputs = []string{name}
	}
	f, err := model.Open(c.String("model"), model.FileOptions{Spec: spec, Outputs: outputs})
	if err != nil {
		return nil, c.Errorf("model", 0, "%w", err)
	}
	s := &Stage{file: f, name: name(c), half: c.String("dtype") == "float16"}
	s.Stage, err = network.New(e, f, network.Options{
		Doing: "embedding", Batch: int(c.Int("infer_batch")), Threads: int(c.Int("threads")),
		Scaled: c.String("decode") == "fast", Library: c.String("library"),
	}, s.take)
	if err != nil {
		return nil, c.Errorf("library", 0, "%w", err)
	}
	return s, nil
}

// specOf is what the configuration says of the preparation.
func specOf(c pipeline.Config) (model.Spec, error) {
	s, _ := model.Preset(c.String("preset"))
	for field, set := range map[string]func(string){
		"resize":   func(v string) { s.Resize = model.Resize(v) },
		"filter":   func(v string) { s.Filter = v },
		"crop":     func(v string) { s.Crop = model.Crop(v) },
		"layout":   func(v string) { s.Layout = model.Layout(v) },
		"channels": func(v string) { s.Channels = model.Channels(v) },
		"range":    func(v string) { s.Range = model.Range(v) },
	} {
		if v := c.String(field); v != "" {
			set(v)
		}
	}
	for field, v := range map[string]*int{"shorter": &s.Shorter, "width": &s.Width, "height": &s.Height, "multiple": &s.Multiple} {
		if c.IsSet(field) {
			*v = int(c.Int(field))
		}
	}
	for _, f := range []struct {
		name string
		v    *[3]float64
	}{{"mean", &s.Mean}, {"std", &s.Std}} {
		texts := c.Strings(f.name)
		if len(texts) == 0 {
			continue
		}
		if len(texts) != 1 && len(texts) != 3 {
			return s, c.Errorf(f.name, 0, "one number is wanted, or three: for red, green and blue")
		}
		for i := range f.v {
			at := min(i, len(texts)-1)
			x, err := strconv.ParseFloat(texts[at], 64)
			if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
				return s, c.ElementErrorf(f.name, at, "%q is no number", texts[at])
			}
			f.v[i] = x
		}
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
		return pipeline.Vector{}, errors.New("the network gives numbers that are not finite: the picture may be prepared otherwise than it wants (see preset), or float16 is too narrow for it")
	case sum == 0:
		return pipeline.Vector{}, errors.New("the network gives nothing but zeros, which have no direction")
	}
	scale := 1 / math.Sqrt(sum)
	for i, x := range data {
		data[i] = float32(float64(x) * scale)
	}
	return pipeline.Vector{Name: s.name, Model: s.file.Hash, Half: s.half, Data: data}, nil
}
