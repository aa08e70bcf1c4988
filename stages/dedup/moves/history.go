package moves

import (
	"bytes"
	"cmp"
	"slices"
)

// history is what the record has told before.
type history struct {
	images []seen          // pictures that were begun with, by their place: of each the newest line
	runs   map[string]bool // all there were
	last   line            // the begin of the last run that began
	first  int64           // where that run's lines begin
	ended  bool            // it came to its end
	open   []openRun       // those that began since a run came to its end, in their order
}

// openRun is a run that was killed or stopped, or that left something of a picture apart from it.
type openRun struct {
	begin    line
	from, to int64    // where what it intended begins, and where begin is
	files    []uint64 // a bit for the number of each file that it was done with
}

// did tells whether the run was done with a file.
func (o *openRun) did(n int64) bool {
	return n > 0 && n/64 < int64(len(o.files)) && o.files[n/64]&(1<<(n%64)) != 0
}

func (o *openRun) note(n int64) {
	if n > 0 && n/64 < int64(len(o.files)) {
		o.files[n/64] |= 1 << (n % 64)
	}
}

// openRun is the run of that name; nil: it is not open.
func (h *history) openRun(run string) *openRun {
	for i := len(h.open) - 1; i >= 0; i-- {
		if h.open[i].begin.Run == run {
			return &h.open[i]
		}
	}
	return nil
}

// seen is a picture of the record. There are as many as ever were moved: it is small.
type seen struct {
	place key
	line  int64 // where that is, with flags
}

const (
	wentFlag = 1 << 62 // its own file was done with, or begun to be deleted
	backFlag = 1 << 61 // the line says that it was restored
)

func (s seen) at() int64  { return s.line &^ (wentFlag | backFlag) }
func (s seen) went() bool { return s.line&wentFlag != 0 }

func (s seen) compare(other seen) int {
	return cmp.Or(bytes.Compare(s.place[:], other.place[:]), cmp.Compare(s.at(), other.at()))
}

// find is the newest picture of a place; false: it was restored since, or there is none.
func (h *history) find(place string) (seen, bool) {
	i, ok := slices.BinarySearchFunc(h.images, keyOf(place), func(s seen, k key) int { return bytes.Compare(s.place[:], k[:]) })
	if !ok {
		return seen{}, false
	}
	return h.images[i], true
}

func (r *record) history() (*history, error) {
	h := &history{runs: map[string]bool{}, ended: true}
	// The pictures of the run whose lines are being read are behind all others, in the order of
	// their lines, with the numbers of their files.
	run, first, from, files := "", int64(0), 0, int64(0)
	var numbers []number
	began := true
	err := r.lines(0, func(at int64, l *line) error {
		h.runs[l.Run] = true
		switch l.Event {
		case intended:
			if l.Run != run {
				if !began { // nothing was done of what it intended
					h.images = h.images[:from]
				}
				run, first, from, files, began = l.Run, at, len(h.images), 0, false
				numbers = numbers[:0]
			}
			files++
			if l.Kind == kindImage && !began {
				h.images = append(h.images, seen{keyOf(l.place()), at})
				numbers = append(numbers, number{l.N, l.Job})
			}
		case begun:
			if l.Run == run {
				began = true
				h.last, h.first, h.ended = *l, first, false
				h.open = append(h.open, openRun{*l, first, at, make([]uint64, files/64+1)})
			}
		case doing, done, left:
			o := h.openRun(l.Run)
			if o != nil && l.Event == done {
				o.note(l.N)
			}
			if l.Run != run || !began || l.Event == left && l.N == 0 {
				break
			}
			if i, ok := find(numbers, l); ok && l.Event != left {
				h.images[from+i].line |= wentFlag
			} else if ok { // a line with a number is of one that is in its place
				h.images[from+i].line &^= wentFlag
			}
		case ended:
			if l.Run == h.last.Run {
				h.ended, h.open = true, nil
			}
		case restored:
			if !began { // those lines are of a run that never began
				h.images, run, began = h.images[:from], "", true
			}
			h.images = append(h.images, seen{keyOf(l.place()), at | backFlag})
		}
		return nil
	})
	if !began {
		h.images = h.images[:from]
	}
	h.sort()
	return h, err
}

// number is that of a picture's own file, and that of the picture.
type number struct{ n, job int64 }

// find is the picture that a line is about. The lines doing of earlier versions have no number
// of the file.
func find(numbers []number, l *line) (int, bool) {
	return slices.BinarySearchFunc(numbers, l, func(a number, l *line) int {
		if l.N == 0 {
			return cmp.Compare(a.job, l.Job)
		}
		return cmp.Compare(a.n, l.N)
	})
}

// sort leaves of each place the newest line, if it was not restored since.
func (h *history) sort() {
	slices.SortFunc(h.images, seen.compare)
	n := 0
	for i, s := range h.images {
		newest := i+1 == len(h.images) || h.images[i+1].place != s.place
		if newest && s.line&backFlag == 0 {
			h.images[n] = s
			n++
		}
	}
	h.images = h.images[:n]
}
