package dedup

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
)

// A rule prefers the item with the higher value of an attribute, or the lower
// one.
type rule struct {
	text    string // as configured
	attr    string
	reverse bool
}

// rulesOf reads the field prefer. The attributes must be known to exist, unless
// there may be others, and be comparable.
func rulesOf(c pipeline.Config, e pipeline.Env) ([]rule, error) {
	e.Attributes = maps.Clone(e.Attributes)
	for _, m := range makes(c) {
		e.Attributes[m.Name] = m.Type
	}
	var rules []rule
	for i, text := range c.Strings("prefer") {
		r := rule{text: text}
		r.attr, r.reverse = strings.CutPrefix(text, "-")
		t, err := e.AttributeType(r.attr)
		switch {
		case r.attr == "":
			return nil, c.ElementErrorf("prefer", i, "a rule is the name of an attribute, with or without a minus before it")
		case err != nil:
			return nil, c.ElementErrorf("prefer", i, "%w", err)
		case t == pipeline.TypeString || t == pipeline.TypeHash:
			return nil, c.ElementErrorf("prefer", i, "%s is a %s, and only numbers and true or false can be preferred", r.attr, t)
		case slices.ContainsFunc(rules, func(o rule) bool { return o.attr == r.attr }):
			return nil, c.ElementErrorf("prefer", i, "%s stands there twice", r.attr)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// key is what the rule compares items by: the higher, the better, and NaN is
// worst. Whole numbers count as float64, exact up to 2^53.
func (r rule) key(it *pipeline.Item) float64 {
	v, _ := it.Attr(r.attr)
	k := v.Float() // NaN for what is no number
	if v.Bool() {
		k = 1
	} else if v.Type() == pipeline.TypeBool {
		k = 0
	}
	if r.reverse {
		k = -k
	}
	return k
}

// byPreference compares the keys of two items: negative when a is preferred. It
// also says which rule decided.
func byPreference(a, b []float64) (order, rule int) {
	for i := range a {
		switch {
		case a[i] == b[i] || math.IsNaN(a[i]) && math.IsNaN(b[i]):
		case a[i] > b[i] || math.IsNaN(b[i]):
			return -1, i
		default:
			return 1, i
		}
	}
	return 0, len(a)
}

// decided says which rule put the keeper before an item, and by which values; NaN is
// none.
func (s *Stage) decided(item, keeper []float64) (text string, value, keeperValue float64) {
	_, i := byPreference(item, keeper)
	if i == len(s.rules) {
		return "id", math.NaN(), math.NaN()
	}
	value, keeperValue = item[i], keeper[i]
	if s.rules[i].reverse {
		value, keeperValue = -value, -keeperValue
	}
	return s.rules[i].text, value, keeperValue
}

// number is a whole number where it can be, which reads better.
func number(f float64) pipeline.Value {
	if f == math.Trunc(f) && math.Abs(f) <= 1<<53 {
		return pipeline.Int(int64(f))
	}
	return pipeline.Float(f)
}
