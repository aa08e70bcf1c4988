// Package archtest makes checkpoints for tests and benchmarks: networks of true
// architecture, whose weights follow from their names by the formula that the scripts in
// model/arch/testdata/reference have too.
package archtest

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// What goes over every weight does so without a word from the race detector, under
// which the weights of large networks take longer than the networks.

// Uniform is what reference.py makes of a name: n numbers in [0, 1), of 24 bits.
//
//go:norace
func Uniform(name string, n int) []float64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, name)
	seed := h.Sum64()
	out := make([]float64, n)
	for i := range out {
		z := seed + uint64(i+1)*0x9E3779B97F4A7C15
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		out[i] = float64((z^z>>31)>>40) / (1 << 24)
	}
	return out
}

// Weight is the tensor of that name and shape, as reference.py makes it.
//
//go:norace
func Weight(name string, shape []int, gain float64) []float32 {
	n, fanIn := 1, 1
	for i, d := range shape {
		n *= d
		if i > 0 {
			fanIn *= d
		}
	}
	variance, weight := strings.HasSuffix(name, "running_var"), strings.HasSuffix(name, "weight")
	width := gain * math.Sqrt(3/float64(fanIn))
	out := make([]float32, n)
	for i, u := range Uniform(name, n) {
		switch {
		case variance:
			u += 0.5
		case len(shape) > 1:
			u = width * (2*u - 1)
		case weight:
			u = 0.75 + 0.5*u
		default:
			u = 0.2 * (2*u - 1)
		}
		out[i] = float32(u)
	}
	return out
}

// appendWeights appends them as a safetensors file has them.
//
//go:norace
func appendWeights(data []byte, weights []float32, absolute bool) []byte {
	from := len(data)
	data = slices.Grow(data, 4*len(weights))[:from+4*len(weights)]
	for i, x := range weights {
		if absolute {
			x = max(x, -x)
		}
		binary.LittleEndian.PutUint32(data[from+4*i:], math.Float32bits(x))
	}
	return data
}

// Picture is the batch i of reference.py, as NCHW of three channels, in [0, 1).
//
//go:norace
func Picture(i, batch, height, width int) []float32 {
	noise := Uniform(fmt.Sprint("picture ", i), batch*3*height*width)
	out := make([]float32, len(noise))
	for j, u := range noise {
		x, y := j%width, j/width%height
		ramp := (float64(x)/float64(max(width-1, 1)) + float64(y)/float64(max(height-1, 1))) / 2
		out[j] = float32(0.5*u + 0.5*ramp)
	}
	return out
}

// Golden is a file that reference.py wrote: a network, and what an implementation by
// others made of some pictures.
type Golden struct {
	About   string   // who made it
	Gain    float64  // of the weights, for Weight
	Tensors []Tensor // of its checkpoint
	Cases   []Case   // what came of pictures
}

// Tensor is a weight of a Golden.
type Tensor struct {
	Name  string // its key
	Shape []int  // its dimensions
}

// UnmarshalJSON reads ["name", [2, 3]].
func (t *Tensor) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&t.Name, &t.Shape})
}

// Case is a batch, by its number for Picture, and what came of it.
type Case struct {
	Size    [3]int            // batch, height, width
	Outputs map[string]Output // by their names
}

// Output is one of a Case's tensors.
type Output struct {
	Shape []int  // its dimensions
	Data  string // float32, little-endian, base64
}

// Numbers are the output's.
func (o Output) Numbers(t testing.TB) []float32 {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(o.Data)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, len(raw)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out
}

// Read reads the golden of that name.
func Read(t testing.TB, name string) Golden {
	t.Helper()
	_, this, _, _ := runtime.Caller(0)
	f, err := os.Open(filepath.Join(filepath.Dir(this), "..", "testdata", name+".json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var g Golden
	if err := json.NewDecoder(z).Decode(&g); err != nil {
		t.Fatal(err)
	}
	return g
}

// Checkpoint is a safetensors file with the golden's weights, as float32. change may
// rename a tensor, or leave it out by "".
func (g Golden) Checkpoint(t testing.TB, change func(name string) string) []byte {
	t.Helper()
	header := map[string]any{}
	size := 0
	for _, tensor := range g.Tensors {
		n := 4
		for _, d := range tensor.Shape {
			n *= d
		}
		size += n
	}
	data := make([]byte, 0, size)
	for _, tensor := range g.Tensors {
		name := tensor.Name
		if strings.HasSuffix(name, "num_batches_tracked") {
			continue
		}
		w := Weight(name, tensor.Shape, g.Gain)
		absolute := strings.Contains(name, ".model.1.weight") // those of LPIPS are not below 0
		if change != nil {
			if name = change(name); name == "" {
				continue
			}
		}
		from := len(data)
		data = appendWeights(data, w, absolute)
		header[name] = map[string]any{"dtype": "F32", "shape": append([]int{}, tensor.Shape...), "data_offsets": []int{from, len(data)}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	file := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(text)+len(data)), uint64(len(text)))
	return append(append(file, text...), data...)
}

// Save writes the Checkpoint to a file of that name in a folder of the test's own.
func (g Golden) Save(t testing.TB, name string, change func(name string) string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, g.Checkpoint(t, change), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
