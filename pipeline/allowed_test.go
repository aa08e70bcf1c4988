package pipeline

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// Others who took most of a device twice are expected again for a minute. Meanwhile one
// call after the other gets what it needs, if it is free, and no more.
func TestOneCallGoesOnWhileOthersAreExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all, headroom, taken = 1000, 50, 900
		d := &deviceLedger{ledger: memory.NewLedger("gpu:0", all)}
		for i, others := range []int64{0, taken, 0, taken, 0} {
			for k := range 20 {
				d.expects.Observe(time.Unix(int64(100+3*i), int64(k)*1e8), others, all)
			}
		}
		if got := d.allowed(all, headroom); got != all-taken-headroom {
			t.Errorf("%d with nobody in line, want %d", got, all-taken-headroom)
		}
		d.ledger.SetLimit(all - taken - headroom)
		done := make(chan *memory.Lease)
		go func() {
			l, err := d.ledger.Acquire(t.Context(), memory.Request{Kind: memory.Work, Bytes: 400})
			if err != nil {
				t.Error(err)
			}
			done <- l
		}()
		synctest.Wait()
		if got := d.allowed(all, headroom); got != 400 {
			t.Errorf("%d with a call of 400 in line", got)
		}
		d.ledger.SetLimit(400)
		l := <-done
		if got := d.allowed(all, headroom); got != 400 {
			t.Errorf("%d with a call of 400 at work", got)
		}
		l.Release()
		// They have come: nothing of that is free.
		d.expects.Observe(time.Unix(120, 0), taken, all)
		if got := d.allowed(all, headroom); got != all-taken-headroom {
			t.Errorf("%d where others are there, want %d", got, all-taken-headroom)
		}
	})
}
