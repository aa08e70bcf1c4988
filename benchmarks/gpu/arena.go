package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model"
)

const (
	arenaRuns = 1000
	// What memory may grow by in the second half of the runs.
	arenaSlack    = 16 << 20
	residentSlack = 32 << 20
)

// arenaSample is what there is after some runs.
type arenaSample struct {
	runs                       int
	arena, used, own, resident int64
}

// arena runs batches of changing sizes, and looks whether memory stays as it is.
func arena(ctx context.Context, s settings) (body string, held bool, err error) {
	n, sizes := nets(s.brief)[0], []int{1, 3, 16, 8, 64, 5, 32, 2, 48, 64}
	if s.brief {
		sizes = []int{1, 3, 2, 8, 1, 5, 4, 2, 6, 8}
	}
	f, err := s.look(n)
	if err != nil {
		return "", false, err
	}
	session, err := s.place.open(ctx, f, false)
	if err != nil {
		return "", false, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	inputs := map[int]*model.Tensor{}
	for _, size := range sizes {
		inputs[size] = filled(size, n.shape)
	}
	var samples []arenaSample
	covered := 0 // what the arena has grown for
	for i := range arenaRuns {
		size := sizes[i%len(sizes)]
		grows := size > covered
		if _, err := run(ctx, session, inputs[size], model.SessionRun{ShrinkFirst: grows}); err != nil {
			return "", false, fmt.Errorf("run %d, of %d items: %w", i+1, size, err)
		}
		covered = max(covered, size)
		if i%len(sizes) == len(sizes)-1 {
			covered = 0 // so that the next larger one shrinks it again, many times in all
			x := arenaSample{runs: i + 1}
			if x, err = s.sample(session, x); err != nil {
				return "", false, err
			}
			samples = append(samples, x)
		}
	}
	held = true
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs of %s with batches of %v in turn; before each that is larger than all since the last row, the arena gives its free regions back. Used is what the driver says of the whole card, own what it says of this process (- where it does not list it), resident this process's memory on the host.\n\n", arenaRuns, n.name, sizes)
	b.WriteString("| after runs | arena | used | own | resident |\n|---|---|---|---|---|\n")
	for i := 0; i < len(samples); i++ {
		x := samples[i]
		if i > 0 && x.runs%(arenaRuns/10) != 0 {
			continue
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s |\n", x.runs, memory.FormatBytes(x.arena), known(x.used), known(x.own), known(x.resident))
	}
	b.WriteString("\n")
	for _, c := range []struct {
		what  string
		slack int64
		of    func(arenaSample) int64
	}{
		{"arena", arenaSlack, func(x arenaSample) int64 { return x.arena }},
		{"used", arenaSlack, func(x arenaSample) int64 { return x.used }},
		{"resident", residentSlack, func(x arenaSample) int64 { return x.resident }},
	} {
		grew := most(samples[len(samples)/2:], c.of) - most(samples[:len(samples)/2], c.of)
		b.WriteString(verdict(&held, grew <= c.slack, "%s: in the second half at most %s more than in the first: %s", c.what, memory.FormatBytes(c.slack), signed(grew)))
	}
	return b.String(), held, nil
}

func (s settings) sample(session model.Session, x arenaSample) (arenaSample, error) {
	st, err := session.Stats()
	if err != nil {
		return x, err
	}
	r, err := s.place.read()
	if err != nil {
		return x, err
	}
	x.arena, x.used, x.own, x.resident = st.Allocated, r.Used, r.Own, resident()
	return x, nil
}

func most(samples []arenaSample, of func(arenaSample) int64) (bytes int64) {
	for _, x := range samples {
		bytes = max(bytes, of(x))
	}
	return bytes
}

// known is bytes for people; "-" where they are not known.
func known(bytes int64) string {
	if bytes == memory.Unknown {
		return "-"
	}
	return memory.FormatBytes(bytes)
}

// signed is a difference for people.
func signed(bytes int64) string {
	if bytes < 0 {
		return "-" + memory.FormatBytes(-bytes)
	}
	return memory.FormatBytes(bytes)
}
