package pipeline

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/forgepipe/forgepipe/memory"
)

// FieldType is the type of a configuration field.
type FieldType int

// The types a field can have, and how they are written in YAML.
const (
	FieldString   FieldType = iota // text
	FieldPath                      // text: a file or folder, relative to the working directory
	FieldInt                       // whole number
	FieldFloat                     // number
	FieldBool                      // true, false
	FieldSize                      // bytes with a unit: 512MiB
	FieldShare                     // 60%
	FieldDuration                  // 30s
	FieldEnum                      // one of Enum
	FieldExpr                      // a condition over attributes
	FieldStrings                   // list of text, or one text
	FieldChoices                   // a word of Choices, {word: {options}}, or a list of such

	// Those of keys that are no stage's fields.
	fieldMapping  // of other keys
	fieldAmount   // 512MiB or 60%
	fieldFailures // 20 or 5%
	fieldStrategy // a word of memory.Strategies
	fieldID       // letters, digits, '-', '_' and '.'
	fieldDevice   // host, auto, gpu, gpu:0, sim:0
	fieldSource   // an entry with a source's name
	fieldStages   // a list of entries with stages' names
)

var fieldTypeNames = [...]string{
	"text", "a path", "a whole number", "a number", "true or false", "a size (512MiB)", "a share (60%)", "a duration (30s)", "a word", "a condition", "a list of text", "a word, {word: {options}} or a list of such",
	"a mapping", "a size or a share (512MiB, 60%)", "a number of items or a share (20, 5%)", "a word", "letters, digits, '-', '_' and '.'", "a device (host, auto, gpu, gpu:0, sim:0)", "a source", "a list of stages",
}

// String names the type for messages and documentation, with its article.
func (t FieldType) String() string { return fieldTypeNames[t] }

// Field declares one configuration field of a stage. The declaration is the
// only description there is: parsing, lint and documentation use it.
type Field struct {
	Name     string    // the key in YAML
	Type     FieldType // how its value is written and read
	Doc      string    // a sentence
	Unit     string    // px, bytes, ... or empty
	Required bool      // without it, the configuration is refused
	Default  string    // as it would be written in YAML; empty is the zero value
	Min, Max float64   // range of numbers and sizes, both 0: unbounded
	Enum     []string  // allowed values of FieldEnum, and of the elements of FieldStrings when not nil
	Choices  []Choice  // what a FieldChoices can hold; it has no default
	Examples []string  // as they would be written in YAML
	Cosmetic bool      // does not change what the stage makes of an item (a cached result stays valid)
	Flush    bool      // matters to a barrier's Flush alone: cached results of its Process stay valid
}

// filled tells whether a text, where it is given, must not be empty: an empty condition says
// nothing.
func (f Field) filled() bool { return f.Required || f.Type == FieldExpr }

// Choice declares one word that a FieldChoices can hold, and its options:
//
//	by: [sha256, {pdq: {max_distance: 20}}]
type Choice struct {
	Name   string  // the word
	Doc    string  // a sentence
	Fields []Field // its options
}

// choice is the declaration that a word's options are checked against.
func (in Info) choice(f Field, word string) (Info, error) {
	var words []string
	for _, c := range f.Choices {
		if c.Name == word {
			return Info{Name: in.Name + "." + f.Name + "." + word, Fields: c.Fields}, nil
		}
		words = append(words, c.Name)
	}
	return Info{}, fmt.Errorf("%q is none of %s%s", word, strings.Join(words, ", "), didYouMean(word, words))
}

// Example is a way to use a stage or source.
type Example struct {
	Doc  string `json:"doc"`  // a sentence: what it does
	YAML string `json:"yaml"` // the entry, with reserved keys if need be: tile: {size: 512}
}

// Made declares an attribute or vector that a stage sets.
type Made struct {
	Name   string // of the attribute or vector
	Type   Type   // TypeNone for a vector
	Vector bool   // it is a vector, and no attribute
	Doc    string // what it tells of an item: half a sentence, with its unit
}

// Info declares a stage or source: what it is called, what it is configured
// with, what it makes and needs.
type Info struct {
	Name   string  // the key in YAML
	Short  string  // one line
	Long   string  // paragraphs
	Fields []Field // what it is configured with

	// Examples are for documentation, the most usual one first.
	Examples []Example

	// Makes and Needs tell which attributes and vectors a stage with this
	// configuration sets and reads; both may be nil. Needs may name attributes
	// that every item has.
	Makes func(Config) []Made
	Needs func(Config) []string

	// Uses tells which attributes the stage reads where an item has them, and
	// does without where not; it may be nil.
	Uses func(Config) []string

	// Pure says that what the stage does to an item depends on nothing but the
	// item's pixels, the needed and used attributes and the configuration. Its results
	// are then cached by content, and for an item with a cached result Process
	// is not called. Version is raised when the algorithm changes.
	Pure    bool
	Version int

	// PureIf, if not nil, restricts Pure to some configurations.
	PureIf func(Config) bool

	// Blind says that the stage never looks at pictures (Frame, PairFrame,
	// ScaledFrame), so that one before it may let go of them: see Item.Done.
	Blind bool

	// Waits says that a call waits, for a device or for what others compute: then
	// there is one worker more than cores to begin with, or a core would be idle.
	Waits bool

	// WaitsIf, if not nil, restricts Waits to some configurations.
	WaitsIf func(Config) bool

	// Derives says that the stage returns items with a longer lineage, so that
	// names made of the source alone are no longer unique.
	Derives bool

	// Expand, if not nil, tells which entries one with this configuration stands for, in
	// their order, where it stands for several or for another one: they are planned, run,
	// cached and recorded each by itself, and New is not called. Nil entries: it stands for
	// itself.
	Expand func(Config) ([]Entry, error)

	// New makes the stage, NewSource the source; one of them is set. They
	// validate and read headers, and allocate nothing that needs Close.
	New       func(context.Context, Config, Env) (Stage, error)
	NewSource func(context.Context, Config, Env) (Source, error)
}

// Registry is a set of stages and sources by name. It is a value: clone it,
// add to it, take away from it; the zero Registry is empty and ready. The
// default one that the command uses is made by package stages/standard.
type Registry struct {
	stages, sources map[string]Info
}

// NewRegistry makes a registry of the given stages and sources. It panics when
// a declaration is wrong, as that is a bug of the program.
func NewRegistry(infos ...Info) Registry {
	return Registry{}.With(infos...)
}

// With returns a registry that also has the given stages and sources, which
// replace those of the same name.
func (r Registry) With(infos ...Info) Registry {
	out := Registry{stages: maps.Clone(r.stages), sources: maps.Clone(r.sources)}
	if out.stages == nil {
		out.stages, out.sources = map[string]Info{}, map[string]Info{}
	}
	for _, in := range infos {
		if err := in.check(); err != nil {
			panic("BUG: " + err.Error())
		}
		if in.NewSource != nil {
			out.sources[in.Name] = in
		} else {
			out.stages[in.Name] = in
		}
	}
	return out
}

// Without returns a registry that lacks the named stages and sources.
func (r Registry) Without(names ...string) Registry {
	out := r.With()
	for _, n := range names {
		delete(out.stages, n)
		delete(out.sources, n)
	}
	return out
}

// Stage looks a stage up.
func (r Registry) Stage(name string) (Info, bool) { in, ok := r.stages[name]; return in, ok }

// Source looks a source up.
func (r Registry) Source(name string) (Info, bool) { in, ok := r.sources[name]; return in, ok }

// Stages returns the declarations of all stages, by name.
func (r Registry) Stages() []Info { return sorted(r.stages) }

// Sources returns the declarations of all sources, by name.
func (r Registry) Sources() []Info { return sorted(r.sources) }

func sorted(m map[string]Info) []Info {
	out := make([]Info, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[name])
	}
	return out
}

func (in Info) check() error {
	switch {
	case in.Name == "" || in.Short == "":
		return fmt.Errorf("a stage needs a name and a one-line description (%q)", in.Name)
	case (in.New == nil) == (in.NewSource == nil):
		return fmt.Errorf("%s needs New or NewSource, and not both", in.Name)
	case slices.Contains(keyNames(entryKeys()), in.Name):
		return fmt.Errorf("%s is a reserved key and cannot name a stage", in.Name)
	}
	for i, e := range in.Examples {
		if e.Doc == "" || e.YAML == "" {
			return fmt.Errorf("%s: example %d needs a description and YAML", in.Name, i)
		}
	}
	return in.checkFields()
}

func (in Info) checkFields() error {
	for i, f := range in.Fields {
		if f.Name == "" || f.Doc == "" {
			return fmt.Errorf("%s: field %d needs a name and a description", in.Name, i)
		}
		if f.Type > FieldChoices {
			return fmt.Errorf("%s.%s is %s, which no field of a stage can be", in.Name, f.Name, f.Type)
		}
		if (f.Type == FieldChoices) != (len(f.Choices) > 0) {
			return fmt.Errorf("%s.%s needs choices if that is its type, and can have none if it is not", in.Name, f.Name)
		}
		if f.Type == FieldChoices && f.Default != "" {
			return fmt.Errorf("%s.%s cannot have a default", in.Name, f.Name)
		}
		for _, c := range f.Choices {
			if c.Name == "" || c.Doc == "" {
				return fmt.Errorf("%s.%s has a choice without a name or a description", in.Name, f.Name)
			}
			if err := (Info{Name: in.Name + "." + f.Name + "." + c.Name, Fields: c.Fields}).checkFields(); err != nil {
				return err
			}
		}
		if f.Type == FieldEnum && len(f.Enum) == 0 {
			return fmt.Errorf("%s.%s is an enum without values", in.Name, f.Name)
		}
		if f.Default != "" {
			if _, err := f.parse(f.Default); err != nil {
				return fmt.Errorf("%s.%s has a wrong default: %w", in.Name, f.Name, err)
			}
		}
	}
	return nil
}

func (in Info) field(name string) (Field, bool) {
	for _, f := range in.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

func (in Info) makes(c Config) []Made {
	if in.Makes == nil {
		return nil
	}
	return in.Makes(c)
}

func (in Info) needs(c Config) []string {
	if in.Needs == nil {
		return nil
	}
	return in.Needs(c)
}

func (in Info) uses(c Config) []string {
	if in.Uses == nil {
		return nil
	}
	return in.Uses(c)
}

// shares is the place of what several stages of a run use together, such as a
// model session: opened by the first, closed by the last.
type shares struct {
	mu sync.Mutex
	m  map[string]*shared
}

type shared struct {
	once  sync.Once
	value any
	err   error
	refs  int
	close func() error
}

// Share returns the run's one value for key, which open makes for the first
// who asks. The caller calls release once; with the last release the value's
// close runs. Two callers with one key must mean the same thing.
func (e Env) Share(key string, open func() (value any, close func() error, err error)) (value any, release func() error, err error) {
	all := &e.door.share
	all.mu.Lock()
	s := all.m[key]
	if s == nil {
		s = &shared{}
		all.m[key] = s
	}
	s.refs++
	all.mu.Unlock()

	s.once.Do(func() { s.value, s.close, s.err = open() })
	var released sync.Once
	release = func() (err error) {
		released.Do(func() {
			all.mu.Lock()
			s.refs--
			last := s.refs == 0
			if last {
				delete(all.m, key)
			}
			all.mu.Unlock()
			if last && s.close != nil {
				err = s.close()
			}
		})
		return err
	}
	if s.err != nil {
		_ = release()
		return nil, nil, s.err
	}
	return s.value, release, nil
}

// AttributeType is the type of an attribute of arriving items, or an error when
// none can have it. It is TypeNone for an attribute that is not known, where
// there may be others than the known ones.
func (e Env) AttributeType(name string) (Type, error) {
	t, ok := e.Attributes[name]
	if !ok && !e.Undeclared {
		known := slices.Sorted(maps.Keys(e.Attributes))
		return TypeNone, fmt.Errorf("no stage before this one makes the attribute %q%s (there are %s)", name, didYouMean(name, known), strings.Join(known, ", "))
	}
	return t, nil
}

// Lease reserves bytes of host memory, until the lease is released, for what a
// barrier needs in Flush beyond 64 bytes for each item it held. It waits for
// room, and refuses with a *memory.OversizeError what can never be had. It is
// not for Process, whose items hold pictures in memory that others may wait
// for: there, Cost says what a call needs.
func (e Env) Lease(ctx context.Context, bytes int64) (*memory.Lease, error) {
	return e.door.run.acquire(ctx, memory.Request{Kind: memory.Residency, Bytes: bytes, Holder: e.StageID})
}

// Ledger is that of a device beside the host which the stage was placed on: what it
// allocates there it leases first. Its limit follows what others take. Nil for the
// host, whose leases the engine takes, and outside of a run.
func (e Env) Ledger(d Device) *memory.Ledger {
	if e.door.run != nil {
		if l := e.door.run.device(d); l != nil {
			return l.ledger
		}
	}
	return nil
}

// Courtesy is for who computes on a device beside the host which the stage was
// placed on: each that does so on its own, such as a session, gets one of its own.
// It holds back as Pipeline.WhenBusy says, and never where nobody is waited for, for the
// host, and outside of a run.
func (e Env) Courtesy(d Device) memory.Courtesy {
	if e.door.run != nil {
		if l := e.door.run.device(d); l != nil && l.others != nil {
			return &courtesy{run: e.door.run, device: d, stage: e.StageID, others: l.others}
		}
	}
	return (*courtesy)(nil)
}

// Device is what memory of a device beside the host is read from; nil for the host and
// for what there is not.
func (e Env) Device(d Device) memory.Device {
	if e.door == nil {
		return nil
	}
	for _, m := range e.door.devices {
		if m.Name() == string(d) {
			return m
		}
	}
	return nil
}

// HostLimit is how many bytes of the host the pipeline may use: what memory.host.limit
// says of what this machine has. It is the same in every run here, and so for what must
// not change between them. 0: it is not known.
func (e Env) HostLimit() int64 {
	if e.door == nil || e.door.pipe == nil {
		return 0
	}
	mem, err := (memory.Host{}).Memory()
	if err != nil {
		return 0
	}
	return e.door.pipe.hostLimit().of(mem.Total)
}

// HostRoom is how many bytes of host memory the run may still take, when the
// stage opens: for what allocates by itself and can be told a bound.
func (e Env) HostRoom() int64 {
	u := e.door.run.host.Usage()
	return max(u.Limit-u.Residency-u.Work, 0)
}
