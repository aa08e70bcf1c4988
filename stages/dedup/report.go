package dedup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/decisions"
	"github.com/forgepipe/forgepipe/stages/dedup/groups"
)

// tells are the files that say what was found, and what a person decides.
type tells struct {
	groups    []file
	pairs     *file
	decisions *file
}

// A file is one that the run writes.
type file struct {
	path   string // as configured
	folder string // of it
	name   string
	format groups.Format
}

func tellFields() []pipeline.Field {
	return []pipeline.Field{
		{
			Name: "groups", Type: pipeline.FieldStrings, Flush: true,
			Doc:      "Files to write the groups to: each kept item with its duplicates, and why each is one. JSON Lines for a path that ends in .jsonl, Parquet for .parquet.",
			Examples: []string{"./out/groups.jsonl", "[./out/groups.jsonl, ./out/groups.parquet]"},
		},
		{
			Name: "pairs", Type: pipeline.FieldPath, Flush: true,
			Doc:      "A file to write all pairs to that are within the thresholds, with what each step measures of them, for forgepipe sweep. All pairs take longer than the nearest ones.",
			Examples: []string{"./out/pairs.parquet"},
		},
		{
			Name: "decisions", Type: pipeline.FieldPath, Flush: true,
			Doc:      "A CSV file with a row for each duplicate, for a person to decide: keep, reject or different in the column decision. The next run obeys, and keeps these rows.",
			Examples: []string{"./decisions.csv"},
		},
	}
}

func newTells(c pipeline.Config, files pipeline.FS) (t tells, err error) {
	for i, path := range c.Strings("groups") {
		f, err := newFile(path)
		if err == nil {
			f.format, err = groups.FormatOf(path)
		}
		if err == nil && slices.ContainsFunc(t.groups, func(o file) bool { return o.format == f.format }) {
			err = fmt.Errorf("there is a file that ends in %s already: name one, or one of each kind", f.format)
		}
		if err != nil {
			return t, c.ElementErrorf("groups", i, "%w", err)
		}
		t.groups = append(t.groups, f)
	}
	if c.IsSet("pairs") {
		f, err := newFile(c.String("pairs"))
		if err == nil {
			f.format, err = groups.FormatOf(f.path)
		}
		if err != nil {
			return t, c.Errorf("pairs", 0, "%w", err)
		}
		t.pairs = &f
	}
	if c.IsSet("decisions") {
		f, err := newFile(c.String("decisions"))
		if err == nil {
			err = f.resolve()
		}
		if err == nil {
			_, err = decisions.Read(files, f.path)
		}
		if err != nil {
			return t, c.Errorf("decisions", 0, "%w", err)
		}
		t.decisions = &f
	}
	return t, nil
}

func newFile(path string) (file, error) {
	clean := filepath.Clean(path)
	f := file{path: clean}
	folder, name := filepath.Split(clean)
	f.folder, f.name = filepath.Clean(folder), name
	if path == "" {
		return f, errors.New("name a file")
	}
	return f, fsys.CheckName(f.name)
}

// resolve has the file written where symbolic links lead, so that they stay.
func (f *file) resolve() error {
	real, err := decisions.Resolve(f.path)
	if err != nil {
		return err
	}
	folder, name := filepath.Split(real)
	f.folder, f.name = filepath.Clean(folder), name
	return nil
}

func (t tells) writes() (trees []pipeline.OutputTree) {
	for _, f := range t.all() {
		trees = append(trees, pipeline.OutputTree{Root: f.folder, Template: f.name, File: true})
	}
	return trees
}

func (t tells) all() []file {
	all := slices.Clone(t.groups)
	for _, f := range []*file{t.pairs, t.decisions} {
		if f != nil {
			all = append(all, *f)
		}
	}
	return all
}

// read reads what a person has decided by now.
func (t tells) read(files pipeline.FS) (*decisions.File, error) {
	if t.decisions == nil {
		return &decisions.File{}, nil
	}
	return decisions.Read(files, t.decisions.path)
}

// different tells which pairs a person has called so.
func (t *table) different(hand *decisions.File) func(i, k uint32) bool {
	any := hand.Any()
	return func(i, k uint32) bool { return any && hand.Different(t.id(int(i)), t.id(int(k))) }
}

// publish writes down what was decided. Nobody looks in a dry run.
func (s *Stage) publish(ctx context.Context, held pipeline.HeldItems, d *decider, v *verdicts, order []uint32, fixed int) (err error) {
	if !s.open {
		return nil
	}
	var outputs []pipeline.Output
	add := func(f file, encode func(context.Context, io.Writer) error) {
		outputs = append(outputs, pipeline.Output{Root: f.folder, File: f.name, Encode: encode})
	}
	if len(s.tells.groups) > 0 {
		g, err := s.groups(ctx, held, d.table, v)
		if err != nil {
			return err
		}
		defer func() {
			if n := g.Earlier(); err == nil && n > 0 {
				s.said += fmt.Sprintf("; groups tell of %d more that earlier runs %s", n, verb(s.act.Action))
			}
		}()
		defer func() { err = errors.Join(err, g.Close()) }()
		for _, f := range s.tells.groups {
			write := g.WriteJSONL
			if f.format == groups.Parquet {
				write = g.WriteParquet
			}
			add(f, write)
		}
	}
	if f := s.tells.pairs; f != nil {
		add(*f, func(ctx context.Context, w io.Writer) error {
			return s.pairs(ctx, w, f.format, d, order, fixed)
		})
	}
	if len(outputs) > 0 {
		lease, err := s.env.Lease(ctx, groups.Memory+2*groups.ParquetMemory)
		if err != nil {
			return fmt.Errorf("writing groups: %w", err)
		}
		defer lease.Release()
		if err := s.env.Publish(ctx, outputs); err != nil {
			return err
		}
	}
	return s.writeDecisions(ctx, d.table, v)
}

func (s *Stage) measures() (all []groups.Measure) {
	for _, st := range s.by {
		all = append(all, groups.Measure{Step: st.name, Similarity: st.measure == cosine, Whole: st.measure == equality || st.measure == differing})
	}
	return all
}

// groups collects what there is to say of groups.
func (s *Stage) groups(ctx context.Context, held pipeline.HeldItems, t *table, v *verdicts) (*groups.Writer, error) {
	scratch, err := s.env.Scratch()
	if err != nil {
		return nil, err
	}
	g := groups.New(scratch, "dedup-"+s.env.StageID+"-groups", s.measures())
	var i uint32
	var r *recording
	if s.acts() && s.act.takesAway() {
		r = &recording{}
	}
	fail := func(err error) (*groups.Writer, error) { return nil, errors.Join(err, g.Close()) }
	for it, err := range held {
		if err != nil {
			return fail(err)
		}
		if v.keeper[i] == i && t.class(i) != gone {
			err = g.AddKeeper(itemOf(it), "")
		} else {
			err = g.AddMember(s.member(it, i, t, v))
		}
		if err != nil {
			return fail(err)
		}
		if r != nil {
			r.note(it)
		}
		i++
	}
	for at := t.items; at < t.len(); at++ {
		size := t.sizes[at-t.items]
		if err := g.AddKeeper(groups.Item{ID: t.id(at), Width: int(size[0]), Height: int(size[1])}, t.folder(uint32(at))); err != nil {
			return fail(err)
		}
	}
	if r != nil {
		if err := s.addEarlier(ctx, g, r, t); err != nil {
			return fail(err)
		}
	}
	return g, nil
}

func itemOf(it *pipeline.Item) groups.Item {
	size := it.Size()
	return groups.Item{ID: it.ID(), Source: pipeline.EscapeID(it.Source().Name), Width: size.X, Height: size.Y}
}

// member is what there is to say of item i, which was rejected.
func (s *Stage) member(it *pipeline.Item, i uint32, t *table, v *verdicts) groups.Member {
	if t.class(i) == gone {
		m := groups.Member{Item: itemOf(it), Decided: true, Rule: "decisions", Value: math.NaN(), KeeperValue: math.NaN()}
		for range s.by {
			m.Values = append(m.Values, math.NaN())
		}
		return m
	}
	e := s.explain(t, v, int(i))
	return groups.Member{
		Item: itemOf(it), Keeper: e.keeper, KeeperIndex: e.folder, By: e.by, Values: v.of(int(i)),
		Rule: e.rule, Value: e.value, KeeperValue: e.keeperValue,
	}
}

// mostWritten is how many pairs a file of them has at most. It is a variable for tests.
var mostWritten int64 = 100_000_000

// tellEvery is after how many pairs it is said that there are many.
const tellEvery = 10_000_000

// pairs writes all pairs that are within the thresholds.
func (s *Stage) pairs(ctx context.Context, w io.Writer, format groups.Format, d *decider, order []uint32, fixed int) error {
	h := groups.Header{Items: int64(d.items)}
	for _, i := range order {
		if int(i) >= d.items {
			h.Entries++
		}
	}
	for i, m := range s.measures() {
		h.Steps = append(h.Steps, groups.Step{Measure: m, Threshold: s.by[i].threshold()})
	}
	for _, c := range s.clauses {
		h.Clauses = append(h.Clauses, c)
	}
	out, err := groups.NewPairs(w, format, h)
	if err != nil {
		return err
	}
	s.env.Log.Info(fmt.Sprintf("looking for all pairs of %d items that are within the thresholds, which takes longer than the nearest ones", len(order)))
	values := make([]float64, len(s.by))
	n := int64(0)
	err = d.survey(ctx, order, fixed, every, func(int) bool { return true }, func(clause int, i uint32, m match) error {
		switch n++; {
		case n > mostWritten:
			return fmt.Errorf("more than %d pairs are within the thresholds: make these stricter, confirm what the widest step proposes by another one, or leave pairs out", mostWritten)
		case n%tellEvery == 0:
			s.env.Log.Warn(fmt.Sprintf("%d pairs are within the thresholds so far, and at most %d can be written", n, mostWritten))
		}
		if err := d.measureAll(ctx, s.clauses[clause], i, m, values); err != nil {
			return err
		}
		k, ranks := m.item, d.columns[0].ranks
		return out.Add(groups.Pair{
			A: d.id(int(k)), B: d.id(int(i)), RankA: ranks[k], RankB: ranks[i],
			FixedA: d.class(k).fixed(), FixedB: d.class(i).fixed(), Clause: clause, Values: values,
		})
	})
	if err != nil {
		return err
	}
	s.env.Log.Info(fmt.Sprintf("%d pairs are within the thresholds", n))
	return out.Close()
}

// threshold is the step's, as a file of pairs has it.
func (s *step) threshold() float64 {
	switch s.measure {
	case equality:
		return 0
	case differing:
		return float64(s.distance)
	}
	return s.within
}

// writeDecisions writes the file for a person to decide in anew. It is the person's as
// well as the run's, so that it is no output that the engine looks after: what it has read
// stays in it, and it is replaced whole.
func (s *Stage) writeDecisions(ctx context.Context, t *table, v *verdicts) error {
	f := s.tells.decisions
	if f == nil {
		return nil
	}
	err := func() error {
		// As late as possible: a person may have saved it meanwhile.
		hand, err := s.tells.read(s.env.FS)
		if err != nil {
			return err
		}
		root, err := s.env.FS.OpenRoot(s.env.OutputDir(f.folder))
		if err != nil {
			return err
		}
		defer func() { _ = root.Close() }() // nothing is written through it
		temp := ".forgepipe-" + f.name + ".tmp"
		if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		w, err := root.Create(temp)
		if err != nil {
			return err
		}
		err = hand.Write(w, s.decisionRows(ctx, t, v))
		if err == nil {
			err = w.Sync()
		}
		if err = errors.Join(err, w.Close()); err == nil {
			err = root.Rename(temp, f.name)
		}
		if err != nil {
			return errors.Join(err, root.Remove(temp))
		}
		return nil
	}()
	if err != nil {
		return fmt.Errorf("writing %s: %w", f.path, err)
	}
	return nil
}

// decisionRows are the duplicates that the run found, in the order of their IDs.
func (s *Stage) decisionRows(ctx context.Context, t *table, v *verdicts) iter.Seq2[decisions.Row, error] {
	return func(yield func(decisions.Row, error) bool) {
		for i, k := range v.keeper {
			if err := ctx.Err(); err != nil {
				yield(decisions.Row{}, err)
				return
			}
			if int(k) == i {
				continue
			}
			e := s.explain(t, v, i)
			value := v.of(i)[s.clauses[v.by[i]][0]]
			if !yield(decisions.Row{
				Item: t.id(i), Keeper: e.keeper, By: e.by, Rule: e.rule,
				Distance: strconv.FormatFloat(value, 'g', 6, 64),
			}, nil) {
				return
			}
		}
	}
}
