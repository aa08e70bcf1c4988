package lpips

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/model"
)

// Set holds squashed pictures in a file, and tells the distance of two of them. A picture
// goes through the network when it is asked for, and once more when its vector has had to
// give room to others since. Of each that has gone through it a second file has a grid of
// its features, which bounds distances from below: most pairs that are farther apart than
// asked are told by that. It is for one goroutine.
type Set struct {
	d        *Distance
	pictures *records
	grids    *records
	slots    map[uint32]int64 // of the pictures' grids
	err      error            // of a write: what the files hold is not known from then on

	vectors, cells recent // in memory, by the pictures' numbers

	stats SetStats
}

// SetStats tell what a Set has done.
type SetStats struct {
	Pairs   int64 // that it was asked for
	Exact   int64 // of which the distance was computed; of the others a bound was enough
	Vectors int64 // that the network made
}

// SetBytes is how many bytes of disk a Set takes at most for each of its pictures, squashed
// to size x size pixels. It loads no network, and reads of the files, which are those of
// Open, what they say of themselves.
func SetBytes(size int, files ...string) (int64, error) {
	h, err := model.ReadHeader(files[0], model.FileOptions{Preset: "lpips", Beside: files[1:]})
	if err != nil {
		return 0, err
	}
	return 3*int64(size)*int64(size) + 4*int64(gridNumbers(layersOf(h.Metadata["details"], size))), nil
}

// NewSet makes a set without pictures. Its files, which must not be there, are made in dir:
// one of that name with PreparedBytes for each picture, and one of the name and ".grid"
// with GridBytes for each that it was asked for. memory is how many bytes of vectors and
// grids it may hold, of VectorBytes and GridBytes each; it holds two of both in any case.
// The Distance must have been opened with a Size, and stays open while the set is used.
func (d *Distance) NewSet(dir fsys.Root, name string, memory int64) (*Set, error) {
	if d.o.Size == 0 {
		return nil, errNoSize
	}
	pictures, err := newRecords(dir, name, d.PreparedBytes())
	if err != nil {
		return nil, fmt.Errorf("making a file of squashed pictures: %w", err)
	}
	grids, err := newRecords(dir, name+".grid", d.GridBytes())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a file of grids: %w", err), pictures.close())
	}
	s := &Set{d: d, pictures: pictures, grids: grids, slots: map[uint32]int64{}}
	if d.layers != nil { // grids are small: an eighth is many
		s.cells = newRecent(memory / 8 / d.GridBytes())
		memory -= memory / 8
	}
	s.vectors = newRecent(memory / d.vectorBytes)
	return s, nil
}

// Append adds a picture that Prepare has made, whose number is that of those before it. An
// error of the disk is one of all calls after it too.
func (s *Set) Append(prepared []byte) (number uint32, err error) {
	if s.err != nil {
		return 0, s.err
	}
	if err := s.d.check(prepared); err != nil {
		return 0, err
	}
	at, err := s.pictures.append(prepared)
	if err != nil {
		s.err = fmt.Errorf("writing squashed pictures: %w", err)
		return 0, s.err
	}
	return uint32(at), nil
}

// ErrNotFinite says that the network makes numbers of a picture that have no distance.
var ErrNotFinite = errors.New("the network gives numbers that are not finite")

// Within is the distance of the pictures i and j, and whether it is at most most. Where it
// is not, the distance may be a bound instead: a number above most that it is not below. An
// error that is ErrNotFinite is of these pictures alone.
func (s *Set) Within(ctx context.Context, i, j uint32, most float64) (distance float64, ok bool, err error) {
	if s.err != nil {
		return 0, false, s.err
	}
	if n := s.pictures.n; int64(i) >= n || int64(j) >= n {
		panic(fmt.Sprintf("BUG: the pictures %d and %d of a set of %d", i, j, n))
	}
	s.stats.Pairs++
	if s.d.layers != nil {
		low, err := s.distance(ctx, i, j, s.grid)
		if err != nil || low > PooledWithin(most) {
			return low, false, err
		}
	}
	s.stats.Exact++
	distance, err = s.distance(ctx, i, j, s.vector)
	switch {
	case err != nil:
		return 0, false, err
	case math.IsNaN(distance) || math.IsInf(distance, 0):
		return 0, false, fmt.Errorf("measuring LPIPS: %w", ErrNotFinite)
	}
	return distance, distance <= most, nil
}

// distance is that of what of gives for two pictures.
func (s *Set) distance(ctx context.Context, i, j uint32, of func(context.Context, uint32) ([]float32, error)) (float64, error) {
	a, err := of(ctx, i)
	if err != nil {
		return 0, err
	}
	b, err := of(ctx, j)
	if err != nil {
		return 0, err
	}
	return SquaredDistance(a, b), nil
}

// Prepared is a picture that was appended.
func (s *Set) Prepared(number uint32) ([]byte, error) {
	prepared := make([]byte, s.d.PreparedBytes())
	if err := s.pictures.read(prepared, int64(number)); err != nil {
		return nil, fmt.Errorf("reading squashed pictures: %w", err)
	}
	return prepared, nil
}

// vector is that of a picture, from memory or from the network.
func (s *Set) vector(ctx context.Context, number uint32) ([]float32, error) {
	if v, ok := s.vectors.get(number); ok {
		return v, nil
	}
	prepared, err := s.Prepared(number)
	if err != nil {
		return nil, err
	}
	s.vectors.room() // before there is another one
	v, err := s.d.Vector(ctx, prepared)
	if err != nil {
		return nil, err
	}
	s.stats.Vectors++
	s.vectors.put(number, v)
	return v, nil
}

// grid is that of a picture, from memory, from its file or from its vector.
func (s *Set) grid(ctx context.Context, number uint32) ([]float32, error) {
	if g, ok := s.cells.get(number); ok {
		return g, nil
	}
	s.cells.room()
	t := model.Tensor{Type: ort.Float32, Data: make([]byte, s.d.GridBytes())}
	g := t.Float32s()
	if at, ok := s.slots[number]; ok {
		if err := s.grids.read(t.Data, at); err != nil {
			return nil, fmt.Errorf("reading grids: %w", err)
		}
	} else {
		v, err := s.vector(ctx, number)
		if err != nil {
			return nil, err
		}
		grid(g, v, s.d.layers)
		if s.slots[number], err = s.grids.append(t.Data); err != nil {
			s.err = fmt.Errorf("writing grids: %w", err)
			return nil, s.err
		}
	}
	s.cells.put(number, g)
	return g, nil
}

// Stats tell what it has done so far.
func (s *Set) Stats() SetStats { return s.stats }

// Close removes the files. The network stays loaded.
func (s *Set) Close() error {
	s.vectors, s.cells = recent{}, recent{}
	return errors.Join(s.pictures.close(), s.grids.close())
}
