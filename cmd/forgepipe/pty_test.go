package main

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal/screentest"
)

// onTerminal is a run on a pseudo-terminal, that stands in its first stage until letGo.
type onTerminal struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
	pty *screentest.PTY

	mu     sync.Mutex
	raw    strings.Builder
	screen *screentest.Emulator
	read   chan struct{} // closed when everything was read
}

// heldPipeline is one of which each input is held up.
const heldPipeline = `source: {images: {path: photos}}
stages:
  - hold: {mark: held, until: go-on}
    batch: 1
    workers: 1
  - write: {path: out, format: png}
`

// startOnTerminal runs 40 pictures, and a file that is none.
func startOnTerminal(t *testing.T, pipeline string, width int, env []string, args ...string) *onTerminal {
	t.Helper()
	o := &onTerminal{t: t, dir: t.TempDir(), pty: screentest.OpenPTY(t, width, 24), screen: screentest.New(t, width), read: make(chan struct{})}
	if err := os.Mkdir(filepath.Join(o.dir, "photos"), 0o777); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		o.picture(i)
	}
	o.write("photos/bad.png", "This is no image.")
	o.write("held.yaml", pipeline)
	o.cmd = exec.Command("held", append([]string{"run", "held.yaml", "--cache", "none"}, args...)...)
	o.cmd.Dir, o.cmd.Stderr = o.dir, o.pty.Program
	o.cmd.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), env...)
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = o.cmd.Process.Kill() // where the test has not waited for it
		_, _ = o.cmd.Process.Wait()
		<-o.read
	})
	_ = o.pty.Program.Close()
	go o.follow()
	return o
}

// follow shows what the program writes, until it has ended.
func (o *onTerminal) follow() {
	defer close(o.read)
	buf := make([]byte, 64<<10)
	for {
		n, err := o.pty.Person.Read(buf)
		o.mu.Lock()
		o.raw.Write(buf[:n])
		o.screen.Write(string(buf[:n]))
		o.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (o *onTerminal) picture(i int) {
	img := image.NewGray(image.Rect(0, 0, 32, 32))
	img.SetGray(i%32, i/32, color.Gray{Y: 255})
	f, err := os.Create(filepath.Join(o.dir, "photos", fmt.Sprintf("%02d.png", i)))
	if err == nil {
		err = errors.Join(png.Encode(f, img), f.Close())
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *onTerminal) write(name, text string) {
	if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), 0o666); err != nil {
		o.t.Fatal(err)
	}
}

// resize changes the window while nothing is written.
func (o *onTerminal) resize(width int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pty.Resize(o.t, width, 24)
	o.screen.Resize(width)
}

// lines are what the terminal shows now.
func (o *onTerminal) lines() (lines []string, wrapped map[int]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.screen.Lines()
}

// until waits until the terminal shows a line that begins so.
func (o *onTerminal) until(prefix string) {
	o.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		lines, _ := o.lines()
		if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, prefix) }) {
			return
		}
	}
	lines, _ := o.lines()
	o.t.Fatalf("%s is not there; the terminal shows\n%s", prefix, strings.Join(lines, "\n"))
}

// wait waits for the end, and wants so an exit code.
func (o *onTerminal) wait(code int) {
	o.t.Helper()
	o.write("go-on", "")
	_ = o.cmd.Wait()
	<-o.read
	if got := o.cmd.ProcessState.ExitCode(); got != code {
		o.t.Errorf("exit code %d, want %d", got, code)
	}
}

// block are the lines of the bars; none of them may be wrapped.
func (o *onTerminal) block() []string {
	o.t.Helper()
	lines, wrapped := o.lines()
	for i, l := range lines {
		if strings.HasPrefix(l, "source ") && strings.HasPrefix(lines[i+1], "hold ") {
			for k := i; k < len(lines); k++ {
				if wrapped[k] {
					o.t.Errorf("line %q is wrapped", lines[k])
				}
			}
			return lines[i:]
		}
	}
	return nil
}

func TestRunOnATerminal(t *testing.T) {
	for _, width := range []int{20, 80, 200} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			o := startOnTerminal(t, heldPipeline, width, nil)
			o.until("hold ")
			o.until("inputs ")
			if len(o.block()) == 0 {
				t.Error("there are no bars")
			}
			for _, now := range []int{width / 2, 100} {
				o.resize(now)
				o.until("hold ")
				time.Sleep(2 * 200 * time.Millisecond) // the bars are drawn anew
				if len(o.block()) != 7 {
					t.Errorf("in a window of %d columns, the bars are\n%s", now, strings.Join(o.block(), "\n"))
				}
			}
			if err := o.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			o.until("snapshot at ")
			o.until("hold ")
			o.wait(exitQuarantined)

			lines, _ := o.lines()
			text := strings.Join(lines, "\n")
			for _, want := range []string{
				"failed: bad.png in source: ", "\nsnapshot at ", "\ndone in ", "\n41 in + 0 derived = 40 out + 0 consumed + 0 rejected + 1 quarantined\n", "\nrun store  ",
			} {
				if n := strings.Count("\n"+text, want); n != 1 {
					t.Errorf("%q is there %d times in\n%s", want, n, text)
				}
			}
			if strings.Contains(text, "\nhold ") || strings.Contains(text, "\ninputs ") || !o.screen.AtEnd() {
				t.Errorf("the bars are still there, or the cursor is not at the end:\n%s", text)
			}
		})
	}
}

// With --verbose messages come one after the other while the bars are drawn.
func TestMessagesOnATerminal(t *testing.T) {
	o := startOnTerminal(t, strings.Replace(heldPipeline, "  - write", "  - filter: {keep: \"source.width > 100\"}\n  - write", 1), 120, nil, "--verbose")
	o.until("hold ")
	o.wait(exitQuarantined)
	lines, wrapped := o.lines()
	text := "\n" + strings.Join(lines, "\n")
	for i := range 40 {
		if n := strings.Count(text, fmt.Sprintf("\nrejected: %02d.png in filter: source.width > 100: source.width 32\n", i)); n != 1 {
			t.Errorf("what became of picture %d is there %d times", i, n)
		}
	}
	if strings.Contains(text, "\nhold ") || !strings.Contains(text, "\nhint: filter rejected all that reached it, 40 items") {
		t.Errorf("wrapped lines %v of\n%s", wrapped, text)
	}
}

func TestTerminalsThatWantLess(t *testing.T) {
	t.Run("dumb", func(t *testing.T) {
		o := startOnTerminal(t, heldPipeline, 80, []string{"TERM=dumb"})
		o.until("failed: bad.png")
		o.wait(exitQuarantined)
		if strings.Contains(o.raw.String(), "\x1b") {
			t.Errorf("it got sequences: %q", o.raw.String())
		}
	})
	t.Run("no colour", func(t *testing.T) {
		o := startOnTerminal(t, heldPipeline, 80, []string{"NO_COLOR=1"})
		o.until("hold ")
		o.wait(exitQuarantined)
		if strings.Contains(o.raw.String(), "\x1b[1m") || !strings.Contains(o.raw.String(), "\x1b[J") {
			t.Errorf("it got colours, or no bars: %q", o.raw.String())
		}
	})
	t.Run("quiet", func(t *testing.T) {
		o := startOnTerminal(t, heldPipeline, 80, nil, "--quiet")
		o.until("failed: bad.png")
		o.wait(exitQuarantined)
		if n := strings.Count(o.raw.String(), "\n"); n != 1 || strings.Contains(o.raw.String(), "\x1b") {
			t.Errorf("it got more than the one problem: %q", o.raw.String())
		}
	})
}
