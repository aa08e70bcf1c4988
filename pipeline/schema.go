package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/memory"
)

// Schema returns a JSON Schema of the pipeline files that Load reads with this
// registry, for editors and other programs: keys, fields with their types,
// ranges, words, defaults and examples. The strategies are those that
// memory.strategy may name; nil: the standard ones, as in Options.
//
// What Load accepts, the schema accepts, but for one of several words that has
// spaces around it in quotes. It cannot know everything that Load
// refuses: what a stage needs of those before it, files, the range of a number
// in quotes, what a variable stands for. The error says which example of a
// declaration is wrong.
func (r Registry) Schema(strategies memory.Strategies) ([]byte, error) {
	if strategies == nil {
		strategies = memory.StandardStrategies()
	}
	b := schemaBuilder{strategies: slices.Sorted(maps.Keys(strategies))}
	b.define("variable", &schema{
		Type: "string", Pattern: variablePattern,
		Description: "A text with variables: ${NAME} or ${NAME:-default}, from --set NAME=value or else the environment.",
	})
	root := b.mapping(FileKeys(), r)
	// Draft-07 and no later one: the YAML language server of editors understands
	// that best.
	root.Schema = "http://json-schema.org/draft-07/schema#"
	root.Title = "forgepipe pipeline"
	root.Comment = "Made by forgepipe schema. Draft-07, since the YAML language server of editors understands that best."
	root.Type = "object"
	root.Definitions = b.definitions
	if b.err != nil {
		return nil, b.err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("writing the schema: %w", err)
	}
	return out.Bytes(), nil
}

// schema is the part of JSON Schema that is used here.
type schema struct {
	Schema               string     `json:"$schema,omitempty"`
	Comment              string     `json:"$comment,omitempty"`
	Ref                  string     `json:"$ref,omitempty"` // in draft-07 it hides what stands beside it
	Title                string     `json:"title,omitempty"`
	Description          string     `json:"description,omitempty"`
	Type                 any        `json:"type,omitempty"` // a string or a []string
	Default              any        `json:"default,omitempty"`
	Examples             []any      `json:"examples,omitempty"`
	Enum                 []any      `json:"enum,omitempty"`
	Pattern              string     `json:"pattern,omitempty"`
	PatternErrorMessage  string     `json:"patternErrorMessage,omitempty"` // editors show it, validators pass over it
	Minimum              *float64   `json:"minimum,omitempty"`
	Maximum              *float64   `json:"maximum,omitempty"`
	Not                  *schema    `json:"not,omitempty"`
	AnyOf                []*schema  `json:"anyOf,omitempty"`
	OneOf                []*schema  `json:"oneOf,omitempty"`
	Properties           properties `json:"properties,omitempty"`
	Required             []string   `json:"required,omitempty"`
	MinProperties        int        `json:"minProperties,omitempty"`
	MaxProperties        int        `json:"maxProperties,omitempty"`
	AdditionalProperties *bool      `json:"additionalProperties,omitempty"`
	Items                *schema    `json:"items,omitempty"`
	MinItems             int        `json:"minItems,omitempty"`
	Definitions          properties `json:"definitions,omitempty"`
}

// properties are a JSON object whose keys stay in the order of the declarations.
type properties []property

type property struct {
	name   string
	schema *schema
}

func (p properties) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	out.WriteByte('{')
	for i, e := range p {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := enc.Encode(e.name); err != nil {
			return nil, err
		}
		out.WriteByte(':')
		if err := enc.Encode(e.schema); err != nil {
			return nil, err
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// Patterns of texts. The loader trims most values, and every one may hold
// variables.
const (
	variablePattern = `\$\{`
	decimalPattern  = `([0-9]+\.?[0-9]*|\.[0-9]+)`
	sizePattern     = `^\s*(0|` + decimalPattern + `\s*([kKmMgGtT][iI]?)?[bB])\s*$`
	sharePattern    = `^\s*0*(100(\.0*)?|[0-9]{1,2}(\.[0-9]*)?|\.[0-9]+)\s*%\s*$`
	numberPattern   = `^\s*[+-]?` + decimalPattern + `([eE][+-]?[0-9]+)?\s*$`
	wholePattern    = `^\s*[+-]?[0-9]+\s*$`
	boolPattern     = `^\s*(true|false)\s*$`
	durationPattern = `^\s*\+?(0|(` + decimalPattern + `(ns|us|µs|μs|ms|s|m|h))+)\s*$`
	textPattern     = `\S` // not empty
	idPattern       = `^[A-Za-z0-9._-]+$`
	devicePattern   = `^(gpu|sim):(0|[1-9][0-9]*)$`
	countPattern    = `^\+?0*[1-9][0-9]*$`
)

// or joins patterns, of which one has to match, with that of a variable.
func or(patterns ...string) string {
	return strings.Join(append(patterns, variablePattern), "|")
}

// scalars are the types of a value that the loader takes as text: in JSON a
// number without quotes is a number.
var scalars = []string{"string", "number", "boolean"}

type schemaBuilder struct {
	strategies  []string
	definitions properties
	err         error // the first
}

func (b *schemaBuilder) define(name string, s *schema) *schema {
	b.definitions = append(b.definitions, property{name, s})
	return reference(name)
}

func reference(name string) *schema { return &schema{Ref: "#/definitions/" + name} }

func (b *schemaBuilder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// closed is the additionalProperties of a mapping that has no other keys.
var closed = new(bool)

// mapping is a mapping of keys. One without a value is an empty one.
func (b *schemaBuilder) mapping(keys []Key, r Registry) *schema {
	s := &schema{Type: []string{"object", "null"}, AdditionalProperties: closed}
	for _, k := range keys {
		s.Properties = append(s.Properties, property{k.Name, b.key(k, r)})
		if k.Required {
			s.Required = append(s.Required, k.Name)
		}
	}
	return s
}

func (b *schemaBuilder) key(k Key, r Registry) *schema {
	var s *schema
	switch k.Type {
	case fieldMapping:
		s = b.mapping(k.Keys, r)
	case fieldSource:
		s = b.entry("sources", r.Sources())
	case fieldStages:
		s = &schema{Type: "array", MinItems: 1, Items: b.entry("stages", r.Stages())}
	default:
		return b.field(k.Name, k.Field)
	}
	s.Description = k.Doc
	return s
}

// entry is one element of the chain: one of the infos beside reserved keys.
func (b *schemaBuilder) entry(where string, infos []Info) *schema {
	s := &schema{Type: "object", AdditionalProperties: closed}
	for _, in := range infos {
		stage := b.fields(where+"."+in.Name, in.Fields)
		stage.Description = in.Short
		if in.Long != "" {
			stage.Description += "\n\n" + in.Long
		}
		for i, e := range in.Examples {
			v, err := in.exampleValue(e)
			if err != nil {
				b.fail("%s: example %d: %w", in.Name, i, err)
				continue
			}
			stage.Examples = append(stage.Examples, v)
		}
		s.Properties = append(s.Properties, property{in.Name, stage})
		s.OneOf = append(s.OneOf, &schema{Required: []string{in.Name}})
	}
	if len(infos) == 0 {
		s.Not = &schema{} // there is nothing that an entry could name
	}
	for _, k := range EntryKeys() {
		s.Properties = append(s.Properties, property{k.Name, b.field(k.Name, k.Field)})
	}
	return s
}

// fields is a stage's configuration, or the options of a choice.
func (b *schemaBuilder) fields(where string, fields []Field) *schema {
	s := &schema{Type: []string{"object", "null"}, AdditionalProperties: closed}
	for _, f := range fields {
		s.Properties = append(s.Properties, property{f.Name, b.field(where+"."+f.Name, f)})
		if f.Required {
			s.Type = "object"
			s.Required = append(s.Required, f.Name)
		}
	}
	return s
}

// field is one value. Its alternatives are told apart by their types where that
// is possible, as editors say best what is wrong with a value of one schema.
func (b *schemaBuilder) field(where string, f Field) *schema {
	var s *schema
	switch f.Type {
	case FieldInt:
		s = &schema{Type: []string{"integer", "string"}, Pattern: or(wholePattern)}
		f.bound(s)
	case FieldFloat:
		s = &schema{Type: []string{"number", "string"}, Pattern: or(numberPattern)}
		f.bound(s)
	case FieldBool:
		s = &schema{Type: []string{"boolean", "string"}, Pattern: or(boolPattern)}
	case FieldSize:
		s = &schema{Type: []string{"string", "integer"}, Pattern: or(sizePattern), Minimum: new(float64), Maximum: new(float64)}
	case FieldShare:
		s = &schema{Type: "string", Pattern: or(sharePattern)}
	case FieldDuration:
		s = &schema{Type: []string{"string", "integer"}, Pattern: or(durationPattern), Minimum: new(float64), Maximum: new(float64)}
	case FieldEnum:
		s = words(f.Enum)
	case FieldStrings:
		element := &schema{Type: scalars}
		if f.Enum != nil {
			element = words(f.Enum)
		}
		s = &schema{AnyOf: []*schema{element, {Type: "array", Items: element}}}
	case FieldChoices:
		element := b.define(where, b.choice(where, f.Choices))
		s = &schema{AnyOf: []*schema{element, {Type: "array", Items: element}}}
	case fieldAmount:
		s = &schema{Type: "string", Pattern: or(sizePattern, sharePattern)}
	case fieldFailures:
		one := 1.0
		s = &schema{Type: []string{"integer", "string"}, Minimum: &one, Pattern: or(countPattern, sharePattern)}
	case fieldStrategy:
		s = words(b.strategies)
	case fieldID:
		s = &schema{Type: scalars, Pattern: or(idPattern), Not: &schema{Enum: []any{"source"}}}
	case fieldDevice:
		s = words([]string{string(Host), string(Auto), string(GPU)})
		s.AnyOf = append(s.AnyOf, &schema{Type: "string", Pattern: devicePattern})
	default:
		s = &schema{Type: scalars}
		if f.filled() {
			s.Pattern = textPattern
		}
	}
	switch s.Pattern {
	case "":
	case textPattern:
		s.PatternErrorMessage = "must not be empty"
	default:
		s.PatternErrorMessage = "wants " + f.Type.String()
	}
	s.Description = f.Doc
	if r := f.valueRange(); r != "" {
		s.Description += " From " + r + "."
	}
	if f.Default != "" {
		s.Default = b.value(where, f, f.Default)
	}
	for _, e := range f.Examples {
		s.Examples = append(s.Examples, b.value(where, f, e))
	}
	return s
}

// choice is one element of a FieldChoices.
func (b *schemaBuilder) choice(where string, choices []Choice) *schema {
	withOptions := &schema{Type: "object", MinProperties: 1, MaxProperties: 1, AdditionalProperties: closed}
	var s schema
	for _, c := range choices {
		s.AnyOf = append(s.AnyOf, &schema{Enum: words([]string{c.Name}).AnyOf[0].Enum, Description: c.Doc})
		options := b.fields(where+"."+c.Name, c.Fields)
		options.Description = c.Doc
		withOptions.Properties = append(withOptions.Properties, property{c.Name, options})
	}
	s.AnyOf = append(s.AnyOf, withOptions, reference("variable"))
	return &s
}

// words is one of several words. The loader reads text, so that a word such as 4
// may also come as a number.
func words(list []string) *schema {
	var enum []any
	for _, w := range list {
		enum = append(enum, w)
		if v := plainValue(w); v != any(w) {
			enum = append(enum, v)
		}
	}
	return &schema{AnyOf: []*schema{{Enum: enum}, reference("variable")}}
}

// bound sets the range of a number.
func (f Field) bound(s *schema) {
	if f.Min == 0 && f.Max == 0 {
		return
	}
	s.Minimum = &f.Min
	if f.Max > f.Min {
		s.Maximum = &f.Max
	}
}

// value is a default or an example, as YAML would have it.
func (b *schemaBuilder) value(where string, f Field, text string) any {
	switch f.Type {
	case FieldChoices, FieldStrings:
		n, problems := parseYAML(where, []byte(text), pipelineDocument)
		if len(problems) > 0 {
			b.fail("%s: %q: %s", where, text, problems[0].Message)
			return nil
		}
		return n.value()
	case FieldInt, FieldFloat, FieldBool, fieldFailures:
		return plainValue(text)
	}
	return text
}

// exampleValue is what an example gives the stage: the value of its key.
func (in Info) exampleValue(e Example) (any, error) {
	n, problems := parseYAML(in.Name, []byte(e.YAML), pipelineDocument)
	if len(problems) > 0 {
		return nil, fmt.Errorf("line %d: %s", problems[0].Line, problems[0].Message)
	}
	config := n.get(in.Name)
	if config == nil {
		return nil, fmt.Errorf("it has no key %s", in.Name)
	}
	return config.value(), nil
}

// value is the node as JSON would have it.
func (n *yamlNode) value() any {
	switch n.kind {
	case mapNode:
		m := map[string]any{}
		for i, k := range n.keys {
			m[k.text] = n.items[i].value()
		}
		return m
	case listNode:
		list := []any{}
		for _, e := range n.items {
			list = append(list, e.value())
		}
		return list
	case nullNode:
		return nil
	}
	if n.quoted {
		return n.text
	}
	return plainValue(n.text)
}

// plainValue is what a text without quotes stands for: a number, true, false or
// itself.
func plainValue(text string) any {
	switch {
	case text == "true":
		return true
	case text == "false":
		return false
	case text != "" && strings.ContainsRune("-0123456789", rune(text[0])) && json.Valid([]byte(text)):
		return json.Number(text)
	}
	return text
}
