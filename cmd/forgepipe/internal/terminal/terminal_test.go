package terminal

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a writer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func live(width, height int) (*Screen, *buffer) {
	var b buffer
	return &Screen{w: &b, live: true, size: func() (int, int) { return width, height }}, &b
}

// plain is what a terminal would show in the end: it follows the two sequences
// that Screen uses.
func plain(t *testing.T, out string) string {
	t.Helper()
	lines := []string{""}
	for len(out) > 0 {
		var up int
		switch {
		case strings.HasPrefix(out, "\x1b[J"):
			out = out[3:]
		case strings.HasPrefix(out, "\x1b["):
			if _, err := fmt.Sscanf(out, "\x1b[%dA\r", &up); err != nil {
				t.Fatalf("an unknown sequence: %q", out)
			}
			if up >= len(lines) {
				t.Fatalf("%d lines up, of %d", up, len(lines)-1)
			}
			lines = append(lines[:len(lines)-1-up], "")
			out = out[strings.Index(out, "\r")+1:]
		case out[0] == '\n':
			lines = append(lines, "")
			out = out[1:]
		default:
			lines[len(lines)-1] += out[:1]
			out = out[1:]
		}
	}
	return strings.Join(lines, "\n")
}

func TestMessagesStayAboveTheBlock(t *testing.T) {
	s, b := live(10, 24)
	s.Draw([]string{"one", "two"})
	s.Printf("first")
	s.Draw([]string{"a line that is too long", "2", "3"})
	s.Text("second\nthird\n")
	if got, want := plain(t, b.String()), "first\nsecond\nthird\na line th\n2\n3\n"; got != want {
		t.Errorf("the terminal shows\n%s\nnot\n%s", got, want)
	}
	s.Draw(nil)
	if got, want := plain(t, b.String()), "first\nsecond\nthird\n"; got != want {
		t.Errorf("the terminal shows\n%s\nnot\n%s", got, want)
	}
}

func TestBlockIsNoHigherThanTheTerminal(t *testing.T) {
	s, b := live(80, 3)
	for range 2 {
		s.Draw([]string{"1", "2", "3", "4"})
	}
	if got := plain(t, b.String()); got != "1\n2\n" {
		t.Errorf("the terminal shows %q", got)
	}
}

// A file's name must not steer the terminal.
func TestControlCharacters(t *testing.T) {
	var b buffer
	s := NewScreen(&b, func(string) string { return "" })
	s.Printf("%s", "a\x1b[2Jb\nc\u009b")
	s.Text("two\nlines\r\n")
	if got, want := b.String(), "a\\x1b[2Jb\\x0ac\\x9b\ntwo\nlines\\x0d\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if s.Live() {
		t.Error("a buffer is no terminal")
	}
}

func TestLogger(t *testing.T) {
	var b buffer
	log := NewScreen(&b, func(string) string { return "" }).Logger(slog.LevelWarn)
	log.Info("not shown")
	log.With("stage", "tile").WithGroup("g").Warn("slow", "cause", errors.New("disk"))
	if got, want := b.String(), "warning: slow stage=tile g.cause=disk\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func progress() *pipeline.Summary {
	return &pipeline.Summary{
		State: "running", In: 1200, Written: 40, Seconds: 12.34,
		Stages: []pipeline.StageSummary{
			{ID: "tile", In: 1200, Out: 4800},
			{ID: "score", In: 4000, Out: 3990, Failed: 2, Queued: 200},
			{ID: "write", In: 40, Out: 40, Rejected: 3, Queued: 7},
		},
	}
}

func TestProgress(t *testing.T) {
	lines := stageLines(progress(), func(i int) float64 { return float64(i) * 7.5 })
	for i, l := range lines {
		if marked := strings.HasSuffix(l, "<- bottleneck"); marked != strings.HasPrefix(l, "score") {
			t.Errorf("line %d is marked: %v: %s", i, marked, l)
		}
	}
	if len(lines) != 6 || lines[0] != "12.3 s, 40 files written" {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	got := progressLine(progress())
	if want := "12.3 s: source 1,200, tile 1,200 > 4,800, score 4,000 > 3,990 (2 failed, 200 waiting), write 40 > 40 (3 rejected)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	sum := progress()
	sum.State = "paused"
	if head := stageLines(sum, func(int) float64 { return 0 })[0]; head != "12.3 s, paused, 40 files written" {
		t.Errorf("paused: %s", head)
	}
	if line := progressLine(sum); !strings.HasPrefix(line, "12.3 s, paused: source 1,200, tile") {
		t.Errorf("paused: %s", line)
	}
}

// That a run is paused, and that it waits for others, is told without --verbose.
func TestPausesAreTold(t *testing.T) {
	for _, tt := range []struct {
		event pipeline.Event
		want  string
	}{
		{pipeline.Event{Kind: pipeline.EventPaused, Message: "nothing new begins"}, "paused: nothing new begins"},
		{pipeline.Event{Kind: pipeline.EventResumed, Message: "the run goes on"}, "resumed: the run goes on"},
		{pipeline.Event{Kind: pipeline.EventYielded, Stage: "embed", Message: "gpu:0: others use 30% of it"}, "embed: gpu:0: others use 30% of it"},
	} {
		if line, limit := describe(tt.event); line != tt.want || limit == 0 {
			t.Errorf("%q, %d times; want %q", line, limit, tt.want)
		}
	}
}

func TestEventsAreLimitedAndNeverBlock(t *testing.T) {
	var b buffer
	s := NewScreen(&b, func(string) string { return "" })
	e := s.Events(false)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				e.On(pipeline.Event{Kind: pipeline.EventFailed, Stage: "score", Item: fmt.Sprintf("%d-%d.jpg", g, i), Message: "bad\nstack"})
				e.On(pipeline.Event{Kind: pipeline.EventRejected, Stage: "filter", Item: "x"})
				e.On(pipeline.Event{Kind: pipeline.EventIgnored, Item: fmt.Sprintf("%d-%d.txt", g, i), Message: "not an image"})
			}
		})
	}
	e.On(pipeline.Event{Kind: pipeline.EventIgnored, Item: "loop", Message: "a link to a folder"})
	wg.Wait()
	e.Close()
	e.Close()
	e.On(pipeline.Event{Kind: pipeline.EventFailed})
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != shownFailures+1 || !strings.HasPrefix(lines[shownFailures], "more of these") {
		t.Errorf("%d lines:\n%s", len(lines), b.String())
	}
	if strings.Contains(b.String(), "stack") || strings.Contains(b.String(), "rejected") {
		t.Errorf("too much is shown:\n%s", b.String())
	}
	ignored := e.Ignored()
	if len(ignored) != 2 || ignored[0].Count != 2000 || len(ignored[0].Names) != namedIgnored || ignored[1].Names[0] != "loop" {
		t.Errorf("ignored: %+v", ignored)
	}
}

func TestSummary(t *testing.T) {
	sum := &pipeline.Summary{
		State: "done", In: 18, Derived: 80, Consumed: 18, Out: 59, Quarantined: 1, Ignored: 2,
		Rejected: map[string]map[string]int64{
			"filter": {"a": 10, "b": 3, "c": 2, "d": 2}, "tile": {"too small": 1}, "dedup": {"twin": 1, "same": 1},
		},
		Written: 50, Reused: 9, Retracted: 4, Replaced: 1, Renamed: 2, Bytes: 3 << 20, Seconds: 4,
		Devices:    []pipeline.DeviceUsage{{Device: "host", Limit: 400 << 20, Peak: 120 << 20}},
		Failed:     []pipeline.FailedItem{{ID: "bad.jpg", Stage: "source", Cause: "truncated\nstack"}},
		OutputDirs: []string{"out", "out", "out/manifest.jsonl"}, StateDir: "/x/out/.forgepipe",
	}
	if err := sum.Check(); err != nil {
		t.Fatal(err)
	}
	got := Summary(sum, []Ignored{{"not an image", 2, []string{"a.txt", "b.txt"}}}, nil)
	want := `
done in 4.0 s: 50 files written (3 MiB)

  in                  18  4.5/s
  derived             80
  consumed            18  only what was derived from them goes on
  out                 59
  rejected            20
                      10  filter: a
                       3  filter: b
                       2  filter: c
                       2  filter: d
                       1  dedup: same
                       2  for 2 other reasons
  quarantined          1
  ignored              2  not an image: a.txt, b.txt
  files written       50  3 MiB
  right already        9
  retracted            4  no longer wanted: in the trash (.forgepipe/trash)
  replaced             1  changed by somebody since: their version is in the trash (.forgepipe/trash)
  renamed              2  kept the source's extension in the name, as another source has their stem
  memory         120 MiB  leased at most, of 400 MiB on host

18 in + 80 derived = 59 out + 18 consumed + 20 rejected + 1 quarantined

quarantined:
  bad.jpg in source: truncated

outputs    out
outputs    out/manifest.jsonl
run store  /x/out/.forgepipe/run.db

next: mend or remove what is quarantined and run again: only what is missing is computed. Everything else is done.
`
	if got != want {
		t.Errorf("the summary is\n%s\nnot\n%s", got, want)
	}
}

func TestFormats(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{count(0), "0"}, {count(999), "999"}, {count(1000), "1,000"}, {count(1234567), "1,234,567"}, {count(-1000), "-1,000"}, {count(-100), "-100"},
		{counted(1, "file"), "1 file"}, {counted(2, "file"), "2 files"},
		{duration(0.04), "0.0 s"}, {duration(99.94), "99.9 s"}, {duration(99.96), "1 min 39 s"}, {duration(7500), "2 h 5 min"},
		{perSecond(0), "0/s"}, {perSecond(0.44), "0.4/s"}, {perSecond(123.4), "123/s"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}
