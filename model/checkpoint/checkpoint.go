package checkpoint

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"

	"github.com/forgepipe/forgepipe/model/onnx"
)

// Format is how a file keeps its tensors.
type Format string

// The formats, which are told from a file's content, whatever it is called.
const (
	Safetensors Format = "safetensors"
	TorchZip    Format = "torch zip"    // torch.save since PyTorch 1.6, and TorchScript
	TorchLegacy Format = "torch legacy" // torch.save before that
)

// File is a checkpoint that is open. Its tensors are valid until Close.
type File struct {
	Path   string // as it was given
	Format Format // told from its content
	// Tensors are the weights, in the file's order, each with a name of its own. What
	// training scripts put around the network's own names has been taken away, see
	// Within and Prefix.
	Tensors []Tensor
	// Within is the key of the dictionary that the tensors were found in, such as
	// "params_ema"; keys within keys are joined by dots. Empty: they lie at the top.
	Within string
	// Prefix is what all names of the file begin with and Tensors' do not, such as
	// "module.".
	Prefix string
	// Metadata is what a safetensors file says beside its tensors.
	Metadata map[string]string

	mapping mapping
}

// mapping is a file's content.
type mapping struct {
	data []byte
	// letGo gives back the memory that the parts take which were looked at. They are read
	// again when they are looked at again.
	letGo func()
	unmap func() error
}

// inMemory is content that lies in memory.
func inMemory(data []byte) mapping { return mapping{data, func() {}, func() error { return nil }} }

// Tensor is an array of weights in a file.
type Tensor struct {
	Name  string           // its key, such as "body.0.weight"
	Type  onnx.ElementType // such as onnx.Float32, onnx.BFloat16
	Shape []int            // nil for a single number

	data    []byte // of its storage, from its first element on
	strides []int  // in elements; nil: row-major, without gaps
	offset  int    // in its storage, in elements, until that has data
}

// Elements is how many numbers the tensor has.
func (t *Tensor) Elements() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Bytes is the tensor's data: little-endian, row-major, without gaps, as ONNX keeps
// them. It is a view of the file where the tensor lies so in it, and must not be changed;
// a tensor that is a transposed or cut view of another one is copied.
func (t *Tensor) Bytes() []byte {
	size := t.Type.Bits() / 8
	if t.strides == nil {
		return t.data[:t.Elements()*size]
	}
	out := make([]byte, 0, t.Elements()*size)
	index := make([]int, len(t.Shape))
	for range t.Elements() {
		at := 0
		for i, x := range index {
			at += x * t.strides[i]
		}
		out = append(out, t.data[at*size:(at+1)*size]...)
		for i := len(index) - 1; i >= 0; i-- {
			if index[i]++; index[i] < t.Shape[i] {
				break
			}
			index[i] = 0
		}
	}
	return out
}

// Find returns the tensor of that name, or nil.
func (f *File) Find(name string) *Tensor {
	for i := range f.Tensors {
		if f.Tensors[i].Name == name {
			return &f.Tensors[i]
		}
	}
	return nil
}

// Use calls do, which looks at tensors' Bytes. A file that is cut short while it is
// mapped would end the process where that is done without it; here it is an error.
func (f *File) Use(do func() error) error {
	if err := guarded(do); err != nil {
		return fmt.Errorf("the checkpoint %s: %w", f.Path, err)
	}
	return nil
}

// Close ends the use of the file. Tensors must not be looked at any more.
func (f *File) Close() error { return f.mapping.unmap() }

// LetGo gives back the memory that the parts of the file take which were looked at so far.
// They are read again when they are looked at again.
func (f *File) LetGo() { f.mapping.letGo() }

// Open looks at a checkpoint. The error says which file it is, what is wrong with it
// and, where that helps, what to do; a file in none of the formats is ErrFormat.
func Open(path string) (*File, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint %s: %w", path, err)
	}
	return f, nil
}

// ErrFormat says that a file is in none of the formats that are read.
var ErrFormat = errors.New("it is neither a safetensors file nor one that torch.save writes")

func open(path string) (*File, error) {
	info, err := os.Stat(path) // a pipe must not be opened: that waits for a writer
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Size() == 0:
		return nil, errors.New("it is empty")
	case info.Size() > math.MaxInt:
		return nil, errors.New("it is larger than this machine can address")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	m, err := mapFile(file, int(info.Size()))
	if err != nil {
		return nil, err
	}
	var f *File
	err = guarded(func() (err error) {
		f, err = read(m)
		return err
	})
	if err != nil {
		_ = m.unmap() // of no matter beside err
		return nil, err
	}
	f.Path = path
	return f, nil
}

// Sniff tells whether a file is a checkpoint, from its first bytes, of which 9 are enough.
func Sniff(first []byte) bool { return isZip(first) || isLegacy(first) || isSafetensors(first) }

// Read looks at a checkpoint in memory: its tensors are views of data.
func Read(data []byte) (*File, error) { return read(inMemory(data)) }

func read(m mapping) (*File, error) {
	var f *File
	var err error
	switch data := m.data; {
	case isZip(data):
		f, err = readZip(m)
	case isLegacy(data):
		f, err = readLegacy(data)
	case isSafetensors(data):
		f, err = readSafetensors(data)
	default:
		return nil, ErrFormat
	}
	if err != nil {
		return nil, err
	}
	if len(f.Tensors) == 0 {
		return nil, errors.New("there are no tensors in it")
	}
	f.mapping = m
	f.strip()
	return f, nil
}

// elements is the product of a shape, and whether it is one that can be: its bytes can be
// counted, too.
func elements(shape []int) (n int, ok bool) {
	n = 1
	for _, d := range shape {
		if d < 0 || d > 0 && n > math.MaxInt/64/d {
			return 0, false
		}
		n *= d
	}
	return n, true
}

// maxDims bounds the dimensions of a tensor.
const maxDims = 16

// bytesOf is what so many elements take.
func bytesOf(n int, t onnx.ElementType) int { return n * (t.Bits() / 8) }

// guarded does what looks at a mapped file. Where the file has been cut short meanwhile,
// that is an error, and does not end the process.
func guarded(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		cause := recover()
		fault, ok := cause.(interface {
			error
			Addr() uintptr
		})
		switch {
		case ok:
			err = fmt.Errorf("it changed while it was read: %w", fault)
		case cause != nil:
			panic(cause)
		}
	}()
	return do()
}
