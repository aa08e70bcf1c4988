package images

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/internal/extsort"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/files"
)

const (
	maxLine    = 64 << 10 // bytes of a line in a list
	listMemory = 16 << 20 // bytes of a list that are sorted in memory
)

// emitList offers the files that a list names, folder by folder. Which of them
// must keep their extension depends on their neighbours, which may stand
// anywhere in the list, so it is sorted first, on disk if it is long.
func (s *Source) emitList(ctx context.Context, emit func(pipeline.Input) error) error {
	scratch, err := s.env.Scratch()
	if err != nil {
		return err
	}
	sorter := extsort.New(scratch, "images-list", listMemory)
	err = s.readList(ctx, sorter)
	if err == nil {
		err = s.offerSorted(ctx, sorter, emit)
	}
	if cerr := sorter.Close(); err == nil {
		err = cerr
	}
	return err
}

// readList puts every path of the list into the sorter, under its folder and
// its name there.
func (s *Source) readList(ctx context.Context, sorter *extsort.Sorter) error {
	f, err := os.Open(s.list)
	if err != nil {
		return fmt.Errorf("opening the list of files: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, maxLine)
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("reading the list of files: line %d of %s has over %d bytes: it is no list of paths, one per line", n, s.list, maxLine)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading the list of files: %w", err)
		}
		text := strings.TrimRight(string(line), "\r\n")
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff") // some editors begin a file so
		}
		if text != "" && !strings.HasPrefix(text, "#") {
			dir, base := path.Split(s.relative(text))
			if err := sorter.Add(dir+"\x00"+base, nil); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// relative is a listed path's name: relative to the root where it lies below
// it, otherwise the path as it was given, cleaned.
func (s *Source) relative(text string) string {
	text = strings.ReplaceAll(text, "\x00", "\ufffd") // no file is called so
	if filepath.IsAbs(text) {
		if rel, err := filepath.Rel(s.tree.Root, text); err == nil && filepath.IsLocal(rel) {
			return filepath.ToSlash(rel)
		}
	}
	return path.Clean(filepath.ToSlash(text))
}

// listed is one path of a list.
type listed struct {
	name  string // within its folder
	again bool   // the path before is the same
}

// offerSorted takes the sorted paths folder by folder.
func (s *Source) offerSorted(ctx context.Context, sorter *extsort.Sorter, emit func(pipeline.Input) error) error {
	var dir string
	var folder []listed
	for rec, err := range sorter.All() {
		if err != nil {
			return err
		}
		d, name, _ := strings.Cut(rec.Key, "\x00")
		if d != dir {
			if err := s.offerFolder(ctx, dir, folder, emit); err != nil {
				return err
			}
			dir, folder = d, folder[:0]
		}
		again := len(folder) > 0 && folder[len(folder)-1].name == name
		folder = append(folder, listed{name, again})
	}
	return s.offerFolder(ctx, dir, folder, emit)
}

// offerFolder offers the listed files of one folder. They were asked for by
// name, so whatever is wrong with one is its failure and not a reason to ignore
// it; what the file itself is like, the engine finds out.
func (s *Source) offerFolder(ctx context.Context, dir string, folder []listed, emit func(pipeline.Input) error) error {
	names := make([]string, 0, len(folder))
	for _, l := range folder {
		if !l.again {
			names = append(names, l.name)
		}
	}
	keep := files.KeepExtensions(names)
	at := -1
	for _, l := range folder {
		if err := ctx.Err(); err != nil {
			return err
		}
		in := pipeline.Input{Name: dir + l.name}
		switch {
		case l.again:
			in.Ignored = "listed twice"
		case !filepath.IsLocal(in.Name):
			at++
			in.Err = fmt.Errorf("it lies outside of %s: give path a folder that holds all listed files", s.tree.Root)
		default:
			at++
			in.Path = s.tree.Path(in.Name)
			in.KeepExtension = keep[at]
			in.Sidecars = s.tree.Besides(in.Name)
			if info, err := os.Stat(in.Path); err == nil && info.IsDir() {
				in.Err = files.ErrFolder
			}
		}
		if err := emit(in); err != nil {
			return err
		}
	}
	return nil
}
