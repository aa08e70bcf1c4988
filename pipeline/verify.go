package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/runstore"
)

// VerifyReport is what Verify found.
type VerifyReport struct {
	Files   int64    `json:"files"`   // recorded as written
	Right   int64    `json:"right"`   // there, with the recorded bytes
	Missing int64    `json:"missing"` // not there
	Changed int64    `json:"changed"` // there with other bytes
	Faults  []string `json:"faults"`  // the first 100 of the latter two: path and what is wrong
}

const shownFaults = 100

// Verify reads every file that the run store in stateDir records as written and
// compares it with its recorded hash. files is where they are; nil: on this machine.
// It writes nothing, and may run beside a run. The error is for what keeps it from
// looking, not for what it finds; it matches fs.ErrNotExist when there is no run
// store.
func Verify(ctx context.Context, stateDir string, files FS) (*VerifyReport, error) {
	if files == nil {
		files = fsys.OS
	}
	stateDir = absolute(stateDir)
	s, err := runstore.OpenReadOnly(ctx, stateDir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	rep := &VerifyReport{Faults: []string{}}
	roots := map[string]fsys.Root{}
	defer func() {
		for _, r := range roots {
			_ = r.Close()
		}
	}()
	err = s.Decisions(ctx, func(src runstore.Source, d runstore.Decision) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.Kind != runstore.Written {
			return nil
		}
		dir, name, err := rowPath(filepath.Dir(stateDir), src, d)
		if err != nil {
			return err
		}
		root := roots[dir]
		if root == nil {
			// OpenRoot would make a folder that is missing.
			_, err := os.Stat(dir)
			if err == nil {
				root, err = files.OpenRoot(dir)
			}
			switch {
			case err == nil:
				roots[dir] = root
			case !errors.Is(err, fs.ErrNotExist):
				return err
			}
		}
		rep.Files++
		fault := ""
		var h [16]byte
		err = fs.ErrNotExist
		if root != nil {
			h, err = hashFile(root, name)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			rep.Missing++
			fault = "missing"
		case err != nil:
			rep.Changed++
			fault = err.Error()
		case h != d.Hash:
			rep.Changed++
			fault = "not the bytes that were written"
		default:
			rep.Right++
		}
		if fault != "" && len(rep.Faults) < shownFaults {
			rep.Faults = append(rep.Faults, fmt.Sprintf("%s: %s", filepath.Join(dir, name), fault))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("verifying outputs: %w", err)
	}
	return rep, nil
}
