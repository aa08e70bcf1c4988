package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
)

// walker goes through a tree of folders.
type walker struct {
	source *Source
	emit   func(pipeline.Input) error
}

// verdict is what an entry of a folder turned out to be.
type verdict uint8

const (
	passedOver verdict = iota // not asked for by the pattern, or attached to an image
	image
	side // a sidecar, if there is an image for it
	descend
	impossible // claims to be an image and cannot be one
	ignored
)

// entry is one name in a folder. A folder may hold millions, so it is small.
type entry struct {
	name    string
	mode    fs.FileMode // its type
	verdict verdict
	keep    bool // an image that keeps its extension
	wanted  bool // the pattern asks for it, or there is none
	why     error
}

// compare sorts entries so that all names of the tree come in bytewise order:
// the names in a folder begin with the folder's name and a slash.
func compare(a, b entry) int {
	n := min(len(a.name), len(b.name))
	if c := strings.Compare(a.name[:n], b.name[:n]); c != 0 {
		return c
	}
	return strings.Compare(a.rest(n), b.rest(n))
}

// rest is what decides after the first n bytes of the name, which is at most one
// byte where the name ends there.
func (e *entry) rest(n int) string {
	if n == len(e.name) && e.verdict == descend {
		return "/"
	}
	return e.name[n:]
}

// folder offers what is in the folder rel (empty for the root, otherwise with a
// slash at its end), and below it.
func (w *walker) folder(ctx context.Context, rel string, states []int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := w.read(rel)
	if err != nil {
		if rel == "" {
			return fmt.Errorf("reading the input folder %s: %w", w.source.root, plain(err))
		}
		// With its slash, the name cannot be that of anything else.
		if err := w.emit(pipeline.Input{Name: rel, Err: fmt.Errorf("reading the folder: %w", plain(err))}); err != nil {
			return err
		}
	}
	entries = w.judge(entries, rel, states)
	sides := w.pair(entries)
	for i := range entries {
		if err := w.offer(ctx, rel, &entries[i], sides, states); err != nil {
			return err
		}
		entries[i] = entry{} // the folder may be waiting for one deep below it
	}
	return nil
}

// read lists a folder. After an error, what was read until then counts.
func (w *walker) read(rel string) ([]entry, error) {
	dir, err := os.Open(w.path(rel))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var out []entry
	for {
		list, err := dir.ReadDir(1024)
		for _, d := range list {
			out = append(out, entry{name: d.Name(), mode: d.Type(), wanted: true})
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}

func (w *walker) path(rel string) string {
	return filepath.Join(w.source.root, filepath.FromSlash(rel))
}

// judge decides what each entry is, and sorts them. Links are followed to learn
// what they point at, and files without a known extension are looked into.
func (w *walker) judge(entries []entry, rel string, states []int) []entry {
	for i := range entries {
		e := &entries[i]
		if states != nil {
			e.wanted = matches(w.source.pattern, states, e.name)
		}
		w.judgeOne(e, rel)
		if e.verdict == ignored && !e.wanted && (!e.leads() || len(below(w.source.pattern, states, e.name)) == 0) {
			e.verdict = passedOver
		}
	}
	// A folder that claims to be an image is both: quarantined under its name,
	// and read all the same so that nothing in it is lost.
	for i := range entries {
		if e := &entries[i]; e.verdict == descend && e.wanted && imageio.KnownExtension(e.name) {
			entries = append(entries, entry{name: e.name, verdict: impossible, wanted: true, why: errFolder})
		}
	}
	slices.SortFunc(entries, compare)
	return entries
}

var (
	errFolder   = errors.New("it is a folder, not an image")
	errHidden   = errors.New("hidden")
	errLinked   = errors.New("link to a folder, not followed")
	errNoImage  = errors.New("not an image")
	errAlone    = errors.New("a sidecar without an image")
	errNotAsked = errors.New("a folder, and recursive is false")
)

// leads reports whether a pattern might have gone on below the entry.
func (e *entry) leads() bool { return e.mode.IsDir() || errors.Is(e.why, errLinked) }

func (w *walker) judgeOne(e *entry, rel string) {
	if strings.HasPrefix(e.name, ".") {
		e.verdict, e.why = ignored, errHidden
		return
	}
	if e.mode&fs.ModeSymlink != 0 && !w.follow(e, rel) {
		return
	}
	looks := imageio.KnownExtension(e.name)
	_, _, isSide := w.source.isSidecar(e.name)
	switch {
	case e.mode.IsDir() && (w.source.recursive || w.source.pattern != nil):
		e.verdict = descend
	case e.mode.IsDir() && looks:
		e.verdict, e.why = impossible, errFolder
	case e.mode.IsDir():
		e.verdict, e.why = ignored, errNotAsked
	case !e.mode.IsRegular() && looks:
		w.cannot(e, fmt.Errorf("it is %s, not an image", kindOf(e.mode)))
	case !e.mode.IsRegular():
		e.verdict, e.why = ignored, errors.New(kindOf(e.mode))
	case isSide:
		e.verdict = side
	case !e.wanted:
		e.verdict = passedOver
	case looks:
		e.verdict = image
	default:
		e.verdict, e.why = sniff(w.path(rel + e.name))
	}
}

// follow gives a link the type of what it points at, and reports whether there
// is more to decide.
func (w *walker) follow(e *entry, rel string) bool {
	file := w.path(rel + e.name)
	info, err := os.Stat(file)
	switch {
	case err == nil && info.IsDir():
		e.verdict, e.why = ignored, errLinked
		return false
	case err == nil:
		e.mode = info.Mode().Type()
		return true
	}
	to, _ := os.Readlink(file)
	err = fmt.Errorf("broken link to %s: %w", pipeline.EscapeID(to), plain(err))
	if imageio.KnownExtension(e.name) {
		w.cannot(e, err)
	} else {
		e.verdict, e.why = ignored, err
	}
	return false
}

// cannot quarantines an entry, if it was asked for.
func (w *walker) cannot(e *entry, why error) {
	e.verdict, e.why = impossible, why
	if !e.wanted {
		e.verdict = passedOver
	}
}

// sniff looks at a file's first bytes.
func sniff(file string) (verdict, error) {
	// The type was that of a regular file a moment ago; should it be a named
	// pipe by now, O_NONBLOCK keeps the opening from waiting for a writer.
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ignored, fmt.Errorf("not known to be an image, and cannot be opened: %w", plain(err))
	}
	defer f.Close()
	var first [16]byte
	n, err := io.ReadFull(f, first[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return ignored, fmt.Errorf("not known to be an image, and cannot be read: %w", plain(err))
	}
	if _, ok := imageio.Sniff(first[:n]); ok {
		return image, nil
	}
	return ignored, errNoImage
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "something special"
}

// pair brings the images of a folder together with what has the same stem:
// other images, and sidecars, which it returns by stem. Sidecars without an
// image become ignored.
func (w *walker) pair(entries []entry) map[string][]string {
	var names []string
	var at []int
	stems := map[string]bool{}
	for i := range entries {
		if e := &entries[i]; e.verdict == image || e.verdict == impossible && !errors.Is(e.why, errFolder) {
			names = append(names, e.name)
			at = append(at, i)
			stem, _ := stemExt(e.name)
			stems[stem] = true
		}
	}
	for j, keep := range keepExtensions(names) {
		entries[at[j]].keep = keep
	}
	sides := map[string][]string{}
	for i := range entries {
		e := &entries[i]
		if e.verdict != side {
			continue
		}
		if stem, ext, _ := w.source.isSidecar(e.name); stems[stem] {
			e.verdict = passedOver
			sides[stem] = append(sides[stem], ext)
		} else if e.wanted {
			e.verdict, e.why = ignored, errAlone
		}
	}
	return sides
}

// offer emits one entry, or what is below it.
func (w *walker) offer(ctx context.Context, rel string, e *entry, sides map[string][]string, states []int) error {
	in := pipeline.Input{Name: rel + e.name}
	switch e.verdict {
	case image:
		in.Path, in.KeepExtension = w.path(in.Name), e.keep
		stem, _ := stemExt(e.name)
		for _, ext := range sides[stem] {
			sc, err := sidecar(w.path(rel+stem+ext), ext)
			if err != nil {
				// It was there when the folder was listed, so the item is not
				// complete without it.
				in.Err = fmt.Errorf("looking at its sidecar %s: %w", pipeline.EscapeID(stem+ext), err)
				break
			}
			in.Sidecars = append(in.Sidecars, sc)
		}
	case impossible:
		in.Err, in.KeepExtension = e.why, e.keep
	case ignored:
		in.Ignored = e.why.Error()
	case descend:
		if states == nil {
			return w.folder(ctx, rel+e.name+"/", nil)
		}
		if states = below(w.source.pattern, states, e.name); len(states) > 0 {
			return w.folder(ctx, rel+e.name+"/", states)
		}
		return nil
	default:
		return nil
	}
	return w.emit(in)
}
