package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
)

// A file of torch.save before 1.6 is pickles one after the other: a magic number, the
// version, facts of the machine, the object, and the keys of its storages; then for each
// of these its length as 8 bytes, and its data.

var legacyMagic, _ = new(big.Int).SetString("1950a86a20f9469cfc6c", 16)

const legacyVersion = 1001

// isLegacy tells whether data begin with the magic number: protocol 2, LONG1, 10 bytes.
func isLegacy(data []byte) bool {
	return len(data) > 4 && data[0] == 0x80 && bytes.Equal(data[2:4], []byte{0x8a, 0x0a})
}

type legacy struct {
	storages map[string]*storage
}

func readLegacy(data []byte) (*File, error) {
	l := &legacy{storages: map[string]*storage{}}
	u := unpickler{in: data, persist: l.storage}
	var values [5]any
	for i := range values {
		var err error
		if values[i], err = u.next(); err != nil {
			return nil, err
		}
	}
	if magic, ok := values[0].(*big.Int); !ok || magic.Cmp(legacyMagic) != 0 {
		return nil, ErrFormat
	}
	if version, ok := values[1].(int); !ok || version != legacyVersion {
		return nil, fmt.Errorf("its format has another version (%d) than the one that is known, %d", version, legacyVersion)
	}
	if machine, ok := values[2].(*dict); ok && machine.values["little_endian"] == false {
		return nil, errors.New("its numbers are written by a machine with another byte order (big-endian), which is not read")
	}
	keys, ok := values[4].(*tuple)
	if !ok {
		return nil, errors.New("it does not list its storages: it is damaged")
	}
	if err := l.fill(keys.items, u.in); err != nil {
		return nil, err
	}
	f := &File{Format: TorchLegacy}
	return f, f.found(values[3])
}

// fill gives the storages their data, which follow in the order of keys.
func (l *legacy) fill(keys []any, rest []byte) error {
	for _, k := range keys {
		key, _ := k.(string)
		s := l.storages[key]
		if s == nil {
			return fmt.Errorf("it lists a storage %.100q that nothing in it uses: it is damaged", key)
		}
		if len(rest) < 8 {
			return fmt.Errorf("it ends before the storage %q: it was not copied whole", key)
		}
		n := binary.LittleEndian.Uint64(rest)
		rest = rest[8:]
		if n != uint64(s.elements) {
			return fmt.Errorf("the storage %q has %d numbers, and the pickle says %d", key, n, s.elements)
		}
		size := bytesOf(s.elements, s.kind)
		if size > len(rest) {
			return fmt.Errorf("it ends within the storage %q, after %d of %d bytes: it was not copied whole", key, len(rest), size)
		}
		s.give(rest[:size])
		rest = rest[size:]
		delete(l.storages, key)
	}
	for key, s := range l.storages {
		if s.elements > 0 {
			return fmt.Errorf("the storage %q is not in it: it is damaged", key)
		}
	}
	return nil
}

// storage is what the pickle wants, which comes after it.
func (l *legacy) storage(id any) (any, error) {
	s, err := storageOf(id)
	if err != nil {
		return nil, err
	}
	// A view of a part of another storage has its key, its place and its length.
	if t := id.(*tuple); len(t.items) > 5 && t.items[5] != nil {
		return nil, errors.New("it has a storage that is a part of another one, as PyTorch wrote them before 0.4: load it with PyTorch and save it again")
	}
	if old := l.storages[s.key]; old != nil {
		if old.kind != s.kind || old.elements != s.elements {
			return nil, fmt.Errorf("the pickle wants the storage %q as two different ones", s.key)
		}
		return old, nil
	}
	l.storages[s.key] = s
	return s, nil
}
