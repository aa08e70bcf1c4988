package pipeline

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/forgepipe/forgepipe/internal/runstore"
)

// sampler offers a random choice of another source's inputs: those whose names
// hash lowest, so that the choice is the same each time and does not depend on
// the order.
type sampler struct {
	source Source
	n      int
	total  atomic.Int64 // candidates there are
	chosen atomic.Int64 // of them, those that run; 0: not known yet
}

type sampled struct {
	rank uint64
	in   Input
}

// Emit lists everything, then offers the chosen ones in the source's order.
func (s *sampler) Emit(ctx context.Context, emit func(Input) error) error {
	var chosen []sampled // a max-heap would do for huge samples; n is small
	worst := func() int {
		w := 0
		for i := range chosen {
			if chosen[i].rank > chosen[w].rank {
				w = i
			}
		}
		return w
	}
	at := -1
	err := s.source.Emit(ctx, func(in Input) error {
		if in.Ignored != "" {
			return nil
		}
		s.total.Add(1)
		h := fnv.New64a()
		h.Write([]byte(in.Name))
		c := sampled{h.Sum64(), in}
		if len(chosen) < s.n {
			chosen = append(chosen, c)
			at = worst()
			return nil
		}
		if c.rank < chosen[at].rank {
			chosen[at] = c
			at = worst()
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(chosen, func(a, b sampled) int {
		switch {
		case a.in.Name < b.in.Name:
			return -1
		case a.in.Name > b.in.Name:
			return 1
		}
		return 0
	})
	s.chosen.Store(int64(len(chosen)))
	for _, c := range chosen {
		if err := emit(c.in); err != nil {
			return err
		}
	}
	return nil
}

// prepareSample sends the run's outputs and its store into a folder of the
// state directory, where they disturb nothing and can be looked at.
func (r *run) prepareSample() error {
	if r.stateDir == "" {
		return fmt.Errorf("a sample run writes into the state directory: give one")
	}
	dir := filepath.Join(r.stateDir, "sample")
	var err error
	if r.sampleLock, err = runstore.Lock(r.stateDir); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clearing the last sample: %w", err)
	}
	r.sample = &sampler{source: r.pipe.source, n: r.opts.Sample}
	r.stateDir = filepath.Join(dir, stateDirName)
	r.aside = dir
	return nil
}

// SampleOf is the number of inputs that a sample run chose from, and the folder
// with what it made; 0 for other runs.
func (r *Run) SampleOf() (total int64, dir string) {
	if r.r.sample == nil {
		return 0, ""
	}
	return r.r.sample.total.Load(), r.r.aside
}

// OutputDir is where files for an output folder really go: into that folder, or
// in the run of a sample or a case into one of the sample's or the case's. What
// is published is redirected by itself; a stage asks only when it writes paths
// down. It is for the time of a run, from Open on.
func (e Env) OutputDir(root string) string { return e.door.run.redirect(absolute(root)) }

// redirect is where an output folder's files go: in the run of a sample or a
// case, into a folder of the same name in the sample's or the case's.
func (r *run) redirect(root string) string {
	if r.aside == "" {
		return root
	}
	root = absolute(root)
	trees := r.pipe.writtenTrees()
	best, within := "", "" // the tree that root lies in most closely
	for _, tree := range trees {
		rel, err := filepath.Rel(tree, root)
		if err == nil && filepath.IsLocal(rel) && len(tree) > len(best) {
			best, within = tree, rel
		}
	}
	if best == "" {
		best = root
	}
	name := filepath.Base(best)
	if slices.ContainsFunc(trees, func(t string) bool { return t != best && filepath.Base(t) == name }) {
		name = fmt.Sprintf("%s-%d", name, slices.Index(trees, best)+1)
	}
	return filepath.Join(r.aside, name, within)
}

// writtenTrees are the folders that the pipeline's stages write to, in order and
// without repetition.
func (p *Pipeline) writtenTrees() (roots []string) {
	for _, s := range p.steps {
		if w, ok := s.Stage.(Writer); ok {
			for _, t := range w.Writes() {
				if root := absolute(t.Root); !slices.Contains(roots, root) {
					roots = append(roots, root)
				}
			}
		}
	}
	return roots
}
