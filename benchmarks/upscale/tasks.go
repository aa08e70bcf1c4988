package main

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/python"
)

//go:embed upscale.py requirements.txt
var peerFiles embed.FS

// benchmark is all that is measured.
type benchmark struct {
	tasks []*task
	notes []string
	tmp   string
}

// task is one network with pictures of one size.
type task struct {
	name, network string
	size          image.Point
	n             int  // pictures
	tile          int  // sides of the tiles that are asked for; 0: forgepipe's own choice
	each          bool // Python runs each picture by itself, and that is what is compared

	dir, out string
	line     func(args ...string) *exec.Cmd
	forge    string
	self     string
	python   [2]string // interpreter and script

	us, start, bare *entrant
	peers           []*entrant

	// What forgepipe does, after plan.
	tiling tiling
	psnr   float64 // the least of a picture, in dB; of the worst peer
}

// The tasks. The pictures of RRDB are as small as they are because it takes 37 MFLOP for
// each of their pixels.
func tasks(quick bool) []*task {
	all := []*task{
		{name: "Compact, 1024x768", network: compactFile, size: image.Pt(1024, 768), n: 2},
		{name: "RRDB, 128x128 in tiles of 96", network: rrdbFile, size: image.Pt(128, 128), n: 2, tile: 96},
		{name: "Compact, 64x64", network: compactFile, size: image.Pt(64, 64), n: 200, each: true},
	}
	if quick {
		all[0].name, all[0].size, all[0].tile = "Compact, 160x120 in tiles of 96", image.Pt(160, 120), 96
		all[1].name, all[1].size, all[1].tile = "RRDB, 40x36 in tiles of 32", image.Pt(40, 36), 32
		all[1].n, all[2].n = 1, 24
	}
	return all
}

func newBench(dir, only string, quick bool) (*benchmark, error) {
	b := &benchmark{}
	forgepipe, version, err := proc.Forgepipe()
	if err != nil {
		return nil, err
	}
	photographs, err := photos.Prepare(dir)
	if err != nil {
		return nil, err
	}
	interpreter, script, missing, err := python.Install(filepath.Join(dir, "python-upscale"), peerFiles, "upscale.py", "python3-venv of version 3.11 or newer, and the network")
	if err != nil {
		return nil, err
	}
	if missing != "" {
		return nil, fmt.Errorf("without Python there is nothing to compare with: %s", missing)
	}
	b.notes = []string{version, proc.Output(interpreter, script, "versions")}
	if b.tmp, err = os.MkdirTemp(dir, "upscale-"); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if msg, err := exec.Command(self, "-job", "nets", b.tmp).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("making the networks: %w\n%s", err, msg)
	}
	pin := proc.Pin(threads)
	for i, t := range tasks(quick) {
		if !strings.Contains(t.name, only) {
			continue
		}
		t.network = filepath.Join(b.tmp, t.network)
		t.dir, t.out = filepath.Join(b.tmp, fmt.Sprintf("in-%d", i)), filepath.Join(b.tmp, fmt.Sprintf("out-%d", i))
		t.forge, t.self, t.python = forgepipe, self, [2]string{interpreter, script}
		t.line = func(args ...string) *exec.Cmd {
			args = append(append([]string{}, pin...), args...)
			return exec.Command(args[0], args[1:]...)
		}
		for dir, set := range map[string][3]int{t.dir: {t.n, t.size.X, t.size.Y}, t.dir + "-one": {1, 8, 8}} {
			if msg, err := exec.Command(self, "-job", "set", fmt.Sprint(set[0]), fmt.Sprint(set[1]), fmt.Sprint(set[2]), photographs, dir).CombinedOutput(); err != nil {
				return nil, fmt.Errorf("making pictures: %w\n%s", err, msg)
			}
		}
		if err := t.prepare(); err != nil {
			return nil, err
		}
		b.tasks = append(b.tasks, t)
	}
	if len(b.tasks) == 0 {
		return nil, fmt.Errorf("no task's name contains %q", only)
	}
	return b, nil
}

// prepare makes the entrants.
func (t *task) prepare() error {
	tile := ""
	if t.tile > 0 {
		tile = fmt.Sprintf(", tile: %d", t.tile)
	}
	us := func(name, in, out string) (*entrant, error) {
		yaml := out + ".yaml"
		text := fmt.Sprintf("name: bench-upscale\nsource: {images: {path: %q}}\nstages:\n  - upscale: {model: %q%s}\n  - write: {path: %q, format: png}\n", in, t.network, tile, out)
		return &entrant{name: name, out: out, command: func() *exec.Cmd {
			_ = os.RemoveAll(out)
			return t.line(t.forge, "run", yaml, "--cache", "none", "--json", "--quiet")
		}}, os.WriteFile(yaml, []byte(text), 0o666)
	}
	var err, err2 error
	t.us, err = us("forgepipe", t.dir, t.out)
	t.start, err2 = us("forgepipe, one picture of 8x8", t.dir+"-one", t.out+"-one")
	t.bare = &entrant{name: "bare runtime", command: func() *exec.Cmd {
		return t.line(append([]string{t.self, "-job", "bare", t.network}, t.runs()...)...)
	}}
	for _, library := range []string{"opencv", "pillow"} {
		if library == "pillow" && filepath.Base(t.network) == rrdbFile {
			continue // how it is written hardly counts there
		}
		out := t.out + "-" + library
		name := map[string]string{"opencv": "Python, written with OpenCV", "pillow": "Python, written with Pillow"}[library]
		t.peers = append(t.peers, &entrant{name: name, out: out, command: func() *exec.Cmd {
			_ = os.RemoveAll(out)
			return t.line(t.python[0], t.python[1], "loop", library, t.network, fmt.Sprint(t.tiling.tile), fmt.Sprint(t.tiling.overlap), fmt.Sprint(threads), t.dir, out)
		}})
	}
	return errors.Join(err, err2)
}

func (t *task) entrants() []*entrant {
	return append([]*entrant{t.us, t.bare, t.start}, t.peers...)
}

// done is what forgepipe says that it has done.
type done struct {
	Runs, Items int64 // of the network: an item is a tile
	Largest     int   `json:"largest_batch"`
}

// document is forgepipe's, as far as it is read here.
type document struct {
	Summary struct {
		Out      int
		Governed []done
		Stages   []struct{ ID, Note string }
	}
}

// does reads what forgepipe printed.
func does(stdout []byte, pictures int) (d done, note string, err error) {
	var doc document
	if err := json.Unmarshal(stdout, &doc); err != nil {
		return d, "", fmt.Errorf("reading what forgepipe says: %w", err)
	}
	if doc.Summary.Out != pictures || len(doc.Summary.Governed) != 1 {
		return d, "", fmt.Errorf("forgepipe has made %d of %d pictures with %d networks", doc.Summary.Out, pictures, len(doc.Summary.Governed))
	}
	for _, s := range doc.Summary.Stages {
		if strings.Contains(s.Note, "overlap") {
			note = s.Note
		}
	}
	return doc.Summary.Governed[0], note, nil
}

var tilesNote = regexp.MustCompile(`tiles of up to (\d+) x (\d+) with an overlap of (\d+) px`)

// plan runs forgepipe once, to learn in what tiles it cuts the pictures.
func (t *task) plan() error {
	u, err := proc.Run(1, []*exec.Cmd{t.us.command()})
	if err != nil {
		return err
	}
	d, note, err := does(u.Stdout, t.n)
	if err != nil {
		return err
	}
	m := tilesNote.FindStringSubmatch(note)
	if m == nil || m[1] != m[2] {
		return fmt.Errorf("forgepipe does not say how large its tiles are: %q", note)
	}
	t.tiling.tile, _ = strconv.Atoi(m[1])
	t.tiling.overlap, _ = strconv.Atoi(m[3])
	t.tiling.batch = max(d.Largest, 1)
	if want := int64(t.n * len(t.tiles())); d.Items != want {
		return fmt.Errorf("forgepipe runs %d tiles, and %d are measured bare: what is said in tiling is out of date", d.Items, want)
	}
	return nil
}
