package pipeline_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/runstore"
	"github.com/forgepipe/forgepipe/pipeline"
)

func (w workplace) state() string { return filepath.Join(w.out, ".forgepipe") }

func history(t testing.TB, dir string) *pipeline.History {
	t.Helper()
	h, err := pipeline.OpenHistory(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func ends(t testing.TB, h *pipeline.History, q pipeline.EndQuery) (all []pipeline.End) {
	t.Helper()
	if err := h.Ends(t.Context(), q, func(e pipeline.End) error {
		all = append(all, e)
		return nil
	}); err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	return all
}

// looked is a workplace in which every kind of end has happened: three tiles of
// each picture, of which the filter rejects one or two, and a file that is none.
func looked(t *testing.T) (workplace, *pipeline.Summary) {
	w := newWorkplace(t)
	w.picture("a.png", 1)
	w.picture("sub/a.jpg", 2)
	w.picture("sub/b@%.jpg", 3)
	for name, text := range map[string]string{"sub/a.txt": "a caption", "broken.jpg": "no picture"} {
		if err := os.WriteFile(filepath.Join(w.in, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return w, w.must(20, pipeline.RunOptions{Version: "v9"})
}

// The history has the ends that the summary counts.
func TestHistoryOfARun(t *testing.T) {
	w, sum := looked(t)
	h := history(t, w.state())
	run, err := h.LastRun(t.Context())
	if err != nil || run.State != "done" || run.Pipeline != "tiles" || run.Version != "v9" || run.Summary.In != sum.In || time.Since(run.Started) > time.Hour {
		t.Fatalf("last run %+v, %v", run, err)
	}
	n := map[pipeline.EndKind]int64{}
	pictures := int64(0)
	for _, e := range ends(t, h, pipeline.EndQuery{}) {
		n[e.Kind]++
		switch e.Kind {
		case pipeline.EndWritten:
			info, err := os.Stat(e.Path)
			if err != nil || info.Size() != e.Size || e.Doubt {
				t.Errorf("%+v: %v", e, err)
			}
			if e.Part == "" && e.ID != "" {
				pictures++
			}
		case pipeline.EndRejected:
			if e.Stage != "filter" || e.Reason != "laplacian >= 20" || len(e.Values) != 1 || e.Values[0].Value.Float() >= 20 ||
				!strings.HasPrefix(e.String(), e.ID+": rejected by filter: laplacian >= 20 (laplacian = "+e.Values[0].Value.String()+")") {
				t.Errorf("%+v: %s", e, e)
			}
			if with := strings.Join(e.Sidecars, " "); (e.Source == "sub/a.jpg") != (with == ".txt") {
				t.Errorf("%s was rejected with %q", e.ID, with)
			}
			b, err := json.Marshal(e)
			if want := fmt.Sprintf(`"values":{"laplacian":%s}`, e.Values[0].Value); err != nil || !strings.Contains(string(b), want) {
				t.Errorf("as JSON %s, %v; want %s in it", b, err, want)
			}
		case pipeline.EndFailed:
			if e.ID != "broken.jpg" || e.Stage != "source" || e.Cause == "" {
				t.Errorf("%+v", e)
			}
		case pipeline.EndConsumed:
			if e.ID != pipeline.EscapeID(e.Source) {
				t.Errorf("%+v is no source", e)
			}
		default:
			t.Errorf("%+v ended so", e)
		}
	}
	if pictures != sum.Out || n["rejected"] != sum.RejectedTotal() || n["failed"] != sum.Quarantined || n["consumed"] != sum.Consumed {
		t.Errorf("%v with %d pictures; the summary: %d out, %d rejected, %d quarantined, %d consumed", n, pictures, sum.Out, sum.RejectedTotal(), sum.Quarantined, sum.Consumed)
	}
	counts, err := h.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range counts {
		if c.Kind == pipeline.EndRejected && (c.Stage != "filter" || c.Reason != "laplacian >= 20" || c.N != sum.RejectedTotal()) || i > 0 && counts[i-1].N < c.N {
			t.Errorf("count %d is %+v", i, c)
		}
	}
	causes, err := h.Causes(t.Context())
	if err != nil || len(causes) != 1 || causes[0].N != 1 || causes[0].Stage != "source" || !slices.Equal(causes[0].Examples, []string{"broken.jpg"}) {
		t.Errorf("causes %+v, %v", causes, err)
	}
	for _, q := range []pipeline.EndQuery{{Kind: pipeline.EndRejected}, {Stage: "filter"}, {Kind: pipeline.EndRejected, Stage: "filter", Image: "*"}} {
		for _, e := range ends(t, h, q) {
			if e.Kind != pipeline.EndRejected {
				t.Errorf("%+v yields %+v", q, e)
			}
		}
	}
	if got := ends(t, h, pipeline.EndQuery{Kind: pipeline.EndConsumed}); int64(len(got)) != sum.Consumed {
		t.Errorf("%d consumed, want %d", len(got), sum.Consumed)
	}
	if got := ends(t, h, pipeline.EndQuery{Stage: "score"}); len(got) != 0 {
		t.Errorf("score ended %+v", got)
	}
}

// An image is found by whatever somebody has of it.
func TestHistoryFindsAnImage(t *testing.T) {
	w, _ := looked(t)
	h := history(t, w.state())
	var tile pipeline.End
	for _, e := range ends(t, h, pipeline.EndQuery{Image: "sub/b@%.jpg", Kind: pipeline.EndWritten}) {
		tile = e
	}
	if tile.ID == "" || !strings.HasPrefix(tile.ID, "sub/b%40%25.jpg@tile=32,") {
		t.Fatalf("the tile is %+v", tile)
	}
	linked := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(w.out, linked); err != nil {
		t.Fatal(err)
	}
	linkedIn := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(w.in, linkedIn); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(w.in))
	all := []string{"a.png", "broken.jpg", "sub/a.jpg", "sub/b%40%25.jpg"}
	for _, tt := range []struct {
		name, image string
		want        []string // IDs of the sources
		exact       string   // the only ID
	}{
		{"path", "sub/a.jpg", all[2:3], ""},
		{"path with signs", "sub/b@%.jpg", all[3:], ""},
		{"id", "sub/b%40%25.jpg", all[3:], ""},
		{"id of a tile", tile.ID, nil, tile.ID},
		{"file", filepath.Join(w.in, "sub/a.jpg"), all[2:3], ""},
		{"file in the working directory", "in/a.png", all[:1], ""},
		{"the input folder", w.in, all, ""},
		{"the input folder in the working directory", "./in/", all, ""},
		{"the input folder by a link", linkedIn, all, ""},
		{"a folder in it", "in/sub", all[2:], ""},
		{"a folder in it by a link", filepath.Join(linkedIn, "sub"), all[2:], ""},
		{"folder", "sub", all[2:], ""},
		{"folder with a slash", "sub/", all[2:], ""},
		{"pattern", "*.jpg", all[1:2], ""},
		{"pattern below a folder", "sub/?.jpg", all[2:3], ""},
		{"pattern with signs", "sub/?@%*", all[3:], ""},
		{"pattern of two folders", "*b/*.jpg", all[2:], ""},
		{"output", tile.Path, nil, tile.ID},
		{"output by a link", filepath.Join(linked, "sub", filepath.Base(tile.Path)), nil, tile.ID},
		{"output in the working directory", "out/sub/" + filepath.Base(tile.Path), nil, tile.ID},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, e := range ends(t, h, pipeline.EndQuery{Image: tt.image}) {
				source, _, _ := strings.Cut(e.ID, "@")
				if !slices.Contains(got, source) {
					got = append(got, source)
				}
				if tt.exact != "" && e.ID != tt.exact {
					t.Errorf("%+v is of another item", e)
				}
			}
			slices.Sort(got)
			if tt.exact == "" && !slices.Equal(got, tt.want) || len(got) == 0 {
				t.Errorf("finds %q, want %q", got, tt.want)
			}
		})
	}
	if got := ends(t, h, pipeline.EndQuery{Image: filepath.Join(w.out, "manifest.jsonl")}); len(got) != 1 || got[0].Stage != "manifest" || got[0].String() == "" {
		t.Errorf("the manifest's end is %+v", got)
	}
	other := filepath.Join(t.TempDir(), "a.png") // another file of that name
	if err := os.WriteFile(other, []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{
		other, "b.png", "su", "sub/a", "a.png@tile=1,2,3", "in/none.png", "%zz", "none*", "*/", "su?", "s*", "s*.jpg", "s?b?a.jpg", "[as]*", "a[*", `\a*`, filepath.Join(w.out, "none.png"), "\x00lq/a.png", "/", "..",
	} {
		err := h.Ends(t.Context(), pipeline.EndQuery{Image: image}, func(e pipeline.End) error {
			t.Errorf("%q finds %+v", image, e)
			return nil
		})
		if !errors.Is(err, pipeline.ErrUnknownImage) {
			t.Errorf("%q: %v, want that it is unknown", image, err)
		}
	}
	// A file that has changed or is gone is known by those beside it that have not.
	if err := errors.Join(os.RemoveAll("in/sub"), os.WriteFile("in/a.png", []byte("another"), 0o666)); err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{"in/sub/b@%.jpg": "sub/b@%.jpg", filepath.Join(w.in, "a.png"): "a.png", "in/sub": "sub/a.jpg"} {
		if got := ends(t, h, pipeline.EndQuery{Image: image}); len(got) == 0 || got[0].Source != want {
			t.Errorf("%s finds %+v, want %s", image, got, want)
		}
	}
	stop := errors.New("stop")
	if err := h.Ends(t.Context(), pipeline.EndQuery{}, func(pipeline.End) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v, not the error of yield", err)
	}
}

// A run that did not say how it ended runs, or was killed.
func TestHistoryOfARunUnderWay(t *testing.T) {
	dir := t.TempDir()
	if _, err := pipeline.OpenHistory(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a store: %v", err)
	}
	s, err := runstore.Open(t.Context(), dir, runstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h := history(t, dir)
	if r, err := h.LastRun(t.Context()); r != nil || err != nil {
		t.Errorf("before any run: %+v, %v", r, err)
	}
	state := func(want string) {
		t.Helper()
		if r, err := h.LastRun(t.Context()); err != nil || r.State != want || r.Summary != nil {
			t.Errorf("last run %+v, %v; want %s", r, err, want)
		}
	}
	if err := s.Begin(t.Context(), runstore.Run{Spec: "x", Started: time.Now()}); err != nil {
		t.Fatal(err)
	}
	src := runstore.Source{Path: "a.png"}
	if err := s.PutSource(&src); err != nil {
		t.Fatal(err)
	}
	rows := []string{
		`{"Name":"n","Device":"sim:0","Shape":"3x8x8","Rule":"probe","From":0,"To":1,"text":"n on sim:0 begins with 1 item at once: x"}`,
		`{"Name":"n","Device":"sim:0","Shape":"3x8x8","Rule":"memory","From":1,"To":8,"text":"n on sim:0 takes 8 items: as many as there is room for"}`,
		`{"Name":"n","Device":"sim:0","Shape":"3x8x8","Look":true,"text":"n on sim:0 gives back 1 MiB"}`,
		`{"Stage":"embed","Rule":"workers","From":2,"To":3,"text":"embed has 3 workers now, 2 before: y"}`,
	}
	var decided []runstore.Decided
	for _, r := range rows {
		decided = append(decided, runstore.Decided{Time: time.Now(), Data: []byte(r)})
	}
	if err := s.Decide(t.Context(), decided); err != nil {
		t.Fatal(err)
	}
	state("running")
	if got := ends(t, h, pipeline.EndQuery{}); len(got) != 1 || got[0].Kind != pipeline.EndUnfinished || got[0].ID != "a.png" {
		t.Errorf("ends %+v", got)
	}
	if got, err := h.Counts(t.Context()); err != nil || len(got) != 1 || got[0] != (pipeline.EndCount{Kind: pipeline.EndUnfinished, N: 1}) {
		t.Errorf("counts %+v, %v", got, err)
	}
	want := []pipeline.Governed{
		{Network: "n", Device: "sim:0", Shape: "3x8x8", Changes: 3, First: 1, Least: 1, Most: 8, Last: 8, Rule: "memory", Text: "n on sim:0 takes 8 items: as many as there is room for"},
		{Stage: "embed", Changes: 1, First: 2, Least: 2, Most: 3, Last: 3, Rule: "workers", Text: "embed has 3 workers now, 2 before: y"},
	}
	if got, err := h.Governed(t.Context()); err != nil || !slices.Equal(got, want) {
		t.Errorf("governed %+v, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	state("killed")
}

// Whatever a damaged store holds, looking at it ends with an error or an answer.
func TestHistoryOfADamagedStore(t *testing.T) {
	w, _ := looked(t)
	good, err := os.ReadFile(filepath.Join(w.state(), "run.db"))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(7, 7))
	noise := make([]byte, len(good))
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	for i := range 60 {
		bad := slices.Clone(good)
		switch i % 3 {
		case 0:
			bad = bad[:rnd.IntN(len(bad))]
		case 1:
			at := rnd.IntN(len(bad) - 600)
			copy(bad[at:at+600], noise)
		case 2:
			copy(bad[rnd.IntN(100):], noise)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "run.db"), bad, 0o666); err != nil {
			t.Fatal(err)
		}
		err := lookAtAll(t, dir)
		if i%3 == 2 && (err == nil || !strings.Contains(err.Error(), dir)) {
			t.Errorf("random bytes: %v", err)
		}
		if _, err := pipeline.Restore(t.Context(), dir, pipeline.RestoreOptions{All: true, NoStore: true}); i%3 == 2 && err == nil {
			t.Error("restore works with random bytes")
		}
	}
}

func lookAtAll(t *testing.T, dir string) error {
	h, err := pipeline.OpenHistory(t.Context(), dir)
	if err != nil {
		return err
	}
	defer h.Close()
	_, e1 := h.LastRun(t.Context())
	_, e2 := h.Counts(t.Context())
	_, e3 := h.Causes(t.Context())
	_, e4 := h.Governed(t.Context())
	e5 := h.Ends(t.Context(), pipeline.EndQuery{}, func(e pipeline.End) error { _ = e.String(); return nil })
	e6 := h.Ends(t.Context(), pipeline.EndQuery{Image: "sub"}, func(pipeline.End) error { return nil })
	return errors.Join(e1, e2, e3, e4, e5, e6)
}
