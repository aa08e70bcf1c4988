package groups

import (
	"encoding/json"
	"fmt"
	"math"
)

// Explain is what groups have of a member as JSON, with keeper_index where its keeper is
// from an index: the object that WriteJSONL writes of it. Explained reads it.
func (m Member) Explain(measures []Measure) json.RawMessage {
	if m.Decided {
		m.By = Decision
	}
	var l line
	l.member(m, measures)
	if m.KeeperIndex != "" {
		l.Truncate(l.Len() - 1)
		l.field("keeper_index", m.KeeperIndex)
		l.WriteByte('}')
	}
	return l.Bytes()
}

// Explained reads what Explain made of a member, whose Keeper it does not have. Values of
// steps that are not among the measures are left out.
func Explained(text json.RawMessage, measures []Measure) (Member, error) {
	var in struct {
		Item
		By           string
		Distances    map[string]float64
		Similarities map[string]float64
		Rule         string
		Value        *float64
		KeeperValue  *float64 `json:"keeper_value"`
		KeeperIndex  string   `json:"keeper_index"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return Member{}, fmt.Errorf("reading what is said of a duplicate: %w", err)
	}
	number := func(p *float64) float64 {
		if p == nil {
			return math.NaN()
		}
		return *p
	}
	m := Member{
		Item: in.Item, KeeperIndex: in.KeeperIndex, By: in.By, Decided: in.By == Decision,
		Rule: in.Rule, Value: number(in.Value), KeeperValue: number(in.KeeperValue),
	}
	for _, x := range measures {
		values := in.Distances
		if x.Similarity {
			values = in.Similarities
		}
		v, ok := values[x.Step]
		if !ok {
			v = math.NaN()
		}
		m.Values = append(m.Values, v)
	}
	return m, nil
}
