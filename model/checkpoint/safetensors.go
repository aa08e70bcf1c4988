package checkpoint

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// The format is that of https://github.com/huggingface/safetensors: the length of the
// header as 8 bytes, the header as JSON, and the tensors' data one after the other,
// without gaps.

// maxHeader bounds the header. The format allows 100 MB; a network with 300,000 tensors
// has 16 MiB.
const maxHeader = 16 << 20

var safetensorsTypes = map[string]onnx.ElementType{
	"F64": onnx.Float64, "F32": onnx.Float32, "F16": onnx.Float16, "BF16": onnx.BFloat16,
	"I64": onnx.Int64, "I32": onnx.Int32, "I16": onnx.Int16, "I8": onnx.Int8,
	"U64": onnx.Uint64, "U32": onnx.Uint32, "U16": onnx.Uint16, "U8": onnx.Uint8, "BOOL": onnx.Bool,
}

func isSafetensors(data []byte) bool {
	return len(data) > 8 && data[8] == '{' && binary.LittleEndian.Uint64(data) < 1<<56
}

func readSafetensors(data []byte) (*File, error) {
	n := binary.LittleEndian.Uint64(data)
	rest := data[8:]
	switch {
	case n > maxHeader:
		return nil, fmt.Errorf("its header is said to have %d bytes, more than the %d that are read", n, maxHeader)
	case n > uint64(len(rest)):
		return nil, fmt.Errorf("it ends within its header, after %d of %d bytes: it was not copied whole", len(rest), n)
	}
	f := &File{Format: Safetensors}
	if err := f.header(rest[:n], rest[n:]); err != nil {
		return nil, fmt.Errorf("its header: %w", err)
	}
	return f, nil
}

// header reads the JSON object, member by member: a map would take the later of two
// tensors of one name, and would lose their order.
func (f *File) header(text, data []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return cmp.Or(err, errors.New("it is no JSON object"))
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name := t.(string) // keys are nothing else
		if seen[name] {
			return fmt.Errorf("%q is there twice", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			if err := d.Decode(&f.Metadata); err != nil {
				return fmt.Errorf("__metadata__: %w", err)
			}
			continue
		}
		tensor, err := safetensor(d, name, data)
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		f.Tensors = append(f.Tensors, tensor)
	}
	if _, err := d.Token(); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) { // spaces may follow
		return errors.New("something follows the JSON object")
	}
	return f.cover(data)
}

// list is a short list of numbers: a long one is refused before it takes memory.
type list[T any] []T

func (l *list[T]) UnmarshalJSON(text []byte) error {
	if bytes.Count(text, []byte(",")) >= maxDims {
		return fmt.Errorf("a list of more than %d numbers", maxDims)
	}
	return json.Unmarshal(text, (*[]T)(l))
}

func safetensor(d *json.Decoder, name string, data []byte) (Tensor, error) {
	var said struct {
		Type    string       `json:"dtype"`
		Shape   list[int]    `json:"shape"`
		Offsets list[uint64] `json:"data_offsets"`
	}
	if err := d.Decode(&said); err != nil {
		return Tensor{}, err
	}
	t := Tensor{Name: name, Type: safetensorsTypes[said.Type], Shape: said.Shape}
	if t.Type == onnx.Undefined {
		return t, fmt.Errorf("its type %q is none that is read", said.Type)
	}
	n, ok := elements(t.Shape)
	if !ok {
		return t, fmt.Errorf("no tensor has the shape %v", t.Shape)
	}
	if len(said.Offsets) != 2 {
		return t, errors.New("data_offsets are two numbers")
	}
	from, to := said.Offsets[0], said.Offsets[1]
	switch {
	case from > to || to > uint64(len(data)):
		return t, fmt.Errorf("its bytes from %d to %d do not lie in the %d that follow the header: it was not copied whole, or is damaged", from, to, len(data))
	case to-from != uint64(bytesOf(n, t.Type)):
		return t, fmt.Errorf("%d bytes for the shape %v of %v", to-from, t.Shape, t.Type)
	}
	t.data = data[from:to]
	return t, nil
}

// cover checks that the tensors' data lie one after the other, as the format wants: two
// that share bytes, or bytes that belong to none, are a sign of a file that was made to
// deceive.
func (f *File) cover(data []byte) error {
	byPlace := make([]*Tensor, len(f.Tensors))
	for i := range f.Tensors {
		byPlace[i] = &f.Tensors[i]
	}
	offset := func(t *Tensor) int { return cap(data) - cap(t.data) }
	slices.SortStableFunc(byPlace, func(a, b *Tensor) int {
		return cmp.Or(cmp.Compare(offset(a), offset(b)), cmp.Compare(len(a.data), len(b.data)))
	})
	at := 0
	for _, t := range byPlace {
		if offset(t) != at {
			return fmt.Errorf("%q begins at byte %d of the data, where %d was to be expected", t.Name, offset(t), at)
		}
		at += len(t.data)
	}
	if at != len(data) {
		return fmt.Errorf("%d bytes follow the last tensor", len(data)-at)
	}
	return nil
}
