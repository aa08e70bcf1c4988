package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Verdict is what an entry of a folder turned out to be.
type Verdict uint8

// The verdicts.
const (
	PassedOver Verdict = iota // not asked for, or attached to an image
	Image
	Descend    // a folder to be read
	Impossible // claims to be an image and cannot be one
	Ignored
	side // a sidecar, if there is an image for it
)

// Entry is one name in a folder. A folder may hold millions, so it is small.
type Entry struct {
	Name    string
	Verdict Verdict
	keep    bool // an image that keeps its extension
	wanted  bool
	mode    fs.FileMode // its type
	why     error
}

// IsFile reports whether the entry is an image or would be one if nothing were
// wrong with it. A folder called x.jpg is none.
func (e *Entry) IsFile() bool {
	return e.Verdict == Image || e.Verdict == Impossible && !errors.Is(e.why, ErrFolder)
}

// Folder is what a folder holds.
type Folder struct {
	// Entries are in such an order that the names of the whole tree come in
	// bytewise order when what is in a folder comes in the place of its entry.
	Entries []Entry
	// Err is why it could not be read, or not to its end.
	Err error

	tree  *Tree
	rel   string
	sides map[string][]string // extensions of the sidecars, by stem
}

// Ask tells whether a file of this name is asked for, and whether anything may
// be in a folder of this name.
type Ask func(name string) (file, folder bool)

// Read lists and judges a folder, whose name is empty for the root and has a
// slash at its end otherwise. A nil ask is for everything.
func (t *Tree) Read(rel string, ask Ask) Folder {
	if ask == nil {
		ask = func(string) (bool, bool) { return true, true }
	}
	f := Folder{tree: t, rel: rel}
	f.Err = f.list()
	f.judge(ask)
	f.attach()
	return f
}

// list reads the names. After an error, what was read until then counts.
func (f *Folder) list() error {
	dir, err := os.Open(f.tree.Path(f.rel))
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		list, err := dir.ReadDir(1024)
		for _, d := range list {
			f.Entries = append(f.Entries, Entry{Name: d.Name(), mode: d.Type()})
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// judge decides what each entry is, and sorts them. Links are followed to learn
// what they point at, and files without a known extension are looked into.
func (f *Folder) judge(ask Ask) {
	for i := range f.Entries {
		e := &f.Entries[i]
		var folder bool
		e.wanted, folder = ask(e.Name)
		f.judgeOne(e)
		if e.Verdict == Ignored && !e.wanted && (!e.leads() || !folder) {
			e.Verdict = PassedOver
		}
	}
	// A folder that claims to be an image is both: quarantined under its name,
	// and read all the same so that nothing in it is lost.
	for i := range f.Entries {
		if e := &f.Entries[i]; e.Verdict == Descend && e.wanted && imageio.KnownExtension(e.Name) {
			f.Entries = append(f.Entries, Entry{Name: e.Name, Verdict: Impossible, wanted: true, why: ErrFolder})
		}
	}
	slices.SortFunc(f.Entries, compare)
}

// ErrFolder is why a folder called x.jpg cannot be an image.
var ErrFolder = errors.New("it is a folder, not an image")

var (
	errHidden   = errors.New("hidden")
	errLinked   = errors.New("link to a folder, not followed")
	errNoImage  = errors.New("not an image")
	errAlone    = errors.New("a sidecar without an image")
	errNotAsked = errors.New("a folder, and recursive is false")
)

// leads reports whether there may be something below the entry.
func (e *Entry) leads() bool { return e.mode.IsDir() || errors.Is(e.why, errLinked) }

func (f *Folder) judgeOne(e *Entry) {
	if strings.HasPrefix(e.Name, ".") {
		e.Verdict, e.why = Ignored, errHidden
		return
	}
	if e.mode&fs.ModeSymlink != 0 && !f.follow(e) {
		return
	}
	looks := imageio.KnownExtension(e.Name)
	_, _, isSide := f.tree.isSidecar(e.Name)
	switch {
	case e.mode.IsDir() && !f.tree.Flat:
		e.Verdict = Descend
	case e.mode.IsDir() && looks:
		e.Verdict, e.why = Impossible, ErrFolder
	case e.mode.IsDir():
		e.Verdict, e.why = Ignored, errNotAsked
	case !e.mode.IsRegular() && looks:
		e.cannot(fmt.Errorf("it is %s, not an image", fsys.KindOf(e.mode)))
	case !e.mode.IsRegular():
		e.Verdict, e.why = Ignored, errors.New(fsys.KindOf(e.mode))
	case isSide:
		e.Verdict = side
	case !e.wanted:
		e.Verdict = PassedOver
	case looks:
		e.Verdict = Image
	default:
		e.Verdict, e.why = sniff(f.tree.Path(f.rel + e.Name))
	}
}

// follow gives a link the type of what it points at, and reports whether there
// is more to decide.
func (f *Folder) follow(e *Entry) bool {
	file := f.tree.Path(f.rel + e.Name)
	info, err := os.Stat(file)
	switch {
	case err == nil && info.IsDir():
		e.Verdict, e.why = Ignored, errLinked
		return false
	case err == nil:
		e.mode = info.Mode().Type()
		return true
	}
	to, _ := os.Readlink(file)
	err = fmt.Errorf("broken link to %s: %w", pipeline.EscapeID(to), Plain(err))
	if imageio.KnownExtension(e.Name) {
		e.cannot(err)
	} else {
		e.Verdict, e.why = Ignored, err
	}
	return false
}

// cannot quarantines an entry, if it was asked for.
func (e *Entry) cannot(why error) {
	e.Verdict, e.why = Impossible, why
	if !e.wanted {
		e.Verdict = PassedOver
	}
}

// sniff looks at a file's first bytes.
func sniff(file string) (Verdict, error) {
	// The type was that of a regular file a moment ago; should it be a named
	// pipe by now, O_NONBLOCK keeps the opening from waiting for a writer.
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Ignored, fmt.Errorf("not known to be an image, and cannot be opened: %w", Plain(err))
	}
	defer f.Close()
	var first [16]byte
	n, err := io.ReadFull(f, first[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return Ignored, fmt.Errorf("not known to be an image, and cannot be read: %w", Plain(err))
	}
	if _, ok := imageio.Sniff(first[:n]); ok {
		return Image, nil
	}
	return Ignored, errNoImage
}

// compare sorts entries so that all names of the tree come in bytewise order:
// the names in a folder begin with the folder's name and a slash.
func compare(a, b Entry) int {
	n := min(len(a.Name), len(b.Name))
	if c := strings.Compare(a.Name[:n], b.Name[:n]); c != 0 {
		return c
	}
	return strings.Compare(a.rest(n), b.rest(n))
}

// rest is what decides after the first n bytes of the name, which is at most one
// byte where the name ends there.
func (e *Entry) rest(n int) string {
	if n == len(e.Name) && e.Verdict == Descend {
		return "/"
	}
	return e.Name[n:]
}

// attach brings the images together with what has the same stem: other images,
// and sidecars. Sidecars without an image become ignored.
func (f *Folder) attach() {
	var names []string
	var at []int
	stems := map[string]bool{}
	for i := range f.Entries {
		if e := &f.Entries[i]; e.IsFile() {
			names = append(names, e.Name)
			at = append(at, i)
			stem, _ := StemExt(e.Name)
			stems[stem] = true
		}
	}
	for j, keep := range KeepExtensions(names) {
		f.Entries[at[j]].keep = keep
	}
	f.sides = map[string][]string{}
	for i := range f.Entries {
		e := &f.Entries[i]
		if e.Verdict != side {
			continue
		}
		e.Verdict = PassedOver
		if stem, ext, _ := f.tree.isSidecar(e.Name); stems[stem] {
			f.sides[stem] = append(f.sides[stem], ext)
		} else if e.wanted {
			e.Verdict, e.why = Ignored, errAlone
		}
	}
}

// Input is what a source offers for the entry, which is an image, impossible or
// ignored.
func (f *Folder) Input(e *Entry) pipeline.Input {
	in := pipeline.Input{Name: f.rel + e.Name, KeepExtension: e.keep}
	switch e.Verdict {
	case Image:
		in.Path = f.tree.Path(in.Name)
		stem, _ := StemExt(e.Name)
		for _, ext := range f.sides[stem] {
			sc, err := sidecar(f.tree.Path(f.rel+stem+ext), ext)
			if err != nil {
				// It was there when the folder was listed, so the item is not
				// complete without it.
				in.Err = fmt.Errorf("looking at its sidecar %s: %w", pipeline.EscapeID(stem+ext), err)
				break
			}
			in.Sidecars = append(in.Sidecars, sc)
		}
	case Impossible:
		in.Err = e.why
	case Ignored:
		in.Ignored = e.why.Error()
	default:
		panic(fmt.Sprintf("BUG: %q is nothing to offer", in.Name))
	}
	return in
}
