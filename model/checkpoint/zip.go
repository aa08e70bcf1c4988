package checkpoint

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"strings"
)

// The archive is that of torch.save since 1.6: NAME/data.pkl is the pickle, NAME/data/KEY
// are the storages, NAME/byteorder says how they are written. Nothing is compressed, so
// that the file can be mapped.

// maxPickle bounds the pickle in an archive, in bytes.
const maxPickle = 64 << 20

type archive struct {
	mapping
	folder  string // with a slash at its end, or empty
	entries map[string]*zip.File
	read    map[string]*storage
	summed  int // bytes of the entries that were read
}

func isZip(data []byte) bool { return bytes.HasPrefix(data, []byte("PK\x03\x04")) }

func readZip(m mapping) (*File, error) {
	z, err := zip.NewReader(bytes.NewReader(m.data), int64(len(m.data)))
	if err != nil {
		return nil, fmt.Errorf("its zip archive: %w: it was not copied whole, or is damaged", err)
	}
	a := &archive{mapping: m, entries: map[string]*zip.File{}, read: map[string]*storage{}}
	found := false
	for _, e := range z.File {
		if _, ok := a.entries[e.Name]; ok {
			return nil, fmt.Errorf("its zip archive has %q twice", e.Name)
		}
		a.entries[e.Name] = e
		if path.Base(e.Name) == "data.pkl" && strings.Count(e.Name, "/") <= 1 {
			a.folder, found = strings.TrimSuffix(e.Name, "data.pkl"), true
		}
	}
	if !found {
		return nil, fmt.Errorf("it is a zip archive without data.pkl: %w", ErrFormat)
	}
	if order, err := a.entry("byteorder"); err == nil && string(order) != "little" {
		return nil, errors.New("its numbers are written by a machine with another byte order (big-endian), which is not read")
	}
	program, err := a.entry("data.pkl")
	if err != nil {
		return nil, err
	}
	if len(program) > maxPickle {
		return nil, fmt.Errorf("its pickle has %d bytes, more than the %d that are read", len(program), maxPickle)
	}
	u := unpickler{in: program, persist: a.storage}
	v, err := u.next()
	if err != nil {
		return nil, err
	}
	f := &File{Format: TorchZip}
	return f, f.found(v)
}

// entry is the content of an entry, a view of the file.
func (a *archive) entry(name string) ([]byte, error) {
	name = a.folder + name
	e := a.entries[name]
	if e == nil {
		return nil, fmt.Errorf("its zip archive has no %s: it is damaged", name)
	}
	if e.Method != zip.Store || e.CompressedSize64 != e.UncompressedSize64 {
		return nil, fmt.Errorf("%s in its zip archive is compressed, which torch.save does not do: load it with PyTorch and save it again", name)
	}
	offset, err := e.DataOffset()
	if err != nil {
		return nil, fmt.Errorf("%s in its zip archive: %w", name, err)
	}
	if offset < 0 || offset > int64(len(a.data)) || e.UncompressedSize64 > uint64(int64(len(a.data))-offset) {
		return nil, fmt.Errorf("%s in its zip archive lies outside of the file: it was not copied whole, or is damaged", name)
	}
	content := a.data[offset:][:e.UncompressedSize64]
	// Each is read once, to check its sum. Entries that are parts of each other could make
	// that as much as one wants.
	if a.summed += len(content); a.summed > len(a.data) {
		return nil, errors.New("its zip archive has entries that lie over each other: it is damaged")
	}
	if crc32.ChecksumIEEE(content) != e.CRC32 {
		return nil, fmt.Errorf("%s in its zip archive has not the sum that it should have: it is damaged", name)
	}
	a.letGo() // or all of the file would be in memory in the end
	return content, nil
}

// storage is what a pickle wants from the archive.
func (a *archive) storage(id any) (any, error) {
	s, err := storageOf(id)
	if err != nil {
		return nil, err
	}
	if old := a.read[s.key]; old != nil {
		if old.kind != s.kind || old.elements != s.elements {
			return nil, fmt.Errorf("the pickle wants the storage %q as two different ones", s.key)
		}
		return old, nil
	}
	if s.data, err = a.entry("data/" + s.key); err != nil {
		return nil, err
	}
	if len(s.data) != bytesOf(s.elements, s.kind) {
		return nil, fmt.Errorf("the storage %q has %d bytes, and the pickle says %d numbers of %v", s.key, len(s.data), s.elements, s.kind)
	}
	a.read[s.key] = s
	return s, nil
}
