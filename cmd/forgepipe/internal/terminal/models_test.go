package terminal

import (
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/model/measure"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/store"
)

// The bar of a fetch: how much, how quickly, how long still.
func TestFetchRow(t *testing.T) {
	var f fetchRate
	begun := time.Now()
	for _, tt := range []struct {
		name  string
		after time.Duration
		p     store.Progress
		note  string
		of    int64
	}{
		{"at first", 0, store.Progress{Done: 1 << 20, Total: 64 << 20}, "1 MiB of 64 MiB", 64 << 20},
		{"a rate", 2 * time.Second, store.Progress{Done: 5 << 20, Total: 64 << 20}, "5 MiB of 64 MiB, 2 MiB/s, 30 s left", 64 << 20},
		{"it stands", 7 * time.Second, store.Progress{Done: 5 << 20, Total: 64 << 20}, "5 MiB of 64 MiB", 64 << 20},
		{"still", 20 * time.Second, store.Progress{Done: 5 << 20, Total: 64 << 20}, "5 MiB of 64 MiB", 64 << 20},
		{"it began anew", 22 * time.Second, store.Progress{Done: 1 << 20, Total: 64 << 20}, "1 MiB of 64 MiB", 64 << 20},
		{"no size", 23 * time.Second, store.Progress{Done: 2 << 20}, "2 MiB, 1 MiB/s", 0},
		{"done", 24 * time.Second, store.Progress{Done: 64 << 20, Total: 64 << 20}, "64 MiB of 64 MiB, 31.5 MiB/s", 64 << 20},
		{"another process", 25 * time.Second, store.Progress{Total: 64 << 20, Waiting: true}, "another process fetches it: waiting for its end", 0},
	} {
		r := f.row(begun.Add(tt.after), tt.p)
		if r.note != tt.note || r.of != tt.of {
			t.Errorf("%s: %q of %d, want %q of %d", tt.name, r.note, r.of, tt.note, tt.of)
		}
	}
}

func TestNetworkText(t *testing.T) {
	text := Network("n.onnx", &onnx.Header{
		Inputs: []onnx.Port{{Name: "x\x1b[2J", Type: onnx.Float32, Shape: []int64{-1, 3, 8, -1}, Axes: []string{"batch", "", "", ""}}},
		Outputs: []onnx.Port{
			{Name: "y", Type: onnx.Float16, Shape: []int64{1}, Axes: []string{""}}, {Name: "z", Type: onnx.Float32},
		},
		Ops: map[string]int{"Conv": 3, "Relu": 12}, Parameters: 1234567, WeightBytes: 4938268, Opsets: []onnx.OpsetVersion{{Version: 17}, {Domain: "com.microsoft", Version: 1}},
		Producer: "pytorch", ProducerVersion: "2.1", External: []onnx.External{{Name: "w.bin", Bytes: 2048}}, Metadata: map[string]string{"b": "2", "a": "1"},
	})
	want := `file        n.onnx
inputs      x\x1b[2J: float32 batch x 3 x 8 x ?
outputs     y: float16 1
            z: float32 of any shape
parameters  1,234,567
weights     4.7 MiB
beside it   w.bin, at least 2 KiB
operators   15
            Relu 12, Conv 3
opset       17, com.microsoft 1
made by     pytorch 2.1
metadata    a: 1
            b: 2
`
	if text != want {
		t.Errorf("got\n%s", text)
	}
}

func TestMeasuredText(t *testing.T) {
	text := Measured([]measure.Point{
		{Batch: 1, Width: 64, Height: 64, Peak: 1 << 20, Seconds: 0.00123},
		{Batch: 16, Width: 64, Height: 64, Peak: 16 << 20, Seconds: 1.5},
		{Batch: 99, Width: 64, Height: 64, OutOfMemory: true, Fault: "no"},
		{Batch: 1, Width: 65, Height: 65, Fault: "it does not suit"},
	}, 2<<20)
	want := `batch     size   a run  with weights  a picture
    1  64 x 64   1 MiB         3 MiB     1.2 ms
   16  64 x 64  16 MiB        18 MiB      1.5 s
   99  64 x 64       -             -          -  there is not enough memory for it
    1  65 x 65       -             -          -  it does not suit
`
	if text != want {
		t.Errorf("got\n%s", text)
	}
}
