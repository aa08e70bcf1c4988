//go:build soak

package main

import "testing"

func TestSoakLargeFramesStayUnderTheLimit(t *testing.T) {
	peak := underLimit(t, 400)
	t.Logf("400 photographs of 24 MP and one of 100 MP under memory.host.limit 600MiB: peak RSS %d MiB", peak>>20)
	if peak > 750<<20 {
		t.Errorf("peak RSS is %d MiB, want at most 750", peak>>20)
	}
}
