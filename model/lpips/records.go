package lpips

import (
	"container/list"
	"errors"
	"io"

	"github.com/forgepipe/forgepipe/internal/fsys"
)

// records are a file of records of one length, which are read while it grows.
type records struct {
	dir   fsys.Root
	name  string
	w, r  fsys.File
	bytes int64 // of each
	n     int64
}

func newRecords(dir fsys.Root, name string, bytes int64) (*records, error) {
	w, err := dir.Create(name)
	if err != nil {
		return nil, err
	}
	r, err := dir.Open(name)
	if err != nil {
		return nil, errors.Join(err, w.Close(), dir.Remove(name))
	}
	return &records{dir: dir, name: name, w: w, r: r, bytes: bytes}, nil
}

// append adds a record, whose number it tells. After an error nothing is to be added.
func (r *records) append(record []byte) (number int64, err error) {
	if _, err := r.w.Write(record); err != nil {
		return 0, err
	}
	r.n++
	return r.n - 1, nil
}

// read fills dst with a record.
func (r *records) read(dst []byte, number int64) error {
	_, err := r.r.ReadAt(dst, number*r.bytes)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// close removes the file.
func (r *records) close() error {
	return errors.Join(r.w.Close(), r.r.Close(), r.dir.Remove(r.name))
}

// recent are vectors of pictures: those that were asked for last, as many as have room.
type recent struct {
	most  int
	order *list.List // of held, what was asked for last in front
	at    map[uint32]*list.Element
}

// held is a vector in memory.
type held struct {
	number uint32
	vector []float32
}

// newRecent has room for that many, and for two in any case.
func newRecent(most int64) recent {
	return recent{most: int(max(2, most)), order: list.New(), at: map[uint32]*list.Element{}}
}

func (r *recent) get(number uint32) ([]float32, bool) {
	e := r.at[number]
	if e == nil {
		return nil, false
	}
	r.order.MoveToFront(e)
	return e.Value.(held).vector, true
}

// room makes it for one more. What was got last stays.
func (r *recent) room() {
	for r.order.Len() >= r.most {
		last := r.order.Remove(r.order.Back()).(held)
		delete(r.at, last.number)
	}
}

func (r *recent) put(number uint32, vector []float32) {
	r.at[number] = r.order.PushFront(held{number, vector})
}
