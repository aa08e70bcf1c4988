package runstore

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Kind says how an item ended.
type Kind uint8

// The ends of an item.
const (
	Written  Kind = iota + 1 // a file was, or is about to be, written
	Rejected                 // a stage did not want it
	Failed                   // it went to the quarantine
	Passed                   // it left the end of the chain without a file of its own

	kinds = int(Passed) + 1
)

func (k Kind) String() string {
	switch k {
	case Written:
		return "written"
	case Rejected:
		return "rejected"
	case Failed:
		return "failed"
	case Passed:
		return "passed"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// A Source is one source file as it was when its row was written.
type Source struct {
	ID     int64
	Path   string
	Size   int64
	MTime  int64 // nanoseconds since 1970
	Hash   [32]byte
	Header []byte // opaque to the store, about 50 bytes
}

// A Decision is the end of one item in one stage. Source, Lineage and Stage are
// its key: a later decision with the same key takes the place of the earlier.
type Decision struct {
	Source  int64
	Lineage string // how the item was derived from its source, as in "tile=512,1024,0"
	Stage   string
	Kind    Kind

	// Seq is given by the store, rises with every row it takes in and is never
	// given twice to rows that were committed.
	Seq int64

	// Of a Written row: the file, and what was meant to be written. Other kinds
	// do not store them.
	Size  int64
	MTime int64    // nanoseconds since 1970
	Hash  [16]byte // truncated SHA-256 of the file
	Ident [8]byte  // identity of what was meant to be written

	Detail []byte // opaque to the store: the reason or cause
}

// writtenSize is the fixed part of a Written row's data, before the size.
const writtenSize = 16 + 8 + 8

// data packs what the kind of a row uses into one value: separate columns cost
// a byte of header each and 9 bytes for the time, on 10^7 rows a quarter of the
// file.
func (d *Decision) data() []byte {
	if d.Kind != Written {
		return d.Detail
	}
	b := make([]byte, 0, writtenSize+binary.MaxVarintLen64+len(d.Detail))
	b = append(b, d.Hash[:]...)
	b = append(b, d.Ident[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(d.MTime))
	b = binary.AppendVarint(b, d.Size)
	return append(b, d.Detail...)
}

// setData undoes data; Kind must be set.
func (d *Decision) setData(b []byte) error {
	if d.Kind != Written {
		d.Detail = b
		return nil
	}
	if len(b) <= writtenSize {
		return errors.New("the row of a written file is too short")
	}
	copy(d.Hash[:], b)
	copy(d.Ident[:], b[16:])
	d.MTime = int64(binary.LittleEndian.Uint64(b[24:]))
	size, n := binary.Varint(b[writtenSize:])
	if n <= 0 {
		return errors.New("the row of a written file has no size")
	}
	d.Size = size
	if rest := b[writtenSize+n:]; len(rest) > 0 {
		d.Detail = rest
	}
	return nil
}

// A lineage is stored as the number of its head in the dictionary, then its
// tail: the digits and commas at its end, two characters to a byte. That takes
// "tile=512,1024,2048" from 18 bytes to 8. Number 0 means that the whole lineage
// follows as it is.

const tailDigits = "\x00,0123456789" // in byte order, so that packed tails sort like text

// splitLineage returns where the tail begins.
func splitLineage(lineage string) int {
	i := len(lineage)
	for i > 0 && (lineage[i-1] == ',' || '0' <= lineage[i-1] && lineage[i-1] <= '9') {
		i--
	}
	return i
}

func packLineage(head int64, rest string) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 2+len(rest)), uint64(head))
	if head == 0 {
		return append(b, rest...)
	}
	for i := 0; i < len(rest); i += 2 {
		pair := nibble(rest[i]) << 4
		if i+1 < len(rest) {
			pair |= nibble(rest[i+1])
		}
		b = append(b, pair)
	}
	return b
}

func nibble(c byte) byte {
	if c == ',' {
		return 1
	}
	return c - '0' + 2
}

func unpackLineage(key []byte, name func(int64) (string, error)) (string, error) {
	head, n := binary.Uvarint(key)
	if n <= 0 {
		return "", errors.New("a lineage has no head")
	}
	key = key[n:]
	if head == 0 {
		return string(key), nil
	}
	text, err := name(int64(head))
	if err != nil {
		return "", err
	}
	b := append(make([]byte, 0, len(text)+2*len(key)), text...)
	for i, pair := range key {
		high, low := pair>>4, pair&15
		last := i == len(key)-1
		if high == 0 || int(high) >= len(tailDigits) || int(low) >= len(tailDigits) || low == 0 && !last {
			return "", fmt.Errorf("a lineage holds the byte %#x", pair)
		}
		b = append(b, tailDigits[high])
		if low != 0 {
			b = append(b, tailDigits[low])
		}
	}
	return string(b), nil
}
