package pipeline

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
)

// Key declares a key of a pipeline file that is no field of a stage. Like a
// Field it is the only description there is: the loader, the JSON Schema and the
// documentation use it.
type Key struct {
	Field
	Keys []Key // of a mapping: what it can hold
}

// FileKeys returns the keys of a pipeline file. Those of mappings hold others.
func FileKeys() []Key { return described(fileKeys()) }

// EntryKeys returns the reserved keys, which stand beside the name of a stage or
// source.
func EntryKeys() []Key { return described(entryKeys()) }

// key is a Key whose value goes into a T.
type key[T any] struct {
	Field
	keys []key[T]                  // of a mapping
	set  func(*T, *yamlNode) error // of anything else
}

func described[T any](keys []key[T]) []Key {
	var out []Key
	for _, k := range keys {
		out = append(out, Key{Field: k.Field, Keys: described(k.keys)})
	}
	return out
}

// Ranges of keys.
const (
	maxPixelLimit = 1 << 40
	maxWorkers    = 1024
	maxBatch      = 1 << 20
)

// fileKeys declares the keys of a pipeline file, in the order in which they are
// usually written.
func fileKeys() []key[spec] {
	limits := imageio.DefaultLimits()
	return []key[spec]{
		{
			Field: Field{
				Name: "name", Type: FieldString,
				Doc:      "What the pipeline is called. An output folder belongs to the pipeline of one name, and is refused to others; without a name the pipeline is known by its file's.",
				Examples: []string{"sr-dataset"},
			},
			set: scalar(func(s *spec) *string { return &s.Name }, parseWord),
		},
		{
			Field: Field{Name: "memory", Type: fieldMapping, Doc: "How much memory a run may take, and how it is divided."},
			keys: []key[spec]{
				{
					Field: Field{Name: "host", Type: fieldMapping, Doc: "The memory of the machine."},
					keys: []key[spec]{{
						Field: Field{
							Name: "limit", Type: fieldAmount, Default: fmt.Sprintf("%g%%", 100*defaultHostShare),
							Doc:      "What the whole process may take, C libraries included: a share of what the machine or the container has, whichever is less, or a size.",
							Examples: []string{"40%", "600MiB"},
						},
						set: scalar(func(s *spec) *Amount { return &s.HostLimit }, parsePositiveAmount),
					}},
				},
				{
					Field: Field{Name: "gpu", Type: fieldMapping, Doc: "GPUs, and simulated ones."},
					keys: []key[spec]{
						{
							Field: Field{
								Name: "headroom", Type: FieldSize,
								Doc:      "How much of each card stays free. Without it, or with 0, that follows from the size of the card.",
								Examples: []string{"512MiB"},
							},
							set: scalar(func(s *spec) *int64 { return &s.GPUHeadroom }, memory.ParseBytes),
						},
						{
							Field: Field{
								Name: "when_busy", Type: FieldEnum, Default: string(memory.ShareWhenBusy),
								Enum: []string{string(memory.ShareWhenBusy), string(memory.YieldWhenBusy), string(memory.PauseWhenBusy)},
								Doc:  "What a run does while others compute on its card: share computes as if it were alone, yield leaves them the share of the time that they use, pause stands still until they are through.",
							},
							set: scalar(func(s *spec) *memory.WhenBusy { return &s.WhenBusy }, parseWhenBusy),
						},
					},
				},
				{
					Field: Field{
						Name: "strategy", Type: fieldStrategy, Default: memory.Adaptive,
						Enum: slices.Sorted(maps.Keys(memory.StandardStrategies())),
						Doc:  "The rule by which the governor decides how many items each run of a network takes.",
					},
					set: func(s *spec, n *yamlNode) error {
						if n.text == "" {
							return errors.New("must not be empty")
						}
						s.Strategy, s.strategyAt = n.text, n
						return nil
					},
				},
			},
		},
		{
			Field: Field{Name: "limits", Type: fieldMapping, Doc: "Which files are too large. They are quarantined before they are decoded."},
			keys: []key[spec]{
				{
					Field: Field{
						Name: "pixels", Type: FieldInt, Unit: "px", Min: 1, Max: maxPixelLimit, Default: strconv.FormatInt(limits.MaxPixels, 10),
						Doc: "How many pixels a picture may have, as a file and when a stage has enlarged it.",
					},
					set: scalar(func(s *spec) *int64 { return &s.Limits.MaxPixels }, parsePixels),
				},
				{
					Field: Field{
						Name: "file_bytes", Type: FieldSize, Default: strings.ReplaceAll(memory.FormatBytes(limits.MaxFileBytes), " ", ""),
						Doc: "How large a file may be.",
					},
					set: scalar(func(s *spec) *int64 { return &s.Limits.MaxFileBytes }, memory.ParseBytes),
				},
			},
		},
		{
			Field: Field{
				Name: "on_error", Type: FieldEnum, Enum: []string{string(Quarantine), string(Stop)}, Default: string(Quarantine),
				Doc: "What a failed item does: quarantine records it and goes on, stop ends the run.",
			},
			set: scalar(func(s *spec) *OnError { return &s.OnError }, parseOnError),
		},
		{
			Field: Field{
				Name: "max_failed", Type: fieldFailures,
				Doc:      "Ends a run in which more items fail than this number, or more than this share of the inputs once 100 have come. Without it no number of failed items ends a run.",
				Examples: []string{"5%", "20"},
			},
			set: scalar(func(s *spec) *MaxFailed { return &s.MaxFailed }, parseMaxFailed),
		},
		{
			Field: Field{Name: "source", Type: fieldSource, Required: true, Doc: "Where the items come from: the name of a source with its fields."},
			set: func(s *spec, n *yamlNode) error {
				s.sourceAt = n
				return nil
			},
		},
		{
			Field: Field{Name: "stages", Type: fieldStages, Required: true, Doc: "What happens to the items, from top to bottom: a list of stages, each with its fields."},
			set: func(s *spec, n *yamlNode) error {
				s.stagesAt = n
				return nil
			},
		},
	}
}

// entryKeys declares the reserved keys.
func entryKeys() []key[stageSpec] {
	return []key[stageSpec]{
		{
			Field: Field{
				Name: "id", Type: fieldID,
				Doc:      "What the stage is called in messages, in the summary and in the record. By default that is its name, with a number from the second of its kind on (filter, filter-2).",
				Examples: []string{"enlarge"},
			},
			set: scalar(func(e *stageSpec) *string { return &e.ID }, parseID),
		},
		{
			Field: Field{
				Name: "workers", Type: FieldInt, Unit: "calls", Min: 1, Max: maxWorkers,
				Doc: "How many calls of the stage run at once. Without it the governor decides.",
			},
			set: scalar(func(e *stageSpec) *int { return &e.Workers }, parseCount(maxWorkers)),
		},
		{
			Field: Field{
				Name: "batch", Type: FieldInt, Unit: "items", Min: 1, Max: maxBatch,
				Doc: "How many items a call of the stage gets at most. Without it the stage decides.",
			},
			set: scalar(func(e *stageSpec) *int { return &e.BatchSize }, parseCount(maxBatch)),
		},
		{
			Field: Field{
				Name: "device", Type: fieldDevice, Default: string(Auto),
				Doc:      "Where the stage computes: host is the CPU, gpu all GPUs that can be used, gpu:1 one of them, sim:0 a simulated one. With auto, a stage that can compute on GPUs takes those that can be used, and else the CPU.",
				Examples: []string{"gpu", "gpu:1"},
			},
			set: scalar(func(e *stageSpec) *Device { return &e.Device }, parseDevice),
		},
		{
			Field: Field{
				Name: "on_error", Type: FieldEnum, Enum: []string{string(Quarantine), string(Stop)},
				Doc: "What an item does that fails in this stage. Without it, what on_error of the pipeline says.",
			},
			set: scalar(func(e *stageSpec) *OnError { return &e.OnError }, parseOnError),
		},
	}
}

// scalar makes the set of a key with one value: where it goes, and how its text
// is read.
func scalar[T, V any](dst func(*T) *V, parse func(string) (V, error)) func(*T, *yamlNode) error {
	return func(t *T, n *yamlNode) error {
		v, err := parse(n.text)
		if err == nil {
			*dst(t) = v
		}
		return err
	}
}

// readKeys reads a mapping. The path names it in messages, and is empty for the
// whole file.
func readKeys[T any](p *parser, n *yamlNode, path string, keys []key[T], dst *T) {
	what := path
	if path == "" {
		what = "the pipeline"
	}
	p.mapping(n, what, keyNames(keys), func(at int, value *yamlNode) { readKey(p, value, path, keys[at], dst) })
}

// mapping calls read with each value of a mapping, and with where its key is among
// those that are allowed.
func (p *parser) mapping(n *yamlNode, what string, allowed []string, read func(at int, value *yamlNode)) {
	if n.kind == nullNode {
		return
	}
	if n.kind != mapNode {
		p.problem(n, "%s must be a mapping, not %s", what, n.what())
		return
	}
	for i, name := range n.keys {
		at := slices.Index(allowed, name.text)
		if at < 0 {
			names := slices.Sorted(slices.Values(allowed))
			p.problem(name, "%s has no key %q%s (it has %s)", what, name.text, didYouMean(name.text, names), strings.Join(names, ", "))
			continue
		}
		read(at, n.items[i])
	}
}

// readKey reads one value of a mapping.
func readKey[T any](p *parser, n *yamlNode, path string, k key[T], dst *T) {
	if path != "" {
		path += "."
	}
	path += k.Name
	switch {
	case k.Type == fieldMapping:
		readKeys(p, n, path, k.keys, dst)
		return
	case n.kind != scalarNode && k.Type != fieldSource && k.Type != fieldStages:
		p.problem(n, "%s must be one value, not %s", path, n.what())
		return
	}
	if err := k.set(dst, n); err != nil {
		p.problem(n, "%s: %v", path, err)
	}
}

func keyNames[T any](keys []key[T]) []string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Name
	}
	return names
}

func parseWord(s string) (string, error) { return s, nil }

func parseOnError(s string) (OnError, error) {
	if o := OnError(s); o == Quarantine || o == Stop {
		return o, nil
	}
	return "", fmt.Errorf("%q is neither %s nor %s", s, Quarantine, Stop)
}

func parseWhenBusy(s string) (memory.WhenBusy, error) {
	w, err := memory.ParseWhenBusy(s)
	if err != nil {
		choices := []string{string(memory.ShareWhenBusy), string(memory.YieldWhenBusy), string(memory.PauseWhenBusy)}
		err = fmt.Errorf("%w%s", err, didYouMean(s, choices))
	}
	return w, err
}

func parseCount(limit int) func(string) (int, error) {
	return func(s string) (int, error) {
		v, err := strconv.Atoi(s)
		if err != nil || v < 1 || v > limit {
			return 0, fmt.Errorf("wants a whole number from 1 to %d, not %q", limit, s)
		}
		return v, nil
	}
}

func parseMaxFailed(s string) (MaxFailed, error) {
	if strings.HasSuffix(s, "%") {
		v, err := memory.ParseShare(s)
		return MaxFailed{Share: v}, err
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < 1 {
		return MaxFailed{}, fmt.Errorf("wants a number of items or a share (5%%), not %q", s)
	}
	return MaxFailed{Count: v}, nil
}

func parsePixels(s string) (int64, error) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < 1 || v > maxPixelLimit {
		return 0, fmt.Errorf("wants a number of pixels from 1 to 2^40, not %q", s)
	}
	return v, nil
}

func parsePositiveAmount(s string) (Amount, error) {
	a, err := parseAmount(s)
	if err == nil && (a.Bytes < 0 || a.Share > 1 || a == Amount{}) {
		err = fmt.Errorf("%s is not between nothing and everything", s)
	}
	return a, err
}

func parseDevice(s string) (Device, error) {
	switch d := Device(s); d {
	case Host, Auto, GPU:
		return d, nil
	}
	kind, n, ok := strings.Cut(s, ":")
	if i, err := strconv.Atoi(n); ok && (kind == "gpu" || kind == "sim") && err == nil && i >= 0 && n == strconv.Itoa(i) {
		return Device(s), nil
	}
	return "", fmt.Errorf("%q is no device: take host, auto, gpu, or one of several such as gpu:0 or sim:0", s)
}

func parseID(s string) (string, error) {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return "", fmt.Errorf("%q may hold letters, digits, '-', '_' and '.' only", s)
		}
	}
	if s == "" {
		return "", errors.New("must not be empty")
	}
	if s == "source" {
		return "", errors.New(`"source" is the source's id`)
	}
	return s, nil
}
