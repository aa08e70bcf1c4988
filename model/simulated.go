package model

import (
	"context"
	"time"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory/sim"
)

// Simulated lets a session's runs take as long as they would on a simulated card, and
// the card know of them. A session that is nil, as its error is not, stays so.
func Simulated(s Session, card *sim.Device) Session {
	if s == nil {
		return nil
	}
	return simulated{s, card}
}

type simulated struct {
	Session
	card *sim.Device
}

// Run runs on the CPU, and waits for as long as the card is slower.
func (s simulated) Run(ctx context.Context, in []*ort.Tensor, o ort.RunOptions) ([]*ort.Tensor, error) {
	if !o.ShrinkOnly {
		defer s.card.Compute()()
	}
	began := time.Now()
	out, err := s.Session.Run(ctx, in, o)
	if lacks := 1/s.card.Speed() - 1; lacks > 0 && err == nil && !o.ShrinkOnly {
		sleepFor(ctx, time.Duration(lacks*float64(time.Since(began))))
	}
	return out, err
}

func sleepFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
