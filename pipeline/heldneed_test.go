package pipeline_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
)

// sizedEmbedder is an embedder that knows how long its vectors are.
type sizedEmbedder struct{ pipeline.Func }

func (sizedEmbedder) VectorSizes() map[string]int { return map[string]int{"v": 1000} }

// needy is a barrier that knows what it takes for an item.
type needy struct {
	*holder
	env pipeline.Env
}

func (n needy) HeldCost(items int64) pipeline.HeldCost {
	return pipeline.HeldCost{Memory: items << 21, Disk: items * int64(n.env.Vectors["v"])}
}

// needyChain is a pipeline of ten inputs with a barrier, behind those stages.
func needyChain(t *testing.T, o pipeline.Options, before ...string) *pipeline.Pipeline {
	t.Helper()
	r := pipeline.NewRegistry(
		pipeline.Info{
			Name: "embed", Short: "Embeds.",
			Makes: func(pipeline.Config) []pipeline.Made { return []pipeline.Made{{Name: "v", Vector: true, Doc: "it"}} },
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
				return sizedEmbedder{pass}, nil
			},
		},
		pipeline.Info{
			Name: "cut", Short: "Cuts.", Derives: true,
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) { return cut("a", "b"), nil },
		},
		pipeline.Info{
			Name: "gather", Short: "Gathers.",
			New: func(_ context.Context, _ pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
				return needy{&holder{}, e}, nil
			},
		},
	)
	p := pipeline.New("t", o)
	p.HostLimit = pipeline.Amount{Bytes: 128 << 20}
	p.SetSource(listing{10, func(context.Context) (int64, error) { return 10, nil }})
	for _, name := range append(before, "gather") {
		if err := p.Use(t.Context(), r, name, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// A dry run tells what deciding takes.
func TestADryRunForeseesWhatBarriersTake(t *testing.T) {
	foreseen := func(before ...string) []pipeline.HeldNeed {
		state := filepath.Join(t.TempDir(), "there", "not yet")
		run, err := needyChain(t, pipeline.Options{}, before...).Start(t.Context(), pipeline.RunOptions{DryRun: true, StateDir: state})
		if err == nil {
			_, err = run.Wait()
		}
		if err != nil {
			t.Fatal(err)
		}
		held := run.Forecast().Held
		for _, n := range held {
			if n.Folder != filepath.Dir(filepath.Dir(state)) || n.Free == nil || *n.Free <= 0 {
				t.Errorf("the disk of %s has %v", n.Folder, n.Free)
			}
		}
		return held
	}
	plain := foreseen()
	if len(plain) != 1 || plain[0].Stage != "gather" || plain[0].Items != 10 || plain[0].Memory != 20<<20 || plain[0].Limit != 64<<20 || plain[0].Disk < 10*100 || plain[0].Disk > 10*2000 {
		t.Errorf("got %+v", plain)
	}
	// The held items have the vectors, too.
	embedded := foreseen("embed")
	if len(embedded) != 1 || embedded[0].Disk != plain[0].Disk+10*(1000+4*1000) {
		t.Errorf("with vectors got %+v, without %+v", embedded, plain)
	}
	if got := foreseen("embed", "cut"); len(got) != 0 {
		t.Errorf("of an unknown number of items got %+v", got)
	}
}

// A run says early what it will have too little of.
func TestARunForeseesWhatIsShort(t *testing.T) {
	for name, tt := range map[string]struct {
		room, limit int64
		want        []string
	}{
		"nothing":   {1 << 30, 128 << 20, nil},
		"the disk":  {50_000, 128 << 20, []string{"gather will take about ", " on the disk of ", "to decide about 10 items, and that has 48.8 KiB: make room before"}},
		"of memory": {1 << 30, 80 << 20, []string{"gather will take about 20 MiB of memory to decide about 10 items, and the run has 16 MiB for that: raise memory.host.limit"}},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			p := needyChain(t, pipeline.Options{
				FS:     &smallDisk{FS: fsys.OS, room: tt.room, has: map[string]int64{}},
				Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
			}, "embed")
			p.HostLimit = pipeline.Amount{Bytes: tt.limit}
			if _, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true}); err != nil {
				t.Fatal(err)
			}
			if tt.want == nil && log.Len() > 0 {
				t.Errorf("said %s", &log)
			}
			for _, want := range tt.want {
				if !strings.Contains(log.String(), want) {
					t.Errorf("said %q, without %q", &log, want)
				}
			}
		})
	}
}
