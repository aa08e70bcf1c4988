package score

import (
	"context"
	"fmt"
	"image"
	"slices"

	"github.com/forgepipe/forgepipe/pipeline"
)

// A metric measures a picture.
type metric struct {
	name    string // of the attribute
	doc     string // what it is, its range and its source
	measure func(img image.Image) float64
}

// metrics are all there are, in the order of the documentation.
var metrics = []metric{laplacian}

func metricNames() []string {
	names := make([]string, len(metrics))
	for i, m := range metrics {
		names[i] = m.name
	}
	return names
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
	long := "Measures every image and sets an attribute for each metric, named after it. Of a pair, the high-quality image is measured.\n\nThe metrics are:\n"
	for _, m := range metrics {
		long += "\n- " + m.name + ": " + m.doc
	}
	return pipeline.Info{
		Name:  "score",
		Short: "Measures images and sets attributes.",
		Long:  long,
		Fields: []pipeline.Field{{
			Name: "metrics", Type: pipeline.FieldStrings, Enum: metricNames(), Required: true,
			Doc:      "What to measure, at least one.",
			Examples: []string{"[laplacian]"},
		}},
		Makes: func(c pipeline.Config) []pipeline.Made {
			var made []pipeline.Made
			for _, m := range chosen(c) {
				made = append(made, pipeline.Made{Name: m.name, Type: pipeline.TypeFloat, Doc: m.doc})
			}
			return made
		},
		Pure:    true,
		Version: 1,
		New:     func(_ context.Context, c pipeline.Config, _ pipeline.Env) (pipeline.Stage, error) { return newStage(c) },
	}
}

// Stage sets an attribute for each of its metrics.
type Stage struct{ metrics []metric }

var _ pipeline.Stage = (*Stage)(nil)

func newStage(c pipeline.Config) (*Stage, error) {
	s := &Stage{metrics: chosen(c)}
	if len(s.metrics) == 0 {
		return nil, c.Errorf("metrics", 0, "name at least one metric")
	}
	for i, m := range s.metrics {
		if slices.ContainsFunc(s.metrics[:i], func(o metric) bool { return o.name == m.name }) {
			return nil, c.Errorf("metrics", 0, "%s is named twice", m.name)
		}
	}
	return s, nil
}

// Process measures the items. One that cannot be decoded fails.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	out := make([]*pipeline.Item, 0, len(batch))
	for _, it := range batch {
		f, err := it.Frame(ctx)
		if err != nil {
			it.Fail(fmt.Errorf("measuring: %w", err))
			continue
		}
		for _, m := range s.metrics {
			it.SetAttr(m.name, pipeline.Float(m.measure(f.Image)))
		}
		out = append(out, it)
	}
	return out, nil
}
