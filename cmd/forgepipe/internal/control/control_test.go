package control_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run answers for a run.
type run struct {
	pid      int
	clearing func(context.Context)
	cleared  atomic.Int32
	paused   atomic.Bool
}

func (r *run) Memory() control.Report {
	n := int64(7)
	return control.Report{Devices: []control.Device{{Device: "host", Total: &n}}, Process: control.Process{PID: r.pid}}
}

func (r *run) Pause() control.State {
	r.paused.Store(true)
	return control.State{State: "paused", Active: 3}
}

func (r *run) Resume() control.State {
	r.paused.Store(false)
	return control.State{State: "running"}
}

func (r *run) Clear(ctx context.Context) control.Cleaned {
	if r.clearing != nil {
		r.clearing(ctx)
	}
	r.cleared.Add(1)
	return control.Cleaned{Why: "asked"}
}

func listen(t *testing.T, dir string, r control.Run) *control.Server {
	t.Helper()
	s, err := control.Listen(dir, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func open(t *testing.T, dir string) *control.Client {
	t.Helper()
	c, err := control.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func socket(dir string) string { return filepath.Join(dir, control.Name) }

func TestAskAndClear(t *testing.T) {
	// Longer than a socket's name may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120), strings.Repeat("e", 120))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s := listen(t, dir, &run{pid: 42})
	info, err := os.Lstat(socket(dir))
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("%v, %v: want a socket of mode 0600", info.Mode(), err)
	}
	c := open(t, dir)
	for range 3 {
		r, err := c.Memory(t.Context())
		if err != nil || r.Process.PID != 42 || len(r.Devices) != 1 || *r.Devices[0].Total != 7 || r.Devices[0].Used != nil {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if done, err := c.Clear(t.Context()); err != nil || done.Why != "asked" {
		t.Errorf("%+v, %v", done, err)
	}
	s.Close()
	s.Close()
	if _, err := os.Lstat(socket(dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := c.Memory(t.Context()); !errors.Is(err, control.ErrNoRun) {
		t.Errorf("after Close: %v", err)
	}
}

func TestPauseAndResume(t *testing.T) {
	dir, r := t.TempDir(), &run{}
	s := listen(t, dir, r)
	c := open(t, dir)
	for range 2 {
		if got, err := c.Pause(t.Context()); err != nil || got != (control.State{State: "paused", Active: 3}) || !r.paused.Load() {
			t.Errorf("paused: %+v, %v", got, err)
		}
	}
	for range 2 {
		if got, err := c.Resume(t.Context()); err != nil || got.State != "running" || r.paused.Load() {
			t.Errorf("resumed: %+v, %v", got, err)
		}
	}
	s.Close()
	if _, err := c.Pause(t.Context()); !errors.Is(err, control.ErrNoRun) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := c.Resume(t.Context()); !errors.Is(err, control.ErrNoRun) {
		t.Errorf("after Close: %v", err)
	}
}

func TestNobodyThere(t *testing.T) {
	if _, err := control.Open(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, control.ErrNoRun) {
		t.Errorf("no directory: %v", err)
	}
	dir := t.TempDir()
	if _, err := open(t, dir).Memory(t.Context()); !errors.Is(err, control.ErrNoRun) {
		t.Errorf("no socket: %v", err)
	}
	stale(t, dir)
	if _, err := open(t, dir).Memory(t.Context()); !errors.Is(err, control.ErrNoRun) {
		t.Errorf("a stale socket: %v", err)
	}
}

// stale leaves the socket of a killed run.
func stale(t *testing.T, dir string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket(dir)})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestStaleSocketIsReplaced(t *testing.T) {
	dir := t.TempDir()
	stale(t, dir)
	listen(t, dir, &run{pid: 1})
	if r, err := open(t, dir).Memory(t.Context()); err != nil || r.Process.PID != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// The run that ends has given the store back before it closes its socket, so
// that the next one may have one by then.
func TestCloseLeavesTheNextRunsSocket(t *testing.T) {
	dir := t.TempDir()
	first := listen(t, dir, &run{pid: 1})
	listen(t, dir, &run{pid: 2})
	first.Close()
	if r, err := open(t, dir).Memory(t.Context()); err != nil || r.Process.PID != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(socket(dir), []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	if s, err := control.Listen(dir, &run{}, nil); err == nil {
		s.Close()
		t.Fatal("it listens where a file lies")
	}
	if b, err := os.ReadFile(socket(dir)); err != nil || string(b) != "mine" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestStateDirectoryMayGo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s := listen(t, dir, &run{})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// Clients that say nothing, nonsense, or far too much get nothing, and the
// others are served; more of them than there are places do not keep the run.
func TestHostileClients(t *testing.T) {
	dir := t.TempDir()
	s := listen(t, dir, &run{pid: 3})
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("unix", socket(dir))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		return c
	}
	for i := range 40 { // more than there are places
		c := dial()
		switch i % 4 {
		case 0: // says nothing
		case 1:
			fmt.Fprint(c, "GET /memory HTTP/1.1\r\nX: ")
		case 2:
			fmt.Fprint(c, "\x00\xff no HTTP \r\n\r\n")
		case 3:
			fmt.Fprint(c, "POST /clear HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n")
		}
	}
	// They are cut off in time, and who asks properly has an answer before it gives
	// up, or on asking again.
	c := open(t, dir)
	var err error
	for range 5 {
		var r control.Report
		if r, err = c.Memory(t.Context()); err == nil {
			if r.Process.PID != 3 {
				t.Errorf("%+v", r)
			}
			break
		}
	}
	if err != nil {
		t.Errorf("nobody else is served: %v", err)
	}
	big := dial()
	go fmt.Fprintf(big, "GET /memory HTTP/1.1\r\nX: %s\r\n\r\n", strings.Repeat("x", 1<<20))
	if resp, err := http.ReadResponse(bufio.NewReader(big), nil); err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("a header of 1 MiB is read")
		}
	}
	for _, path := range []string{"GET /", "POST /memory", "GET /clear", "GET /pause", "GET /resume", "GET /../memory", "DELETE /memory"} {
		method, path, _ := strings.Cut(path, " ")
		req := dial()
		fmt.Fprintf(req, "%s %s HTTP/1.1\r\nHost: x\r\n\r\n", method, path)
		resp, err := http.ReadResponse(bufio.NewReader(req), nil)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Errorf("%s %s is answered", method, path)
		}
	}
	dial() // and one is still there at the end
	s.Close()
}

// Two clients at once both have an answer, and clean-ups come one at a time.
func TestClientsAtOnce(t *testing.T) {
	dir := t.TempDir()
	var busy, most atomic.Int32
	r := &run{clearing: func(context.Context) {
		most.Store(max(most.Load(), busy.Add(1)))
		busy.Add(-1)
	}}
	listen(t, dir, r)
	var all sync.WaitGroup
	for range 2 {
		c := open(t, dir)
		all.Go(func() {
			for range 50 {
				if _, err := c.Memory(t.Context()); err != nil {
					t.Error(err)
				}
			}
			if _, err := c.Clear(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if r.cleared.Load() != 2 || most.Load() != 1 {
		t.Errorf("%d clean-ups, %d at once", r.cleared.Load(), most.Load())
	}
}

// A clean-up ends when its client goes, and when the server does.
func TestClearEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(cancel func(), s *control.Server)
	}{
		{"the client goes", func(cancel func(), _ *control.Server) { cancel() }},
		{"the run ends", func(_ func(), s *control.Server) { s.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			began, ended := make(chan struct{}), make(chan struct{})
			s := listen(t, dir, &run{clearing: func(ctx context.Context) {
				close(began)
				<-ctx.Done()
				close(ended)
			}})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := open(t, dir)
			answer := make(chan error, 1)
			go func() {
				_, err := c.Clear(ctx)
				answer <- err
			}()
			<-began
			tt.end(cancel, s)
			<-ended
			<-answer
		})
	}
}

// What does not end does not keep the run from ending.
func TestCloseDoesNotWaitForLong(t *testing.T) {
	dir := t.TempDir()
	began, release := make(chan struct{}), make(chan struct{})
	s := listen(t, dir, &run{clearing: func(context.Context) {
		close(began)
		<-release
	}})
	c := open(t, dir)
	answer := make(chan error, 1)
	go func() {
		_, err := c.Clear(t.Context())
		answer <- err
	}()
	<-began
	s.Close() // it would hang here
	close(release)
	if err := <-answer; !errors.Is(err, control.ErrNoRun) {
		t.Errorf("the client gets %v", err)
	}
}

// A run that answers nonsense or without end is an error, and no more.
func TestHostileRun(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(net.Conn)
		want   string
	}{
		{"no HTTP", func(c net.Conn) { fmt.Fprint(c, "\x00\x01\r\n\r\n") }, "asking the run"},
		{"no JSON", func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc") }, "cannot be read"},
		{"refusal", func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 500 No\r\nContent-Length: 5\r\n\r\n\x1b[2Jx") }, `"\x1b[2Jx"`},
		{"cut off", func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nabc") }, "it ended meanwhile"},
		{"without end", func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\n")
			for b := []byte(strings.Repeat(" ", 1<<20)); ; {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}, "longer than 16 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			l, err := net.Listen("unix", socket(dir))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			served := make(chan struct{})
			go func() {
				defer close(served)
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					tt.answer(c)
				}
			}()
			_, err = open(t, dir).Memory(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q in it", err, tt.want)
			}
			<-served
		})
	}
}

// A clean-up may take longer than a request: its client is not taken for gone.
func TestClearMayTakeItsTime(t *testing.T) {
	dir := t.TempDir()
	var early error
	listen(t, dir, &run{clearing: func(ctx context.Context) {
		select {
		case <-time.After(2500 * time.Millisecond): // requests have 2 s
		case <-ctx.Done():
			early = context.Cause(ctx)
		}
	}})
	if _, err := open(t, dir).Clear(t.Context()); err != nil || early != nil {
		t.Errorf("%v; the clean-up was ended: %v", err, early)
	}
}
