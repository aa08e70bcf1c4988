package tile

import (
	"fmt"
	"image"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/forgepipe/forgepipe/internal/imageio"
)

// Exhaustive picks tiles the slow way: it adds up every square and looks at all
// of them for each tile.
func Exhaustive(img *image.Gray, size, align, count int) (corners []image.Point, sums []int64) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	at := func(x, y int) int64 {
		x, y = min(max(x, 0), w-1), min(max(y, 0), h-1)
		return 1000 * int64(img.Pix[y*img.Stride+x])
	}
	total := make([][]int64, h+1) // of everything above and to the left
	total[0] = make([]int64, w+1)
	for y := range h {
		total[y+1] = make([]int64, w+1)
		for x := range w {
			d := 4*at(x, y) - at(x-1, y) - at(x+1, y) - at(x, y-1) - at(x, y+1)
			if d < 0 {
				d = -d
			}
			total[y+1][x+1] = d + total[y][x+1] + total[y+1][x] - total[y][x]
		}
	}
	for len(corners) < count {
		best, found := int64(-1), image.Point{}
		for y := 0; y+size <= h; y += align {
			for x := 0; x+size <= w; x += align {
				sum := total[y+size][x+size] - total[y][x+size] - total[y+size][x] + total[y][x]
				if sum <= best {
					continue
				}
				free := true
				for _, c := range corners {
					free = free && !image.Rect(x, y, x+size, y+size).Overlaps(image.Rect(c.X, c.Y, c.X+size, c.Y+size))
				}
				if free {
					best, found = sum, image.Pt(x, y)
				}
			}
		}
		if best < 0 {
			break
		}
		corners, sums = append(corners, found), append(sums, best)
	}
	return corners, sums
}

// Painted is a picture with plateaus, and so with many equals: noise of few
// levels over patches, of which some are flat and some repeat.
func Painted(rnd *rand.Rand, w, h int) *image.Gray {
	img := image.NewGray(image.Rect(0, 0, w, h))
	levels, patch, period := 1+rnd.IntN(4), 1+rnd.IntN(40), 1+rnd.IntN(64)
	if rnd.IntN(3) == 0 {
		period = w + h
	}
	texture := make([]uint8, 256*256)
	for i := range texture {
		texture[i] = uint8(rnd.IntN(levels)) * 60
	}
	busy := map[image.Point]bool{}
	for y := range h {
		for x := range w {
			p := image.Pt(x/patch, y/patch)
			if _, ok := busy[p]; !ok {
				busy[p] = rnd.IntN(2) == 0
			}
			if busy[p] {
				img.Pix[y*img.Stride+x] = texture[y%period%256*256+x%period%256]
			}
		}
	}
	return img
}

// The limits make blocks of one position, of a few and of as many as fit.
func TestPickerEqualsExhaustiveSearch(t *testing.T) {
	sides := map[uint]int{}
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		size := 1 + rnd.IntN(40)
		w, h := size+rnd.IntN(120), size+rnd.IntN(120)
		align := []int{1, 1, 2, 3, 8}[rnd.IntN(5)]
		limit := []int{1, 50, 300, 1000, 1 << 20}[rnd.IntN(5)]
		count := 1 + rnd.IntN(30)
		img := Painted(rnd, w, h)
		t.Run(fmt.Sprintf("seed %d: %d of %d in %dx%d, align %d, limit %d", seed, count, size, w, h, align, limit), func(t *testing.T) {
			p := newPicker(imageio.NewLuma(img), w, h, size, align, limit)
			sides[p.shift]++
			corners, sums := Exhaustive(img, size, align, count)
			for i, want := range corners {
				if got, sum, ok := p.next(); !ok || got != want || sum != sums[i] {
					t.Fatalf("tile %d is at %v with %d (%t), want %v with %d", i, got, sum, ok, want, sums[i])
				}
			}
			if len(corners) < count {
				if got, _, ok := p.next(); ok {
					t.Errorf("there is one more tile, at %v", got)
				}
			}
		})
	}
	if len(sides) < 5 {
		t.Errorf("blocks had sides of %v only", sides)
	}
}

// What picking occupies beside the picture must be little, and no more than the
// stage says.
func TestPickingNeedsLittleMemory(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 5000, 4000))
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(img.Pix); i += 1 + rnd.IntN(64) {
		img.Pix[i] = uint8(rnd.Uint32())
	}
	for _, tt := range []struct {
		align int
		most  int64
	}{{8, 4 << 20}, {3, 22 << 20}, {1, 22 << 20}} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p := newPicker(imageio.NewLuma(img), 5000, 4000, 512, tt.align, maxBlocks)
		runtime.ReadMemStats(&after)
		used := int64(after.TotalAlloc - before.TotalAlloc)
		if says := p.bytes(5000, 512, tt.align); used > tt.most || used > says || says > 2*used {
			t.Errorf("align %d: %d bytes are allocated for 20 MP, expected at most %d; the stage says %d", tt.align, used, tt.most, says)
		}
		for range 38 {
			if _, _, ok := p.next(); !ok {
				t.Fatal("no tile is left")
			}
		}
	}
}
