package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

func TestMain(m *testing.M) {
	// Under the race detector a process sleeps for a second before it exits, and these
	// tests start hundreds.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"forgepipe": main, "held": held, "nearby": nearby})
}

// TestScript runs the command as people do: see testdata/script.
func TestScript(t *testing.T) {
	photos, err := filepath.Abs("../../testdata/photos")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "", // writes the files that cmp compares with anew
		Setup: func(env *testscript.Env) error {
			env.Values[signalled{}] = &signalled{}
			env.Setenv("PHOTOS", photos)
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, ".cache"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "sigint": // not so below a shell's "&"
				return !signal.Ignored(os.Interrupt), nil
			case "sighup": // not so below nohup
				return !signal.Ignored(syscall.SIGHUP), nil
			}
			return false, fmt.Errorf("there is no condition %q", cond)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": exits, "picture": pictures, "network": network, "checkpoint": checkpoint, "json": jsonHas, "envelope": envelopes,
			"waitfor": waitFor, "signal": send, "duplicated": duplicated, "code": code, "same": sameTree, "serve": serveModels,
		},
	})
}

// network writes one that gives numbers for pictures: network FILE SIDE [NUMBERS].
func network(ts *testscript.TestScript, _ bool, args []string) {
	side, err := strconv.Atoi(args[1])
	ts.Check(err)
	numbers := 16
	if len(args) > 2 {
		numbers, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	data, err := testnet.Embedder(testnet.EmbedderOptions{Size: side, Dim: numbers}).Bytes()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o666))
}

// checkpoint writes one of a network that doubles pictures: checkpoint FILE.
func checkpoint(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), compactCheckpoint(), 0o666))
}

// compactCheckpoint is a safetensors file of an SRVGGNetCompact whose weights are 0: it
// repeats pixels.
func compactCheckpoint() []byte {
	header, at := map[string]any{}, 0
	for name, shape := range map[string][]int{
		"body.0.weight": {4, 3, 3, 3}, "body.0.bias": {4}, "body.1.weight": {4}, "body.2.weight": {12, 4, 3, 3}, "body.2.bias": {12},
	} {
		size := 4
		for _, d := range shape {
			size *= d
		}
		header[name] = map[string]any{"dtype": "F32", "shape": shape, "data_offsets": []int{at, at + size}}
		at += size
	}
	text, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	data := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return append(append(data, text...), make([]byte, at)...)
}

// exits runs a command and wants its exit code: exits CODE COMMAND ARG...
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	default:
		ts.Check(err)
	}
	if got != want {
		ts.Logf("[stdout]\n%s[stderr]\n%s", ts.ReadFile("stdout"), ts.ReadFile("stderr"))
		ts.Fatalf("%s exits %d, not %d", strings.Join(args[1:], " "), got, want)
	}
}

// pictures makes pictures: picture KIND WIDTH HEIGHT FILE..., where KIND is
// noise (detail everywhere, different in each file) or flat.
func pictures(ts *testscript.TestScript, _ bool, args []string) {
	width, err := strconv.Atoi(args[1])
	ts.Check(err)
	height, err := strconv.Atoi(args[2])
	ts.Check(err)
	for _, name := range args[3:] {
		img := image.NewGray(image.Rect(0, 0, width, height))
		r := rand.New(rand.NewPCG(uint64(len(name)), uint64(name[len(name)-5])))
		for i := range img.Pix {
			img.Pix[i] = 99
			if args[0] == "noise" {
				img.Pix[i] = uint8(r.Uint32())
			}
		}
		img.SetGray(0, 0, color.Gray{Y: uint8(r.Uint32())})
		var b bytes.Buffer
		if filepath.Ext(name) == ".jpg" {
			err = jpeg.Encode(&b, img, nil)
		} else {
			err = png.Encode(&b, img)
		}
		ts.Check(err)
		file := ts.MkAbs(name)
		ts.Check(os.MkdirAll(filepath.Dir(file), 0o777))
		ts.Check(os.WriteFile(file, b.Bytes(), 0o666))
	}
}

// jsonHas wants the last command's standard output to be one JSON document, and
// in it values: json PATH=VALUE..., where VALUE is JSON, or * for whatever is
// not null, and "-" says that the place must be missing. "! json" wants it otherwise.
func jsonHas(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile("stdout")
	dec := json.NewDecoder(strings.NewReader(text))
	var doc any
	if err := dec.Decode(&doc); err != nil {
		ts.Fatalf("not JSON: %v\n%s", err, text)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		ts.Fatalf("there is more than one document:\n%s", text)
	}
	for _, arg := range args {
		path, want, _ := strings.Cut(arg, "=")
		got, ok := at(doc, strings.Split(path, "."))
		b, err := json.Marshal(got)
		ts.Check(err)
		wrong := want == "-" && ok || want != "-" && !ok ||
			want == "*" && got == nil || want != "*" && want != "-" && string(b) != want
		if wrong != neg {
			ts.Fatalf("%s is %s (there: %v); wanted %s (negated: %v) in\n%s", path, b, ok, want, neg, text)
		}
	}
}

func at(doc any, path []string) (any, bool) {
	for _, p := range path {
		switch v := doc.(type) {
		case map[string]any:
			next, ok := v[p]
			if !ok {
				return nil, false
			}
			doc = next
		case []any:
			if p == "len" {
				doc = len(v)
				continue
			}
			i, err := strconv.Atoi(p)
			if err != nil || i >= len(v) {
				return nil, false
			}
			doc = v[i]
		default:
			return nil, false
		}
	}
	return doc, true
}

// waitFor waits until a file matches, and has a text: waitfor GLOB [TEXT].
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		found, _ := filepath.Glob(ts.MkAbs(args[0]))
		if len(found) > 0 && (len(args) == 1 || strings.Contains(ts.ReadFile(found[0]), args[1])) {
			return
		}
	}
	ts.Fatalf("no %s after a minute", strings.Join(args, " with "))
}

// signalled is the command that a script has signalled.
type signalled struct{ cmd *exec.Cmd }

// send signals the command in the background: signal TERM.
func send(ts *testscript.TestScript, _ bool, args []string) {
	cmd := ts.BackgroundCmds()[0]
	ts.Value(signalled{}).(*signalled).cmd = cmd
	ts.Check(cmd.Process.Signal(map[string]syscall.Signal{
		"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL, "USR1": syscall.SIGUSR1,
	}[args[0]]))
}

// code wants the exit code of the command that was signalled, after wait.
func code(ts *testscript.TestScript, _ bool, args []string) {
	if got := ts.Value(signalled{}).(*signalled).cmd.ProcessState.ExitCode(); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, not %s", got, args[0])
	}
}

// sameTree wants two folders to hold the same files, but for the run store.
func sameTree(ts *testscript.TestScript, _ bool, args []string) {
	a, b := tree(ts, args[0]), tree(ts, args[1])
	for name := range a {
		if a[name] != b[name] {
			ts.Fatalf("%s is not the same", name)
		}
	}
	if len(a) != len(b) || len(a) == 0 {
		ts.Fatalf("%d files here and %d there", len(a), len(b))
	}
}

func tree(ts *testscript.TestScript, dir string) map[string]string {
	files := map[string]string{}
	ts.Check(filepath.WalkDir(ts.MkAbs(dir), func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".forgepipe":
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		data, err := os.ReadFile(name)
		files[strings.TrimPrefix(name, ts.MkAbs(dir))] = string(data)
		return err
	}))
	return files
}
