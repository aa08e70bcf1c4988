package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// RetryOptions for Retry. The zero value tries six times at most, over about a
// second and a half, and cleans nothing up.
type RetryOptions struct {
	Name    string        // of the operation, for messages
	Tries   int           // at most; 0 is 6
	First   time.Duration // wait after the first try, doubled after each; 0 is 50 ms
	Longest time.Duration // longest wait; 0 is 2 s
	// If tells which errors are worth another try; nil is ErrOutOfMemory.
	If func(error) bool
	// Manager cleans up before each further try; nil does not.
	Manager *Manager
}

// Retry calls op until it succeeds. After an error that is worth it, it cleans
// up, waits and tries again; each wait is drawn from the upper half of its span,
// so that several that failed together do not meet again. Any other error is
// returned at once, as it is. When the tries are used up, or ctx ends in a wait,
// the error wraps the last one (with ctx's own, if that is why) and counts the
// tries.
func Retry(ctx context.Context, o RetryOptions, op func(ctx context.Context) error) error {
	name := cmp.Or(o.Name, "operation")
	tries := o.Tries
	if tries <= 0 {
		tries = 6
	}
	longest := o.Longest
	if longest <= 0 {
		longest = 2 * time.Second
	}
	wait := o.First
	if wait <= 0 {
		wait = 50 * time.Millisecond
	}
	worth := o.If
	if worth == nil {
		worth = func(err error) bool { return errors.Is(err, ErrOutOfMemory) }
	}
	for try := 1; ; try++ {
		err := op(ctx)
		if err == nil || !worth(err) {
			return err
		}
		if try >= tries {
			return fmt.Errorf("trying %s %d times: %w", name, try, err)
		}
		if o.Manager != nil {
			o.Manager.Clean(ctx, "out of memory in "+name)
		}
		wait = min(wait, longest)
		if stop := sleep(ctx, wait/2+rand.N(wait/2+1)); stop != nil {
			return fmt.Errorf("trying %s again after %d tries: %w (%w)", name, try, err, stop)
		}
		wait *= 2
	}
}

// sleep returns the cause if ctx ends before the time is over.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
