package moves_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

const killVariable = "FORGEPIPE_MOVES_KILL"

// Processes that are killed while they move files, one after another, lose none; the
// next ones do the rest, and in the end all comes back.
func TestKilled(t *testing.T) {
	if what := os.Getenv(killVariable); what != "" {
		killed(t, strings.Split(what, "|"))
		return
	}
	const pictures = 40
	files := map[string]string{"keep.png": "keeper"}
	for i := range pictures {
		name := fmt.Sprintf("%d/%02d", i%3, i)
		files[name+".png"], files[name+".txt"] = "picture "+name, "caption of "+name
	}
	for _, s := range spots {
		for _, action := range []moves.Action{moves.Move, moves.Delete} {
			if action == moves.Delete && s.name != "same" {
				continue
			}
			t.Run(s.name+"/"+string(action), func(t *testing.T) {
				t.Parallel()
				dir := quick(t)
				if s.away {
					dir = t.TempDir()
				}
				w := worldIn(t, dir, files)
				if s.away {
					w.out = filepath.Join(elsewhere(t), "out")
				}
				must(t, os.MkdirAll(w.out, 0o777))
				step := 31
				if s.away {
					step = 200 // a disk takes its time
				}
				// The first is killed where it asks whether to go on, about in the middle, and
				// the others wherever they are when another thread of theirs gets to it.
				middle := -300
				if action == moves.Delete { // which reads more
					middle = -560
				}
				for n := middle; ; n = max(n, 0) + step {
					died := w.child("apply", action, s, n)
					in, out := w.tree(w.in), w.tree(w.out)
					for name, text := range files {
						if in[name] != text && out[name] != text && action != moves.Delete {
							t.Fatalf("after %d operations %s is lost", n, name)
						}
					}
					if in["keep.png"] != "keeper" {
						t.Fatal("the keeper is gone")
					}
					if n < 0 && (!died || len(in) == 1 || len(in) == len(files)) {
						t.Errorf("killed: %v, and %d of %d files are left", died, len(in), len(files))
					}
					if !died {
						break
					}
				}
				w.same("sources", w.tree(w.in), map[string]string{"keep.png": "keeper"})
				if action == moves.Delete {
					return
				}
				for n := 20; w.child("restore", action, s, n); n += step {
				}
				w.same("restored", w.tree(w.in), files)
			})
		}
	}
}

// child starts a process that is killed once it has come to so many operations, or below
// 0 once it has asked so often whether to go on, and tells whether it was.
func (w world) child(do string, action moves.Action, s spot, n int) bool {
	w.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), killVariable+"="+strings.Join([]string{do, string(action), s.name, w.in, w.out, strconv.Itoa(n)}, "|"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return false
}

// deadly is a context that kills the process when it has been asked often enough.
type deadly struct {
	context.Context
	asked *atomic.Int64
}

func (d deadly) Err() error {
	if d.asked.Add(1) >= 0 {
		die()
	}
	return d.Context.Err()
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until it comes
}

// killed is the process.
func killed(t *testing.T, what []string) {
	w := world{t, what[3], what[4]}
	under := fsys.OS
	if what[2] == "apart" {
		under = apart{fsys.OS}
	}
	n, err := strconv.ParseInt(what[5], 10, 64)
	must(t, err)
	files := fsys.FailAt(under, 0, nil) // it counts
	ctx := t.Context()
	if n < 0 {
		asked := new(atomic.Int64)
		asked.Store(n)
		ctx = deadly{ctx, asked}
	} else {
		go func() {
			for files.Count() < n {
				runtime.Gosched()
			}
			die()
		}()
	}
	if what[0] == "restore" {
		r, err := moves.Restore(ctx, w.out, moves.RestoreOptions{All: true, FS: files})
		if err != nil || r.Taken+r.Failed > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		return
	}
	var jobs []moves.Job
	must(t, filepath.WalkDir(w.in, func(file string, _ fs.DirEntry, err error) error {
		name, _ := filepath.Rel(w.in, file)
		if strings.HasSuffix(name, ".png") && name != "keep.png" {
			jobs = append(jobs, w.job(name))
		}
		return err
	}))
	o := moves.Options{Action: moves.Action(what[1]), DeleteCount: 40, To: w.out, Record: filepath.Join(w.out, moves.RecordName), FS: files}
	r, err := moves.Apply(ctx, o, list(jobs...))
	if err != nil || r.Left > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
}
