package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model"
)

// leastSame is what outputs may differ by, as a share of the largest: both compute in
// float32, without TF32, in other orders.
const leastSame = 1e-3

// parity compares outputs with those of the CPU, and measures rates by batch.
func parity(ctx context.Context, s settings) (string, bool, error) {
	compared, largest, least := 4, 256, time.Second
	if s.brief {
		largest, least = 4, 50*time.Millisecond
	}
	held := true
	var same, rates strings.Builder
	for _, n := range nets(s.brief) {
		f, err := s.look(n)
		if err != nil {
			return "", false, err
		}
		err = func() (err error) {
			cpu, err := s.place.open(ctx, f, true)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, cpu.Close()) }()
			card, err := s.place.open(ctx, f, false)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, card.Close()) }()
			in := filled(compared, n.shape)
			want, err := run(ctx, cpu, in, model.SessionRun{})
			if err != nil {
				return err
			}
			got, err := run(ctx, card, in, model.SessionRun{})
			if err != nil {
				return err
			}
			apart, cosine, err := distance(got, want)
			if err != nil {
				return err
			}
			same.WriteString(verdict(&held, apart <= leastSame, "%s: outputs differ from the CPU's by at most %g of the largest: by %.2g; the cosine is %.8f", n.name, leastSame, apart, cosine))
			for _, batch := range []int{1, 8} {
				rate, _, err := s.rate(ctx, cpu, n, batch, least)
				if err != nil {
					return err
				}
				fmt.Fprintf(&rates, "| %s | CPU, all cores | %d | %.1f | |\n", n.name, batch, rate)
			}
			for batch := 1; batch <= largest; batch *= 2 {
				rate, bytes, err := s.rate(ctx, card, n, batch, least)
				if errors.Is(err, model.ErrOutOfMemory) {
					fmt.Fprintf(&rates, "| %s | %s | %d | out of memory | |\n", n.name, s.place.name, batch)
					break
				}
				if err != nil {
					return err
				}
				fmt.Fprintf(&rates, "| %s | %s | %d | %.1f | %s |\n", n.name, s.place.name, batch, rate, memory.FormatBytes(bytes))
			}
			return nil
		}()
		if err != nil {
			return "", false, fmt.Errorf("%s: %w", n.name, err)
		}
	}
	return "Outputs of the same batch of noise, and rates on filled tensors, with the copies to the card and back. The arena is shrunk before each size; the first run of each does not count.\n\n" +
		same.String() + "\n| network | on | batch | images/s | arena with weights |\n|---|---|---|---|---|\n" + rates.String(), held, nil
}

// distance is the largest difference, as a share of the largest number of want, and the
// cosine.
func distance(got, want []float32) (apart, cosine float64, err error) {
	if len(got) != len(want) || len(want) == 0 {
		return 0, 0, fmt.Errorf("%d numbers came, and %d on the CPU", len(got), len(want))
	}
	var largest, differs, dot, a, b float64
	for i := range want {
		x, y := float64(got[i]), float64(want[i])
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return math.Inf(1), 0, nil
		}
		largest, differs = max(largest, math.Abs(y)), max(differs, math.Abs(x-y))
		dot, a, b = dot+x*y, a+x*x, b+y*y
	}
	return differs / largest, dot / math.Sqrt(a*b), nil
}

// rate is how many items a second a session does in batches, for some time, and what its
// arena has then.
func (s settings) rate(ctx context.Context, session model.Session, n net, batch int, least time.Duration) (rate float64, bytes int64, err error) {
	in := filled(batch, n.shape)
	if _, err := run(ctx, session, in, model.SessionRun{ShrinkFirst: true}); err != nil {
		return 0, 0, err
	}
	began, runs := time.Now(), 0
	for runs < 3 || time.Since(began) < least {
		if _, err := run(ctx, session, in, model.SessionRun{}); err != nil {
			return 0, 0, err
		}
		runs++
	}
	rate = float64(runs*batch) / time.Since(began).Seconds()
	st, err := session.Stats()
	return rate, st.Allocated, err
}
