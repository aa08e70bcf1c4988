package stagetest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
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

// Checkpoint is a new file with the weights of a published architecture, as random as
// those that it is compared with its publishers' code with: name is that of a golden in
// model/arch/testdata, such as "icnet". Where shift is not nil, it is added to the
// tensors that it names.
func Checkpoint(t testing.TB, name string, shift map[string]float64) string {
	t.Helper()
	var golden struct {
		Gain    float64
		Tensors [][2]json.RawMessage // name and shape
	}
	readGolden(t, name, &golden)
	header, data := map[string]any{}, []byte(nil)
	for _, tensor := range golden.Tensors {
		var key string
		var shape []int
		if json.Unmarshal(tensor[0], &key) != nil || json.Unmarshal(tensor[1], &shape) != nil {
			t.Fatalf("the tensor %s cannot be read", tensor)
		}
		if strings.HasSuffix(key, "num_batches_tracked") {
			continue
		}
		from := len(data)
		data = appendWeight(data, key, shape, golden.Gain, shift[key])
		header[key] = map[string]any{"dtype": "F32", "shape": shape, "data_offsets": []int{from, len(data)}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name+".safetensors")
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	if err := os.WriteFile(path, append(file, data...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readGolden(t testing.TB, name string, into any) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	packed, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../../model/arch/testdata", name+".json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// appendWeight appends the tensor of that name to data, as
// model/arch/testdata/reference/reference.py makes it, and shifted.
func appendWeight(data []byte, name string, shape []int, gain, shift float64) []byte {
	n, fanIn := 1, 1
	for i, d := range shape {
		n *= d
		if i > 0 {
			fanIn *= d
		}
	}
	h := fnv.New64a()
	_, _ = io.WriteString(h, name)
	seed := h.Sum64()
	data = slices.Grow(data, 4*n)
	for i := range n {
		z := seed + uint64(i+1)*0x9E3779B97F4A7C15
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		u := float64((z^z>>31)>>40) / (1 << 24)
		switch {
		case strings.HasSuffix(name, "running_var"):
			u += 0.5
		case len(shape) > 1:
			u = gain * math.Sqrt(3/float64(fanIn)) * (2*u - 1)
		case strings.HasSuffix(name, "weight"):
			u = 0.75 + 0.5*u
		default:
			u = 0.2 * (2*u - 1)
		}
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(u+shift)))
	}
	return data
}
