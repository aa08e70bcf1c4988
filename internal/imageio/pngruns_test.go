package imageio_test

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// Whatever is compressed, at whatever size and in whatever pieces, the standard
// library gives it back; and the writer serves again.
func TestRunsRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	kinds := map[string]func(b []byte){
		"zeros": func([]byte) {},
		"one value": func(b []byte) {
			for i := range b {
				b[i] = 200
			}
		},
		"random": func(b []byte) {
			for i := range b {
				b[i] = byte(r.Uint32())
			}
		},
		"two values": func(b []byte) {
			for i := range b {
				b[i] = byte(i & 1)
			}
		},
		// Each value about half as often as the one before: codes that are too
		// long unless they are limited.
		"skewed": func(b []byte) {
			for i := range b {
				v := 0
				for v < 40 && r.Uint32()&1 == 0 {
					v++
				}
				b[i] = byte(v)
			}
		},
		"runs of all lengths": func(b []byte) {
			v, n := byte(0), 1
			for len(b) > 0 {
				k := min(n, len(b))
				for i := range k {
					b[i] = v
				}
				b, v, n = b[k:], v+1, n%600+1
			}
		},
		"differences of a photograph": func(b []byte) {
			for i := range b {
				b[i] = byte(int8(r.NormFloat64() * 3))
			}
		},
	}
	sizes := []int{0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 257, 258, 259, 260, 262, 263, 1000, 65535, 65536, 65537, 65540, 3*65536 - 1, 3*65536 + 9}
	w := imageio.NewRunWriter()
	for name, fill := range kinds {
		t.Run(name, func(t *testing.T) {
			for _, size := range sizes {
				want := make([]byte, size)
				fill(want)
				var out bytes.Buffer
				w.Reset(&out)
				for rest := want; len(rest) > 0; {
					n := min(len(rest), 1+r.IntN(40_000))
					if _, err := w.Write(rest[:n]); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				z, err := zlib.NewReader(&out)
				if err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				got, err := io.ReadAll(z)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes came back as %d: %v", size, len(got), err)
				}
				if out.Len() != 0 {
					t.Fatalf("%d bytes: %d bytes too many were written", size, out.Len())
				}
			}
		})
	}
}

// How often a value occurs sets the length of its code; numbers that grow like
// Fibonacci's ask for the longest ones.
func TestRunsWithRareValues(t *testing.T) {
	var want []byte
	a, b := 1, 1
	for v := range 23 {
		for i := range a {
			want = append(want, byte(v), byte(100+i%2)) // no runs
		}
		a, b = b, a+b
		if len(want) > 60_000 {
			break
		}
	}
	var out bytes.Buffer
	w := imageio.NewRunWriter()
	w.Reset(&out)
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z, err := zlib.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes came back as %d: %v", len(want), len(got), err)
	}
}

func TestRunsTellWhatFailed(t *testing.T) {
	failed := errors.New("disk full")
	w := imageio.NewRunWriter()
	w.Reset(failing{failed})
	_, err := w.Write(make([]byte, 200_000))
	if cerr := w.Close(); !errors.Is(err, failed) || !errors.Is(cerr, failed) {
		t.Errorf("Write says %v and Close %v", err, cerr)
	}
	var out bytes.Buffer
	w.Reset(&out)
	if _, err := fmt.Fprint(w, "again"); err != nil || w.Close() != nil || out.Len() == 0 {
		t.Errorf("it does not serve again: %v", err)
	}
}
