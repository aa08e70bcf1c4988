package index_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

// Whatever operation fails, once or from there on as after a crash, the index is as before or
// as after, and the next add mends it.
func TestFailingAtEveryOperation(t *testing.T) {
	index.Small(t, 400, 2)
	const none, one, both = 1 << 10, 8, 1 // of the columns are large
	cases := map[string]struct {
		large  int
		before [][]index.Entry
		add    []index.Entry
		after  []index.Entry
	}{
		"a new index":                   {none, nil, span(0, 12, 1), span(0, 12, 1)},
		"one more segment":              {none, [][]index.Entry{span(0, 12, 2)}, span(0, 12, 1), span(0, 12, 1)},
		"segments that merge":           {none, [][]index.Entry{span(0, 12, 3), span(1, 12, 3)}, span(2, 12, 3), span(0, 12, 1)},
		"a new index, a large column":   {one, nil, span(0, 4, 1), span(0, 4, 1)},
		"segments merge, large columns": {both, [][]index.Entry{span(0, 4, 3), span(1, 4, 3)}, span(2, 4, 3), span(0, 4, 1)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			index.Large(t, c.large)
			prepare := func() (dir string, before []index.Entry) {
				dir = filepath.Join(t.TempDir(), "index")
				for _, all := range c.before {
					add(t, dir, all)
				}
				if c.before != nil {
					before, _ = read(open(t, dir), "phash", "clip")
				}
				return dir, before
			}
			boom := errors.New("boom")
			dir, _ := prepare()
			counting := fsys.FailAt(quick{}, 0, boom)
			_, err := index.Add(t.Context(), counting, dir, columns(), each(c.add))
			check(t, err)
			if counting.Count() < 15 {
				t.Fatalf("only %d operations", counting.Count())
			}
			outcomes := map[string]int{}
			for n := int64(1); n <= counting.Count(); n++ {
				for _, sticky := range []bool{false, true} {
					dir, before := prepare()
					faulty := fsys.FailAt(quick{}, n, boom)
					faulty.Sticky = sticky
					_, err := index.Add(t.Context(), faulty, dir, columns(), each(c.add))
					// What is in nobody's way may stay.
					if left := strings.HasPrefix(faulty.Failed(), "remove"); !errors.Is(err, boom) && (err != nil || !left) {
						t.Errorf("failing at %s says %v", faulty.Failed(), err)
					}
					var have []index.Entry
					x, openErr := index.Open(fsys.OS, dir)
					if openErr == nil {
						have, openErr = read(x, "phash", "clip")
						check(t, x.Close())
					}
					if openErr != nil && (c.before != nil || !errors.Is(openErr, os.ErrNotExist)) {
						t.Fatalf("after failing at %s: %v", faulty.Failed(), openErr)
					}
					switch uncertain := err != nil && strings.Contains(err.Error(), "not certain"); {
					case text(have) == text(before) && err != nil && (!uncertain || strings.HasPrefix(faulty.Failed(), "rename")):
						outcomes["before"]++
					case text(have) == text(c.after) && (err == nil || uncertain):
						outcomes["after"]++
					default:
						t.Errorf("after failing at %s with %v the index holds\n%s", faulty.Failed(), err, text(have))
					}
					add(t, dir, c.add)
					holds(t, open(t, dir), c.after)
					onlyItsFiles(t, dir)
				}
			}
			if outcomes["before"] == 0 || outcomes["after"] == 0 {
				t.Errorf("outcomes: %v", outcomes)
			}
		})
	}
}

// synced is the file system that knows which files are not on disk.
type synced struct {
	quick
	t     *testing.T
	dirty map[string]bool
	seen  []string // on disk when index.json was replaced
}

func (s *synced) OpenRoot(dir string) (fsys.Root, error) {
	r, err := s.quick.OpenRoot(dir)
	return syncedRoot{r, s}, err
}

type syncedRoot struct {
	fsys.Root
	*synced
}

func (r syncedRoot) Create(name string) (fsys.File, error) {
	f, err := r.Root.Create(name)
	r.dirty[name] = true
	return syncedFile{f, r.synced, name}, err
}

func (r syncedRoot) Rename(old, name string) error {
	r.seen = nil
	for name, dirty := range r.dirty {
		if dirty {
			r.t.Errorf("%s is not on disk when %s is replaced", name, old)
		}
		r.seen = append(r.seen, name)
	}
	return r.Root.Rename(old, name)
}

type syncedFile struct {
	fsys.File
	*synced
	name string
}

func (f syncedFile) Write(b []byte) (int, error) {
	f.dirty[f.name] = true
	return f.File.Write(b)
}

func (f syncedFile) Sync() error {
	f.dirty[f.name] = false
	return f.File.Sync()
}

// What index.json names is on disk before it does.
func TestFilesAreOnDiskFirst(t *testing.T) {
	index.Small(t, 200, 2)
	index.Large(t, 1)
	dir := t.TempDir()
	add(t, dir, span(0, 12, 3))
	add(t, dir, span(1, 12, 3))
	files := &synced{t: t, dirty: map[string]bool{}}
	_, err := index.Add(t.Context(), files, dir, columns(), each(span(2, 12, 3)))
	check(t, err)
	if len(files.seen) != 2*3+1 {
		t.Errorf("only %v were written", files.seen)
	}
	holds(t, open(t, dir), span(0, 12, 1))
}

// child is a process that adds to an index.
func child(dir, task string) {
	die := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	large, _ := strconv.Atoi(os.Getenv("INDEX_LARGE"))
	index.SetSmall(200, 3, large)
	first, _ := strconv.Atoi(os.Getenv("INDEX_FIRST"))
	switch task {
	case "loop": // until it is killed; says what is in the index for certain
		for n := first; ; n += 10 {
			_, err := index.Add(ctx, fsys.OS, dir, columns(), each(span(n, n+10, 1)))
			die(err)
			fmt.Println(n + 10)
		}
	case "hold": // an add that does not end
		_, err := index.Add(ctx, fsys.OS, dir, columns(), func(yield func(index.Entry, error) bool) {
			yield(entry(0), nil)
			fmt.Println("adding")
			_, _ = io.Copy(io.Discard, os.Stdin)
		})
		die(err)
	case "share": // ten adds beside another process
		for n := first; n < first+100; n += 10 {
			for {
				_, err := index.Add(ctx, fsys.OS, dir, columns(), each(span(n, n+10, 1)))
				if err == nil {
					break
				}
				if !errors.Is(err, index.ErrLocked) {
					die(err)
				}
			}
		}
	}
}

func start(t *testing.T, dir, task string, first int) (cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "INDEX_CHILD="+dir, "INDEX_TASK="+task, "INDEX_FIRST="+strconv.Itoa(first), "INDEX_LARGE="+strconv.Itoa(index.LargeAbove()))
	cmd.Stderr = os.Stderr
	_, err := cmd.StdinPipe() // it is closed when the child is waited for
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	check(t, cmd.Process.Signal(syscall.SIGKILL))
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
}

func TestKilledAtAnyTime(t *testing.T) {
	for name, large := range map[string]int{"small columns": 1 << 10, "a large column": 8} {
		t.Run(name, func(t *testing.T) {
			index.Large(t, large)
			dir := t.TempDir()
			have := 0
			for round := range 6 {
				cmd, lines := start(t, dir, "loop", have)
				certain := have
				for n := 0; n < 3+2*round && lines.Scan(); n++ {
					var err error
					if certain, err = strconv.Atoi(lines.Text()); err != nil {
						t.Fatalf("the child says %q", lines.Text())
					}
				}
				kill(t, cmd)
				x := open(t, dir)
				if have = int(x.Len()); have < certain || have%10 != 0 {
					t.Fatalf("%d entries, and %d are certain", have, certain)
				}
				holds(t, x, span(0, have, 1))
			}
			add(t, dir, span(have, have+1, 1))
			onlyItsFiles(t, dir)
		})
	}
}

func TestSecondAddIsRefused(t *testing.T) {
	dir := t.TempDir()
	add(t, dir, span(1, 3, 1))
	cmd, lines := start(t, dir, "hold", 0)
	if !lines.Scan() || lines.Text() != "adding" {
		t.Fatalf("the child says %q", lines.Text())
	}
	_, err := index.Add(t.Context(), quick{}, dir, columns(), each(span(3, 6, 1)))
	locked, ok := errors.AsType[*index.LockedError](err)
	if !ok || !errors.Is(err, index.ErrLocked) || locked.PID != cmd.Process.Pid || !strings.Contains(err.Error(), fmt.Sprintf("process %d is adding", locked.PID)) {
		t.Errorf("adding says %v", err)
	}
	holds(t, open(t, dir), span(1, 3, 1))
	kill(t, cmd)
	add(t, dir, span(3, 6, 1))
	holds(t, open(t, dir), span(1, 6, 1))
	onlyItsFiles(t, dir)
}

func TestTwoProcessesAdd(t *testing.T) {
	dir := t.TempDir()
	a, _ := start(t, dir, "share", 0)
	b, _ := start(t, dir, "share", 100)
	check(t, errors.Join(a.Wait(), b.Wait()))
	holds(t, open(t, dir), span(0, 200, 1))
}
