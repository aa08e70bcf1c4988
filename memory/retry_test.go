package memory_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

var errFull = fmt.Errorf("running batch: %w", memory.ErrOutOfMemory)

func TestRetry(t *testing.T) {
	other := errors.New("the file is broken")
	for name, tt := range map[string]struct {
		options memory.RetryOptions
		errs    []error // of the tries; then nil
		tries   int
		waits   time.Duration // at most; at least half of it
		want    string        // in the error; empty: none
		is      error
	}{
		"at once":        {tries: 1},
		"the third time": {errs: []error{errFull, errFull}, tries: 3, waits: 150 * time.Millisecond},
		"never": {
			errs: repeat(errFull, 99), tries: 6, waits: 1550 * time.Millisecond,
			want: "trying operation 6 times: running batch: out of memory", is: memory.ErrOutOfMemory,
		},
		"another error":            {errs: []error{other}, tries: 1, want: "the file is broken", is: other},
		"another error afterwards": {errs: []error{errFull, other}, tries: 2, waits: 50 * time.Millisecond, want: "the file is broken", is: other},
		"oversize is for ever": {
			errs: repeat(&memory.OversizeError{Device: "host"}, 9), tries: 1, want: "can ever be had",
		},
		"as it is told": {
			options: memory.RetryOptions{Name: "upload", Tries: 10, First: time.Second, Longest: 4 * time.Second, If: func(err error) bool { return errors.Is(err, other) }},
			errs:    repeat(other, 99), tries: 10, waits: (1 + 2 + 7*4) * time.Second, want: "trying upload 10 times", is: other,
		},
		"what it is told not to": {
			options: memory.RetryOptions{If: func(error) bool { return false }}, errs: repeat(errFull, 9), tries: 1, want: "running batch: out of memory",
		},
		"a first wait over the longest": {
			options: memory.RetryOptions{First: time.Minute, Longest: time.Second}, errs: []error{errFull}, tries: 2, waits: time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, n := time.Now(), 0
				err := memory.Retry(t.Context(), tt.options, func(context.Context) error {
					n++
					if n > len(tt.errs) {
						return nil
					}
					return tt.errs[n-1]
				})
				if n != tt.tries {
					t.Errorf("%d tries, want %d", n, tt.tries)
				}
				if took := time.Since(start); took > tt.waits || took < tt.waits/2 {
					t.Errorf("waited %v, want %v to %v", took, tt.waits/2, tt.waits)
				}
				switch {
				case tt.want == "" && err != nil:
					t.Error(err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("%v, want %q", err, tt.want)
				case tt.is != nil && !errors.Is(err, tt.is):
					t.Errorf("%v is not %v", err, tt.is)
				}
			})
		})
	}
}

func repeat(err error, n int) (all []error) {
	for range n {
		all = append(all, err)
	}
	return all
}

// Several that failed together do not come back together.
func TestRetryScatters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := map[time.Duration]bool{}
		for range 20 {
			start, n := time.Now(), 0
			_ = memory.Retry(t.Context(), memory.RetryOptions{}, func(context.Context) error {
				if n++; n == 1 {
					return errFull
				}
				return nil
			})
			waits[time.Since(start)] = true
		}
		if len(waits) < 10 {
			t.Errorf("only %d different waits of 20", len(waits))
		}
	})
}

func TestRetryHeedsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("the user has had enough")
		start := time.Now()
		time.AfterFunc(30*time.Second, func() { cancel(stop) })
		err := memory.Retry(ctx, memory.RetryOptions{Name: "upscale", First: time.Hour, Longest: time.Hour}, func(context.Context) error { return errFull })
		if !errors.Is(err, memory.ErrOutOfMemory) || !errors.Is(err, stop) || !strings.Contains(err.Error(), "upscale again after 1 tries") {
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestRetryCleansUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := manager(t, memory.Options{})
		cleaned := 0
		m.Register(memory.Reclaimer{Name: "pool", Reclaim: func(context.Context) (int64, error) { cleaned++; return 0, nil }})
		n := 0
		err := memory.Retry(t.Context(), memory.RetryOptions{Manager: m, Tries: 3}, func(context.Context) error {
			if cleaned != n {
				t.Errorf("try %d after %d clean-ups", n, cleaned)
			}
			n++
			return errFull
		})
		if err == nil || n != 3 || cleaned != 2 {
			t.Errorf("%v after %d tries and %d clean-ups", err, n, cleaned)
		}
	})
}
