package score

import (
	"fmt"
	"slices"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

// A networkMetric is a metric that a network of the store gives, which is called as the
// metric is.
type networkMetric struct {
	name string // of the attribute, of the model and of the preset
	doc  string // what it is, its range and its source
}

// ic9600 is the preset of IC9600.
const ic9600 = "ic9600"

// networkMetrics are all there are, in the order of the documentation.
var networkMetrics = []networkMetric{
	{name: ic9600, doc: "how complex the picture is, 0 to 1, as IC9600's network rates it (Feng et al. 2022): of the whole picture squashed to 512 x 512, or in its own size with mode: native. A plain wall is near 0, a crowd or foliage near 1."},
	{name: hyperiqa, doc: "how good the picture is, 0 to 1, as HyperIQA rates it (Su et al. 2020): the mean of 25 crops of 224 px, so that it is by far the most work of all."},
}

func networkMetricNames() []string {
	var names []string
	for _, m := range networkMetrics {
		names = append(names, m.name)
	}
	return names
}

const namedLong = `ic9600 and hyperiqa are networks of the store: where one is not there, lint says which command brings it. Each is a stage of its own, score.ic9600 and score.hyperiqa beside score, where an entry names several or others too. {metrics: [ic9600]} is short for {model: ic9600, preset: ic9600, name: ic9600}; write that to give the file of other weights as model, or to prepare pictures in another way.`

// named are the metrics of the configuration that networks give, in its order.
func named(c pipeline.Config) []networkMetric {
	var out []networkMetric
	for _, name := range c.Strings("metrics") {
		if i := slices.IndexFunc(networkMetrics, func(m networkMetric) bool { return m.name == name }); i >= 0 {
			out = append(out, networkMetrics[i])
		}
	}
	return out
}

// runFields are those of a network that metrics may stand beside.
func runFields() []string {
	var names []string
	for _, f := range network.RunFields() {
		names = append(names, f.Name)
	}
	return names
}

// expand makes of metrics that are networks what model would say: a stage each, after one
// for the pixels.
func expand(c pipeline.Config) ([]pipeline.Entry, error) {
	networks, pixels := named(c), chosen(c)
	if len(networks) == 0 || c.IsSet("model") {
		return nil, nil
	}
	if err := checkMetrics(c); err != nil {
		return nil, err
	}
	run := map[string]any{}
	for _, f := range modelFields() {
		switch {
		case !c.IsSet(f.Name):
		case f.Name == "mode" && len(networks) == 1:
			run[f.Name] = c.String(f.Name)
		case slices.Contains(runFields(), f.Name):
			run[f.Name] = written(c, f)
		default:
			return nil, c.Errorf(f.Name, 0, "metrics says how %s is measured: leave %s out, or name the file of another network with model, in an entry of its own", networks[0].name, f.Name)
		}
	}
	var all []pipeline.Entry
	if len(pixels) > 0 {
		var names []string
		for _, m := range pixels {
			names = append(names, m.name)
		}
		all = append(all, pipeline.Entry{Stage: "score", Values: map[string]any{"metrics": names}})
	}
	for _, m := range networks {
		e := pipeline.Entry{Stage: "score", Values: map[string]any{"model": m.name, "preset": m.name, "name": m.name}}
		for name, v := range run {
			e.Values[name] = v
		}
		if len(networks)+len(pixels) > 1 {
			e.ID = m.name
		}
		all = append(all, e)
	}
	return all, nil
}

// written is a field's value as YAML has it.
func written(c pipeline.Config, f pipeline.Field) string {
	if f.Type == pipeline.FieldInt {
		return fmt.Sprint(c.Int(f.Name))
	}
	return c.String(f.Name)
}

// checkMetrics refuses a metric that is named twice.
func checkMetrics(c pipeline.Config) error {
	names := c.Strings("metrics")
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return c.ElementErrorf("metrics", i, "%s is named twice", name)
		}
	}
	return nil
}
