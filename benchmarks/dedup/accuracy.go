package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/benchmarks/internal/proc"
	"github.com/forgepipe/forgepipe/model/store"
)

// accuracy is what each method finds of each kind of copies.
type accuracy struct {
	pictures int
	methods  []method
	found    [][]found // by variant and method
	missing  []string  // methods whose weights are not there
}

// found counts copies that were told to be duplicates of something.
type found struct{ right, wrong int }

// A method is a way to find copies.
type method struct {
	name             string
	by, orientations string // of the stage dedup; empty: a peer
	model            string // that it needs, of the store
}

var methods = []method{
	{name: "pdq", by: "pdq", orientations: "upright"},
	{name: "pdq, all orientations", by: "pdq", orientations: "all"},
	{name: "phash", by: "phash", orientations: "upright"},
	{name: "phash, all orientations", by: "phash", orientations: "all"},
	{name: "dhash", by: "dhash", orientations: "upright"},
	{name: "clip", by: "clip", orientations: "upright", model: "clip-vit-b32"},
	{name: "sscd", by: "sscd", orientations: "upright", model: "sscd-disc-mixup"},
	{name: "lpips", by: "lpips", orientations: "upright", model: "lpips-vgg"},
	{name: "imagededup PHash"},
}

// peerLimit is imagededup's own default, in bits.
const peerLimit = 10

func (b *benchmark) measureAccuracy() error {
	a := &accuracy{}
	b.accuracy = a
	for _, m := range methods {
		switch {
		case m.model != "":
			if _, err := store.Find(m.model); errors.Is(err, store.ErrMissing) {
				a.missing = append(a.missing, m.name)
				continue
			} else if err != nil {
				return err
			}
		case m.by == "" && b.missing != "":
			continue
		}
		a.methods = append(a.methods, m)
	}
	to := b.path("variants")
	if msg, err := exec.Command(b.self, "-job", "variants", b.photographs, filepath.Join("testdata", "photos"), to).CombinedOutput(); err != nil {
		return fmt.Errorf("making copies: %w\n%s", err, msg)
	}
	originals, err := os.ReadDir(filepath.Join(to, "originals"))
	if err != nil {
		return err
	}
	a.pictures = len(originals)
	for i, v := range variants {
		fmt.Fprintln(os.Stderr, "accuracy:", v.name)
		var row []found
		for _, m := range a.methods {
			f, err := b.measure(m, variantFolder(to, i))
			if err != nil {
				return fmt.Errorf("%s, %s: %w", v.name, m.name, err)
			}
			row = append(row, f)
		}
		a.found = append(a.found, row)
	}
	return nil
}

// measure runs a method on a folder with originals and copies.
func (b *benchmark) measure(m method, folder string) (found, error) {
	keepers := map[string]string{} // of copies
	if m.by == "" {
		u, err := proc.Run(1, []*exec.Cmd{b.line(b.interpreter, b.script, "accuracy", folder, fmt.Sprint(peerLimit), fmt.Sprint(threads))()})
		if err != nil {
			return found{}, err
		}
		if err := json.Unmarshal(u.Stdout, &keepers); err != nil {
			return found{}, err
		}
		return count(keepers), nil
	}
	out := b.path("accuracy-out")
	if err := os.RemoveAll(out); err != nil {
		return found{}, err
	}
	if _, err := proc.Run(1, []*exec.Cmd{b.line(b.forgepipe, "run", filepath.Join("benchmarks", "dedup", "accuracy.yaml"), "--cache", filepath.Join(out, "cache"),
		"--set", "INPUT="+folder, "--set", "OUT="+out, "--set", "BY="+m.by, "--set", "ORIENTATIONS="+m.orientations)()}); err != nil {
		return found{}, err
	}
	f, err := os.Open(filepath.Join(out, "groups.jsonl"))
	if err != nil {
		return found{}, err
	}
	defer f.Close()
	type item struct{ Source string }
	type group struct {
		Keeper  item
		Members []item
	}
	for d := json.NewDecoder(bufio.NewReader(f)); d.More(); {
		var g group
		if err := d.Decode(&g); err != nil {
			return found{}, fmt.Errorf("reading the groups: %w", err)
		}
		for _, i := range g.Members {
			keepers[i.Source] = g.Keeper.Source
		}
	}
	return count(keepers), nil
}

// count compares what copies were taken for with what they are copies of.
func count(keepers map[string]string) (f found) {
	for c, keeper := range keepers {
		if keeper == "originals/"+strings.TrimPrefix(c, "copies/") {
			f.right++
		} else {
			f.wrong++
		}
	}
	return f
}
