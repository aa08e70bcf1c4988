package moves_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// A duplicate goes to a folder, and comes back.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	photos, duplicates := filepath.Join(dir, "photos"), filepath.Join(dir, "duplicates")
	best, again := filepath.Join(photos, "best.jpg"), filepath.Join(photos, "again.jpg")
	if err := errors.Join(os.Mkdir(photos, 0o777), os.WriteFile(best, []byte("picture"), 0o666), os.WriteFile(again, []byte("picture"), 0o666)); err != nil {
		fmt.Println(err)
		return
	}

	jobs := func(yield func(moves.Job, error) bool) {
		yield(moves.Job{ID: "again.jpg", Source: "again.jpg", Path: again, Size: 7, Keeper: "best.jpg", KeeperPath: best, KeeperSize: 7}, nil)
	}
	report, err := moves.Apply(context.Background(), moves.Options{Action: moves.Move, To: duplicates}, jobs)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("moved:", report.Images, "left alone:", report.Left)

	back, err := moves.Restore(context.Background(), duplicates, moves.RestoreOptions{All: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("restored:", back.Restored)
	// Output:
	// moved: 1 left alone: 0
	// restored: 1
}
