package main

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

// result collects what a command tells programs: one JSON document on standard
// output, whatever happens, when --json was given.
type result struct {
	json bool
	w    io.Writer

	mu   sync.Mutex
	done bool
	envelope
}

// envelope is the document.
type envelope struct {
	Command    string                 `json:"command"`
	OK         bool                   `json:"ok"`
	Summary    *pipeline.Summary      `json:"summary,omitempty"`
	Sample     *terminal.SampleInfo   `json:"sample,omitempty"`
	Plan       *planJSON              `json:"plan,omitempty"`
	Graph      *pipeline.Graph        `json:"graph,omitempty"`
	Forecast   *forecastJSON          `json:"forecast,omitempty"`
	Verified   *pipeline.VerifyReport `json:"verified,omitempty"`
	History    *historyJSON           `json:"history,omitempty"`
	Trash      *trashJSON             `json:"trash,omitempty"`
	Duplicates *duplicatesJSON        `json:"duplicates,omitempty"`
	Version    *versionJSON           `json:"version,omitempty"`
	Checks     []checkJSON            `json:"checks,omitempty"`
	Registry   *registryJSON          `json:"registry,omitempty"`
	Describe   []pipeline.Description `json:"descriptions,omitempty"`
	Schema     json.RawMessage        `json:"schema,omitempty"`
	Problems   *[]pipeline.Problem    `json:"problems,omitempty"`
	*memoryReport
	Cleaned    *control.Cleaned        `json:"cleaned,omitempty"`
	Run        *control.State          `json:"run,omitempty"`
	Advice     *[]terminal.Tip         `json:"advice,omitempty"`
	Cards      []cardJSON              `json:"cards,omitempty"`
	Goals      []goalJSON              `json:"goals,omitempty"`
	Cases      *[]*pipeline.CaseResult `json:"cases,omitempty"`
	Comparison *comparisonJSON         `json:"comparison,omitempty"`
	Sweep      *sweepJSON              `json:"sweep,omitempty"`
	Models     *[]modelJSON            `json:"models,omitempty"`
	Network    *networkJSON            `json:"network,omitempty"`
	Files      []string                `json:"files,omitempty"` // lint: that were checked; init, man: that were written
	Text       string                  `json:"text,omitempty"`  // what would be on standard output
	Error      *errorJSON              `json:"error"`
}

// memoryReport is what memory info and watch tell.
type memoryReport = control.Report

type errorJSON struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Col     int    `json:"col,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

type forecastJSON struct {
	*pipeline.Forecast
	terminal.Estimate
}

type planJSON struct {
	HostTotal  int64         `json:"host_total"`
	HostSource string        `json:"host_source"`
	HostLimit  int64         `json:"host_limit"`
	HostBudget int64         `json:"host_budget"`
	StateDir   string        `json:"state_dir"`
	Phases     [][]stageJSON `json:"phases"`
}

type stageJSON struct {
	ID       string            `json:"id"`
	Stage    string            `json:"stage"`
	Devices  []pipeline.Device `json:"devices"`
	Workers  int               `json:"workers"`
	Batch    int               `json:"batch"`
	Resident int64             `json:"resident"`
	Work     int64             `json:"work"`
	Output   int64             `json:"output"`
}

// cardJSON is a device beside the host, with what stages are expected to take of it.
type cardJSON struct {
	Device string          `json:"device"`
	Total  int64           `json:"total"`
	Room   int64           `json:"room"` // that networks may have
	Stages []cardStageJSON `json:"stages"`
	// Together is what all stages take at once, and OnePhase how large a card is that
	// has room for that; null: there is none.
	Together int64  `json:"together"`
	OnePhase *int64 `json:"one_phase"`
}

type cardStageJSON struct {
	ID      string `json:"id"`
	Phase   *int   `json:"phase"` // from 1 on; null: the plan was refused
	Weights int64  `json:"weights"`
	Runs    int64  `json:"runs"`
}

func cardsOf(cards []memory.PlannedDevice, planned bool) (all []cardJSON) {
	for _, c := range cards {
		out := cardJSON{Device: c.Name, Total: c.Total, Room: c.Room(), Together: c.Together()}
		if size, ok := c.Size(out.Together); ok {
			out.OnePhase = &size
		}
		for _, t := range c.Tasks {
			stage := cardStageJSON{ID: strings.TrimPrefix(t.Name, "stage "), Weights: t.Resident, Runs: t.Work}
			if phase := t.Phase + 1; planned {
				stage.Phase = &phase
			}
			out.Stages = append(out.Stages, stage)
		}
		all = append(all, out)
	}
	return all
}

func planOf(p *pipeline.Plan) *planJSON {
	out := &planJSON{
		HostTotal: p.HostTotal, HostSource: p.HostSource, HostLimit: p.HostLimit, HostBudget: p.HostBudget,
		StateDir: p.StateDir, Phases: [][]stageJSON{},
	}
	for _, phase := range p.Phases {
		stages := []stageJSON{}
		for _, s := range phase {
			stages = append(stages, stageJSON(s))
		}
		out.Phases = append(out.Phases, stages)
	}
	return out
}

func newResult(w io.Writer, json bool) *result { return &result{w: w, json: json} }

// set changes what will be told.
func (r *result) set(change func(*envelope)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.envelope)
}

// finish writes the document, once.
func (r *result) finish(command string, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.json || r.done {
		return nil
	}
	r.done = true
	return r.write(command, err)
}

// stream writes the document of this moment, of several: each is one line. When
// all ends well, the last of them is the last there is.
func (r *result) stream(command string, change func(*envelope)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.envelope)
	return r.write(command, nil)
}

// streamed says that all documents are written.
func (r *result) streamed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = true
}

// write needs the lock.
func (r *result) write(command string, err error) error {
	f := classify(err)
	r.Command, r.OK = command, f.ok
	if !f.ok {
		r.Error = &errorJSON{Code: f.code, Message: err.Error(), Hint: f.hint}
	}
	var spec *pipeline.SpecError
	if errors.As(err, &spec) && len(spec.Problems) > 0 {
		p := spec.Problems[0]
		r.Error.Message, r.Error.File, r.Error.Line, r.Error.Col = p.Message, p.File, p.Line, p.Col
		r.Problems = &spec.Problems
	}
	enc := json.NewEncoder(r.w)
	enc.SetEscapeHTML(false)
	return enc.Encode(r.envelope)
}
