package network_test

import (
	"image"
	"testing"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/network"
)

// On the CPU each thread has a run of its own, where the pictures of all have room.
func TestWorkIsDivided(t *testing.T) {
	const (
		vector  = 16 * 4                         // bytes that come out
		picture = 48*3*32*32*4 + vector          // bytes in a run
		there   = 16 * 32 * (picture + 2*vector) // bytes of the host
		much    = 1 << 40
	)
	sized := testnet.EmbedderOptions{Size: 32}
	for name, tt := range map[string]struct {
		net     testnet.EmbedderOptions
		options network.Options
		device  pipeline.Device
		host    int64
		want    network.Division
	}{
		"two threads":              {sized, network.Options{Threads: 2}, pipeline.Host, much, network.Division{Lanes: 2, Batch: 4, Threads: 1}},
		"many threads":             {sized, network.Options{Threads: 48}, pipeline.Host, much, network.Division{Lanes: 48, Batch: 4, Threads: 1}},
		"one thread":               {sized, network.Options{Threads: 1}, pipeline.Host, much, network.Division{Lanes: 1, Batch: 8, Threads: 1}},
		"room for 16 pictures":     {sized, network.Options{Threads: 8}, pipeline.Host, there, network.Division{Lanes: 4, Batch: 4, Threads: 2}},
		"and threads left over":    {sized, network.Options{Threads: 7}, pipeline.Host, there, network.Division{Lanes: 4, Batch: 4, Threads: 2}},
		"memory is short":          {sized, network.Options{Threads: 8}, pipeline.Host, 1, network.Division{Lanes: 2, Batch: 4, Threads: 4}},
		"memory is not known":      {sized, network.Options{Threads: 8}, pipeline.Host, 0, network.Division{Lanes: 2, Batch: 4, Threads: 4}},
		"large batches":            {sized, network.Options{Threads: 8, Batch: 32}, pipeline.Host, much, network.Division{Lanes: 8, Batch: 32, Threads: 1}},
		"and memory is short":      {sized, network.Options{Threads: 8, Batch: 32}, pipeline.Host, 1, network.Division{Lanes: 1, Batch: 32, Threads: 8}},
		"a fixed batch":            {testnet.EmbedderOptions{Size: 32, Batch: 3}, network.Options{Threads: 2}, pipeline.Host, much, network.Division{Lanes: 2, Batch: 3, Threads: 1}},
		"a simulated device":       {sized, network.Options{Threads: 2}, "sim:0", much, network.Division{Lanes: 1, Batch: 8, Threads: 2}},
		"a GPU":                    {sized, network.Options{Threads: 2}, "gpu:0", much, network.Division{Lanes: 1, Batch: 8, Threads: 2}},
		"a GPU with large batches": {sized, network.Options{Threads: 2, Batch: 64}, "gpu:0", much, network.Division{Lanes: 1, Batch: 64, Threads: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			got, runs := network.DividedOn(newStage(t, saved(t, "net.onnx", testnet.Embedder(tt.net)), model.Spec{}, tt.options), tt.device, tt.host)
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if want := int64(got.Lanes*got.Batch) * picture; runs != want {
				t.Errorf("%d bytes for the runs, want %d", runs, want)
			}
		})
	}
	t.Run("sizes of their own", func(t *testing.T) {
		got, _ := network.DividedOn(newStage(t, saved(t, "net.onnx", testnet.Embedder(testnet.EmbedderOptions{})), model.Spec{Resize: model.NoResize}, network.Options{Threads: 8}), pipeline.Host, much)
		if want := (network.Division{Lanes: 1, Batch: 1, Threads: 8}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

// A stage that can cut pictures into any parts is asked for those that have room, and as
// many runs of one of them go on at once as have room together.
func TestPartsFit(t *testing.T) {
	const mib = 1 << 20
	for name, tt := range map[string]struct {
		threads int
		device  pipeline.Device
		host    int64
		want    network.Division
	}{
		"much room":  {4, pipeline.Host, 1 << 40, network.Division{Lanes: 4, Batch: 1, Threads: 1}},
		"less room":  {4, pipeline.Host, 800 * mib, network.Division{Lanes: 2, Batch: 1, Threads: 2}},
		"little":     {4, pipeline.Host, 100 * mib, network.Division{Lanes: 1, Batch: 1, Threads: 4}},
		"a GPU":      {4, "gpu:0", 1 << 40, network.Division{Lanes: 1, Batch: 8, Threads: 4}},
		"one thread": {1, pipeline.Host, 1 << 40, network.Division{Lanes: 1, Batch: 1, Threads: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var room int64
			fit := func(r int64) (image.Point, int64) {
				room = r
				return image.Pt(64, 64), 90 * mib
			}
			s := newStage(t, saved(t, "net.onnx", testnet.Compact(4, 4, 1)), model.Spec{}, network.Options{Threads: tt.threads, Scale: 4, Fit: fit})
			if got, _ := network.DividedOn(s, tt.device, tt.host); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if room != tt.host/8 {
				t.Errorf("it was asked for parts that have room in %d bytes", room)
			}
		})
	}
}
