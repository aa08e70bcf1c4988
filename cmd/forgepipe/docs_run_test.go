package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/model/store"
)

// anyPipeline stands for the pipeline that a page means by pipeline.yaml, or by
// another name that it does not say more about.
const anyPipeline = `name: demo
source: {images: {path: "${INPUT:-photos}"}}
stages:
  - tile: {size: 512}
  - score: {metrics: [laplacian, blockiness]}
  - filter: {keep: "laplacian >= 0"}
  - dedup: {by: pdq}
  - write: {path: "${OUT:-out}", format: png}
  - manifest: {path: "${OUT:-out}/manifest.jsonl"}
`

// withoutFolders is the same pipeline after an edit: what it made of photos/trip goes to
// the trash.
var withoutFolders = strings.Replace(anyPipeline, `-photos}"`, `-photos}", recursive: false`, 1)

// commandPatience is for a command of a page, also under the race detector.
const commandPatience = 3 * time.Minute

// A workplace is a folder in which the commands of a page are run, one after the
// other: the test pictures in photos, hq, lq and testdata, the example pipelines,
// the Makefile, the program as bin/forgepipe and in PATH, and the networks that the
// page names.
type workplace struct {
	t        *testing.T
	dir      string
	env      []string
	makefile []byte
	trashed  string // an output folder of which something is in the trash
}

var (
	networkName    = regexp.MustCompile(`[\w-]+\.(?:onnx|pth|pkl)\b`)
	checkpointName = regexp.MustCompile(`[\w-]+\.safetensors\b`)
)

func newWorkplace(t *testing.T, repo, text string) *workplace {
	t.Helper()
	w := &workplace{t: t, dir: t.TempDir()}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// The program as users get it: the race detector, with which the scripts run, would
	// only make the pictures of the pages slow.
	program, err := program()
	must(err)
	must(os.Mkdir(filepath.Join(w.dir, "bin"), 0o777))
	must(os.Symlink(program, filepath.Join(w.dir, "bin/forgepipe")))
	must(os.Symlink(filepath.Join(repo, "testdata"), filepath.Join(w.dir, "testdata")))
	must(os.CopyFS(filepath.Join(w.dir, "pipelines"), os.DirFS(filepath.Join(repo, "pipelines"))))
	for _, side := range []string{"hq", "lq"} {
		must(os.CopyFS(filepath.Join(w.dir, side), os.DirFS(filepath.Join(repo, "testdata/pairs", side))))
	}
	for name, photo := range map[string]string{"boats.jpg": "boats.jpg", "flower.jpg": "flower.jpg", "trip/a.jpg": "mountains.jpg", "trip/a.txt": "mountains.txt"} {
		data, err := os.ReadFile(filepath.Join(repo, "testdata/photos", photo))
		must(err)
		w.write("photos/"+name, data)
	}
	w.makefile, err = os.ReadFile(filepath.Join(repo, "Makefile"))
	must(err)
	w.write("Makefile", w.makefile)
	w.write("pairs.jsonl", []byte(`{"forgepipe_pairs":1,"items":2,"steps":[{"name":"pdq","measure":"distance","whole":true,"threshold":31}],"clauses":[["pdq"]]}`+"\n"+`{"pairs":0}`+"\n"))
	for _, name := range networkName.FindAllString(text, -1) {
		o := testnet.EmbedderOptions{Size: 224}
		switch name { // that give one number
		case "ic9600.onnx", "ic9600.pth":
			o = testnet.EmbedderOptions{Size: 512, Dim: 1}
		case "koniq_pretrained.pkl":
			o.Dim = 1
		}
		data, err := testnet.Embedder(o).Bytes()
		must(err)
		w.write(name, data)
	}
	for _, name := range checkpointName.FindAllString(text, -1) {
		w.write(name, compactCheckpoint())
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MAKE") && !strings.HasPrefix(v, "MFLAGS=") {
			w.env = append(w.env, v)
		}
	}
	path := filepath.Dir(program) + string(os.PathListSeparator) + os.Getenv("PATH")
	w.env = append(w.env, "PATH="+path, "HOME="+w.dir, "XDG_CACHE_HOME="+filepath.Join(w.dir, ".cache"))
	return w
}

func (w *workplace) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(w.dir, name)
}

func (w *workplace) has(name string) bool {
	_, err := os.Stat(w.path(name))
	return err == nil
}

func (w *workplace) write(name string, data []byte) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(name)), 0o777); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(name), data, 0o666); err != nil {
		w.t.Fatal(err)
	}
}

var namedFile = regexp.MustCompile("`([\\w.-]+\\.yaml)`")

// keep writes a block into the file that the paragraph before it names.
func (w *workplace) keep(b block) (name string) {
	name = fmt.Sprintf("line-%d.yaml", b.line)
	if all := namedFile.FindAllStringSubmatch(b.intro, -1); all != nil {
		name = all[len(all)-1][1]
	}
	w.write(name, []byte(b.text()))
	return name
}

// lint keeps the pipeline of a block, and checks it.
func (w *workplace) lint(b block) (output string, code int) {
	w.write("model.onnx", w.network())
	line := "MODEL=model.onnx INPUT=photos OUT=out forgepipe lint " + w.keep(b)
	if strings.Contains(b.text(), "device: gpu") {
		line += " --simulate gpu:8GiB"
	}
	return w.run(line, nil)
}

func (w *workplace) network() []byte {
	data, err := testnet.Embedder(testnet.EmbedderOptions{Size: 224}).Bytes()
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// run runs a line of shell. started, if not nil, is called once something has been
// printed.
func (w *workplace) run(line string, started func()) (output string, code int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), commandPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir, cmd.Env = w.dir, w.env
	out := &notingBuffer{first: started}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return out.String() + "\nit does not end", -1
	case errors.As(err, &exit):
		return out.String(), exit.ExitCode()
	case err != nil:
		w.t.Fatal(err)
	}
	return out.String(), 0
}

// notingBuffer tells when it gets its first bytes.
type notingBuffer struct {
	all   bytes.Buffer // not embedded: its ReadFrom would go past Write
	first func()
	once  sync.Once
}

func (b *notingBuffer) Write(p []byte) (int, error) {
	if b.first != nil {
		b.once.Do(b.first)
	}
	return b.all.Write(p)
}

func (b *notingBuffer) String() string { return b.all.String() }

// stands are what words of a page stand for, which a reader puts there.
var stands = map[string]string{
	"SHELL": "bash", "STAGE": "tile", "NAME": "tile", "GOAL": "tiles", "IMAGE": "trip/a.jpg",
	"BEFORE": "lq", "AFTER": "hq", "FILE": "pipeline.yaml", "FILE...": "pipeline.yaml", "PIPELINE.yaml": "pipeline.yaml", "FOLDER": "out", "DIR": "photos", "PAIRS": "pairs.jsonl",
	"/path/to/photos": "photos", "/path/to/out": "out/placed",
}

// A typed command is a shown one as a reader would type it.
type typed struct {
	line   string   // for the shell
	words  []string // of the command, without what the shell takes for itself
	name   string   // "run", "memory info"
	target string   // the pipeline, folder or --state that it is about; empty: none
	state  bool     // target is a state directory
	sets   []string // --set NAME=VALUE
}

var operator = regexp.MustCompile(`^([0-9]?>|[|&#<;])`)

func (w *workplace) typed(c shown) typed {
	var line []string
	y := typed{}
	ended := false
	for word := range strings.FieldsSeq(c.text) {
		key, value, ok := strings.Cut(word, "=")
		if s, stand := stands[value]; ok && stand {
			word = key + "=" + s
		} else if s, stand := stands[word]; stand {
			word = s
		}
		ended = ended || operator.MatchString(word)
		if !ended {
			y.words = append(y.words, word)
		}
		line = append(line, word)
	}
	y.line = strings.Join(line, " ")
	if filepath.Base(y.words[0]) != "forgepipe" {
		return y
	}
	cmd, rest, err := commandTree().Find(y.words[1:])
	if err != nil || cmd.ParseFlags(rest) != nil || len(rest) > 0 && cmd.HasSubCommands() {
		return y // running it tells
	}
	y.name = commandName(cmd)
	args := cmd.Flags().Args()
	if len(args) > 0 {
		y.target = args[0]
	}
	if dir, err := cmd.Flags().GetString("state"); err == nil && dir != "" {
		y.target, y.state = dir, true
	}
	if sets, err := cmd.Flags().GetStringArray("set"); err == nil {
		for _, set := range sets {
			y.sets = append(y.sets, "--set", set)
		}
	}
	if c.inline && (cmd.ValidateArgs(args) != nil || aboutARun(y.name) && y.target == "") { // it is named, not typed
		y.line, y.name = y.line+" --help", ""
	}
	if y.name == "models fetch" && !slices.ContainsFunc(args, func(name string) bool { _, known := store.Builtin().Find(name); return !known }) {
		y.line, y.name = y.line+" --help", "" // tests make no connections; that the names are known is looked up
	}
	if y.name == "memory watch" && y.target == "" && !cmd.Flags().Changed("count") {
		y.line += " --count 2"
	}
	return y
}

// aboutARun tells whether a command looks at what a run has left.
func aboutARun(name string) bool {
	return slices.Contains([]string{"verify", "report", "restore"}, name)
}

// aboutALiveRun tells whether a command is for a run that is running.
func (y typed) aboutALiveRun() bool {
	return y.target != "" && slices.Contains([]string{"memory info", "memory watch", "memory clear", "pause", "resume"}, y.name)
}

var exitSaid = regexp.MustCompile(`#.*\bexits (?:with )?([0-9]+)`)

// try runs a command of a page, and says what is not as the page says.
func (w *workplace) try(c shown) string {
	y := w.typed(c)
	want := -1
	if m := exitSaid.FindStringSubmatch(c.text); m != nil {
		want, _ = strconv.Atoi(m[1])
	}
	if y.words[0] == "make" {
		for _, target := range y.words[1:] {
			switch {
			case strings.Contains(target, "="):
			case !hasTarget(w.makefile, target):
				return fmt.Sprintf("the Makefile has no target %s", target)
			case notRun[target] != "":
				return ""
			}
		}
		y.line = strings.Replace(y.line, "make", "make -o build", 1) // the program is there
	}
	for _, word := range y.words {
		if filepath.Ext(word) == ".yaml" && filepath.Base(word) == word && !w.has(word) && y.name != "init" {
			w.write(word, []byte(anyPipeline))
		}
	}
	var out string
	var code int
	switch {
	case y.aboutALiveRun() && want < 0:
		out, code = w.whileRunning(y)
	case aboutARun(y.name) && want < 0:
		w.ensureRun(y)
		fallthrough
	default:
		out, code = w.run(y.line, nil)
	}
	switch {
	case want >= 0 && code != want:
		return fmt.Sprintf("%q exits %d, not %d:\n%s", c.text, code, want, out)
	case want < 0 && code != exitDone && code != exitQuarantined:
		return fmt.Sprintf("%q exits %d, not 0 or 4:\n%s", c.text, code, out)
	}
	if line, ok := missing(out, c.output); ok {
		return fmt.Sprintf("%q does not print %q, but\n%s", c.text, line, out)
	}
	return ""
}

// stateDir is the state directory of the run that a command is about.
func (w *workplace) stateDir(y typed) string {
	switch {
	case y.state:
		return y.target
	case filepath.Ext(y.target) != ".yaml":
		return filepath.Join(y.target, ".forgepipe")
	}
	out, _ := w.run("forgepipe run --dry-run --json "+y.target+" "+strings.Join(y.sets, " ")+" 2>/dev/null", nil)
	var doc struct {
		Plan struct {
			StateDir string `json:"state_dir"`
		} `json:"plan"`
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || doc.Plan.StateDir == "" {
		w.t.Fatalf("the pipeline %s has no state directory: %v\n%s", y.target, err, out)
	}
	return doc.Plan.StateDir
}

// ensureRun sees to it that there has been the run that a command is about; for
// restore, that some of its files are in the trash.
func (w *workplace) ensureRun(y typed) {
	w.t.Helper()
	if y.target == "" {
		return
	}
	if y.name == "restore" && y.target == "duplicates" {
		w.duplicates(y.target)
		return
	}
	must := func(line string) {
		w.t.Helper()
		if out, code := w.run(line, nil); code != exitDone {
			w.t.Fatalf("%s exits %d:\n%s", line, code, out)
		}
	}
	state := w.stateDir(y)
	w.write("pipeline.yaml", []byte(anyPipeline))
	out := filepath.Dir(state)
	if y.name == "restore" || w.trashed == out {
		if err := os.RemoveAll(w.path(out)); err != nil {
			w.t.Fatal(err)
		}
		w.trashed = ""
	}
	switch {
	case y.name == "restore": // something is in the trash, and its place is free
		w.write("without.yaml", []byte(withoutFolders))
		must("forgepipe run pipeline.yaml --set OUT=" + out)
		must("forgepipe run without.yaml --set OUT=" + out)
		w.trashed = out
	case w.has(filepath.Join(state, "run.db")):
	case filepath.Ext(y.target) == ".yaml":
		must("forgepipe run " + y.target + " " + strings.Join(y.sets, " "))
	default:
		must("forgepipe run pipeline.yaml --set OUT=" + out)
	}
}

// whileRunning runs a command about a running run while there is one. It stands
// still in a stage until the command is through, or, where the command ends with the
// run, until it has printed something.
func (w *workplace) whileRunning(y typed) (output string, code int) {
	w.t.Helper()
	state := w.stateDir(y)
	out := filepath.Dir(state)
	if err := os.RemoveAll(w.path(out)); err != nil {
		w.t.Fatal(err)
	}
	w.write("held.yaml", fmt.Appendf(nil, "source: {images: {path: photos}}\nstages:\n  - hold: {mark: held, until: go-on}\n  - write: {path: %q}\n", out))
	ctx, cancel := context.WithTimeout(w.t.Context(), commandPatience)
	defer cancel()
	run := exec.CommandContext(ctx, "held", "run", "held.yaml", "--cache", "none")
	run.Dir, run.Env = w.dir, w.env
	if err := run.Start(); err != nil {
		w.t.Fatal(err)
	}
	goOn := sync.OnceFunc(func() { _ = os.WriteFile(w.path("go-on"), nil, 0o666) }) // without it the run fails
	defer func() {
		goOn()
		if y.name == "pause" {
			w.run("forgepipe resume --state "+state, nil)
		}
		if err := run.Wait(); err != nil {
			w.t.Errorf("the run that %q asks: %v", y.line, err)
		}
		for _, name := range []string{"go-on", "held", out} {
			_ = os.RemoveAll(w.path(name))
		}
	}()
	for !w.has("held") || !w.has(filepath.Join(state, "control.sock")) {
		if ctx.Err() != nil {
			return "the run that it asks does not begin", -1
		}
		time.Sleep(5 * time.Millisecond)
	}
	var started func()
	if y.name == "memory watch" && !slices.Contains(y.words, "--count") {
		started = goOn
	}
	return w.run(y.line, started)
}
