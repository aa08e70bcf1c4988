package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// duplicated does with files what dedup does with those of duplicates:
// duplicated ACTION SOURCES FOLDER TIME KEEPER FILE...
func duplicated(ts *testscript.TestScript, _ bool, args []string) {
	at, err := time.Parse(time.RFC3339, args[3])
	ts.Check(err)
	ts.Check(moveDuplicates(moves.Action(args[0]), ts.MkAbs(args[1]), ts.MkAbs(args[2]), at, args[4], args[5:]...))
}

// moveDuplicates does what dedup does with duplicates of a picture.
func moveDuplicates(action moves.Action, root, to string, at time.Time, keeper string, names ...string) error {
	kept, err := os.Stat(filepath.Join(root, keeper))
	if err != nil {
		return err
	}
	jobs := func(yield func(moves.Job, error) bool) {
		for _, name := range names {
			j := moves.Job{ID: name, Source: name, Path: filepath.Join(root, name), Keeper: keeper, KeeperPath: filepath.Join(root, keeper), KeeperSize: kept.Size()}
			info, err := os.Stat(j.Path)
			if err != nil {
				yield(j, err)
				return
			}
			j.Size = info.Size()
			text := strings.TrimSuffix(j.Path, filepath.Ext(name)) + ".txt"
			if info, err := os.Stat(text); err == nil {
				j.Sidecars = []pipeline.Sidecar{{Ext: ".txt", Path: text, Size: info.Size(), Time: info.ModTime().UnixNano()}}
			}
			if !yield(j, nil) {
				return
			}
		}
	}
	_, err = moves.Apply(context.Background(), moves.Options{Action: action, To: to, Record: filepath.Join(to, moves.RecordName), DeleteCount: -1, Time: at}, jobs)
	return err
}

// duplicates makes the folder to which duplicates of one of the pictures went.
func (w *workplace) duplicates(folder string) {
	w.t.Helper()
	if err := os.RemoveAll(w.path(folder)); err != nil {
		w.t.Fatal(err)
	}
	const keeper = "photos/boats.jpg"
	data, err := os.ReadFile(w.path(keeper))
	if err != nil {
		w.t.Fatal(err)
	}
	names := []string{"trip/copy.jpg", "trip/again.jpg"}
	for _, name := range names {
		w.write("photos/"+name, data)
	}
	if err := moveDuplicates(moves.Move, w.path("photos"), w.path(folder), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "boats.jpg", names...); err != nil {
		w.t.Fatal(err)
	}
}
