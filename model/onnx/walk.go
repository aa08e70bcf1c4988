package onnx

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// What a file may make the reader do. Large models have some 10^5 nodes with some
// 10 fields each, and names of some 10 bytes.
const (
	maxFields = 10_000_000 // about half a second
	maxText   = 16 << 20   // bytes that are kept, with 64 for each string
	maxDepth  = 32         // of graphs within graphs
	windowLen = 16 << 10
)

var errText = fmt.Errorf("it has more than %d bytes of names and metadata", maxText)

// walker reads a protobuf file from a window that moves over it. What is skipped
// is not read.
type walker struct {
	r      io.ReaderAt
	size   int64
	at     int64 // of the window
	window []byte
	buf    [windowLen]byte
	fields int
	text   int
}

// field is one of a message. A field of bytes lies between start and end; any
// other has its number in value.
type field struct {
	num        protowire.Number
	typ        protowire.Type
	start, end int64
	value      uint64
}

// peek gives up to n bytes from a place in the file, and fewer only at its end.
func (w *walker) peek(at int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-at))
	if at < w.at || at+int64(n) > w.at+int64(len(w.window)) {
		want := int(min(windowLen, w.size-at))
		k, err := w.r.ReadAt(w.buf[:want], at)
		if k < want {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("reading at byte %d: %w", at, err)
		}
		w.at, w.window = at, w.buf[:want]
	}
	return w.window[at-w.at:][:n], nil
}

// next reads the field at a place of a message that ends at end, and gives the
// place after it.
func (w *walker) next(at, end int64) (field, int64, error) {
	if w.fields++; w.fields > maxFields {
		return field{}, 0, fmt.Errorf("it has more than %d fields", maxFields)
	}
	// A tag and a number are 10 bytes at most each.
	b, err := w.peek(at, int(min(20, end-at)))
	if err != nil {
		return field{}, 0, err
	}
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return field{}, 0, fmt.Errorf("byte %d begins no field: %w", at, protowire.ParseError(n))
	}
	f := field{num: num, typ: typ}
	b, at = b[n:], at+int64(n)
	switch typ {
	case protowire.VarintType:
		f.value, n = protowire.ConsumeVarint(b)
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(b)
		f.value = uint64(v)
	case protowire.Fixed64Type:
		f.value, n = protowire.ConsumeFixed64(b)
	case protowire.BytesType:
		var length uint64
		if length, n = protowire.ConsumeVarint(b); n < 0 {
			break
		}
		f.start = at + int64(n)
		if length > uint64(end-f.start) {
			return field{}, 0, fmt.Errorf("it is cut off or damaged: a field at byte %d should have %d bytes, and %d are left",
				at, length, end-f.start)
		}
		f.end = f.start + int64(length)
		return f, f.end, nil
	default:
		return field{}, 0, fmt.Errorf("byte %d begins a field of a kind that ONNX has not (%d)", at, typ)
	}
	if n < 0 {
		return field{}, 0, fmt.Errorf("the number at byte %d is damaged: %w", at, protowire.ParseError(n))
	}
	return f, at + int64(n), nil
}

// message calls visit with each field of the message in f.
func (w *walker) message(f field, visit func(field) error) error {
	if f.typ != protowire.BytesType {
		return fmt.Errorf("field %d is not of the kind that ONNX has there", f.num)
	}
	for at := f.start; at < f.end; {
		sub, next, err := w.next(at, f.end)
		if err != nil {
			return err
		}
		if err := visit(sub); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// number is the value of a field of numbers.
func (w *walker) number(f field) (int64, error) {
	if f.typ != protowire.VarintType {
		return 0, fmt.Errorf("field %d is not of the kind that ONNX has there", f.num)
	}
	return int64(f.value), nil
}

// numbers calls visit with each number of a repeated field, packed or not.
func (w *walker) numbers(f field, visit func(int64) error) error {
	if f.typ == protowire.VarintType {
		return visit(int64(f.value))
	}
	if f.typ != protowire.BytesType {
		return fmt.Errorf("field %d is not of the kind that ONNX has there", f.num)
	}
	for at := f.start; at < f.end; {
		if w.fields++; w.fields > maxFields {
			return fmt.Errorf("it has more than %d fields", maxFields)
		}
		b, err := w.peek(at, int(min(10, f.end-at)))
		if err != nil {
			return err
		}
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return fmt.Errorf("the number at byte %d is damaged: %w", at, protowire.ParseError(n))
		}
		if err := visit(int64(v)); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// short is the text of a field that is looked at and not kept; what is longer
// than a window gives an error.
func (w *walker) short(f field) ([]byte, error) {
	if f.typ != protowire.BytesType {
		return nil, fmt.Errorf("field %d is not of the kind that ONNX has there", f.num)
	}
	if f.end-f.start > windowLen {
		return nil, fmt.Errorf("the text at byte %d has %d bytes; more than %d are not expected of a name",
			f.start, f.end-f.start, windowLen)
	}
	return w.peek(f.start, int(f.end-f.start))
}

// keep is the text of a field, and counts it.
func (w *walker) keep(f field) (string, error) {
	if f.typ != protowire.BytesType {
		return "", fmt.Errorf("field %d is not of the kind that ONNX has there", f.num)
	}
	n := f.end - f.start
	if int64(w.text)+n+64 > maxText {
		return "", errText
	}
	w.text += int(n) + 64
	b := make([]byte, n)
	if _, err := w.r.ReadAt(b, f.start); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading at byte %d: %w", f.start, err)
	}
	return string(b), nil
}
