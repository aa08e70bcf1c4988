package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model"
)

// shareOfBest is what the governor must reach of the best batch that never changes.
const shareOfBest = 0.95

// feeders are how many goroutines give items, so that a batch always waits.
const feeders = 4

// attempt is one way to choose batches.
type attempt struct {
	name  string
	batch int // 0: the governor chooses

	rates    []float64 // of each round
	accounts []memory.Account
	none     bool // it had no room
}

// governed drives networks with batches that the governor chooses, and with such that
// never change, one after the other in rounds.
func governed(ctx context.Context, s settings) (string, bool, error) {
	rounds, largest, fixedFor, chosenFor, warm := 2, 512, 2*time.Second, 12*time.Second, 6*time.Second
	of := nets(s.brief)[:2]
	if s.brief {
		rounds, largest, fixedFor, chosenFor, warm = 1, 16, 300*time.Millisecond, 1500*time.Millisecond, 700*time.Millisecond
	}
	held := true
	var b strings.Builder
	fmt.Fprintf(&b, "Filled items through model.Runner, as a stage's go, with the copies to the card and back: each batch that never changes for %.1f s, of which the first third does not count, and the governor (adaptive, knowing nothing) for %.1f s, of which the first %.1f s do not, one after the other in %d rounds. The best is the one with the best mean; the share is the mean of the shares within a round.\n\n", fixedFor.Seconds(), chosenFor.Seconds(), warm.Seconds(), rounds)
	b.WriteString("| network | batch | items/s in each round | share of the best | what it did |\n|---|---|---|---|---|\n")
	var verdicts strings.Builder
	for _, n := range of {
		f, err := s.look(n)
		if err != nil {
			return "", false, err
		}
		var attempts []*attempt
		for batch := 1; batch <= largest; batch *= 2 {
			attempts = append(attempts, &attempt{name: fmt.Sprint(batch), batch: batch})
		}
		attempts = append(attempts, &attempt{name: "governor"})
		for range rounds {
			for _, a := range attempts {
				if a.none {
					continue
				}
				lasts, from := fixedFor, fixedFor/3
				if a.batch == 0 {
					lasts, from = chosenFor, warm
				}
				rate, account, err := s.drive(ctx, f, n, a.batch, lasts, from)
				if err != nil {
					return "", false, fmt.Errorf("%s, batch %s: %w", n.name, a.name, err)
				}
				// A batch that is split for want of memory is no fixed one any more.
				a.none = a.batch > 0 && account.Typical != a.batch
				a.rates, a.accounts = append(a.rates, rate), append(a.accounts, account)
			}
		}
		best := attempts[0]
		for _, a := range attempts {
			if a.batch > 0 && !a.none && mean(a.rates) > mean(best.rates) {
				best = a
			}
		}
		for _, a := range attempts {
			share, did := 0.0, ""
			for i, r := range a.rates {
				share += r / best.rates[i] / float64(len(a.rates))
			}
			if a.batch == 0 {
				did = a.accounts[0].Did() + "; " + a.accounts[0].Limit()
				if s.brief {
					fmt.Fprintf(&verdicts, "- %s: not judged, as these times are too short for it\n", n.name)
				} else {
					verdicts.WriteString(verdict(&held, share >= shareOfBest, "%s: at least %.0f %% of the best batch that never changes (%s): %.1f %%", n.name, 100*shareOfBest, best.name, 100*share))
				}
			}
			if a.none {
				did = "had no room, and was split"
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %.1f %% | %s |\n", n.name, a.name, join(a.rates), 100*share, did)
		}
	}
	return b.String() + "\n" + verdicts.String(), held, nil
}

// drive runs a network for some time, and gives the items a second from a moment on.
func (s settings) drive(ctx context.Context, f *model.File, n net, batch int, lasts, from time.Duration) (rate float64, a memory.Account, err error) {
	reading, err := s.place.read()
	if err != nil {
		return 0, a, err
	}
	strategy := "adaptive"
	if batch > 0 {
		strategy = "fixed"
	}
	governor, err := memory.NewGovernor(memory.GovernorOptions{Strategy: strategy})
	if err != nil {
		return 0, a, err
	}
	device := model.RunnerDevice{
		Device: s.place.name, Key: n.name, MostLanes: 2, Weights: f.Header.WeightBytes,
		Open:   func(ctx context.Context) (model.Session, error) { return s.place.open(ctx, f, false) },
		Ledger: memory.NewLedger(s.place.name, reading.Free-s.place.total/32),
	}
	if s.place.card != nil {
		device.Cap = func() int64 { return device.Ledger.Usage().Limit }
	}
	r := model.NewRunner(model.RunnerOptions{Devices: []model.RunnerDevice{device}, Type: f.ElementType(), Batch: batch, Governor: governor, Name: n.name})
	defer func() { err = errors.Join(err, r.Close()) }()
	ctx, stop := context.WithTimeout(ctx, lasts)
	defer stop()
	source := filled(1, n.shape).Data
	input := model.Input{Shape: n.shape, Fill: func(_ context.Context, dst []byte) error {
		copy(dst, source)
		return nil
	}}
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var feeding sync.WaitGroup
	for range feeders {
		feeding.Go(func() {
			defer r.Enter()()
			for ctx.Err() == nil {
				_, most := r.Wants(n.shape)
				inputs := make([]model.Input, max(most, batch, 1))
				for i := range inputs {
					inputs[i] = input
				}
				for _, result := range r.Infer(ctx, inputs) {
					switch {
					case result.Err == nil:
						done.Add(1)
					case ctx.Err() == nil:
						failed.CompareAndSwap(nil, &result.Err)
						stop()
					}
				}
			}
		})
	}
	var began time.Time
	var before int64
	select {
	case <-time.After(from):
		began, before = time.Now(), done.Load()
		<-ctx.Done()
	case <-ctx.Done():
		began = time.Now()
	}
	rate = float64(done.Load()-before) / max(time.Since(began).Seconds(), 1e-3)
	feeding.Wait()
	if e := failed.Load(); e != nil {
		return 0, a, *e
	}
	if accounts := governor.Accounts(); len(accounts) > 0 {
		a = accounts[0]
	}
	return rate, a, nil
}

func mean(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x
	}
	if len(v) == 0 {
		return math.NaN()
	}
	return sum / float64(len(v))
}

func join(rates []float64) string {
	var all []string
	for _, r := range rates {
		all = append(all, fmt.Sprintf("%.1f", r))
	}
	return strings.Join(all, ", ")
}
