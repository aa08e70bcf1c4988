package imageio

import (
	"bytes"
	"encoding/binary"
)

// exifOrientation reads tag 274 of the first directory of EXIF data, which is a
// small TIFF file. Damaged EXIF is common and says nothing about the pixels, so
// that anything unreadable counts as upright.
func exifOrientation(data []byte) int {
	// JPEG has this prefix before the TIFF header, and some WebP and PNG writers
	// keep it.
	data = bytes.TrimPrefix(data, []byte("Exif\x00\x00"))
	t, err := newIFD(data)
	if err != nil {
		return 1
	}
	return t.orientation()
}

// ifd is the first directory of a TIFF file.
type ifd struct {
	data    []byte
	order   binary.ByteOrder
	entries map[uint16]ifdEntry
}

type ifdEntry struct {
	typ   uint16
	count uint32
	raw   []byte // the four bytes that hold the value, or its offset
}

func newIFD(data []byte) (*ifd, error) {
	t := &ifd{data: data, entries: map[uint16]ifdEntry{}}
	if len(data) < 8 {
		return nil, errShort
	}
	switch string(data[:4]) {
	case "II*\x00":
		t.order = binary.LittleEndian
	case "MM\x00*":
		t.order = binary.BigEndian
	default:
		return nil, errShort
	}
	at := int64(t.order.Uint32(data[4:]))
	if at+2 > int64(len(data)) {
		return nil, errShort
	}
	n := int64(t.order.Uint16(data[at:]))
	at += 2
	for i := range n {
		e := at + 12*i
		if e+12 > int64(len(data)) {
			return nil, errShort
		}
		tag := t.order.Uint16(data[e:])
		if _, ok := t.entries[tag]; !ok {
			t.entries[tag] = ifdEntry{t.order.Uint16(data[e+2:]), t.order.Uint32(data[e+4:]), data[e+8 : e+12]}
		}
	}
	return t, nil
}

// value reads the ith number of an entry of type BYTE, SHORT or LONG.
func (t *ifd) value(tag uint16, i uint32) (uint32, bool) {
	e, ok := t.entries[tag]
	if !ok || i >= e.count {
		return 0, false
	}
	size := e.size()
	if size == 0 {
		return 0, false
	}
	raw := e.raw
	if size*int64(e.count) > 4 {
		at := int64(t.order.Uint32(e.raw))
		if at+size*int64(e.count) > int64(len(t.data)) {
			return 0, false
		}
		raw = t.data[at:]
	}
	switch at := int64(i) * size; size {
	case 1:
		return uint32(raw[at]), true
	case 2:
		return uint32(t.order.Uint16(raw[at:])), true
	default:
		return t.order.Uint32(raw[at:]), true
	}
}

// bytes is the value of an entry of type BYTE or UNDEFINED, or nil.
func (t *ifd) bytes(tag uint16) []byte {
	e, ok := t.entries[tag]
	if !ok || e.typ != 1 && e.typ != 7 || e.count <= 4 {
		return nil
	}
	at, n := int64(t.order.Uint32(e.raw)), int64(e.count)
	if at+n > int64(len(t.data)) {
		return nil
	}
	return t.data[at : at+n]
}

func (e ifdEntry) size() int64 {
	switch e.typ {
	case 1:
		return 1
	case 3:
		return 2
	case 4:
		return 4
	}
	return 0
}

func (t *ifd) first(tag uint16, def uint32) uint32 {
	if v, ok := t.value(tag, 0); ok {
		return v
	}
	return def
}

func (t *ifd) orientation() int {
	if o := t.first(274, 1); 1 <= o && o <= 8 {
		return int(o)
	}
	return 1
}
