package imageio_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// mutate damages a file in one of the ways in which files come to be damaged, or
// are made to do damage.
func mutate(rnd *rand.Rand, data []byte, other []byte) (string, []byte) {
	d := bytes.Clone(data)
	at := func() int { return rnd.IntN(len(d)) }
	switch rnd.IntN(7) {
	case 0:
		return "cut off", d[:at()]
	case 1:
		d[at()] ^= 1 << rnd.IntN(8)
		return "a bit flipped", d
	case 2:
		for range 8 {
			d[at()] = byte(rnd.Uint32())
		}
		return "bytes changed", d
	case 3: // sizes stand near the beginning, and are large where it hurts
		i := rnd.IntN(max(1, min(len(d)-4, 200)))
		sizes := []uint32{0, 1, 0x7fffffff, 0xffffffff, 0xffff, 0x10000, 65500 << 16}
		binary.BigEndian.PutUint32(d[i:], sizes[rnd.IntN(len(sizes))])
		return "a size changed", d
	case 4:
		i := at()
		return "a part lost", append(d[:i:i], d[min(len(d), i+1+rnd.IntN(60)):]...)
	case 5:
		i := at()
		part := d[i:min(len(d), i+1+rnd.IntN(200))]
		return "a part twice", append(append(d[:i:i], part...), d[i:]...)
	default:
		i, j := at(), rnd.IntN(len(other))
		return "another file's rest", append(d[:i:i], other[j:]...)
	}
}

// Each of 300 damaged files ends as an image or as an error, soon and in little
// memory, through both of JPEG's decoders.
func TestMutatedFiles(t *testing.T) {
	const (
		files      = 300
		mostMemory = 300 << 20
		hangs      = time.Minute // each takes milliseconds
	)
	good := seeds(t)
	lim := imageio.DefaultLimits()
	bothDecoders(t, func(t *testing.T, _ bool) {
		rnd := rand.New(rand.NewPCG(2024, 300))
		decoded := 0
		for i := range files {
			what, data := mutate(rnd, good[i%len(good)], good[rnd.IntN(len(good))])
			name := fmt.Sprintf("%d (%s of seed %d)", i, what, i%len(good))
			watchdog := time.AfterFunc(hangs, func() { panic("decoding hangs: " + name) })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			check(t, data, lim)
			runtime.ReadMemStats(&after)
			watchdog.Stop()
			if n := after.TotalAlloc - before.TotalAlloc; n > mostMemory {
				t.Errorf("%s: allocated %d MiB", name, n>>20)
			}
			if h, err := imageio.ReadHeader(data, lim); err == nil {
				if _, err := imageio.Decode(data, h, lim); err == nil {
					decoded++
				}
			}
		}
		if decoded < files/20 || decoded > files*19/20 {
			t.Errorf("%d of %d were decoded: the damage is not what it should be", decoded, files)
		}
		t.Logf("%d of %d were decoded", decoded, files)
	})
}
