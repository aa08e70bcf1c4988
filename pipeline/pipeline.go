package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/memory"
)

// Pipeline is a source and a chain of stages, built and checked, ready to be
// planned and run.
type Pipeline struct {
	Name        string // to whom an output folder belongs; empty: the file it was loaded from
	HostLimit   Amount // of host memory; the zero value is 60%
	GPUHeadroom int64  // bytes of each device beside the host that stay free; 0: as its size suggests
	// WhenBusy says what is done about others who compute on such a device: see
	// Env.Courtesy. Empty is memory.ShareWhenBusy: nothing.
	WhenBusy  memory.WhenBusy
	Strategy  string    // decides about the batches of networks; empty: adaptive
	OnError   OnError   // what a failed item does where its stage does not say; empty: Quarantine
	MaxFailed MaxFailed // how much may fail before the run ends
	Limits    Limits    // of input images; set before stages are added, as some go by them

	name       string // of the file it was loaded from
	log        *slog.Logger
	fs         fsys.FS
	devices    []memory.Device
	nowhere    bool // stages are not placed
	aside      bool // a case: nothing is written where stages say
	strategies memory.Strategies
	door       *door
	source     Source
	origin     Info // the source's declaration
	oconf      Config
	steps      []*Step
	attrs      map[string]Type   // known to exist after the last step
	vectors    map[string]int    // likewise, with how many numbers each has
	trees      map[string]string // what is written, and by which step
	open       bool              // a step without declaration may have made others
	lin        bool              // items may have a lineage
}

// door is where a stage's Env finds the run that it works in.
type door struct {
	run     *run
	share   shares
	devices []memory.Device
	pipe    *Pipeline
	// hostLimit is that of the plan, in bytes; 0: there is none yet.
	hostLimit atomic.Int64
}

// Step is one stage in the chain.
type Step struct {
	ID      string   // unique in the pipeline; in a file it is of letters, digits, '-', '_' and '.'
	Stage   Stage    // made by its constructor
	Info    Info     // its declaration; the zero Info declares nothing
	Config  Config   // what Stage was made with
	Workers int      // 0: the engine decides
	Batch   int      // 0: the stage decides
	Device  Device   // in Add, what is wanted, and then the first of Devices; empty: the stage decides
	Devices []Device // where it computes; Add finds that out
	OnError OnError  // empty: the pipeline's

	part bool // of an entry that stands for several
}

// Options for building pipelines. The zero value is ready.
type Options struct {
	Registry   Registry          // where Load looks stages up; New does not need one
	Vars       Vars              // that Load puts in the place of ${NAME}
	Devices    []memory.Device   // beside the host: GPUs, simulated ones
	Unplaced   bool              // for who looks at a pipeline and does not run it: devices are not asked for
	Strategies memory.Strategies // that a pipeline may name; nil: the standard ones
	Logger     *slog.Logger      // nil: discarded
	FS         FS                // nil: the operating system's
}

// New makes an empty pipeline, to be filled with SetSource, Use and Add.
func New(name string, o Options) *Pipeline {
	p := &Pipeline{
		Name: name, Limits: imageio.DefaultLimits(),
		log: o.Logger, fs: o.FS, devices: o.Devices, nowhere: o.Unplaced, strategies: o.Strategies, attrs: Builtins(), vectors: map[string]int{}, trees: map[string]string{},
		door: &door{share: shares{m: map[string]*shared{}}, devices: o.Devices},
	}
	p.door.pipe = p
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.fs == nil {
		p.fs = fsys.OS
	}
	return p
}

// SetSource sets where the items come from. It comes before the stages, or none can be
// refused that writes into the input.
func (p *Pipeline) SetSource(s Source) { p.source = s }

// UseSource makes a source of the registry the pipeline's, with the values that YAML
// would have, as Use does with a stage. It comes before the stages.
func (p *Pipeline) UseSource(ctx context.Context, r Registry, name string, values map[string]any) error {
	in, ok := r.Source(name)
	if !ok {
		return fmt.Errorf("there is no source %q in the registry%s", name, didYouMean(name, names(r.Sources())))
	}
	c, err := NewConfig(in, values)
	if err != nil {
		return fmt.Errorf("source %s: %w", name, err)
	}
	return p.useSource(ctx, in, c)
}

func (p *Pipeline) useSource(ctx context.Context, in Info, c Config) error {
	s, err := in.NewSource(ctx, c, p.env("source"))
	if err != nil {
		return fmt.Errorf("source %s: %w", in.Name, err)
	}
	p.source, p.origin, p.oconf = s, in, c
	return nil
}

// env is what the next step's constructor gets.
func (p *Pipeline) env(id string) Env {
	return Env{
		StageID: id, Log: p.log.With("stage", id), FS: p.fs, Limits: p.Limits.WithDefaults(),
		Attributes: maps.Clone(p.attrs), Vectors: maps.Clone(p.vectors), Undeclared: p.open, Derived: p.lin, door: p.door,
	}
}

// Use appends a stage of the registry, made with the values that YAML would
// have ("512", "60%", []string), see NewConfig; or several, where the stage's Expand says so.
// The error says which field is wrong, or
// which attribute the stage needs that none before it makes.
func (p *Pipeline) Use(ctx context.Context, r Registry, name, id string, values map[string]any) error {
	return p.UseStep(ctx, r, name, Step{ID: id}, values)
}

// UseStep is Use for a step of which more is to be said than its ID: Workers, Batch,
// Device and OnError, which are those of YAML. Its other fields are set here.
func (p *Pipeline) UseStep(ctx context.Context, r Registry, name string, step Step, values map[string]any) error {
	in, ok := r.Stage(name)
	if !ok {
		return fmt.Errorf("there is no stage %q in the registry%s", name, didYouMean(name, names(r.Stages())))
	}
	c, err := NewConfig(in, values)
	if err != nil {
		return fmt.Errorf("stage %s: %w", name, err)
	}
	all, err := r.expand(in, c, step)
	if err != nil {
		return fmt.Errorf("stage %s: %w", name, err)
	}
	for _, s := range all {
		// The constructor first: it may know better where in a field the fault lies.
		if err := p.construct(ctx, &s); err != nil {
			return fmt.Errorf("stage %s: %w", name, err)
		}
		if err := p.checkNeeds(s.Info, s.Config); err != nil {
			return err
		}
		if err := p.Add(s); err != nil {
			return err
		}
	}
	return nil
}

// Add appends a stage to the chain.
func (p *Pipeline) Add(s Step) error {
	if s.Stage == nil || s.ID == "" {
		return errors.New("a step needs an ID and a stage")
	}
	for _, o := range p.steps {
		if o.ID == s.ID {
			return fmt.Errorf("two stages have the id %q", s.ID)
		}
	}
	if err := p.place(&s); err != nil {
		return fmt.Errorf("stage %s: %w", s.ID, err)
	}
	if err := p.checkOutputs(s); err != nil {
		return err
	}
	p.steps = append(p.steps, &s)
	if s.Info.Name == "" { // declares nothing, so may do anything
		p.open, p.lin = true, true
		return nil
	}
	if s.Info.Derives {
		p.attrs, p.vectors, p.open, p.lin = Builtins(), map[string]int{}, false, true
	}
	sizes := map[string]int{}
	if v, ok := s.Stage.(VectorSizer); ok {
		sizes = v.VectorSizes()
	}
	for _, m := range s.Info.makes(s.Config) {
		if m.Vector {
			p.vectors[m.Name] = sizes[m.Name]
		} else {
			p.attrs[m.Name] = m.Type
		}
	}
	return nil
}

// checkOutputs refuses a stage that writes where another one does, or into the
// input.
func (p *Pipeline) checkOutputs(s Step) error {
	w, ok := s.Stage.(Writer)
	if !ok {
		return nil
	}
	for _, t := range w.Writes() {
		key := filepath.Join(realPath(t.Root), t.Template)
		if first, dup := p.trees[key]; dup {
			return fmt.Errorf("%s writes to %s, as %s does: give one of them another path", s.ID, filepath.Join(t.Root, t.Template), first)
		}
		p.trees[key] = s.ID
		if root, inside := p.insideInput(t.Root); inside && !p.aside {
			return fmt.Errorf("%s writes into %s, which lies inside the input folder %s: write outside of it, or the next run would read its own output", s.ID, t.Root, root)
		}
	}
	return nil
}

func (p *Pipeline) checkNeeds(in Info, c Config) error {
	for _, name := range in.needs(c) {
		_, attr := p.attrs[name]
		_, vector := p.vectors[name]
		if attr || vector || p.open {
			continue
		}
		known := slices.Sorted(maps.Keys(p.attrs))
		return fmt.Errorf("%s needs the attribute %q, which no stage before it makes%s (there are %s)",
			in.Name, name, didYouMean(name, known), strings.Join(known, ", "))
	}
	return nil
}

// Load reads a pipeline file's bytes and builds the pipeline. Everything that
// can be told to be wrong before a run is; the error is then a *SpecError.
func Load(ctx context.Context, file string, data []byte, o Options) (*Pipeline, error) {
	return load(ctx, file, data, o, nil)
}

// load is Load with what a case changes; nil: nothing.
func load(ctx context.Context, file string, data []byte, o Options, v *changes) (*Pipeline, error) {
	spec, err := parseSpec(file, data, o.Vars, v)
	if err != nil {
		return nil, err
	}
	p := New(spec.Name, o)
	p.name, p.aside = file, v != nil
	p.HostLimit, p.GPUHeadroom, p.WhenBusy, p.Strategy = spec.HostLimit, spec.GPUHeadroom, spec.WhenBusy, spec.Strategy
	p.OnError, p.MaxFailed, p.Limits = spec.OnError, spec.MaxFailed, spec.Limits
	b := parser{file: file}
	if err := p.checkStrategy(); err != nil {
		b.problem(spec.strategyAt, "memory.strategy: %v", err)
	}
	p.loadSource(ctx, &b, spec.Source, o.Registry)
	for _, e := range spec.Stages {
		p.loadStage(ctx, &b, e, o.Registry)
	}
	if len(b.problems) > 0 {
		return nil, &SpecError{b.problems}
	}
	return p, nil
}

func (p *Pipeline) loadSource(ctx context.Context, b *parser, e stageSpec, r Registry) {
	in, ok := r.Source(e.Name)
	if !ok {
		b.problem(e.at, "there is no source %q%s (there are %s)", e.Name, didYouMean(e.Name, names(r.Sources())), strings.Join(names(r.Sources()), ", "))
		return
	}
	c, ok := b.configure(in, e)
	if !ok {
		return
	}
	if err := p.useSource(ctx, in, c); err != nil {
		at := b.place(e, err)
		b.problem(at, "%v%s", err, missing(at, err))
	}
}

func (p *Pipeline) loadStage(ctx context.Context, b *parser, e stageSpec, r Registry) {
	in, ok := r.Stage(e.Name)
	if !ok {
		b.problem(e.at, "there is no stage %q%s", e.Name, didYouMean(e.Name, names(r.Stages())))
		p.open = true // what it would have made is not known: no second fault for it
		return
	}
	c, ok := b.configure(in, e)
	if !ok {
		p.open = true
		return
	}
	all, err := r.expand(in, c, Step{ID: e.ID, Workers: e.Workers, Batch: e.BatchSize, Device: e.Device, OnError: e.OnError})
	if err != nil {
		b.problem(b.place(e, err), "stage %s: %v", e.ID, err)
		p.open = true
		return
	}
	for _, s := range all {
		p.loadStep(ctx, b, e, s)
	}
}

// loadStep appends one of the steps of an entry.
func (p *Pipeline) loadStep(ctx context.Context, b *parser, e stageSpec, s Step) {
	if err := p.construct(ctx, &s); err != nil {
		at := b.place(e, err)
		b.problem(at, "stage %s: %v%s", s.ID, err, missing(at, err))
		b.problems[len(b.problems)-1].Lacking = errors.Is(err, ErrLacking)
		p.open = true
		return
	}
	if err := p.checkNeeds(s.Info, s.Config); err != nil {
		b.problem(b.place(e, err), "%v", err)
		return
	}
	if err := p.Add(s); err != nil {
		b.problem(e.at, "%v", err)
		b.problems[len(b.problems)-1].Lacking = errors.Is(err, ErrLacking)
	}
}

func names(infos []Info) []string {
	out := make([]string, len(infos))
	for i, in := range infos {
		out[i] = in.Name
	}
	return out
}

// insideInput reports whether a folder is the input or lies in it, links
// followed.
func (p *Pipeline) insideInput(folder string) (string, bool) {
	r, ok := p.source.(Rooted)
	if !ok {
		return "", false
	}
	f := realPath(folder)
	for _, root := range r.Roots() {
		rel, err := filepath.Rel(realPath(root), f)
		if err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return root, true
		}
	}
	return "", false
}

// realPath follows links in the part of a path that exists.
func realPath(name string) string {
	abs, err := filepath.Abs(name)
	if err != nil {
		return name
	}
	rest := ""
	for dir := abs; ; dir = filepath.Dir(dir) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		} else if !os.IsNotExist(err) || dir == filepath.Dir(dir) {
			return abs
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}

// StateDir is where the pipeline's run store lies unless told otherwise: the
// folder .forgepipe in the first tree that a stage writes, otherwise beside the
// first file. It is empty when nothing is written.
func (p *Pipeline) StateDir() string {
	var beside string
	for _, s := range p.steps {
		w, ok := s.Stage.(Writer)
		if !ok {
			continue
		}
		for _, t := range w.Writes() {
			if t.Apart {
				continue
			}
			if !t.File {
				return filepath.Join(t.Root, stateDirName)
			}
			if beside == "" {
				beside = filepath.Join(t.Root, stateDirName)
			}
		}
	}
	return beside
}

const stateDirName = ".forgepipe"

// files identifies the files that the stage depends on beside its configuration.
func (s Step) files() string {
	if i, ok := s.Stage.(Identifier); ok {
		return i.Identity()
	}
	return ""
}

// Fingerprint identifies what the pipeline makes of an input: source and stage
// configurations, the models that stages read, decoder and encoder versions.
func (p *Pipeline) Fingerprint() string {
	h := sha256.New()
	matters := func(f Field) bool { return !f.Cosmetic }
	fmt.Fprintln(h, imageio.Decoder(), imageio.Encoder(), p.origin.Name, p.oconf.key(matters))
	for _, s := range p.steps {
		fmt.Fprintln(h, s.ID, s.Info.Name, s.Info.Version, s.files(), s.Config.key(matters))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// file names the pipeline for messages about it as a whole.
func (p *Pipeline) file() string {
	if p.name != "" {
		return p.name
	}
	return "pipeline " + p.Name
}

// owner is the name under which an output folder belongs to the pipeline.
func (p *Pipeline) owner() string {
	if p.Name != "" {
		return p.Name
	}
	return filepath.Base(p.name)
}
