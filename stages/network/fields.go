package network

import (
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/pipeline"
)

// modelField is its name.
const modelField = "model"

// ModelField is the field "model" of a stage that runs one network; the examples are for
// its documentation. It is Required unless the caller takes that back.
func ModelField(examples ...string) pipeline.Field {
	return pipeline.Field{
		Name: modelField, Type: pipeline.FieldPath, Required: true, Examples: examples,
		Doc: "The network: an ONNX file, a checkpoint (safetensors, pth) of a known architecture, or the name of one in the store (forgepipe models list). Results belong to its content, not to its name.",
	}
}

// NameOf is what the results of a network are called where nothing says it: the name of
// the file in the field "model", without its extension.
func NameOf(c pipeline.Config) string {
	base := filepath.Base(c.String(modelField))
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// PreparationFields are those with which a pipeline says how a network wants its
// pictures. Find reads them.
func PreparationFields() []pipeline.Field {
	words := func(list ...string) []string { return list }
	return []pipeline.Field{
		{Name: "preset", Type: pipeline.FieldEnum, Enum: model.Presets(), Doc: "How pictures are prepared, as the network of that name wants them. One of the store, or a checkpoint, brings its own."},
		{Name: "resize", Type: pipeline.FieldEnum, Enum: words(string(model.Squash), string(model.Shortest), string(model.NoResize)), Doc: "How pictures come to their size: squash to width x height, by the shortest side, or none."},
		{Name: "filter", Type: pipeline.FieldString, Doc: "The filter that resizes, bicubic by default.", Examples: words("bilinear", "bicubic", "lanczos")},
		{Name: "shorter", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 16, Doc: "The shorter side after resizing by the shortest side."},
		{Name: "width", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 16, Doc: "The width after squashing or cropping."},
		{Name: "height", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 16, Doc: "The height after squashing or cropping."},
		{Name: "crop", Type: pipeline.FieldEnum, Enum: words(string(model.Centre), string(model.NoCrop)), Doc: "What is cut out after resizing."},
		{Name: "multiple", Type: pipeline.FieldInt, Unit: "px", Min: 1, Max: 1 << 12, Doc: "Both sides are made multiples of it, with a mirrored border, for networks that want that."},
		{Name: "layout", Type: pipeline.FieldEnum, Enum: words(string(model.NCHW), string(model.NHWC)), Doc: "The order of the axes, where the file leaves it open."},
		{Name: "channels", Type: pipeline.FieldEnum, Enum: words(string(model.RGB), string(model.BGR), string(model.Gray)), Doc: "The channels and their order."},
		{Name: "range", Type: pipeline.FieldEnum, Enum: Ranges(), Doc: "What black and white become, before mean and std."},
		{Name: "mean", Type: pipeline.FieldStrings, Doc: "Taken from each sample: one number, or one each for red, green and blue.", Examples: words("[0.485, 0.456, 0.406]")},
		{Name: "std", Type: pipeline.FieldStrings, Doc: "What each sample is divided by, after mean.", Examples: words("[0.229, 0.224, 0.225]")},
	}
}

// Ranges are the words for what black and white are to a network.
func Ranges() []string {
	return []string{string(model.ZeroToOne), string(model.MinusOneToOne), string(model.ZeroTo255)}
}

// preparation is what the PreparationFields of a configuration make of a preset. The error
// names the field.
func preparation(c pipeline.Config, preset string) (model.Spec, error) {
	s, _ := model.Preset(preset)
	for field, set := range map[string]func(string){
		"resize": func(v string) { s.Resize = model.Resize(v) },
		"filter": func(v string) { s.Filter = v },
		"crop":   func(v string) { s.Crop = model.Crop(v) },
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
	err := samples(c, &s)
	return s, err
}

// samples reads what samples become: layout, channels, range, mean and std.
func samples(c pipeline.Config, s *model.Spec) error {
	for field, set := range map[string]func(string){
		"layout":   func(v string) { s.Layout = model.Layout(v) },
		"channels": func(v string) { s.Channels = model.Channels(v) },
		"range":    func(v string) { s.Range = model.Range(v) },
	} {
		if v := c.String(field); v != "" {
			set(v)
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
			return c.Errorf(f.name, 0, "one number is wanted, or three: for red, green and blue")
		}
		for i := range f.v {
			at := min(i, len(texts)-1)
			x, err := strconv.ParseFloat(texts[at], 64)
			if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
				return c.ElementErrorf(f.name, at, "%q is no number", texts[at])
			}
			if x <= 0 && f.name == "std" {
				return c.ElementErrorf(f.name, at, "samples are divided by it: give a number above 0, or leave std out")
			}
			f.v[i] = x
		}
	}
	return nil
}

// RunFields are those with which a pipeline says how a network is run. Running reads
// them.
func RunFields() []pipeline.Field {
	return []pipeline.Field{
		{Name: "decode", Type: pipeline.FieldEnum, Enum: []string{"exact", "fast"}, Default: "exact", Doc: "fast decodes JPEGs at a smaller scale, at least twice the size that is wanted: quicker, and what the network gives differs a little."},
		{Name: "infer_batch", Type: pipeline.FieldInt, Unit: "images", Min: 1, Max: 4096, Cosmetic: true, Doc: "How many pictures one run of the network takes, at most. By default the governor finds out on a GPU, and on the CPU up to 8, or 4 where several runs go on at once (see threads). Pictures of different sizes go one by one."},
		{Name: "threads", Type: pipeline.FieldInt, Unit: "threads", Min: 0, Max: 1024, Default: "0", Cosmetic: true, Doc: "How many threads compute on the CPU; 0 is one for each core. They run a batch each; or several a batch, where memory is short or pictures come in different sizes."},
		{Name: "library", Type: pipeline.FieldPath, Cosmetic: true, Doc: "Another ONNX Runtime than the one that forgepipe brings: the path of libonnxruntime.so."},
	}
}

// Running is what the RunFields of a configuration say.
func Running(c pipeline.Config) Options {
	return Options{
		Batch: int(c.Int("infer_batch")), Threads: int(c.Int("threads")),
		Scaled: c.String("decode") == "fast", Library: c.String("library"),
	}
}

// Devices is what the description of a stage of networks says of where it runs.
const Devices = `With device: gpu it runs on all NVIDIA GPUs, if the ONNX Runtime in use can, and with device: gpu:1 on that one; with device: auto, and without a device, it takes the GPUs where there are some that can be used and the CPU otherwise, also for pictures that have no room on a GPU.`
