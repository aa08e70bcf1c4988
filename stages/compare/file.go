package compare

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// ErrExists says that a file is there already.
var ErrExists = errors.New("a file is there already")

// Files compares two files, and with Out draws them into that file, whose extension
// must be that of the format. One that is there is replaced with Overwrite only, and
// never one of the two. The error is an *OptionError where the arguments are wrong,
// and ErrExists.
func Files(ctx context.Context, before, after string, o Options) (Result, error) {
	c, err := newComparer(o)
	if err != nil {
		return Result{}, err
	}
	output := ""
	if o.Out != "" {
		if output, err = c.place(before, after); err != nil {
			return Result{}, err
		}
		done, err := c.openOut(filepath.Dir(o.Out))
		if err != nil {
			return Result{}, err
		}
		defer done()
	}
	res := Result{Name: filepath.Base(after), Before: before, After: after}
	if err := c.look(ctx, before, after, &res, output); err != nil {
		return Result{}, err
	}
	if res.Output != "" {
		res.Output = o.Out
	}
	return res, nil
}

// place is the name of the file to be written in its folder.
func (c *comparer) place(before, after string) (string, error) {
	name := filepath.Base(c.Out)
	if !strings.EqualFold(filepath.Ext(name), "."+string(c.Sheet.Format)) {
		return "", wrong("the name of %s does not end in .%s", c.Out, c.Sheet.Format)
	}
	info, err := os.Lstat(c.Out)
	if errors.Is(err, fs.ErrNotExist) {
		return name, nil
	}
	if err != nil {
		return "", wrong("looking at %s: %w", c.Out, err)
	}
	for _, in := range []string{before, after} {
		if i, err := os.Stat(in); err == nil && os.SameFile(i, info) {
			return "", wrong("%s is one of the files that are compared: write to another one", c.Out)
		}
	}
	switch {
	case info.IsDir():
		return "", wrong("%s is a folder: name a file in it, such as %s", c.Out, filepath.Join(c.Out, "sheet."+string(c.Sheet.Format)))
	case !c.Overwrite:
		return "", fmt.Errorf("%s: %w", c.Out, ErrExists)
	}
	return name, nil
}

// write makes a file below the folder, under another name until it is complete.
func (c *comparer) write(name string, encode func(io.Writer) error) error {
	if err := fsys.CheckName(name); err != nil {
		return err
	}
	dir := path.Dir(name)
	if err := c.root.MkdirAll(dir); err != nil {
		return &writeError{fmt.Errorf("writing %s: %w", name, err)}
	}
	temp := tempPrefix + rand.Text() + tempEnd // in the folder itself, where it is looked for
	f, err := c.root.Create(temp)
	if err != nil {
		return &writeError{fmt.Errorf("writing %s: %w", name, err)}
	}
	defer func() { _ = c.root.Remove(temp) }() // nothing is there once it has its name
	w := &watched{w: f}
	err = encode(w)
	if cerr := f.Close(); err == nil && cerr != nil {
		err, w.err = cerr, cerr
	}
	if err == nil {
		if err = c.rename(temp, name); err != nil {
			w.err = err
		}
	}
	if err != nil && w.err != nil {
		return &writeError{fmt.Errorf("writing %s: %w", name, err)}
	}
	return err
}

// rename gives the file its name. Without Overwrite it never replaces one that has
// come in the meantime.
func (c *comparer) rename(temp, name string) error {
	if c.Overwrite {
		return c.root.Rename(temp, name)
	}
	err := fsys.MoveNew(c.root, temp, c.root, name)
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	return err
}

// watched remembers that writing failed.
type watched struct {
	w   io.Writer
	err error
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	if err != nil {
		w.err = err
	}
	return n, err
}
