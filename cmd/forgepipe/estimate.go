package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/pipeline"
)

// estimate says what a run would take on disk and in time, judging by what
// earlier runs of the store did. Where none tells, it says nothing. dry is the
// dry run's summary.
func (a *app) estimate(ctx context.Context, stateDir string, f *pipeline.Forecast, dry *pipeline.Summary) (e terminal.Estimate) {
	if stateDir == "" || dry == nil {
		return e
	}
	s, err := runstore.OpenReadOnly(ctx, stateDir)
	if err != nil {
		return e
	}
	defer func() { _ = s.Close() }() // it was only read
	_, _, data, ok, err := s.LastRun(ctx)
	var last pipeline.Summary
	if err != nil || !ok || json.Unmarshal(data, &last) != nil {
		return e
	}
	w := workOf(f, dry, func(stage string) bool {
		in, ok := a.registry.Stage(stage)
		return ok && in.Pure
	})
	if size, ok := meanSize(ctx, s); ok {
		e.Bytes = w.bytes(&last, size)
	}
	e.Seconds = w.seconds(&last)
	return e
}

// work is what a run would have to do.
type work struct {
	first string // the first stage whose results are remembered
	fresh int64  // items whose result it would have to compute
	later int64  // items that a later stage is the first to compute
	files int64  // files to write for certain
}

func workOf(f *pipeline.Forecast, dry *pipeline.Summary, pure func(stage string) bool) work {
	w := work{later: f.Compute, files: f.Write}
	for _, st := range dry.Stages {
		if pure(st.Stage) {
			w.first, w.fresh = st.ID, min(st.In-st.Cached, f.Compute)
			w.later -= w.fresh
			break
		}
	}
	return w
}

// bytes takes for granted that an item gives as many files as those of the last
// run did, and one that a later stage computes one.
func (w work) bytes(last *pipeline.Summary, size float64) *int64 {
	files := float64(w.later + w.files)
	if w.fresh > 0 {
		st := stageOf(last, w.first)
		if st.In == 0 {
			return nil
		}
		files += float64(w.fresh) * float64(last.Written+last.Reused) / float64(st.In)
	}
	n := int64(files * size)
	return &n
}

// seconds takes an item to last as long as one that the last run computed, and
// anything else as long as a file that it wrote.
func (w work) seconds(last *pipeline.Summary) *float64 {
	var t float64
	if w.fresh > 0 {
		st := stageOf(last, w.first)
		if st.In == st.Cached {
			return nil
		}
		t += last.Seconds / float64(st.In-st.Cached) * float64(w.fresh)
	}
	if n := w.later + w.files; n > 0 {
		if last.Written == 0 {
			return nil
		}
		t += last.Seconds / float64(last.Written) * float64(n)
	}
	return &t
}

func stageOf(sum *pipeline.Summary, id string) pipeline.StageSummary {
	for _, st := range sum.Stages {
		if st.ID == id {
			return st
		}
	}
	return pipeline.StageSummary{}
}

// meanRows bounds the files that the mean size is taken of: a store may have
// millions.
const meanRows = 100_000

var errEnough = errors.New("enough")

func meanSize(ctx context.Context, s *runstore.Store) (mean float64, ok bool) {
	var files, bytes int64
	err := s.Decisions(ctx, func(_ runstore.Source, d runstore.Decision) error {
		if d.Kind != runstore.Written {
			return nil
		}
		files++
		bytes += d.Size
		if files == meanRows {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) || files == 0 {
		return 0, false
	}
	return float64(bytes) / float64(files), true
}
