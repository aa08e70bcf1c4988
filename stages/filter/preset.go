package filter

import (
	"fmt"
	"strconv"

	"github.com/forgepipe/forgepipe/pipeline"
)

// bhi is the preset of the rule that its author (umzi2) published for tiles that
// super-resolution is trained with.
const bhi = "bhi"

const presetLong = `preset: bhi is a rule that needs no stage before it, and measures what it asks itself: blockiness < 30, IC9600's complexity >= 0.4 and HyperIQA's quality >= 0.2. The cheapest comes first and HyperIQA, by far the most work, last; each measures only what those before it have left. It stands for six stages, which are planned, cached and listed one by one: filter.measure-blockiness and filter.blockiness, then likewise for ic9600 and hyperiqa. They are what entries for score and filter would be, a pair for each.

An item is rejected by the first that it does not meet, with the value. What was measured is kept from run to run: after a change of limits, only what had not come so far is measured. Where the networks are not in the store, lint says which command brings them. device is for the networks.`

// A limit is one of a preset's conditions.
type limit struct {
	name     string // of the attribute, and of the field
	operator string
	value    string // as its author has it
	network  bool   // measured by one, whose file the field name + "_model" says
	unit     string
	most     float64
	doc      string
}

// bhiLimits are in the order of what they cost.
var bhiLimits = []limit{
	{name: "blockiness", operator: "<", value: "30", unit: "of blockiness", most: 1e6, doc: "With preset: bhi, what is as blocky as this or more is rejected; see blockiness in score."},
	{name: "ic9600", operator: ">=", value: "0.4", network: true, unit: "of complexity", most: 1, doc: "With preset: bhi, what is less complex is rejected."},
	{name: "hyperiqa", operator: ">=", value: "0.2", network: true, unit: "of quality", most: 1, doc: "With preset: bhi, what has less quality is rejected."},
}

// presetFields are those of presets.
func presetFields() []pipeline.Field {
	fields := []pipeline.Field{{
		Name: "preset", Type: pipeline.FieldEnum, Enum: []string{bhi},
		Doc: "A known rule, in the place of keep.",
	}}
	for _, l := range bhiLimits {
		fields = append(fields, pipeline.Field{Name: l.name, Type: pipeline.FieldFloat, Unit: l.unit, Default: l.value, Max: l.most, Doc: l.doc})
	}
	for _, l := range bhiLimits {
		if l.network {
			fields = append(fields, pipeline.Field{
				Name: l.name + "_model", Type: pipeline.FieldPath, Default: l.name,
				Doc: "With preset: bhi, the network that measures " + l.name + ": a file, or a name in the store.",
			})
		}
	}
	return fields
}

// expand makes of a preset what it stands for.
func expand(c pipeline.Config) ([]pipeline.Entry, error) {
	if c.String("preset") == "" {
		for _, f := range presetFields() {
			if c.IsSet(f.Name) {
				return nil, c.Errorf(f.Name, 0, "it is for a preset: add preset: %s, or write the limit into keep", bhi)
			}
		}
		return nil, nil
	}
	if c.IsSet("keep") {
		return nil, c.Errorf("keep", 0, "preset and keep are two ways to filter: give each an entry of its own")
	}
	var all []pipeline.Entry
	for _, l := range bhiLimits {
		measure := map[string]any{"metrics": []string{l.name}}
		if l.network {
			measure = map[string]any{"model": c.String(l.name + "_model"), "preset": l.name, "name": l.name}
		}
		keep := fmt.Sprintf("%s %s %s", l.name, l.operator, strconv.FormatFloat(c.Float(l.name), 'f', -1, 64))
		all = append(all,
			pipeline.Entry{ID: "measure-" + l.name, Stage: "score", Values: measure},
			pipeline.Entry{ID: l.name, Stage: "filter", Values: map[string]any{"keep": keep}},
		)
	}
	return all, nil
}
