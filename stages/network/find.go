package network

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/store"
	"github.com/forgepipe/forgepipe/pipeline"
)

// A Model is the network that a stage's configuration names in the field "model".
type Model struct {
	Path   string       // of its file
	Beside []string     // more files that hold a part of its weights
	Header *onnx.Header // what the file says of it
	// Preset is how pictures are prepared for it, a name of model.Presets: what the field
	// "preset" says, else what the store or the file does; "" where nothing is known.
	Preset string
	// Spec is that, with what the other PreparationFields replace of it.
	Spec model.Spec

	c pipeline.Config
}

// Find finds a network by its path or by its name in the store of models, and looks at
// its file. An error is one of a field; it wraps pipeline.ErrLacking where the network is
// known and not in the store, and says what brings it there.
func Find(c pipeline.Config) (*Model, error) {
	m, err := locate(c, c.String("preset"))
	if err != nil {
		return nil, err
	}
	m.Spec, err = preparation(c, m.Preset)
	return m, err
}

// FindUnresized is Find for a stage that takes pictures at their own size: of the
// PreparationFields it has layout, channels, range, mean and std.
func FindUnresized(c pipeline.Config) (*Model, error) {
	m, err := locate(c, "")
	if err != nil {
		return nil, err
	}
	known, _ := model.Preset(m.Preset)
	m.Spec = model.Spec{Layout: known.Layout, Channels: known.Channels, Range: known.Range, Mean: known.Mean, Std: known.Std}
	err = samples(c, &m.Spec)
	return m, err
}

// locate looks at the network's file. Its preset is the one that is said, else that of
// the store, else what the file itself says.
func locate(c pipeline.Config, said string) (*Model, error) {
	found, err := Locate(c)
	if err != nil {
		return nil, err
	}
	m := &Model{Path: found.Path, Beside: found.Beside, Preset: cmp.Or(said, found.Preset), c: c}
	if m.Header, err = model.ReadHeader(m.Path, model.FileOptions{Beside: m.Beside, Preset: m.Preset}); err != nil {
		return nil, c.Errorf(modelField, 0, "%w", err)
	}
	m.Preset = cmp.Or(m.Preset, m.Header.Metadata[arch.PresetKey])
	return m, nil
}

// Open opens the network for these outputs, which may be left out where it has one or says
// which one is meant. An error is one of the field "model".
func (m *Model) Open(outputs ...string) (*model.File, error) {
	f, err := model.Open(m.Path, model.FileOptions{Spec: m.Spec, Outputs: outputs, Beside: m.Beside, Preset: m.Preset})
	if err != nil {
		return nil, m.c.Errorf(modelField, 0, "%w", err)
	}
	return f, nil
}

// Locate is Find without a look at the file, for stages that know how their network wants
// its pictures.
func Locate(c pipeline.Config) (store.Found, error) {
	found, err := store.Find(c.String(modelField))
	if errors.Is(err, store.ErrMissing) {
		err = fmt.Errorf("%w: %w", pipeline.ErrLacking, err)
	}
	if err != nil {
		return found, c.Errorf(modelField, 0, "%w", err)
	}
	return found, nil
}
