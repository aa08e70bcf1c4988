package memory_test

import (
	"math"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// The test's process has its real Go memory, but what is resident is made up, so
// that other is about rss less what Go has.
func TestGoLimitFollows(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	synctest.Test(t, func(t *testing.T) {
		host, set := fakeHost(t, gib)
		m := memory.NewManager(memory.Options{Host: host, ProcessWide: true})
		limit := func(what string, want, slack int64) int64 {
			t.Helper()
			synctest.Wait()
			got := debug.SetMemoryLimit(-1)
			if got < want-slack || got > want+slack {
				t.Errorf("%s: the limit is %s, want %s within %s", what, memory.FormatBytes(got), memory.FormatBytes(want), memory.FormatBytes(slack))
			}
			return got
		}
		other := func() int64 { return host.Process().Other }
		const slack = 16 * mib // Go's own memory moves while the test runs

		limit("no host limit", math.MaxInt64, 0)
		m.SetHostLimit(4 * gib)
		first := limit("at once", 4*gib-other(), slack)

		set(2 * gib)
		time.Sleep(200 * time.Millisecond)
		limit("C takes a gigabyte", first-gib, slack)

		set(gib)
		time.Sleep(5100 * time.Millisecond)
		limit("half of it is forgotten after 5 s", first-gib/2, 32*mib)
		time.Sleep(time.Minute)
		limit("all of it after a minute", first, slack)

		set(10 * gib)
		time.Sleep(200 * time.Millisecond)
		limit("nothing is left for Go", 32*mib, 0)

		set(0) // not known
		time.Sleep(2 * time.Minute)
		limit("guessed", 4*gib-64*mib, 8*mib)

		set(mib) // less than Go has
		time.Sleep(time.Minute)
		limit("at least 16 MiB", 4*gib-16*mib, 8*mib)

		m.SetHostLimit(0)
		limit("no host limit again", math.MaxInt64, 0)
		m.SetHostLimit(2 * gib)
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		limit("closed", math.MaxInt64, 0)
		m.SetHostLimit(gib)
		limit("after Close", math.MaxInt64, 0)
	})
}

func TestGoLimitOfOthersStays(t *testing.T) {
	before := debug.SetMemoryLimit(500 * mib)
	defer debug.SetMemoryLimit(before)
	synctest.Test(t, func(t *testing.T) {
		host, set := fakeHost(t, gib)
		m := memory.NewManager(memory.Options{Host: host, ProcessWide: true})
		defer m.Close()
		want := func(what string, bytes int64) {
			t.Helper()
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := debug.SetMemoryLimit(-1); got != bytes {
				t.Errorf("%s: the limit is %s, want %s", what, memory.FormatBytes(got), memory.FormatBytes(bytes))
			}
		}
		m.SetHostLimit(4 * gib)
		want("a lower GOMEMLIMIT", 500*mib)
		set(10 * gib)
		want("less is left", 32*mib)
		set(gib)
		want("more is left", 500*mib)
		debug.SetMemoryLimit(300 * mib)
		want("set lower by the program", 300*mib)
		set(10 * gib)
		want("less is left", 32*mib)
		m.SetHostLimit(0)
		want("no host limit", 300*mib)
	})
}

func TestGoLimitNeedsPermission(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	m := manager(t, memory.Options{})
	m.SetHostLimit(64 * mib)
	if got := debug.SetMemoryLimit(-1); got != before {
		debug.SetMemoryLimit(before)
		t.Errorf("a library changed the limit to %d", got)
	}
}
