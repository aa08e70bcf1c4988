package score

import (
	"context"
	"errors"
	"fmt"
	"image"
	"slices"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
)

// A metric is something that can be measured.
type metric struct {
	name  string // of the attribute
	doc   string // what it is, its range and its source
	begin func(p picture) (gauge, error)
}

// A picture is what is measured.
type picture struct {
	image.Image
	width, height int
	white         int32 // luma of white
	grid          pipeline.Grid
}

// level is the luma of one of the 255 levels of gray.
func (p picture) level() float64 { return float64(p.white) / 255 }

// area is the number of pixels.
func (p picture) area() float64 { return float64(p.width) * float64(p.height) }

// A gauge measures one picture. It is shown the rows from top to bottom, all
// gauges in one pass, and then asked for the result.
type gauge interface {
	row(r *rows)
	value() float64
}

// metrics are all there are, in the order of the documentation.
var metrics = []metric{laplacian, blockiness, sharpness, entropy, brightness, contrast, saturation, noise}

func metricNames() []string {
	names := make([]string, len(metrics))
	for i, m := range metrics {
		names[i] = m.name
	}
	return append(names, networkMetricNames()...)
}

// chosen returns the metrics that the configuration names, in its order.
func chosen(c pipeline.Config) []metric {
	var out []metric
	for _, name := range c.Strings("metrics") {
		if i := slices.IndexFunc(metrics, func(m metric) bool { return m.name == name }); i >= 0 {
			out = append(out, metrics[i])
		}
	}
	return out
}

// Info declares the stage.
func Info() pipeline.Info {
	long := `Measures every image and sets attributes, for filters and for the manifest. What is measured says either metrics or model. Of a pair, the high-quality image is measured. A tile is measured by itself, as if it were a file of its own; only blockiness asks where it was cut.

metrics names what is measured, each an attribute of that name. What is computed from the pixels is measured in one pass.

Gray means the ITU-R BT.601 luma, 0.299 R + 0.587 G + 0.114 B, from 0 (black) to 255 (white) and not rounded unless said; 16-bit images are scaled down to that range, with their fractions. Alpha is ignored: a transparent pixel counts with the colour that it would have.

The metrics are:
`
	for _, m := range metrics {
		long += "\n- " + m.name + ": " + m.doc
	}
	for _, m := range networkMetrics {
		long += "\n- " + m.name + ": " + m.doc
	}
	long += "\n\n" + namedLong + "\n\n" + modelLong
	return pipeline.Info{
		Name:  "score",
		Short: "Measures images and sets attributes.",
		Long:  long,
		Examples: slices.Concat([]pipeline.Example{
			{Doc: "How much detail an image has, and how much is to be seen of its JPEG compression.", YAML: "score: {metrics: [laplacian, blockiness]}"},
			{Doc: "How complex an image is, as IC9600 of the store sees it.", YAML: "score: {metrics: [ic9600]}"},
		}, modelExamples),
		Fields: slices.Concat([]pipeline.Field{{
			Name: "metrics", Type: pipeline.FieldStrings, Enum: metricNames(),
			Doc:      "What to measure, at least one; or else model says it.",
			Examples: []string{"[laplacian]", "[laplacian, blockiness]"},
		}}, modelFields()),
		Makes: func(c pipeline.Config) []pipeline.Made {
			if c.IsSet("model") {
				return []pipeline.Made{modelMakes(c)}
			}
			var made []pipeline.Made
			for _, m := range chosen(c) {
				made = append(made, pipeline.Made{Name: m.name, Type: pipeline.TypeFloat, Doc: m.doc})
			}
			for _, m := range named(c) { // for documentation: these are other entries
				made = append(made, pipeline.Made{Name: m.name, Type: pipeline.TypeFloat, Doc: m.doc})
			}
			return made
		},
		Expand:  expand,
		Pure:    true,
		Waits:   true,
		WaitsIf: func(c pipeline.Config) bool { return c.IsSet("model") },
		Version: 2,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			if c.IsSet("model") {
				return newModel(c, e)
			}
			return newStage(c)
		},
	}
}

// Stage sets an attribute for each of its metrics.
type Stage struct{ metrics []metric }

var (
	_ pipeline.Stage  = (*Stage)(nil)
	_ pipeline.Coster = (*Stage)(nil)
)

func newStage(c pipeline.Config) (*Stage, error) {
	if err := checkMetrics(c); err != nil {
		return nil, err
	}
	s := &Stage{metrics: chosen(c)}
	if len(s.metrics) == 0 {
		return nil, c.Errorf("metrics", 0, "say what to measure: name at least one metric, or a model")
	}
	for _, f := range modelFields() {
		if c.IsSet(f.Name) {
			return nil, c.Errorf(f.Name, 0, "it is for a network: name its file with model, or leave %s out", f.Name)
		}
	}
	return s, nil
}

// Process measures the items. One that cannot be decoded, or has not what a
// metric needs, fails.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	return pipeline.Func(func(ctx context.Context, it *pipeline.Item) error {
		if err := s.measure(ctx, it); err != nil {
			return fmt.Errorf("measuring: %w", err)
		}
		return nil
	}).Process(ctx, batch)
}

func (s *Stage) measure(ctx context.Context, it *pipeline.Item) error {
	f, err := it.Frame(ctx)
	if err != nil {
		return err
	}
	luma := imageio.NewLuma(f.Image)
	size := f.Image.Bounds().Size()
	p := picture{Image: f.Image, width: size.X, height: size.Y, white: luma.White, grid: it.Grid()}
	if p.width == 0 || p.height == 0 {
		return errors.New("the picture has no pixels")
	}
	gauges := make([]gauge, len(s.metrics))
	for i, m := range s.metrics {
		if gauges[i], err = m.begin(p); err != nil {
			return err
		}
	}
	pass(p, luma, gauges)
	for i, m := range s.metrics {
		it.SetAttr(m.name, pipeline.Float(gauges[i].value()))
	}
	return nil
}

// Cost counts the rows that a pass has in memory: those of the luma and its
// Laplacian, and the coefficients of blockiness. Items are measured one after the other.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	width := 0
	if len(batch) == 0 {
		width = 4000
	}
	for _, it := range batch {
		width = max(width, it.Size().X)
	}
	perPixel := int64(4 * 4)
	for _, m := range s.metrics {
		if m.name == blockiness.name {
			perPixel += blockinessBytes
		}
	}
	return pipeline.Cost{Work: int64(width) * perPixel}
}
