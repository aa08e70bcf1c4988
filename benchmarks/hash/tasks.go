package main

import (
	"bufio"
	"embed"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/benchmarks/internal/python"
)

//go:embed peers.py requirements.txt
var peerFiles embed.FS

// tasks are all that is measured.
type tasks struct {
	hashes []*duel // a hash of all photographs, on one thread
	whole  *duel   // three hashes of all photographs, as whole programs
	search []*duel // duplicates among hashes that are there
	notes  []string
	tmp    string
}

func (t *tasks) all() []*duel {
	return append(append(append([]*duel{}, t.hashes...), t.whole), t.search...)
}

// Sets of hashes to search: their sizes and distances. The first is one that
// imagededup, which compares all with all, gets through.
var sets = []struct {
	name, kind      string
	n, bytes, limit int
	peer            bool
}{
	{"5,000 hashes of 64 bits, distance up to 6", "phash", 5_000, 8, 6, true},
	{"10,000 hashes of 64 bits, distance up to 6", "phash", 10_000, 8, 6, true},
	{"200,000 hashes of 64 bits, distance up to 6", "phash", 200_000, 8, 6, false},
	{"200,000 PDQ hashes of 256 bits, distance up to 31", "pdq", 200_000, 32, 31, false},
}

func newTasks(dir, photographs string) (*tasks, error) {
	t := &tasks{}
	forgepipe, version, err := proc.Forgepipe()
	if err != nil {
		return nil, err
	}
	t.notes = append(t.notes, version)
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	interpreter, script, missing, err := python.Install(filepath.Join(dir, "python"), peerFiles, "peers.py", "python3-venv of version 3.11 or newer, the network, and a C++ compiler for pdqhash")
	if err != nil {
		return nil, err
	}
	if missing != "" {
		t.notes = append(t.notes, "pdqhash and imagededup are left out: "+missing)
	} else {
		t.notes = append(t.notes, proc.Output(interpreter, script, "versions"))
	}
	if t.tmp, err = os.MkdirTemp(dir, "hash-"); err != nil {
		return nil, err
	}
	line := func(threads int, args ...string) func() *exec.Cmd {
		args = append(proc.Pin(threads), args...)
		return func() *exec.Cmd { return exec.Command(args[0], args[1:]...) }
	}
	peer := func(name string, threads int, args ...string) *entrant {
		if missing != "" {
			return nil
		}
		return &entrant{name: name, command: line(threads, append([]string{interpreter, script}, args...)...)}
	}

	for _, what := range []string{"file", "pixels"} {
		for _, kind := range []string{"pdq", "phash", "dhash"} {
			library := "imagededup"
			if kind == "pdq" {
				library = "pdqhash"
			}
			t.hashes = append(t.hashes, &duel{
				name: map[string]string{"pdq": "PDQ", "phash": "pHash", "dhash": "dHash"}[kind] + map[string]string{"file": " of the JPEG", "pixels": " of decoded pixels"}[what],
				us:   &entrant{name: "forgepipe", command: line(1, self, "-job", "hash", kind, what, photographs)},
				peer: peer(library, 1, "hash", kind, what, fmt.Sprint(repeats), photographs),
			})
		}
	}
	t.whole = &duel{
		name: "PDQ, pHash and dHash of the JPEGs, 2 workers, whole program",
		us: &entrant{name: "forgepipe run", command: func() *exec.Cmd {
			out := filepath.Join(t.tmp, "whole")
			_ = os.RemoveAll(out) // with its cache: what an earlier round found is not to be used
			return line(threads, forgepipe, "run", filepath.Join("benchmarks", "hash", "hash.yaml"), "--set", "INPUT="+photographs, "--set", "OUT="+out, "--cache", filepath.Join(out, "cache"))()
		}},
		peer: peer("imagededup and pdqhash", threads, "all", fmt.Sprint(threads), photographs),
	}
	for i, s := range sets {
		file := filepath.Join(t.tmp, fmt.Sprintf("hashes-%d.txt", i))
		if err := plant(file, s.n, s.bytes, s.limit); err != nil {
			return nil, err
		}
		d := &duel{name: s.name, us: &entrant{name: "forgepipe", command: func() *exec.Cmd {
			state := filepath.Join(t.tmp, "search")
			_ = os.RemoveAll(state)
			_ = os.MkdirAll(state, 0o777) // the job says what is wrong
			return line(threads, self, "-job", "dedup", s.kind, fmt.Sprint(s.limit), file, state)()
		}}}
		if s.peer {
			d.peer = peer("imagededup", threads, "search", file, fmt.Sprint(s.limit), fmt.Sprint(threads))
		}
		t.search = append(t.search, d)
	}
	return t, nil
}

// plantedEvery is how many hashes there are for each that has a duplicate.
const plantedEvery = 20

// plant writes random hashes, of which some are within the limit of the one
// before. The same call writes the same file.
func plant(file string, n, size, limit int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	rnd := rand.New(rand.NewPCG(uint64(n), uint64(size)))
	b := bufio.NewWriter(f)
	h := make([]byte, size)
	for i := range n {
		if i%plantedEvery == 1 {
			for range rnd.IntN(limit + 1) {
				bit := rnd.IntN(8 * size)
				h[bit/8] ^= 1 << (bit % 8)
			}
		} else {
			for j := range h {
				h[j] = byte(rnd.Uint32())
			}
		}
		b.WriteString(hex.EncodeToString(h) + "\n")
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return f.Close()
}
