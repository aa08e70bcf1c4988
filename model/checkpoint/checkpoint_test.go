package checkpoint_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/model/checkpoint"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// numbers are those of a tensor.
func numbers(t *testing.T, tensor *checkpoint.Tensor) []float64 {
	t.Helper()
	b := tensor.Bytes()
	size := tensor.Type.Bits() / 8
	if len(b) != tensor.Elements()*size {
		t.Fatalf("%s of %v has %d bytes", tensor.Name, tensor.Shape, len(b))
	}
	out := []float64{}
	for ; len(b) > 0; b = b[size:] {
		var word [8]byte
		copy(word[:], b[:size])
		n := binary.LittleEndian.Uint64(word[:])
		switch tensor.Type {
		case onnx.Float32:
			out = append(out, float64(math.Float32frombits(uint32(n))))
		case onnx.Float64:
			out = append(out, math.Float64frombits(n))
		case onnx.BFloat16:
			out = append(out, float64(math.Float32frombits(uint32(n)<<16)))
		case onnx.Float16: // of small whole numbers
			mantissa, exponent := float64(n&0x3ff|0x400), int(n>>10&31)-25
			out = append(out, math.Ldexp(mantissa, exponent))
		default:
			out = append(out, float64(n))
		}
	}
	return out
}

// What PyTorch and safetensors wrote is read as they would read it: all types, views that
// are cut or transposed, what training scripts put around weights, old and new formats.
func TestAsPyTorch(t *testing.T) {
	text, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]struct {
		Within, Prefix string
		Tensors        []struct {
			Name, Type string
			Shape      []int
			Values     []float64
		}
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	for name, want := range all {
		t.Run(name, func(t *testing.T) {
			f, err := checkpoint.Open(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Within != want.Within || f.Prefix != want.Prefix {
				t.Errorf("found within %q with the prefix %q", f.Within, f.Prefix)
			}
			if len(f.Tensors) != len(want.Tensors) {
				t.Errorf("%d tensors, want %d", len(f.Tensors), len(want.Tensors))
			}
			for _, w := range want.Tensors {
				got := f.Find(w.Name)
				if got == nil {
					t.Errorf("there is no %s", w.Name)
					continue
				}
				if got.Type.String() != w.Type || !slices.Equal(got.Shape, w.Shape) {
					t.Errorf("%s is %v of %v, want %s of %v", w.Name, got.Type, got.Shape, w.Type, w.Shape)
					continue
				}
				if v := numbers(t, got); !slices.Equal(v, w.Values) {
					t.Errorf("%s is %v, want %v", w.Name, v, w.Values)
				}
			}
		})
	}
	f, err := checkpoint.Open("testdata/types.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Metadata["modelspec.title"] != "types" {
		t.Errorf("the metadata are %v", f.Metadata)
	}
}

// Files that end anywhere give an error, and so do files with a byte changed, or the same
// tensors' names and shapes: nothing in between.
func TestDamaged(t *testing.T) {
	for _, name := range []string{"types.safetensors", "training.pth", "views.legacy.pth", "script.pt"} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			for n := range len(data) {
				if _, err := checkpoint.Read(data[:n]); err == nil {
					t.Fatalf("the first %d bytes of %d were read", n, len(data))
				}
			}
			for i := range data {
				damaged := slices.Clone(data)
				damaged[i] ^= 0x11
				if f, err := checkpoint.Read(damaged); err == nil {
					for j := range f.Tensors {
						f.Tensors[j].Bytes()
					}
				}
			}
		})
	}
}

// In a zip archive no byte of a tensor can change unseen.
func TestSumsAreChecked(t *testing.T) {
	data, err := os.ReadFile("testdata/types.pth")
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(string(data), "\x00\x00\x80?\x00\x00\x00@") // 1 and 2 in float32
	if i < 0 {
		t.Fatal("the numbers are not there")
	}
	data[i+2] ^= 1
	if _, err := checkpoint.Read(data); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("the error is %v", err)
	}
}

// header is a safetensors file of that header.
func header(text string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return append(append(b, text...), make([]byte, data)...)
}

func TestRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		data  []byte
		cause string
	}{
		"nothing that is known":   {[]byte("hello, world"), "neither a safetensors file nor"},
		"a picture":               {[]byte("\x89PNG\r\n\x1a\n0000"), "neither a safetensors file nor"},
		"a header of 2 GiB":       {append(binary.LittleEndian.AppendUint64(nil, 2<<30), `{"a":`...), "more than the 16777216 that are read"},
		"a header without an end": {append(binary.LittleEndian.AppendUint64(nil, 2000), `{"a":`...), "it ends within its header"},
		"no JSON":                 {header(`{"a": nothing}`, 0), "its header"},
		"overlapping tensors":     {header(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), `"b" begins at byte 4 of the data, where 8`},
		"a gap":                   {header(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), `"a" begins at byte 4`},
		"bytes at the end":        {header(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 8), "4 bytes follow the last tensor"},
		"negative offsets":        {header(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, 8), "its header"},
		"offsets out of range":    {header(`{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`, 8), "not copied whole"},
		"offsets that run back":   {header(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[8,4]}}`, 8), "do not lie"},
		"another size than shape": {header(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8), "8 bytes for the shape [3] of float32"},
		"a shape that overflows":  {header(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0), "no tensor has the shape"},
		"bytes that overflow":     {header(`{"a":{"dtype":"F64","shape":[288230376151711744],"data_offsets":[0,0]}}`, 0), "no tensor has the shape"},
		"a shape of millions":     {header(`{"a":{"dtype":"F32","shape":[`+strings.Repeat("1,", 1<<20)+`1],"data_offsets":[0,4]}}`, 4), "a list of more than 16 numbers"},
		"a negative shape":        {header(`{"a":{"dtype":"F32","shape":[-1,-4],"data_offsets":[0,16]}}`, 16), "no tensor has the shape"},
		"two of one name":         {header(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4), `"a" is there twice`},
		"a type of the future":    {header(`{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`, 1), `type "F4"`},
		"no tensors":              {header(`{}`, 0), "no tensors"},
		"an empty zip archive":    {[]byte("PK\x03\x04PK\x05\x06" + strings.Repeat("\x00", 18)), "zip archive"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := checkpoint.Read(tt.data); err == nil || !strings.Contains(err.Error(), tt.cause) {
				t.Errorf("the error is %v, and should say %q", err, tt.cause)
			}
		})
	}
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pth")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, cause := range map[string]string{dir: "not a regular file", empty: "it is empty", filepath.Join(dir, "none"): "no such file"} {
		if _, err := checkpoint.Open(path); err == nil || !strings.Contains(err.Error(), cause) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := checkpoint.Read([]byte("hello, world")); !errors.Is(err, checkpoint.ErrFormat) {
		t.Error("an unknown format is not ErrFormat")
	}
}

func Example() {
	f, err := checkpoint.Open("testdata/training.pth")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	fmt.Println(f.Format, f.Within)
	for _, t := range f.Tensors {
		fmt.Println(t.Name, t.Type, t.Shape)
	}
	// Output:
	// torch zip params_ema
	// conv.weight float32 [2 2]
	// conv.bias float32 [2]
}

// Only a file that is cut short is an error: what else goes wrong is not taken for success.
func TestUsePassesPanicsOn(t *testing.T) {
	f, err := checkpoint.Open(filepath.Join("testdata", "types.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer func() {
		if cause := recover(); cause != "a mistake" {
			t.Errorf("it panicked with %v", cause)
		}
	}()
	err = f.Use(func() error { panic("a mistake") })
	t.Errorf("it returned %v", err)
}
