package pairs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/files"
)

// matching says what of two folders belongs together. Files are given by their
// places in the folders.
type matching struct {
	companion []int           // of each high-quality image; -1 is none
	alone     []error         // why there is none
	taken     []bool          // whether a low-quality image is a companion
	orphan    []error         // why it is none
	common    map[string]bool // folders that both have
}

// file is an image by its stem, without the suffix that companions have.
type file struct {
	stem string
	at   int
}

// byStem lists the images of a folder in the order of their stems. Those that
// lack the suffix are left out.
func byStem(f *files.Folder, suffix string) []file {
	var out []file
	for i := range f.Entries {
		if e := &f.Entries[i]; e.IsFile() {
			stem, _ := files.StemExt(e.Name)
			if stem, ok := strings.CutSuffix(stem, suffix); ok {
				out = append(out, file{stem, i})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b file) int { return strings.Compare(a.stem, b.stem) })
	return out
}

// cutStem takes the files of one stem off the beginning of a list. What sorts
// before them is passed over.
func cutStem(list []file, stem string) (of, rest []file) {
	for len(list) > 0 && list[0].stem < stem {
		list = list[1:]
	}
	n := 0
	for n < len(list) && list[n].stem == stem {
		n++
	}
	return list[:n], list[n:]
}

// match finds the companions of the images in the folder rel. Of a stem, files
// of the same extension belong together; what is then left of it must be one
// image and one companion.
func (s *Source) match(rel string, hq, lq *files.Folder) *matching {
	m := &matching{
		companion: slices.Repeat([]int{-1}, len(hq.Entries)), alone: make([]error, len(hq.Entries)),
		taken: make([]bool, len(lq.Entries)), orphan: make([]error, len(lq.Entries)),
		common: common(hq, lq),
	}
	images, companions := byStem(hq, ""), byStem(lq, s.suffix)
	var scaled []file // companions whose names end as DIV2K's do, should the suffix have been forgotten
	if s.suffix == "" {
		scaled = byStem(lq, s.scaleSuffix())
	}
	for len(images) > 0 {
		stem := images[0].stem
		var h, l, hint []file
		h, images = cutStem(images, stem)
		l, companions = cutStem(companions, stem)
		hint, scaled = cutStem(scaled, stem)
		m.matchStem(h, l, hq, lq)
		for _, f := range h {
			if m.companion[f.at] < 0 && m.alone[f.at] == nil {
				m.alone[f.at] = s.whyAlone(rel+stem, len(l) > 0, len(hint) > 0, lq)
			}
		}
	}
	for j := range lq.Entries {
		if e := &lq.Entries[j]; e.IsFile() && !m.taken[j] && m.orphan[j] == nil {
			m.orphan[j] = s.whyOrphan(rel, e.Name, hq)
		}
	}
	return m
}

// matchStem brings files of one stem together.
func (m *matching) matchStem(h, l []file, hq, lq *files.Folder) {
	for _, i := range h {
		_, ext := files.StemExt(hq.Entries[i.at].Name)
		for _, j := range l {
			if _, lqExt := files.StemExt(lq.Entries[j.at].Name); lqExt == ext {
				m.companion[i.at], m.taken[j.at] = j.at, true
			}
		}
	}
	h = left(h, func(i int) bool { return m.companion[i] >= 0 })
	l = left(l, func(j int) bool { return m.taken[j] })
	switch {
	case len(h) == 1 && len(l) == 1:
		m.companion[h[0].at], m.taken[l[0].at] = l[0].at, true
	case len(h) > 0 && len(l) > 0:
		err := fmt.Errorf("it cannot be told which low-quality companion belongs to which image (%s to %s): give them the same extensions, or remove what is too many",
			names(l, lq), names(h, hq))
		for _, i := range h {
			m.alone[i.at] = err
		}
		for _, j := range l {
			m.orphan[j.at] = err
		}
	default:
		for _, j := range l {
			m.orphan[j.at] = errors.New("it is one low-quality companion too many: that of the same extension as the image is used")
		}
	}
}

// left returns the files that are not done.
func left(list []file, done func(at int) bool) []file {
	var out []file
	for _, f := range list {
		if !done(f.at) {
			out = append(out, f)
		}
	}
	return out
}

func names(list []file, f *files.Folder) string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = pipeline.EscapeID(f.Entries[list[i].at].Name)
	}
	return strings.Join(out, ", ")
}

// common are the folders that both folders hold.
func common(hq, lq *files.Folder) map[string]bool {
	out := map[string]bool{}
	for i := range hq.Entries {
		if e := &hq.Entries[i]; e.Verdict == files.Descend {
			out[e.Name] = false
		}
	}
	for j := range lq.Entries {
		if e := &lq.Entries[j]; e.Verdict == files.Descend {
			if _, ok := out[e.Name]; ok {
				out[e.Name] = true
			}
		}
	}
	return out
}

func (s *Source) scaleSuffix() string { return fmt.Sprint("x", s.scale) }

// whyAlone is why an image has no companion. There may be some for others of
// its stem, and some with the usual suffix.
func (s *Source) whyAlone(name string, others, hint bool, lq *files.Folder) error {
	escaped := pipeline.EscapeID(name + s.suffix)
	switch {
	case lq.Err != nil:
		return fmt.Errorf("reading the folder of its low-quality companion: %w", lq.Err)
	case others:
		return fmt.Errorf("it has no low-quality companion of its own: the image called %s.* in %s belongs to another", escaped, s.folder)
	case hint:
		return fmt.Errorf("it has no low-quality companion: no image in %s is called %s.*, but one is called %s.*: set lq_suffix to %s",
			s.folder, escaped, escaped+s.scaleSuffix(), s.scaleSuffix())
	}
	return fmt.Errorf("it has no low-quality companion: no image in %s is called %s.*", s.folder, escaped)
}

// whyOrphan is why a low-quality image is no companion.
func (s *Source) whyOrphan(rel, name string, hq *files.Folder) error {
	stem, _ := files.StemExt(name)
	stem, ok := strings.CutSuffix(stem, s.suffix)
	switch {
	case hq.Err != nil:
		return fmt.Errorf("reading the folder of its high-quality image: %w", hq.Err)
	case !ok:
		return fmt.Errorf("it is no low-quality companion: its name does not end in %s, which is lq_suffix", s.suffix)
	}
	return fmt.Errorf("it is a low-quality companion without its image: no high-quality image is called %s.*", pipeline.EscapeID(rel+stem))
}

// partner is the companion of the image at place i, or why there is none.
func (m *matching) partner(i int, lq *files.Folder) (*pipeline.Input, error) {
	j := m.companion[i]
	if j < 0 {
		return nil, m.alone[i]
	}
	in := lq.Input(&lq.Entries[j])
	if in.Err != nil {
		return nil, fmt.Errorf("low-quality companion %s: %w", pipeline.EscapeID(in.Name), in.Err)
	}
	return &in, nil
}
