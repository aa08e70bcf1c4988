package terminal

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal/screentest"
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

func TestMessagesStayAboveTheBlock(t *testing.T) {
	s, b := live(10, 24)
	e := screentest.New(t, 10)
	s.Draw([]string{"one", "two"})
	s.Printf("first")
	s.Draw([]string{"a line that is too long", "日本語日本語", "3"})
	s.Text("second\nthird\n")
	e.Write(b.String())
	e.Shows("first\nsecond\nthird\na line th\n日本語日\n3\n")
	b.b.Reset()
	s.Draw(nil)
	e.Write(b.String())
	e.Shows("first\nsecond\nthird\n")
}

func TestBlockIsNoHigherThanTheTerminal(t *testing.T) {
	s, b := live(80, 3)
	for range 2 {
		s.Draw([]string{"1", "2", "3", "4"})
	}
	e := screentest.New(t, 80)
	e.Write(b.String())
	e.Shows("1\n2\n")
}

// A window that is made narrower wraps what the block had, and the block was then
// repeated further down, its first lines left standing.
func TestNarrowedWindow(t *testing.T) {
	s, b := live(40, 24)
	e := screentest.New(t, 40)
	s.Printf("a message")
	s.Draw([]string{strings.Repeat("x", 60), "short", "日本語日本語日本語日本語"})
	for _, width := range []int{20, 11, 40} {
		e.Write(b.String())
		b.b.Reset()
		e.Resize(width)
		s.size = func() (int, int) { return width, 24 }
		s.Draw([]string{strings.Repeat("y", 60), "short", "日本語日本語日本語日本語"})
	}
	e.Write(b.String())
	e.Shows("a message\n" + strings.Repeat("y", 39) + "\nshort\n日本語日本語日本語日本語\n")
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
	e := s.Events(Usual)
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
	got := Summary(sum, []Ignored{{"not an image", 2, []string{"a.txt", "b.txt"}}}, nil, []string{"one thing", "and another"})
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
reasons    forgepipe report /x/out

next: mend or remove what is quarantined and run again: only what is missing is computed. Everything else is done.

hint: one thing
hint: and another
`
	if got != want {
		t.Errorf("the summary is\n%s\nnot\n%s", got, want)
	}
}

func TestFormats(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{count(0), "0"}, {count(999), "999"}, {count(1000), "1,000"}, {count(1234567), "1,234,567"}, {count(-1000), "-1,000"}, {count(-100), "-100"},
		{Counted(1, "file"), "1 file"}, {Counted(2, "file"), "2 files"},
		{duration(0.04), "0.0 s"}, {duration(99.94), "99.9 s"}, {duration(99.96), "1 min 39 s"}, {duration(7500), "2 h 5 min"},
		{roughly(0.2), "1 s"}, {roughly(9.1), "10 s"}, {roughly(41), "50 s"}, {roughly(91), "1 min 40 s"}, {roughly(3641), "60 min 50 s"},
		{perSecond(0), "0/s"}, {perSecond(0.44), "0.4/s"}, {perSecond(123.4), "123/s"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}
