package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/photos"
	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/python"
)

//go:embed peers.py requirements.txt
var peerFiles embed.FS

// benchmark is all that is measured.
type benchmark struct {
	sizes
	tasks    []*task
	accuracy *accuracy
	notes    []string
	tmp      string

	forgepipe, self, photographs string
	interpreter, script, missing string // of Python; missing says why there is none
}

// kind is what is done to what.
type kind int

const (
	keepHashes kind = iota
	hashPairs
	vectorPairs
	folder
)

// A task is the same work for several programs.
type task struct {
	kind     kind
	name     string
	entrants []*entrant // forgepipe first
	near     float64    // of pairs with a value: those so near to the threshold may be found or not
	limit    float64    // the threshold
	alike    []string   // what the entrants found, against the first
}

// entrant is one program at one task.
type entrant struct {
	name    string
	command func() *exec.Cmd
	pairs   string // the file that it writes them to; empty: none
	// of is by how much the work is less than the whole task's: what it took is to be
	// multiplied by it. What comes before, as building an index, is not.
	of      float64
	samples []sample
}

// sample is what a program prints, and what it took as a whole. Wall is what it took
// for the search alone, and Before for what that needs, in seconds.
type sample struct {
	Wall, Before float64
	Found        int
	Note         string
	Usage        proc.Usage `json:"-"`
}

func (e *entrant) run() error {
	u, err := proc.Run(1, []*exec.Cmd{e.command()})
	if err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	s := sample{Usage: u}
	if len(u.Stdout) > 0 {
		if err := json.Unmarshal(u.Stdout, &s); err != nil {
			return fmt.Errorf("%s: reading its answer %q: %w", e.name, u.Stdout, err)
		}
	}
	s.Usage = u
	e.samples = append(e.samples, s)
	fmt.Fprintf(os.Stderr, "%s: %s\n", e.name, u)
	return nil
}

func newBench(dir string, s sizes) (*benchmark, error) {
	b := &benchmark{sizes: s}
	var version string
	var err error
	if b.forgepipe, version, err = proc.Forgepipe(); err != nil {
		return nil, err
	}
	b.notes = append(b.notes, version)
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.photographs, err = photos.Prepare(dir); err != nil {
		return nil, err
	}
	b.interpreter, b.script, b.missing, err = python.Install(filepath.Join(dir, "python-dedup"), peerFiles, "peers.py", "python3-venv of version 3.11 or newer, and the network")
	if err != nil {
		return nil, err
	}
	if b.missing != "" {
		b.notes = append(b.notes, "FAISS and imagededup are left out: "+b.missing)
	} else {
		b.notes = append(b.notes, proc.Output(b.interpreter, b.script, "versions"))
	}
	b.tmp, err = os.MkdirTemp(dir, "dedup-")
	return b, err
}

// line is a command on as many CPUs as it has threads.
func (b *benchmark) line(args ...string) func() *exec.Cmd {
	args = append(proc.Pin(threads), args...)
	return func() *exec.Cmd { return exec.Command(args[0], args[1:]...) }
}

// us is a search by this program itself, as forgepipe does it.
func (b *benchmark) us(name, pairs string, args ...string) *entrant {
	e := &entrant{name: name, of: 1, pairs: pairs}
	e.command = b.line(append([]string{b.self, "-job"}, args...)...)
	return e
}

// peer adds a Python program to a task, if there is Python.
func (b *benchmark) peer(t *task, name string, of float64, pairs string, args ...string) {
	if b.missing == "" {
		t.entrants = append(t.entrants, &entrant{name: name, of: of, pairs: pairs, command: b.line(append([]string{b.interpreter, b.script}, args...)...)})
	}
}

func (b *benchmark) path(name string) string { return filepath.Join(b.tmp, name) }

// What is near, in all searches.
const (
	pdqBytes, pdqLimit = 32, 31 // bits
	fewBytes, fewLimit = 8, 6
	dim                = 512
	leastSimilarity    = 0.95
)

func (b *benchmark) addHashes() error {
	many, few := b.path("pdq.bin"), b.path("few.bin")
	if err := plantHashes(many, b.hashes, pdqBytes, pdqLimit); err != nil {
		return err
	}
	if err := plantHashes(few, b.fewHashes, fewBytes, fewLimit); err != nil {
		return err
	}
	part, of := fmt.Sprint(b.hashPart), float64(b.hashes)/float64(b.hashPart)
	keep := &task{kind: keepHashes, name: fmt.Sprintf("keeping one of each group of %d PDQ hashes, up to %d bits apart", b.hashes, pdqLimit)}
	keep.entrants = []*entrant{b.us("forgepipe", "", "hashes", "keep", many, fmt.Sprint(pdqBytes), fmt.Sprint(pdqLimit), part, "")}
	t := &task{kind: hashPairs, name: fmt.Sprintf("all pairs of %d PDQ hashes, up to %d bits apart", b.hashes, pdqLimit)}
	t.entrants = []*entrant{b.us("forgepipe", b.path("ours"), "hashes", "pairs", many, fmt.Sprint(pdqBytes), fmt.Sprint(pdqLimit), part, b.path("ours"))}
	for _, index := range []string{"IndexBinaryFlat", "IndexBinaryMultiHash"} {
		b.peer(t, "FAISS "+index, of, b.path(index), "faiss-hashes", index, many, fmt.Sprint(pdqBytes), fmt.Sprint(pdqLimit), part, b.path(index), fmt.Sprint(threads))
	}
	small := &task{kind: hashPairs, name: fmt.Sprintf("all pairs of %d hashes of 64 bits, up to %d bits apart", b.fewHashes, fewLimit)}
	small.entrants = []*entrant{b.us("forgepipe", b.path("few-ours"), "hashes", "pairs", few, fmt.Sprint(fewBytes), fmt.Sprint(fewLimit), fmt.Sprint(b.fewHashes), b.path("few-ours"))}
	b.peer(small, "imagededup", 1, b.path("few-theirs"), "imagededup-hashes", few, fmt.Sprint(fewLimit), b.path("few-theirs"), fmt.Sprint(threads))
	b.tasks = append(b.tasks, keep, t, small)
	return nil
}

func (b *benchmark) addVectors() error {
	for _, s := range []struct {
		name    string
		n, part int
	}{{"many", b.vectors, b.vecPart}, {"few", b.fewVectors, b.fewVectors}} {
		file, ours := b.path(s.name+".f32"), b.path(s.name+"-vectors-ours")
		if err := plantVectors(file, s.n); err != nil {
			return err
		}
		t := &task{
			kind: vectorPairs,
			name: fmt.Sprintf("all pairs of %d vectors of %d numbers, similarity at least %g", s.n, dim, leastSimilarity),
			near: 1e-6, limit: leastSimilarity,
		}
		t.entrants = []*entrant{b.us("forgepipe", ours, "vectors", file, fmt.Sprint(s.part), ours, b.path(s.name+"-scratch"))}
		theirs := b.path(s.name + "-vectors-faiss")
		b.peer(t, "FAISS IndexFlatIP", float64(s.n)/float64(s.part), theirs, "faiss-vectors", file, fmt.Sprint(dim), fmt.Sprint(leastSimilarity), fmt.Sprint(s.part), theirs, fmt.Sprint(threads))
		if s.name == "few" {
			theirs = b.path("few-vectors-cnn")
			b.peer(t, "imagededup's CNN search", 1, theirs, "cnn", file, fmt.Sprint(dim), fmt.Sprint(leastSimilarity), theirs, fmt.Sprint(threads))
		}
		b.tasks = append(b.tasks, t)
	}
	return nil
}

const imagededupFolder = "imagededup PHash"

func (b *benchmark) addImages() error {
	images := b.path("images")
	if msg, err := exec.Command(b.self, "-job", "images", fmt.Sprint(b.images), b.photographs, images).CombinedOutput(); err != nil {
		return fmt.Errorf("preparing: %w\n%s", err, msg)
	}
	t := &task{kind: folder, name: fmt.Sprintf("the duplicates by pHash of %d images of %dx%d, up to %d bits apart", b.images, imageWidth, imageHeight, fewLimit)}
	for _, decode := range []string{"fast", "exact"} {
		t.entrants = append(t.entrants, &entrant{name: "forgepipe run, decode: " + decode, of: 1, command: func() *exec.Cmd {
			out := b.path("out")
			_ = os.RemoveAll(out) // with its cache: what an earlier round found is not to be used
			return b.line(b.forgepipe, "run", filepath.Join("benchmarks", "dedup", "dedup.yaml"), "--set", "DECODE="+decode, "--set", "INPUT="+images, "--set", "OUT="+out, "--cache", filepath.Join(out, "cache"))()
		}})
	}
	b.peer(t, imagededupFolder, 1, "", "find", images, fmt.Sprint(fewLimit), fmt.Sprint(threads))
	if path, err := exec.LookPath("czkawka_cli"); err == nil {
		t.entrants = append(t.entrants, &entrant{name: "czkawka_cli image", of: 1, command: b.line(append([]string{path}, czkawka(images, b.path("czkawka.txt"))...)...)})
		version, _, _ := strings.Cut(proc.Output(path, "--version"), "\n")
		b.notes = append(b.notes, version)
	} else {
		b.notes = append(b.notes, "czkawka_cli is not available: `cargo install czkawka_cli` builds it")
	}
	b.tasks = append(b.tasks, t)
	return nil
}

// czkawka are the arguments of czkawka_cli 12 to search a folder by its own hash, of
// 64 bits, without its cache.
func czkawka(images, out string) []string {
	return []string{
		"image", "--directories", images, "--file-to-save", out, "--thread-number", fmt.Sprint(threads),
		"--hash-size", "8", "--max-difference", fmt.Sprint(fewLimit), "--disable-cache", "--ignore-error-code-on-found",
		"--do-not-print-results", "--do-not-print-messages",
	}
}
