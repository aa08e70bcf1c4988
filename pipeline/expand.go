package pipeline

import (
	"context"
	"fmt"
)

// Entry is one entry of a chain as Go writes it: see Info.Expand.
type Entry struct {
	ID     string         // what it is called, behind the ID of the entry and a dot; empty: as the entry
	Stage  string         // its name in the registry
	Values map[string]any // what it is configured with, as NewConfig takes it
}

// expand makes the steps of an entry, without their stages: those of the entries that it
// stands for, and of what these stand for, or else its own.
func (r Registry) expand(in Info, c Config, step Step) ([]Step, error) {
	step.Info, step.Config = in, c
	if in.Expand == nil {
		return []Step{step}, nil
	}
	entries, err := in.Expand(c)
	if err != nil {
		return nil, err
	}
	if entries == nil {
		return []Step{step}, nil
	}
	var all []Step
	for _, e := range entries {
		part, ok := r.Stage(e.Stage)
		if !ok {
			return nil, fmt.Errorf("%s is made of the stage %q, which the registry lacks", in.Name, e.Stage)
		}
		c, err := NewConfig(part, e.Values)
		if err != nil {
			return nil, fmt.Errorf("making the stage %s of it: %w", e.Stage, err)
		}
		one := step
		one.part = true
		if e.ID != "" {
			one.ID += "." + e.ID
		}
		more, err := r.expand(part, c, one)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

// construct makes the step's stage. Of an entry that stands for several, a device is meant
// for those that can compute on one.
func (p *Pipeline) construct(ctx context.Context, s *Step) (err error) {
	if s.Stage, err = s.Info.New(ctx, s.Config, p.env(s.ID)); err != nil {
		return err
	}
	if _, ok := s.Stage.(Placer); !ok && s.part {
		s.Device = ""
	}
	return nil
}
