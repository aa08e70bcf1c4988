package nearest

import (
	"errors"
	"fmt"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/ort"
)

// added are the reduced vectors of those that are searched, in the order of adding: whole
// chunks in memory as long as there is room, the others in a file, and the last one.
type added struct {
	items  []uint32
	width  int
	memory []*ort.Tensor
	keep   int         // chunks that memory may have
	last   *ort.Tensor // those behind the whole chunks

	dir     fsys.Root
	name    string // of the file; "": there is none yet
	write   fsys.File
	open    fsys.File
	spilled int // chunks in the file
}

func newAdded(o Options, width int) added {
	return added{width: width, keep: int(min(o.Memory/(chunk*int64(width)*4), 1<<31)), dir: o.Dir, name: o.Prefix + "reduced"}
}

func (a *added) add(item uint32, reduced []float32) error {
	if a.last == nil {
		a.last = ort.NewTensor(ort.Float32, chunk, int64(a.width))
	}
	at := len(a.items) % chunk
	copy(a.last.Float32s()[at*a.width:], reduced)
	a.items = append(a.items, item)
	if at+1 < chunk {
		return nil
	}
	if len(a.memory) < a.keep {
		a.memory, a.last = append(a.memory, a.last), nil
		return nil
	}
	if a.write == nil {
		var err error
		if a.write, err = a.dir.Create(a.name); err != nil {
			return fmt.Errorf("making the file of reduced vectors: %w", err)
		}
		if a.open, err = a.dir.Open(a.name); err != nil {
			return fmt.Errorf("opening the file of reduced vectors: %w", err)
		}
	}
	if _, err := a.write.Write(a.last.Data); err != nil {
		return fmt.Errorf("writing reduced vectors: %w", err)
	}
	a.spilled++
	return nil
}

// rows are some reduced vectors of a chunk, n from the one at the place from. What is in
// the file is read to buf, of which the first dimension is at least n.
func (a *added) rows(c, from, n int, buf *ort.Tensor) (*ort.Tensor, error) {
	size := a.width * 4
	t := &ort.Tensor{Type: ort.Float32, Shape: []int64{int64(n), int64(a.width)}}
	switch {
	case c < len(a.memory):
		t.Data = a.memory[c].Data[from*size:][:n*size]
	case c == len(a.memory)+a.spilled:
		t.Data = a.last.Data[from*size:][:n*size]
	default:
		t.Data = buf.Data[:n*size]
		if _, err := a.open.ReadAt(t.Data, (int64(c-len(a.memory))*chunk+int64(from))*int64(size)); err != nil {
			return nil, fmt.Errorf("reading reduced vectors: %w", err)
		}
	}
	return t, nil
}

func (a *added) close() error {
	if a.write == nil {
		return nil
	}
	errs := []error{a.write.Close()}
	if a.open != nil {
		errs = append(errs, a.open.Close())
	}
	return errors.Join(append(errs, a.dir.Remove(a.name))...)
}
