package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/internal/suggest"
	"github.com/forgepipe/forgepipe/memory"
)

// Config holds the configuration of one stage: a value for every declared
// field, checked against type, range and enum. Its getters panic when asked for
// a field that was not declared with that type, as that is a bug of the stage.
type Config struct {
	info   Info
	values map[string]any
	given  map[string][]string // as written, of those that are not defaults; nil for choices
}

// NewConfig makes a configuration in Go, for building a pipeline without YAML.
// Values are written as in YAML ("512", "60%"); FieldStrings takes a []string,
// FieldChoices a word, a map[string]any of one word to a map[string]any of its
// options, or a []any or []string of such.
func NewConfig(info Info, values map[string]any) (Config, error) {
	c := Config{info: info, values: map[string]any{}, given: map[string][]string{}}
	for name, v := range values {
		f, ok := info.field(name)
		if !ok {
			return Config{}, fmt.Errorf("%s has no field %q%s", info.Name, name, didYouMean(name, info.fieldNames()))
		}
		if f.Type == FieldChoices {
			if err := c.choose(f, v); err != nil {
				return Config{}, err
			}
			continue
		}
		if list, ok := v.([]string); ok {
			if err := c.assign(f, list...); err != nil {
				return Config{}, err
			}
			continue
		}
		if err := c.assign(f, fmt.Sprint(v)); err != nil {
			return Config{}, err
		}
	}
	return c, c.complete()
}

// Given are the values that were given, without defaults, as NewConfig takes them.
func (c Config) Given() map[string]any {
	given := map[string]any{}
	for name, text := range c.given {
		switch v := c.values[name].(type) {
		case []Chosen:
			all := make([]any, len(v))
			for i, o := range v {
				all[i] = map[string]any{o.Name: o.Options.Given()}
			}
			given[name] = all
		case []string:
			given[name] = slices.Clone(text)
		default:
			given[name] = text[0]
		}
	}
	return given
}

// Chosen is one element of a FieldChoices: the word and its options.
type Chosen struct {
	Name    string // one of the field's Choices
	Options Config // that were given with the word, and defaults
}

// choose sets a FieldChoices from Go values.
func (c *Config) choose(f Field, v any) error {
	elements, ok := v.([]any)
	if words, isWords := v.([]string); isWords {
		for _, w := range words {
			elements = append(elements, w)
		}
	} else if !ok {
		elements = []any{v}
	}
	var all []Chosen
	for _, e := range elements {
		one, err := c.chosen(f, e)
		if err != nil {
			return &FieldError{Field: f.Name, Err: err}
		}
		all = append(all, one)
	}
	c.setChoices(f, all)
	return nil
}

func (c *Config) setChoices(f Field, all []Chosen) {
	c.values[f.Name], c.given[f.Name] = all, nil
}

func (c *Config) chosen(f Field, element any) (Chosen, error) {
	word, options := "", map[string]any(nil)
	switch e := element.(type) {
	case string:
		word = e
	case map[string]any:
		if len(e) != 1 {
			return Chosen{}, fmt.Errorf("an element has one word, not %d", len(e))
		}
		for k, v := range e {
			m, ok := v.(map[string]any)
			if !ok && v != nil {
				return Chosen{}, fmt.Errorf("the options of %s must be a map[string]any, not %T", k, v)
			}
			word, options = k, m
		}
	default:
		return Chosen{}, fmt.Errorf("an element must be a string or a map[string]any, not %T", element)
	}
	in, err := c.info.choice(f, word)
	if err != nil {
		return Chosen{}, err
	}
	o, err := NewConfig(in, options)
	return Chosen{word, o}, err
}

func (in Info) fieldNames() []string {
	var names []string
	for _, f := range in.Fields {
		names = append(names, f.Name)
	}
	return names
}

// assign sets a field from text; only FieldStrings takes more or fewer than one.
func (c *Config) assign(f Field, text ...string) error {
	if f.Type != FieldStrings && len(text) != 1 {
		return &FieldError{Field: f.Name, Err: fmt.Errorf("wants %s, not a list", f.Type)}
	}
	if f.Type == FieldStrings {
		for _, t := range text {
			if f.Enum != nil && !slices.Contains(f.Enum, t) {
				return &FieldError{Field: f.Name, Err: fmt.Errorf("%q is none of %s%s", t, strings.Join(f.Enum, ", "), didYouMean(t, f.Enum))}
			}
		}
		c.values[f.Name], c.given[f.Name] = slices.Clone(text), slices.Clone(text)
		return nil
	}
	v, err := f.parse(text[0])
	if err != nil {
		return &FieldError{Field: f.Name, Err: err}
	}
	c.values[f.Name], c.given[f.Name] = v, slices.Clone(text)
	return nil
}

// complete fills in defaults and reports the first required field that lacks.
func (c *Config) complete() error {
	for _, f := range c.info.Fields {
		if _, ok := c.values[f.Name]; ok {
			continue
		}
		if f.Required {
			return &FieldError{Field: f.Name, Missing: true, Err: fmt.Errorf("%s needs %s: %s", c.info.Name, f.Name, f.Doc)}
		}
		if f.Default != "" {
			v, err := f.parse(f.Default)
			if err != nil {
				panic("BUG: " + c.info.Name + "." + f.Name + ": wrong default: " + err.Error())
			}
			c.values[f.Name] = v
			continue
		}
		c.values[f.Name] = f.Type.zero()
	}
	return nil
}

func (t FieldType) zero() any {
	switch t {
	case FieldInt, FieldSize:
		return int64(0)
	case FieldFloat, FieldShare:
		return 0.0
	case FieldBool:
		return false
	case FieldDuration:
		return time.Duration(0)
	case FieldStrings:
		return []string(nil)
	case FieldChoices:
		return []Chosen(nil)
	}
	return ""
}

// parse reads a value as YAML writes it.
func (f Field) parse(text string) (any, error) {
	text = strings.TrimSpace(text)
	switch f.Type {
	case FieldStrings:
		var list []string
		for _, t := range strings.Split(strings.Trim(text, "[]"), ",") {
			if t = strings.TrimSpace(t); t != "" {
				list = append(list, t)
			}
		}
		return list, nil
	case FieldInt:
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("wants %s, not %q", f.Type, text)
		}
		return v, f.inRange(float64(v), text)
	case FieldFloat:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("wants %s, not %q", f.Type, text)
		}
		return v, f.inRange(v, text)
	case FieldBool:
		switch text {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, fmt.Errorf("wants %s, not %q", f.Type, text)
	case FieldSize:
		v, err := memory.ParseBytes(text)
		if err != nil {
			return nil, fmt.Errorf("wants %s: %w", f.Type, err)
		}
		return v, f.inRange(float64(v), text)
	case FieldShare:
		v, err := memory.ParseShare(text)
		if err != nil {
			return nil, fmt.Errorf("wants %s: %w", f.Type, err)
		}
		return v, f.inRange(v, text)
	case FieldDuration:
		v, err := time.ParseDuration(text)
		if err != nil || v < 0 {
			return nil, fmt.Errorf("wants %s, not %q", f.Type, text)
		}
		return v, f.inRange(v.Seconds(), text)
	case FieldEnum:
		if !slices.Contains(f.Enum, text) {
			return nil, fmt.Errorf("%q is none of %s%s", text, strings.Join(f.Enum, ", "), didYouMean(text, f.Enum))
		}
		return text, nil
	}
	if f.filled() && text == "" {
		return nil, errors.New("must not be empty")
	}
	return text, nil
}

func (f Field) inRange(v float64, text string) error {
	if f.Min == 0 && f.Max == 0 {
		return nil
	}
	if v < f.Min {
		return fmt.Errorf("%s is below the minimum, %s", text, f.number(f.Min))
	}
	if f.Max > f.Min && v > f.Max {
		return fmt.Errorf("%s is above the maximum, %s", text, f.number(f.Max))
	}
	return nil
}

func (f Field) number(v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	switch {
	case f.Type == FieldSize:
		s = memory.FormatBytes(int64(v))
	case f.Type == FieldDuration:
		s += " s"
	case f.Unit != "":
		s += " " + f.Unit
	}
	return s
}

// FieldError is an error about one configuration field; lint shows it at the
// field's place in the file. Constructors make one with Config.Errorf.
type FieldError struct {
	Field   string // its name
	Element int    // of the field's list, from 1; 0 is the field as a whole
	Offset  int    // characters into the text
	Missing bool   // the field is required and was not given
	Err     error  // what is wrong
}

func (e *FieldError) Error() string {
	if e.Missing {
		return e.Err.Error()
	}
	return e.Field + ": " + e.Err.Error()
}

func (e *FieldError) Unwrap() error { return e.Err }

// Errorf makes an error about one field. The offset is how many characters
// into the field's text the fault lies.
func (c Config) Errorf(field string, offset int, format string, args ...any) error {
	return &FieldError{Field: field, Offset: offset, Err: fmt.Errorf(format, args...)}
}

// ElementErrorf makes an error about one element of a field's list, counted
// from 0.
func (c Config) ElementErrorf(field string, i int, format string, args ...any) error {
	return &FieldError{Field: field, Element: i + 1, Err: fmt.Errorf(format, args...)}
}

func (c Config) get(name string, types ...FieldType) any {
	f, ok := c.info.field(name)
	if !ok || !slices.Contains(types, f.Type) {
		panic(fmt.Sprintf("BUG: stage %s asks for field %q, which it did not declare with that type", c.info.Name, name))
	}
	return c.values[name]
}

// IsSet reports whether the pipeline gives the field a value of its own.
func (c Config) IsSet(name string) bool {
	_, ok := c.given[name]
	return ok
}

// String returns a text, path, enum or condition.
func (c Config) String(name string) string {
	return c.get(name, FieldString, FieldPath, FieldEnum, FieldExpr).(string)
}

// Strings returns a list of text.
func (c Config) Strings(name string) []string { return c.get(name, FieldStrings).([]string) }

// Choices returns words with their options.
func (c Config) Choices(name string) []Chosen { return c.get(name, FieldChoices).([]Chosen) }

// Int returns a whole number or a size in bytes.
func (c Config) Int(name string) int64 { return c.get(name, FieldInt, FieldSize).(int64) }

// Float returns a number or a share (0.6 for 60%).
func (c Config) Float(name string) float64 { return c.get(name, FieldFloat, FieldShare).(float64) }

// Bool returns a bool.
func (c Config) Bool(name string) bool { return c.get(name, FieldBool).(bool) }

// Duration returns a duration.
func (c Config) Duration(name string) time.Duration {
	return c.get(name, FieldDuration).(time.Duration)
}

// key is the configuration in a canonical form, of the fields that matter.
func (c Config) key(matters func(Field) bool) string {
	m := map[string]any{}
	for _, f := range c.info.Fields {
		if !matters(f) {
			continue
		}
		m[f.Name] = c.values[f.Name]
		if f.Type == FieldChoices {
			var words []string
			for _, w := range c.Choices(f.Name) {
				words = append(words, w.Name, w.Options.key(matters))
			}
			m[f.Name] = words
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic("BUG: a configuration cannot be written as JSON: " + err.Error())
	}
	return string(b)
}

func didYouMean(name string, candidates []string) string {
	return suggest.DidYouMean(name, candidates)
}
