package pipeline

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func sized(weights ...int64) []*Item {
	var out []*Item
	for _, w := range weights {
		out = append(out, &Item{weight: w})
	}
	return out
}

func TestQueueIsBoundedByItemsAndBytes(t *testing.T) {
	tests := map[string]struct {
		items   int
		bytes   int64
		put     []int64
		waiting int // of put, those that do not fit
	}{
		"items":                         {2, 1000, []int64{1, 1, 1}, 1},
		"bytes":                         {10, 100, []int64{60, 40, 1}, 1},
		"one of any size when empty":    {10, 100, []int64{5000, 1}, 1},
		"a large one waits behind one":  {10, 100, []int64{1, 5000}, 1},
		"a large one holds those after": {10, 100, []int64{50, 60, 1}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(tt.items, tt.bytes)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan int)
				go func() {
					left, _ := q.put(ctx, sized(tt.put...))
					done <- left
				}()
				synctest.Wait()
				if n, _ := q.len(); n != len(tt.put)-tt.waiting {
					t.Errorf("%d items went in, want %d", n, len(tt.put)-tt.waiting)
				}
				cancel()
				if left := <-done; left != tt.waiting {
					t.Errorf("%d items were left over, want %d", left, tt.waiting)
				}
			})
		})
	}
}

func TestQueueClosesABatch(t *testing.T) {
	tests := map[string]struct {
		size   int
		bytes  int64
		linger time.Duration
		want   int           // items of the first batch
		after  time.Duration // when it closes
	}{
		"at its size":                       {size: 3, linger: time.Hour, want: 3, after: 20 * time.Millisecond},
		"before its bytes":                  {size: 100, bytes: 25, linger: time.Hour, want: 2, after: 20 * time.Millisecond},
		"when its first item has lingered":  {size: 100, linger: 35 * time.Millisecond, want: 4, after: 35 * time.Millisecond},
		"at once without linger":            {size: 100, want: 1, after: 0},
		"when the queue closes and drained": {size: 100, linger: time.Hour, want: 5, after: 50 * time.Millisecond},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(100, 1000)
				go func() { // five items, 10 ms apart, the first at once
					for range 5 {
						if _, err := q.put(t.Context(), sized(10)); err != nil {
							t.Error(err)
						}
						time.Sleep(10 * time.Millisecond)
					}
					q.close()
				}()
				began := time.Now()
				batch, err := q.take(t.Context(), nil, tt.size, tt.bytes, tt.linger)
				if err != nil || len(batch) != tt.want || time.Since(began) != tt.after {
					t.Errorf("%d items after %v, %v; want %d after %v", len(batch), time.Since(began), err, tt.want, tt.after)
				}
				for len(batch) > 0 { // the rest, until it is drained
					if batch, err = q.take(t.Context(), nil, 100, 0, 0); err != nil {
						t.Fatal(err)
					}
				}
			})
		})
	}
}

func TestQueueGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 100)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.take(ctx, nil, 1, 0, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an empty queue gives %v", err)
		}
	})
}

// Many senders and receivers: nothing is lost, nothing comes twice, and all end.
func TestQueueUnderContention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const senders, each = 7, 300
		q := newQueue(5, 40)
		sent := make(chan bool)
		for range senders {
			go func() {
				for i := range each {
					if _, err := q.put(t.Context(), sized(int64(i%60))); err != nil {
						t.Error(err)
					}
				}
				sent <- true
			}()
		}
		got := make(chan []*Item)
		for range 5 {
			go func() {
				var mine []*Item
				for {
					batch, err := q.take(t.Context(), nil, 3, 50, 0)
					if err != nil {
						t.Error(err)
					}
					if len(batch) == 0 {
						got <- mine
						return
					}
					mine = append(mine, batch...)
				}
			}()
		}
		for range senders {
			<-sent
		}
		q.close()
		seen := map[*Item]bool{}
		for range 5 {
			for _, it := range <-got {
				if seen[it] {
					t.Error("an item came twice")
				}
				seen[it] = true
			}
		}
		if len(seen) != senders*each {
			t.Errorf("%d items of %d came", len(seen), senders*each)
		}
	})
}

// A queue is as full as the bound that is nearer says, and full when somebody waits to
// put something in.
func TestQueueTellsHowFullItIs(t *testing.T) {
	q := newQueue(4, 100)
	put := func(weight int64) {
		if _, err := q.put(t.Context(), []*Item{{weight: weight}}); err != nil {
			t.Fatal(err)
		}
	}
	wantFill := func(items int, share float64) {
		t.Helper()
		if n, got := q.fill(); n != items || got != share {
			t.Errorf("%d items, %v full; want %d, %v", n, got, items, share)
		}
	}
	wantFill(0, 0)
	put(1)
	wantFill(1, 0.25)
	put(59)
	wantFill(2, 0.6)
	done := make(chan struct{})
	go func() {
		defer close(done)
		put(70)
	}()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, share := q.fill(); share == 1 {
			break
		}
	}
	wantFill(2, 1)
	q.drain()
	signal(q.notFull)
	<-done
	wantFill(1, 0.7)
}
