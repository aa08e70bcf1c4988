package arch

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/model/checkpoint"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// weights are the tensors of a checkpoint, and which of them have found their place.
type weights struct {
	files   []*checkpoint.File
	tensors map[string]*checkpoint.Tensor
	order   []string
	used    map[string]bool
	misfit  string // the first thing that does not fit; empty: all does
	refused error  // why a network that is known cannot be built
	openAI  bool   // the file is in the form in which OpenAI published CLIP
}

// useless are the ends of keys that are only of use in training.
var useless = []string{".num_batches_tracked"}

func newWeights(files []*checkpoint.File, ignore []string) (*weights, error) {
	w := &weights{files: files, tensors: map[string]*checkpoint.Tensor{}, used: map[string]bool{}}
	for _, f := range files {
		for i := range f.Tensors {
			t := &f.Tensors[i]
			w.openAI = w.openAI || t.Name == "vocab_size"
			if slices.ContainsFunc(useless, func(end string) bool { return strings.HasSuffix(t.Name, end) }) ||
				slices.ContainsFunc(ignore, func(start string) bool { return strings.HasPrefix(t.Name, start) }) {
				continue
			}
			if w.tensors[t.Name] != nil {
				return nil, fmt.Errorf("%s has the tensor %q, which another of the files has too: one checkpoint is wanted, or parts of one", f.Path, t.Name)
			}
			w.tensors[t.Name] = t
			w.order = append(w.order, t.Name)
		}
	}
	return w, nil
}

// marked tells whether all keys of one naming are there.
func (w *weights) marked(marks [][]string) bool {
	return slices.ContainsFunc(marks, func(keys []string) bool {
		return !slices.ContainsFunc(keys, func(key string) bool { return !w.has(key) })
	})
}

// missing is the first mark that is not there.
func (w *weights) missing(marks [][]string) string {
	for _, key := range marks[0] {
		if !w.has(key) {
			return key
		}
	}
	return ""
}

func (w *weights) has(key string) bool { return w.tensors[key] != nil }

// dim is the size of a tensor along an axis; 0, where there is no such tensor or axis.
func (w *weights) dim(key string, axis int) int {
	t := w.tensors[key]
	if t == nil || axis >= len(t.Shape) {
		return 0
	}
	return t.Shape[axis]
}

// count is how many of a list's members there are: with "body.%.conv.weight", from
// body.0.conv.weight on.
func (w *weights) count(pattern string) int {
	n := 0
	for w.has(strings.Replace(pattern, "%", strconv.Itoa(n), 1)) {
		n++
	}
	return n
}

// fail keeps the first thing that does not fit.
func (w *weights) fail(format string, args ...any) {
	if w.misfit == "" {
		w.misfit = fmt.Sprintf(format, args...)
	}
}

// refuse says that a network is known, and of no use.
func (w *weights) refuse(format string, args ...any) {
	w.fail(format, args...)
	w.refused = cmp.Or(w.refused, fmt.Errorf(format, args...))
}

// take is the tensor of that name, which must have these dimensions, -1 being any; nil,
// where it does not fit.
func (w *weights) take(key string, dims ...int) *checkpoint.Tensor {
	t := w.tensors[key]
	if t == nil {
		w.fail("there is no %q", key)
		return nil
	}
	fits := len(t.Shape) == len(dims)
	for i := 0; fits && i < len(dims); i++ {
		fits = dims[i] < 0 || dims[i] == t.Shape[i]
	}
	switch {
	case !fits:
		w.fail("%q has the shape %v, where %s is wanted", key, t.Shape, strings.ReplaceAll(fmt.Sprint(dims), "-1", "?"))
		return nil
	case t.Type != onnx.Float32 && t.Type != onnx.Float16 && t.Type != onnx.BFloat16 && t.Type != onnx.Float64:
		w.fail("%q has elements of type %v, where a floating-point type is wanted", key, t.Type)
		return nil
	}
	w.used[key] = true
	return t
}

// unused is a tensor that has found no place.
func (w *weights) unused() string {
	for _, key := range w.order {
		if !w.used[key] {
			return key
		}
	}
	return ""
}

// floats are little-endian numbers of a type.
func floats(b []byte, t onnx.ElementType) []float32 {
	out := make([]float32, len(b)/(t.Bits()/8))
	switch t {
	case onnx.Float32:
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	case onnx.BFloat16:
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		}
	case onnx.Float16:
		for i := range out {
			out[i] = half(binary.LittleEndian.Uint16(b[2*i:]))
		}
	case onnx.Float64:
		for i := range out {
			out[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:])))
		}
	}
	return out
}

// half is a float16 (IEEE 754 binary16).
func half(bits uint16) float32 {
	sign, exponent, fraction := uint32(bits>>15)<<31, uint32(bits>>10&31), uint32(bits&0x3ff)
	switch exponent {
	case 0:
		v := math.Ldexp(float64(fraction), -24)
		return math.Float32frombits(math.Float32bits(float32(v)) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// encoded is numbers as little-endian bytes of a type.
func encoded(v []float32, t onnx.ElementType) []byte {
	if t == onnx.Float16 {
		b := make([]byte, 0, 2*len(v))
		for _, x := range v {
			b = binary.LittleEndian.AppendUint16(b, onnx.Half(x))
		}
		return b
	}
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}
