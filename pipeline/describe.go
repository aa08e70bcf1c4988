package pipeline

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Description is what a declaration says, in a form for pages and programs.
type Description struct {
	Name     string             `json:"name"`     // the key in YAML
	Kind     string             `json:"kind"`     // "stage" or "source"
	Short    string             `json:"short"`    // a sentence
	Long     string             `json:"long"`     // paragraphs
	Fields   []FieldDescription `json:"fields"`   // what it is configured with
	Examples []Example          `json:"examples"` // of its use in a pipeline
	Makes    []MadeDescription  `json:"makes"`    // attributes and vectors
	Needs    []string           `json:"needs"`    // names of attributes and vectors
	Uses     []string           `json:"uses"`     // of those that it reads where an item has them
	// With is the value of a field on which it depends what is made, needed and
	// used, so that the lists above are an example; empty when nothing does, or
	// when the lists say it.
	With string `json:"with,omitempty"`
	// Cached says for which configurations results are kept from run to run:
	// "always", "never" or "sometimes", with the values that CachedWith lists.
	Cached     string   `json:"cached"`
	CachedWith []string `json:"cached_with,omitempty"`
}

// FieldDescription describes a Field.
type FieldDescription struct {
	Name     string              `json:"name"`               // the key in YAML
	Type     string              `json:"type"`               // "a whole number"
	Doc      string              `json:"doc"`                // a sentence
	Unit     string              `json:"unit,omitempty"`     // of a number, such as "px"
	Required bool                `json:"required"`           // without it, the configuration is refused
	Default  string              `json:"default,omitempty"`  // as YAML has it
	Min      *float64            `json:"min,omitempty"`      // of numbers, bytes, seconds
	Max      *float64            `json:"max,omitempty"`      // likewise
	Enum     []string            `json:"enum,omitempty"`     // words that it can be
	Choices  []ChoiceDescription `json:"choices,omitempty"`  // words with options that it can hold
	Examples []string            `json:"examples,omitempty"` // as YAML has them

	// Values says what the field takes, List that it may be a list of that:
	// "a whole number from 1 to 9", "grid, best".
	Values string `json:"values"`
	List   bool   `json:"list"`
}

// Words are those of Enum or Choices.
func (f FieldDescription) Words() []string {
	words := slices.Clone(f.Enum)
	for _, c := range f.Choices {
		words = append(words, c.Name)
	}
	return words
}

// ChoiceDescription describes a Choice.
type ChoiceDescription struct {
	Name    string             `json:"name"`    // the word
	Doc     string             `json:"doc"`     // a sentence
	Options []FieldDescription `json:"options"` // that the word can have
}

// MadeDescription describes what a stage makes.
type MadeDescription struct {
	Name string `json:"name"`           // of the attribute or vector
	Type string `json:"type"`           // of the attribute, or "vector"
	Doc  string `json:"doc"`            // what it tells of an item
	With string `json:"with,omitempty"` // the value of a field that has it made; empty: any
}

// Find returns the stages and sources of that name. The error says which name
// is like it.
func (r Registry) Find(name string) ([]Info, error) {
	var found []Info
	if in, ok := r.Source(name); ok {
		found = append(found, in)
	}
	if in, ok := r.Stage(name); ok {
		found = append(found, in)
	}
	if found == nil {
		return nil, fmt.Errorf("there is no stage or source %q%s", name, didYouMean(name, append(names(r.Stages()), names(r.Sources())...)))
	}
	return found, nil
}

// Describe returns what the declaration says.
func (in Info) Describe() Description {
	d := Description{
		Name: in.Name, Kind: "stage", Short: in.Short, Long: in.Long,
		Fields: describeFields(in.Fields), Examples: slices.Clone(in.Examples),
		Makes: []MadeDescription{}, Needs: []string{}, Uses: []string{},
	}
	if in.NewSource != nil {
		d.Kind = "source"
	}
	if d.Examples == nil {
		d.Examples = []Example{}
	}
	variants := in.variants()
	for _, v := range variants {
		for _, m := range in.makes(v.config) {
			d.made(m, v.with, len(variants))
		}
		d.Needs = union(d.Needs, in.needs(v.config))
		d.Uses = union(d.Uses, in.uses(v.config))
	}
	if len(variants) == 1 && len(d.Makes)+len(d.Needs)+len(d.Uses) > 0 {
		d.With = variants[0].with
		for i := range d.Makes {
			d.Makes[i].With = ""
		}
	}
	d.Cached, d.CachedWith = in.cached()
	return d
}

// made adds what a variant makes, of so many.
func (d *Description) made(m Made, with string, variants int) {
	i := slices.IndexFunc(d.Makes, func(o MadeDescription) bool { return o.Name == m.Name })
	if i >= 0 {
		d.Makes[i].With += ", " + with
		if strings.Count(d.Makes[i].With, ", ")+1 == variants {
			d.Makes[i].With = ""
		}
		return
	}
	typ := m.Type.String()
	if m.Vector {
		typ = "vector"
	}
	d.Makes = append(d.Makes, MadeDescription{Name: m.Name, Type: typ, Doc: m.Doc, With: with})
}

func union(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

func describeFields(fields []Field) []FieldDescription {
	out := []FieldDescription{}
	for _, f := range fields {
		out = append(out, f.Describe())
	}
	return out
}

// Describe returns what the declaration says.
func (f Field) Describe() FieldDescription {
	d := FieldDescription{
		Name: f.Name, Type: f.Type.String(), Doc: f.Doc, Unit: f.Unit, Required: f.Required, Default: f.Default,
		Enum: f.Enum, Examples: f.Examples, List: f.Type == FieldStrings || f.Type == FieldChoices,
	}
	if f.Min != 0 || f.Max != 0 {
		d.Min = &f.Min
		if f.Max > f.Min {
			d.Max = &f.Max
		}
	}
	for _, c := range f.Choices {
		d.Choices = append(d.Choices, ChoiceDescription{Name: c.Name, Doc: c.Doc, Options: describeFields(c.Fields)})
	}
	d.Values = strings.Join(d.Words(), ", ")
	if d.Values == "" {
		d.Values = f.Type.String()
		if r := f.valueRange(); r != "" {
			d.Values += " from " + r
		}
	} else if d.List {
		d.Values = "one or a list of " + d.Values
	}
	return d
}

// valueRange writes the range of a number or size, "16 to 65535 px"; it is empty
// for a field without one.
func (f Field) valueRange() string {
	switch {
	case f.Min == 0 && f.Max == 0:
		return ""
	case f.Max <= f.Min:
		return f.number(f.Min) + " on"
	case f.Type == FieldSize:
		return f.number(f.Min) + " to " + f.number(f.Max)
	}
	return strconv.FormatFloat(f.Min, 'f', -1, 64) + " to " + f.number(f.Max)
}

// variant is one of the configurations that a description looks at.
type variant struct {
	with   string // what is particular to it, as YAML
	config Config
}

// variants are the configurations between which what a stage makes can differ:
// one for each word of the field that lists words, otherwise one. There are none
// when a declaration lacks an example of a required field.
func (in Info) variants() []variant {
	values, said := in.exemplary()
	var listing Field
	for _, f := range in.Fields {
		if f.Type == FieldChoices || f.Type == FieldStrings && f.Enum != nil {
			listing = f
		}
	}
	words := slices.Clone(listing.Enum)
	for _, c := range listing.Choices {
		words = append(words, c.Name)
	}
	var all []variant
	for _, w := range words {
		values[listing.Name] = []string{w}
		if c, err := NewConfig(in, values); err == nil {
			all = append(all, variant{listing.Name + ": " + w, c})
		}
	}
	if words == nil {
		if c, err := NewConfig(in, values); err == nil {
			all = append(all, variant{strings.Join(said, ", "), c})
		}
	}
	return all
}

// exemplary gives every required field of one value, and every condition, that of its first
// example.
func (in Info) exemplary() (values map[string]any, said []string) {
	values = map[string]any{}
	for _, f := range in.Fields {
		if f.filled() && len(f.Examples) > 0 && f.Type != FieldStrings && f.Type != FieldChoices {
			values[f.Name] = f.Examples[0]
			said = append(said, f.Name+": "+f.Examples[0])
		}
	}
	return values, said
}

// cached says when results are cached, and with which words of its fields where
// that depends on them.
func (in Info) cached() (when string, with []string) {
	switch {
	case !in.Pure:
		return "never", nil
	case in.PureIf == nil:
		return "always", nil
	}
	for _, f := range in.Fields {
		words := f.Enum
		if f.Type == FieldBool {
			words = []string{"true", "false"}
		}
		var pure []string
		for _, w := range words {
			values, _ := in.exemplary()
			values[f.Name] = w
			if c, err := NewConfig(in, values); err == nil && in.PureIf(c) {
				pure = append(pure, f.Name+": "+w)
			}
		}
		if len(pure) < len(words) {
			with = append(with, pure...)
		}
	}
	return "sometimes", with
}

// Snippet writes an example as it stands in a pipeline file: a list entry below
// stages, or the source.
func (d Description) Snippet(e Example) string {
	text, first := strings.TrimRight(e.YAML, "\n"), "- "
	if d.Kind == "source" {
		first = "source:\n  "
	}
	return first + strings.ReplaceAll(text, "\n", "\n  ")
}

// WhenCached says when the stage's results are kept from run to run: "cached",
// "not cached" or "cached with pick: best".
func (d Description) WhenCached() string {
	switch d.Cached {
	case "never":
		return "not cached"
	case "sometimes":
		return "cached with " + strings.Join(d.CachedWith, " or ")
	}
	return "cached"
}
