package groups_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/stages/dedup/groups"
)

// Three pictures were compared by PDQ; how many duplicates would fewer bits find?
func Example() {
	header := groups.Header{
		Items:   3,
		Steps:   []groups.Step{{Measure: groups.Measure{Step: "pdq", Whole: true}, Threshold: 31}},
		Clauses: [][]int{{0}},
	}
	var file bytes.Buffer
	w, err := groups.NewPairs(&file, groups.JSONL, header)
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range []groups.Pair{
		{A: "a.jpg", B: "b.jpg", RankA: 0, RankB: 1, Values: []float64{4}},
		{A: "a.jpg", B: "c.jpg", RankA: 0, RankB: 2, Values: []float64{28}},
	} {
		if err := w.Add(p); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("pairs-%d.jsonl", os.Getpid()))
	if err := os.WriteFile(path, file.Bytes(), 0o666); err != nil {
		log.Fatal(err)
	}

	pairs, err := groups.ReadPairs(path)
	if err != nil {
		log.Fatal(err)
	}
	points, err := pairs.Sweep(context.Background(), "pdq", []float64{3, 10, 31}, 0)
	if err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(pairs.Close(), os.Remove(path)); err != nil {
		log.Fatal(err)
	}
	for _, p := range points {
		fmt.Println(p.Threshold, "bits:", p.Duplicates, "duplicates")
	}
	// Output:
	// 3 bits: 0 duplicates
	// 10 bits: 1 duplicates
	// 31 bits: 2 duplicates
}
