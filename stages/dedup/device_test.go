package dedup_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/model/nearest"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup"
	"github.com/forgepipe/forgepipe/stages/embed"
	"github.com/forgepipe/forgepipe/stages/infer"
)

// heavy is a perceiver with weights of 4 MiB, which must be on the device.
func heavy(t testing.TB) string {
	t.Helper()
	const side, more = 3 * 32 * 32, 342
	g := onnx.NewGraph("heavy")
	flat := g.Flatten(g.Mul(g.Input("input", onnx.Float32, g.Dim("batch"), 3, 32, 32), g.Scalar(onnx.Float32, 1./32)), 1)
	rnd := rand.New(rand.NewPCG(1, 2))
	weights := make([]float32, side*more)
	for i := range weights {
		weights[i] = (rnd.Float32() - 0.5) / 16
	}
	g.Output("output", g.MatMul(flat, g.Float32s("weights", weights, side, more)))
	path := filepath.Join(t.TempDir(), "heavy.onnx")
	if err := g.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// onCards loads a pipeline of a dedup where there are simulated cards of these sizes.
func onCards(t *testing.T, log *bytes.Buffer, by, more string, cards ...int64) (*pipeline.Pipeline, error) {
	t.Helper()
	return besideCards(t, log, "  - dedup: {prefer: [], by: "+by+"}\n"+more, cards...)
}

// besideCards does so of a whole chain.
func besideCards(t *testing.T, log *bytes.Buffer, stages string, cards ...int64) (*pipeline.Pipeline, error) {
	t.Helper()
	src, _ := tinted(24)
	o := pipeline.Options{Registry: registry(src, embed.Info(), infer.Info()), Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for i, total := range cards {
		card, err := sim.New(sim.Config{Name: fmt.Sprintf("sim:%d", i), Total: total})
		if err != nil {
			t.Fatal(err)
		}
		o.Devices = append(o.Devices, card)
	}
	return pipeline.Load(t.Context(), "p.yaml", []byte("source: {made: {}}\nstages:\n"+stages), o)
}

// confirming is LPIPS that is asked about what another method proposes.
func confirming(net string, within float64) string {
	return fmt.Sprintf("[{phash: {max_distance: 31}}, {lpips: {model: %s, size: 32, max_distance: %g, confirm: true}}]", net, within)
}

// used are the devices of a stage in the plan.
func used(t *testing.T, p *pipeline.Pipeline, id string) []pipeline.Device {
	t.Helper()
	plan, err := p.Plan(pipeline.RunOptions{NoStore: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, phase := range plan.Phases {
		for _, s := range phase {
			if s.ID == id {
				return s.Devices
			}
		}
	}
	t.Fatalf("no stage %s in %v", id, plan.Phases)
	return nil
}

// Of several GPUs it is the first that has room.
func TestFirstCardWithRoom(t *testing.T) {
	const small, large = 4 << 20, 256 << 20
	by := confirming(heavy(t), 0.02)
	for name, tt := range map[string]struct {
		more  string
		cards []int64
		want  pipeline.Device
	}{
		"the second":         {"", []int64{small, large}, "sim:1"},
		"the second of GPUs": {"    device: gpu\n", []int64{small, large, large}, "sim:1"},
		"the first":          {"", []int64{large, small}, "sim:0"},
	} {
		p, err := onCards(t, &bytes.Buffer{}, by, tt.more, tt.cards...)
		if err != nil {
			t.Fatal(err)
		}
		if got := used(t, p, "dedup"); !slices.Equal(got, []pipeline.Device{tt.want}) {
			t.Errorf("%s: it is placed on %v, want %s", name, got, tt.want)
		}
	}
}

// On a GPU LPIPS finds what it finds on the CPU; what it has of the GPU is leased, and given
// back.
func TestPerceivedOnACard(t *testing.T) {
	const within, card = 0.02, 256 << 20
	bounded, free := perceiver(t, true), perceiver(t, false)
	for name, tt := range map[string]struct {
		by, more string
		cards    []int64
		want     []pipeline.Device
	}{
		"confirms":           {by: confirming(free, within), cards: []int64{card}, want: []pipeline.Device{"sim:0"}},
		"proposes":           {by: fmt.Sprintf("{lpips: {model: %s, size: 32, max_distance: %g}}", bounded, within), cards: []int64{card}, want: []pipeline.Device{"sim:0"}},
		"a certain one":      {by: confirming(free, within), more: "    device: gpu:1\n", cards: []int64{card, card}, want: []pipeline.Device{"sim:1"}},
		"first of several":   {by: confirming(free, within), cards: []int64{card, card}, want: []pipeline.Device{"sim:0"}},
		"any of several":     {by: confirming(free, within), more: "    device: gpu\n", cards: []int64{card, card}, want: []pipeline.Device{"sim:0"}},
		"the host is wanted": {by: confirming(free, within), more: "    device: host\n", cards: []int64{card}, want: []pipeline.Device{pipeline.Host}},
		"there is none":      {by: confirming(free, within), more: "    device: auto\n", want: []pipeline.Device{pipeline.Host}},
	} {
		t.Run(name, func(t *testing.T) {
			found := func(more string, cards ...int64) (files string, p *pipeline.Pipeline, s *pipeline.Summary) {
				dir := t.TempDir()
				by := fmt.Sprintf("%s, groups: %s, pairs: %s", tt.by, filepath.Join(dir, "groups.jsonl"), filepath.Join(dir, "pairs.jsonl"))
				p, err := onCards(t, &bytes.Buffer{}, by, more, cards...)
				if err != nil {
					t.Fatal(err)
				}
				said, s := decided(t, p)
				if len(said) < 5 {
					t.Fatalf("%d were rejected: the test sees little", len(said))
				}
				for _, name := range []string{"groups.jsonl", "pairs.jsonl"} {
					data, err := os.ReadFile(filepath.Join(dir, name))
					if err != nil {
						t.Fatal(err)
					}
					files += string(data)
				}
				return files, p, s
			}
			want, _, _ := found("    device: host\n")
			got, p, s := found(tt.more, tt.cards...)
			if got != want {
				t.Errorf("on the card:\n%s\non the host:\n%s", got, want)
			}
			if devices := used(t, p, "dedup"); !slices.Equal(devices, tt.want) {
				t.Errorf("it is placed on %v, want %v", devices, tt.want)
			}
			for _, d := range s.Devices[1:] {
				if d.Peak == 0 || d.Leased != 0 {
					t.Errorf("of %s %d bytes were leased, and %d are", d.Device, d.Peak, d.Leased)
				}
			}
		})
	}
}

// Where the CPU may do it, it does what has no room on the card, and the log says so;
// where the card is demanded, the plan refuses it.
func TestPerceivedOnACardThatIsTooSmall(t *testing.T) {
	const small = 4 << 20 // of which a part stays free
	net := heavy(t)
	var log bytes.Buffer
	p, err := onCards(t, &log, confirming(net, 0.02), "", small)
	if err != nil {
		t.Fatal(err)
	}
	got, s := decided(t, p)
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), `msg="the network cannot be loaded on the device: it runs on the CPU"`) {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
	if d := s.Devices[1]; d.Device != "sim:0" || d.Leased != 0 {
		t.Errorf("the devices end with %+v", s.Devices)
	}
	p, err = onCards(t, &log, confirming(net, 0.02), "    device: host\n", small)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := decided(t, p); len(want) < 5 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rejected %v, want %v", got, want)
	}
	p, err = onCards(t, &log, confirming(net, 0.02), "    device: gpu:0\n", small)
	if err != nil {
		t.Fatal(err)
	}
	var over *memory.OversizeError
	if _, err := p.Plan(pipeline.RunOptions{NoStore: true}); !errors.As(err, &over) || over.Device != "sim:0" || over.Need < 4<<20 {
		t.Errorf("demanded: %v", err)
	}
}

// What LPIPS takes of a card counts for what is there together: where a stage before has too
// much of it, that is gone when pictures are measured.
func TestPerceivedBesideAnother(t *testing.T) {
	net := heavy(t)
	stages := fmt.Sprintf("  - infer: {model: %s, width: 32, height: 32, vectors: x}\n  - dedup: {prefer: [], by: %s}\n", net, confirming(net, 0.02))
	var want map[string]string
	for _, tt := range []struct {
		total  int64
		phases int
	}{{256 << 20, 1}, {12 << 20, 2}} {
		var log bytes.Buffer
		p, err := besideCards(t, &log, stages, tt.total)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := p.Plan(pipeline.RunOptions{NoStore: true})
		if err != nil || len(plan.Phases) != tt.phases {
			t.Errorf("on %d bytes: %v, %v", tt.total, plan.Phases, err)
		}
		cards, err := p.PlannedDevices(t.Context(), plan)
		if err != nil || len(cards) != 1 || len(cards[0].Tasks) != 2 {
			t.Fatalf("planned are %+v, %v", cards, err)
		}
		if task := cards[0].Tasks[1]; task.Name != "stage dedup" || task.Phase != tt.phases-1 || task.Resident != 0 || task.Work < 4<<20+1<<19 {
			t.Errorf("planned is %+v: the weights and a run", task)
		}
		said, s := decided(t, p)
		if want == nil {
			want = said
		}
		if len(said) < 5 || fmt.Sprint(said) != fmt.Sprint(want) {
			t.Errorf("rejected %v, want %v", said, want)
		}
		if d := s.Devices[1]; d.Peak < 4<<20 || d.Leased != 0 || strings.Contains(log.String(), "level=WARN") {
			t.Errorf("on %d bytes: %+v\n%s", tt.total, d, log.String())
		}
	}
}

// A dedup by hashes computes on the host, and a device is refused as it is by all
// stages that do; of what an entry stands for, the parts that have networks get it.
func TestDeviceOfTheEntry(t *testing.T) {
	const card = 256 << 20
	bounded := perceiver(t, true)
	net := onnx.NewGraph("means")
	net.Output("output", net.Flatten(net.GlobalAveragePool(net.Input("input", onnx.Float32, net.Dim("batch"), 3, 224, 224)), 1))
	means := filepath.Join(t.TempDir(), "means.onnx")
	if err := net.WriteFile(means); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		by, more string
		cards    []int64
		want     map[string]pipeline.Device
		err      string
	}{
		"no network":       {by: "sha256", more: "    device: gpu:0\n", cards: []int64{card}, err: "it computes on the host only, and not on gpu:0: leave device out"},
		"no such card":     {by: confirming(bounded, 0.02), more: "    device: gpu:1\n", cards: []int64{card}, err: "no such device as gpu:1: there are sim:0"},
		"vectors":          {by: fmt.Sprintf("{clip: {model: %s}}", means), more: "    device: gpu:0\n", cards: []int64{card}, want: map[string]pipeline.Device{"dedup.clip": "sim:0", "dedup": "sim:0"}},
		"own vectors":      {by: "{vector: {name: v, min_similarity: 0.9}}", more: "    device: gpu:1\n", cards: []int64{card, card}, want: map[string]pipeline.Device{"dedup": "sim:1"}},
		"no such, vectors": {by: "{vector: {name: v, min_similarity: 0.9}}", more: "    device: gpu:1\n", cards: []int64{card}, err: "comparing by vectors: "},
		"confirming":       {by: "[phash, {vector: {name: v, min_similarity: 0.9, confirm: true}}]", more: "    device: gpu:0\n", cards: []int64{card}, err: "it computes on the host only, and not on gpu:0: leave device out"},
		"vectors, host":    {by: "{vector: {name: v, min_similarity: 0.9}}", more: "    device: host\n", cards: []int64{card}, want: map[string]pipeline.Device{"dedup": pipeline.Host}},
		"vectors, alone":   {by: "{vector: {name: v, min_similarity: 0.9}}", want: map[string]pipeline.Device{"dedup": pipeline.Host}},
		"vectors, and all": {by: fmt.Sprintf("[{clip: {model: %s}}, {lpips: {model: %s, size: 32}}]", means, bounded), more: "    device: gpu:1\n", cards: []int64{card, card}, want: map[string]pipeline.Device{"dedup.clip": "sim:1", "dedup.lpips": "sim:1", "dedup": "sim:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			stages := fmt.Sprintf("  - embed: {model: %s, output: pooled, name: v}\n    device: host\n  - dedup: {prefer: [], by: %s}\n%s", bounded, tt.by, tt.more)
			p, err := besideCards(t, &bytes.Buffer{}, stages, tt.cards...)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("the error is %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for id, want := range tt.want {
				if got := used(t, p, id); !slices.Equal(got, []pipeline.Device{want}) {
					t.Errorf("%s is placed on %v, want %s", id, got, want)
				}
			}
		})
	}
}

// vectorRoom is what the search among the vectors of perceiver takes of a card.
var vectorRoom = nearest.DeviceRoom(3)

// vectored is a chain of pictures with vectors that are made on the host, so that nothing else
// has of a card.
func vectored(net, by, more string) string {
	text := ""
	for _, name := range []string{"v", "w"} {
		text += fmt.Sprintf("  - embed: {model: %s, output: pooled, name: %s, width: 32, height: 32}\n    device: host\n", net, name)
	}
	return text + "  - dedup: {prefer: [], by: " + by + "}\n" + more
}

// holding is the least card of which so many bytes can be leased.
func holding(bytes int64) (total int64) {
	for total = bytes; total-memory.DeviceHeadroom(total) < bytes; total += 1 << 16 {
	}
	return total
}

// On a card the search among vectors finds what it finds on the CPU; what it has of the card
// is leased, and given back. Few vectors do not go there, nor do those for which there is no
// room beside LPIPS.
func TestVectorsOnACard(t *testing.T) {
	const byVectors, confirmed = "{vector: {name: v, min_similarity: 0.999}}", "[{vector: {name: v, min_similarity: 0.99}}, {lpips: {model: %s, size: 32, max_distance: 0.02, confirm: true}}]"
	net, means := heavy(t), perceiver(t, true)
	for name, tt := range map[string]struct {
		by, more string
		least    int64 // vectors that go to a card
		card     int64
		searches bool   // on it
		warning  string // in the log
	}{
		"vectors":                        {by: byVectors, least: 24, card: holding(vectorRoom), searches: true},
		"confirmed":                      {by: "[{vector: {name: v, min_similarity: 0.999}}, {vector: {name: w, min_similarity: 0.9, confirm: true}}]", least: 24, card: holding(vectorRoom), searches: true},
		"demanded":                       {by: byVectors, least: 24, more: "    device: gpu:0\n", card: holding(vectorRoom), searches: true},
		"few":                            {by: byVectors, least: 25, card: holding(vectorRoom)},
		"few, demanded, and no room":     {by: byVectors, least: 25, more: "    device: gpu:0\n", card: 64 << 20},
		"no room":                        {by: byVectors, least: 24, card: holding(vectorRoom) - 1<<20, warning: "vectors are compared on the CPU, and not on the device: there is no room"},
		"no room, auto":                  {by: byVectors, least: 24, more: "    device: auto\n", card: 64 << 20, warning: "at most 60 MiB can ever be had"},
		"no room, demanded":              {by: byVectors, least: 24, more: "    device: gpu:0\n", card: 64 << 20, warning: "at most 60 MiB can ever be had"},
		"beside LPIPS":                   {by: fmt.Sprintf(confirmed, net), least: 24, card: holding(vectorRoom + 6<<20), searches: true},
		"no room beside LPIPS":           {by: fmt.Sprintf(confirmed, net), least: 24, card: holding(vectorRoom) + 1<<20, warning: "vectors are compared on the CPU, and not on the device: there is no room"},
		"no room beside LPIPS, demanded": {by: fmt.Sprintf(confirmed, net), least: 24, more: "    device: gpu\n", card: holding(vectorRoom) + 1<<20, warning: "vectors are compared on the CPU, and not on the device: there is no room"},
	} {
		t.Run(name, func(t *testing.T) {
			defer dedup.SetLeastOnCard(tt.least)()
			p, err := besideCards(t, &bytes.Buffer{}, vectored(means, tt.by, "    device: host\n"), tt.card)
			if err != nil {
				t.Fatal(err)
			}
			want, _ := decided(t, p)
			var log bytes.Buffer
			if p, err = besideCards(t, &log, vectored(means, tt.by, tt.more), tt.card); err != nil {
				t.Fatal(err)
			}
			if devices := used(t, p, "dedup"); !slices.Equal(devices, []pipeline.Device{"sim:0"}) {
				t.Errorf("it is placed on %v", devices)
			}
			got, s := decided(t, p)
			if len(want) < 5 || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("rejected %v, want %v", got, want)
			}
			host, card := s.Devices[0], s.Devices[1]
			if card.Peak >= vectorRoom != tt.searches || card.Leased != 0 {
				t.Errorf("of the card were leased %d bytes at most, and are %d", card.Peak, card.Leased)
			}
			if host.Peak >= vectorRoom != (tt.least == 24) { // a simulated card is the host's memory, too
				t.Errorf("of the host were leased %d bytes at most", host.Peak)
			}
			sessions := 0
			if tt.searches {
				sessions = 1
			}
			if n := strings.Count(log.String(), "device=true"); n != sessions {
				t.Errorf("%d searches are on the card, want %d\n%s", n, sessions, log.String())
			}
			warnings := strings.Count(log.String(), "level=WARN")
			if tt.warning == "" && warnings > 0 || tt.warning != "" && (warnings != 1 || !strings.Contains(log.String(), tt.warning)) {
				t.Errorf("said is %q, want %q", log.String(), tt.warning)
			}
		})
	}
}

// The plan counts what the search takes of a card, and refuses none for want of room for it.
func TestVectorsOnACardArePlanned(t *testing.T) {
	net := perceiver(t, true)
	for by, want := range map[string]int64{
		"{vector: {name: v, min_similarity: 0.999}}":                                                          vectorRoom,
		"[{vector: {name: v, min_similarity: 0.9}}, {vector: {name: w, min_similarity: 1}}]":                  2 * vectorRoom,
		"[{vector: {name: v, min_similarity: 0.9}}, {vector: {name: w, min_similarity: 0.9, confirm: true}}]": vectorRoom,
	} {
		p, err := besideCards(t, &bytes.Buffer{}, vectored(net, by, "    device: gpu\n"), 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := p.Plan(pipeline.RunOptions{NoStore: true})
		if err != nil {
			t.Fatal(err)
		}
		cards, err := p.PlannedDevices(t.Context(), plan)
		if err != nil || len(cards) != 1 || len(cards[0].Tasks) != 1 || cards[0].Tasks[0].Work != want || cards[0].Tasks[0].Resident != 0 {
			t.Errorf("planned are %+v, %v, want work of %d bytes", cards, err, want)
		}
	}
}
