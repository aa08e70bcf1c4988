package tile

import (
	"context"
	"errors"
	"fmt"
	"image"
	"slices"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/icnet"
	"github.com/forgepipe/forgepipe/stages/network"
)

const (
	featureChannels = 512 // of ICNet
	// cellBytes is what the features of a cell take.
	cellBytes = 4 * featureChannels
	// headBytes is what a run of ICNet's head takes at its peak for each byte of the
	// features that go in, and headTile what it takes for each tile beside that: planes are
	// brought to 32 x 32. Measured are 25 MB for 64 x 64 cells and 4 MB for 16 x 16.
	headBytes = 3
	headTile  = 2 * 32 * 32 * cellBytes
	// headMost is how many bytes of features a run of the head takes, at most.
	headMost = 16 << 20
)

// headSpec is that of the head's input: the planes of a tile's features, one below the
// other.
var headSpec = model.Spec{Layout: model.NCHW, Channels: model.Gray, Resize: model.NoResize}

// A chosen tile is where it lies, the mean of the map over it, and the features that the
// head is to score.
type chosen struct {
	corner image.Point
	mean   float64
	model.Input
}

// newHead is what scores tiles of a size from ICNet's features.
func newHead(e pipeline.Env, path string, o network.Options, size int) (*network.Stage, error) {
	f, err := model.Open(path, model.FileOptions{Spec: headSpec, Part: arch.Head})
	if err != nil {
		return nil, err
	}
	side := cells(place(size, 1, 1))
	part := int64(side*side) * cellBytes
	o.Part, o.PartBytes = image.Pt(side, side*featureChannels), headBytes*part+headTile
	o.Batch = int(min(max(headMost/part, 1), 8))
	return network.NewParts(e, f, o, nil)
}

// cells is a length in whole cells, of one in parts of them; at least one.
func cells(parts int) int { return max(nearest(parts), 1) }

// nearest is the border between cells that is the nearest to a place in parts of them.
func nearest(parts int) int { return (parts + cellParts/2) / cellParts }

// features are which cells belong to a square, those of the map being stride wide and
// beginning at origin.
func (p *places) features(corner, origin image.Point) image.Rectangle {
	at := image.Pt(nearest(place(corner.X, p.picture.X, p.scaled.X)), nearest(place(corner.Y, p.picture.Y, p.scaled.Y)))
	return image.Rectangle{Max: image.Pt(cells(p.wide), cells(p.high))}.Add(at.Add(origin))
}

// cut copies the features of some cells, as the head takes them.
func cut(features *model.Tensor, r image.Rectangle) (model.Input, error) {
	s := features.Shape // [512 height width]
	if len(s) != 3 || s[0] != featureChannels || !r.In(image.Rect(0, 0, int(s[2]), int(s[1]))) {
		return model.Input{}, fmt.Errorf("its features have the shape %v, which has no room for the cells %v", s, r)
	}
	const element = 4 // a checkpoint's network computes with float32
	row := r.Dx() * element
	data := make([]byte, 0, r.Dx()*r.Dy()*cellBytes)
	for c := range featureChannels {
		for y := r.Min.Y; y < r.Max.Y; y++ {
			at := ((c*int(s[1])+y)*int(s[2]) + r.Min.X) * element
			data = append(data, features.Data[at:at+row]...)
		}
	}
	return model.Input{
		Shape: headSpec.Shape(1, image.Pt(r.Dx(), r.Dy()*featureChannels))[1:],
		Fill:  func(_ context.Context, dst []byte) error { copy(dst, data); return nil },
	}, nil
}

// score is what the head gives to each of the tiles.
func (s *Mapped) score(ctx context.Context, tiles []chosen) ([]float64, error) {
	var scores []float64
	for group := range slices.Chunk(tiles, max(s.head.Batch().Together, 1)) {
		inputs := make([]model.Input, len(group))
		for i, t := range group {
			inputs[i] = t.Input
		}
		for _, r := range s.head.Infer(ctx, inputs) {
			if r.Err != nil {
				return nil, fmt.Errorf("scoring its tiles: %w", r.Err)
			}
			scores = append(scores, float64(r.Outputs[0].Numbers()[0]))
		}
	}
	return scores, nil
}

// end gives an item its tiles, with their scores. The error is one that all items have in
// common.
func (s *Mapped) end(ctx context.Context, it *pipeline.Item, found []chosen) ([]*pipeline.Item, error) {
	next := 0
	tiles := s.tiles.derive(it, mapAttribute, func() (image.Point, float64, bool) {
		if next == len(found) {
			return image.Point{}, 0, false
		}
		next++
		return found[next-1].corner, found[next-1].mean, true
	})
	if s.head == nil {
		return tiles, nil
	}
	scores, err := s.score(ctx, found[:len(tiles)])
	var noRoom *model.NoRoomError
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, model.ErrLoading):
		return nil, err
	case errors.As(err, &noRoom) && noRoom.Now:
		it.Later(err)
		return nil, nil
	case err != nil:
		it.Fail(err)
		return nil, nil
	}
	for i, t := range tiles {
		t.SetAttr(ic9600, pipeline.Float(scores[i]))
	}
	return tiles, nil
}

// Open opens the network, and its head.
func (s *Mapped) Open(ctx context.Context, d pipeline.Device) error {
	if err := s.Stage.Open(ctx, d); err != nil || s.head == nil {
		return err
	}
	return s.head.Open(ctx, d)
}

// Close closes both.
func (s *Mapped) Close() error {
	err := s.Stage.Close()
	if s.head != nil {
		err = errors.Join(err, s.head.Close())
	}
	return err
}

// Place places both on the same devices.
func (s *Mapped) Place(want pipeline.Device, have []pipeline.Device) ([]pipeline.Device, error) {
	if s.head != nil {
		if _, err := s.head.Place(want, have); err != nil {
			return nil, err
		}
	}
	return s.Stage.Place(want, have)
}

// featureBytes is what the features of a picture take beside a run, and those of its
// tiles. What of them goes into the head is part of the head's cost.
func (s *Mapped) featureBytes(g grid) int64 {
	size := s.tiles.size
	one := cells(place(size, g.picture.X, g.scaled.X)) * cells(place(size, g.picture.Y, g.scaled.Y))
	// However many there may be, they do not overlap.
	tiles := min(s.tiles.best.number(g.picture, size), (g.picture.X/size)*(g.picture.Y/size))
	padded := s.spec.OutputSize(icnet.WithMargin(g.scaled)).Div(mapCell)
	return cellBytes * int64(padded.X*padded.Y+tiles*one)
}
