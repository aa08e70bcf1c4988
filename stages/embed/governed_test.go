package embed_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// governedRun embeds pictures on simulated cards.
type governedRun struct {
	cards      []sim.Config
	memory     string // of the pipeline, YAML
	strategies memory.Strategies
	embed      string // options of it
	device     string // empty: gpu
	cache      string // folder
	pictures   int

	dir     string // of the state
	events  []pipeline.Event
	sum     *pipeline.Summary
	vectors map[string]int // how often each came
}

func (g *governedRun) run(t *testing.T) {
	t.Helper()
	in := noisePictures(t, g.pictures, 24, 24)
	o := pipeline.Options{Registry: standard.Registry(), Strategies: g.strategies}
	for i, c := range g.cards {
		c.Name = fmt.Sprintf("sim:%d", i)
		card, err := sim.New(c)
		if err != nil {
			t.Fatal(err)
		}
		o.Devices = append(o.Devices, card)
	}
	g.vectors = map[string]int{}
	var mu sync.Mutex
	o.Registry = o.Registry.With(pipeline.Info{Name: "see", Short: "Tests.", New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
		return pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
			mu.Lock()
			defer mu.Unlock()
			g.vectors[it.ID()]++
			return nil
		}), nil
	}})
	device := g.device
	if device == "" {
		device = "gpu"
	}
	yaml := fmt.Sprintf("%ssource: {images: {path: %s}}\nstages:\n  - embed: {model: %s, width: 24, height: 24%s}\n    device: %s\n  - see: {}\n",
		g.memory, in, saved(t, "hog.onnx", testnet.Hog(hogItem)), g.embed, device)
	p, err := pipeline.Load(t.Context(), "p.yaml", []byte(yaml), o)
	if err != nil {
		t.Fatal(err)
	}
	if g.dir == "" {
		g.dir = t.TempDir()
	}
	g.events = nil
	if g.sum, err = p.Run(t.Context(), pipeline.RunOptions{StateDir: g.dir, CacheDir: g.cache, OnEvent: func(e pipeline.Event) {
		mu.Lock()
		defer mu.Unlock()
		g.events = append(g.events, e)
	}}); err != nil {
		t.Fatal(err)
	}
	if len(g.vectors) != g.pictures || g.sum.Out != int64(g.pictures) {
		t.Errorf("%d vectors of %d pictures, %d out", len(g.vectors), g.pictures, g.sum.Out)
	}
	for id, n := range g.vectors {
		if n != 1 {
			t.Errorf("%s came %d times", id, n)
		}
	}
}

// decided are the messages of the governor.
func (g *governedRun) decided() (all []string) {
	for _, e := range g.events {
		if e.Kind == pipeline.EventGoverned {
			all = append(all, e.Message)
		}
	}
	return all
}

// What the governor decides are events, is kept in the run store with the figures that
// it knew, and comes to an account at the end.
func TestDecisionsAreKept(t *testing.T) {
	g := governedRun{cards: []sim.Config{{Total: total}}, pictures: 60}
	g.run(t)
	told := g.decided()
	if len(told) == 0 || !strings.Contains(told[0], "hog.onnx on sim:0") {
		t.Fatalf("the governor says %q", told)
	}
	s, err := runstore.OpenStill(t.Context(), g.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var kept []string
	if err := s.LastDecided(t.Context(), func(d runstore.Decided) error {
		var row struct {
			Rule, Text string
			Budget     int64
			To         int
		}
		if err := json.Unmarshal(d.Data, &row); err != nil {
			return err
		}
		kept = append(kept, row.Text)
		if row.Rule == "workers" { // of a stage, which has no budget
			return nil
		}
		if row.Rule == "" || row.Budget <= 0 || row.Budget > total || row.To < 1 || d.Time.IsZero() {
			t.Errorf("kept is %s", d.Data)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(kept) != fmt.Sprint(told) {
		t.Errorf("kept are\n%q, told were\n%q", kept, told)
	}
	if len(g.sum.Governed) != 1 || g.sum.Governed[0].Items != 60 || g.sum.Governed[0].OutOfMemory != 0 {
		t.Errorf("the account is %+v", g.sum.Governed)
	}
}

// The next run begins with what one before has learned, also with other pictures.
func TestTheNextRunKnows(t *testing.T) {
	cache := t.TempDir()
	first := governedRun{cards: []sim.Config{{Total: total}}, pictures: 60, cache: cache}
	first.run(t)
	if all := strings.Join(first.decided(), "\n"); !strings.Contains(all, "begins with 1 item at once: to learn") {
		t.Errorf("the first run decides:\n%s", all)
	}
	second := governedRun{cards: []sim.Config{{Total: total}}, pictures: 61, cache: cache}
	second.run(t)
	if all := strings.Join(second.decided(), "\n"); strings.Contains(all, "begins with 1 item at once: to learn") {
		t.Errorf("the second run learns again:\n%s", all)
	}
	other := governedRun{cards: []sim.Config{{Total: 2 * total}}, pictures: 20, cache: cache}
	other.run(t)
	if all := strings.Join(other.decided(), "\n"); !strings.Contains(all, "begins with 1 item at once: to learn") {
		t.Errorf("on another card it takes for known:\n%s", all)
	}
	if err := os.WriteFile(filepath.Join(cache, "learned.json"), []byte("[{"), 0o644); err != nil {
		t.Fatal(err)
	}
	damaged := governedRun{cards: []sim.Config{{Total: total}}, pictures: 20, cache: cache}
	damaged.run(t) // and begins anew
}

// three wants three items, always.
type three struct{}

func (three) Next(memory.Situation) memory.Choice {
	return memory.Choice{Batch: 3, Rule: memory.RulePinned}
}
func (three) Ran(memory.Situation, memory.Ran) {}

// A pipeline names a strategy, one of forgepipe's or one of the program's.
func TestStrategies(t *testing.T) {
	own := memory.StandardStrategies()
	own["three"] = func(int) memory.Strategy { return three{} }
	for name, want := range map[string]string{
		"three":   "begins with 3 items",
		"fixed":   "begins with 8 items",
		"halving": "begins with 512 items", // there are never so many
	} {
		t.Run(name, func(t *testing.T) {
			g := governedRun{cards: []sim.Config{{Total: total}}, pictures: 40, strategies: own, memory: "memory: {strategy: " + name + "}\n"}
			g.run(t)
			if told := g.decided(); len(told) == 0 || !strings.Contains(told[0], want) {
				t.Errorf("it says %q, want %q", told, want)
			}
		})
	}
	pinned := governedRun{cards: []sim.Config{{Total: total}}, pictures: 40, embed: ", infer_batch: 5"}
	pinned.run(t)
	if told := pinned.decided(); len(told) != 1 || !strings.Contains(told[0], "begins with 5 items") {
		t.Errorf("pinned to 5: %q", told)
	}
}

// Several cards work together, as fast as each is.
func TestSeveralCards(t *testing.T) {
	g := governedRun{cards: []sim.Config{{Total: total}, {Total: 2 * total, Speed: 0.5}}, pictures: 150}
	g.run(t)
	if len(g.sum.Governed) != 2 || len(g.sum.Devices) != 3 {
		t.Fatalf("accounts %+v, devices %+v", g.sum.Governed, g.sum.Devices)
	}
	for _, a := range g.sum.Governed {
		if a.Items < 15 {
			t.Errorf("%s on %s had %d of 150 items", a.Name, a.Device, a.Items)
		}
	}
	one := governedRun{cards: []sim.Config{{Total: total}, {Total: total}}, pictures: 20, device: "gpu:1"}
	one.run(t)
	if len(one.sum.Governed) != 1 || one.sum.Governed[0].Device != "sim:1" {
		t.Errorf("on gpu:1: %+v", one.sum.Governed)
	}
}
