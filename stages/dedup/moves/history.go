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
	run, first, from := "", int64(0), 0
	var numbers []int64
	began := true
	err := r.lines(0, func(at int64, l *line) error {
		h.runs[l.Run] = true
		switch l.Event {
		case intended:
			if l.Run != run {
				if !began { // nothing was done of what it intended
					h.images = h.images[:from]
				}
				run, first, from, began = l.Run, at, len(h.images), false
				numbers = numbers[:0]
			}
			if l.Kind == kindImage && !began {
				h.images = append(h.images, seen{keyOf(l.place()), at})
				numbers = append(numbers, l.N)
			}
		case begun:
			if l.Run == run {
				began = true
				h.last, h.first, h.ended = *l, first, false
			}
		case doing, done:
			if i, ok := slices.BinarySearch(numbers, l.N); ok && l.Run == run && began {
				h.images[from+i].line |= wentFlag
			}
		case ended:
			h.ended = h.ended || l.Run == h.last.Run
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
