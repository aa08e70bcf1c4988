package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/pipeline"
)

// sizedEmbedder is an embedder that knows how long its vectors are.
type sizedEmbedder struct{ pipeline.Func }

func (sizedEmbedder) VectorSizes() map[string]int { return map[string]int{"v": 1000} }

// needy is a barrier that takes so much memory, and for each item as many bytes of the
// scratch folder as its vector has numbers, and 7 of another folder.
type needy struct {
	holder
	env    pipeline.Env
	memory int64
	folder string
}

func (n *needy) HeldCost(items int64) pipeline.HeldCost {
	return pipeline.HeldCost{Memory: n.memory, Scratch: items * int64(n.env.Vectors["v"]), Folders: map[string]int64{n.folder: 7 * items}}
}

func (n *needy) Flush(ctx context.Context, held pipeline.HeldItems, emit func(*pipeline.Item) error) error {
	lease, err := n.env.Lease(ctx, n.memory)
	if err != nil {
		return err
	}
	defer lease.Release()
	return n.holder.Flush(ctx, held, emit)
}

// chain is a pipeline of ten inputs that ends in the barrier.
func (n *needy) chain(t *testing.T, o pipeline.Options, before ...string) *pipeline.Pipeline {
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
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
				return cut("a", "b"), nil
			},
		},
		pipeline.Info{
			Name: "resident", Short: "Takes memory from its beginning to its end.",
			New: func(context.Context, pipeline.Config, pipeline.Env) (pipeline.Stage, error) {
				return &sitting{Func: pass, bytes: 10 << 20}, nil
			},
		},
		pipeline.Info{
			Name: "gather", Short: "Gathers.",
			New: func(_ context.Context, _ pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
				n.env = e
				return n, nil
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

// sitting is a stage that takes memory while its phase lasts.
type sitting struct {
	pipeline.Func
	bytes int64
}

func (r *sitting) Cost(pipeline.Device, []*pipeline.Item) pipeline.Cost {
	return pipeline.Cost{Resident: r.bytes}
}

// A dry run tells what deciding takes.
func TestADryRunForeseesWhatBarriersTake(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "there", "not yet")
	foreseen := func(before ...string) []pipeline.HeldNeed {
		n := &needy{memory: 20 << 20, folder: filepath.Join(dir, "elsewhere")}
		run, err := n.chain(t, pipeline.Options{}, before...).Start(t.Context(), pipeline.RunOptions{DryRun: true, StateDir: state})
		if err == nil {
			_, err = run.Wait()
		}
		if err != nil {
			t.Fatal(err)
		}
		return run.Forecast().Held
	}
	plain := foreseen()
	if len(plain) != 1 || plain[0].Stage != "gather" || plain[0].Items != 10 || plain[0].Memory != 20<<20 || len(plain[0].Disks) != 2 {
		t.Fatalf("got %+v", plain)
	}
	for _, d := range plain[0].Disks {
		if d.Folder != dir || d.Free == nil || *d.Free <= 0 {
			t.Errorf("the disk is %+v, free %v", d, d.Free)
		}
	}
	scratch := plain[0].Disks[0].Bytes
	if scratch < 10*100 || scratch > 10*2000 || plain[0].Disks[1].Bytes != 70 {
		t.Errorf("got %+v", plain[0].Disks)
	}
	// The held items have the vectors, too.
	if got := foreseen("embed"); len(got) != 1 || got[0].Disks[0].Bytes != scratch+10*(1000+4*1000) {
		t.Errorf("with vectors got %+v, without %+v", got, plain)
	}
	if got := foreseen("embed", "cut"); len(got) != 0 {
		t.Errorf("of an unknown number of items got %+v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "there")); err == nil {
		t.Error("the dry run has made folders")
	}
}

// What is said to be there for a barrier is what it can lease.
func TestTheLimitOfABarrierIsWhatItCanLease(t *testing.T) {
	for name, before := range map[string][]string{"alone": nil, "beside a stage that takes memory": {"resident"}} {
		t.Run(name, func(t *testing.T) {
			run, err := (&needy{}).chain(t, pipeline.Options{}, before...).Start(t.Context(), pipeline.RunOptions{DryRun: true, NoStore: true})
			if err == nil {
				_, err = run.Wait()
			}
			if err != nil {
				t.Fatal(err)
			}
			limit := run.Forecast().Held[0].Limit
			try := func(bytes int64) error {
				_, err := (&needy{memory: bytes}).chain(t, pipeline.Options{}, before...).Run(t.Context(), pipeline.RunOptions{NoStore: true})
				return err
			}
			// A few idle pictures are in memory, too, which leave late.
			if err := try(limit - 1<<20); err != nil {
				t.Errorf("%d bytes: %v", limit-1<<20, err)
			}
			if len(before) > 0 {
				return // it waits whether the other stage gives its memory back
			}
			var over *memory.OversizeError
			if err := try(limit + 1); !errors.As(err, &over) {
				t.Errorf("%d bytes: %v", limit+1, err)
			}
		})
	}
}

// A run says early what it will have too little of.
func TestARunForeseesWhatIsShort(t *testing.T) {
	disk := []string{"gather will take about ", " on the disk of ", "to decide about 10 items, and that has 48.8 KiB: make room before"}
	host := []string{"gather will take about 120 MiB of memory to decide about 10 items, and the run has ", " for that: raise memory.host.limit"}
	for name, tt := range map[string]struct {
		room, memory int64
		want         []string
	}{
		"nothing":  {1 << 30, 1 << 20, nil},
		"the disk": {50_000, 1 << 20, disk},
		"memory":   {1 << 30, 120 << 20, host},
		"both":     {50_000, 120 << 20, append(host, disk...)},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			n := &needy{memory: tt.memory}
			p := n.chain(t, pipeline.Options{
				FS:     &smallDisk{FS: fsys.OS, room: tt.room, has: map[string]int64{}},
				Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
			}, "embed")
			if _, err := p.Run(t.Context(), pipeline.RunOptions{NoStore: true}); (err != nil) != (tt.memory > 64<<20) {
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
