//go:build soak

package main

import "testing"

func TestSoakLargeFramesStayUnderTheLimit(t *testing.T) {
	peak := underLimit(t, 400)
	t.Logf("400 photographs of 24 MP under memory.host.limit 400MiB: peak RSS %d MiB", peak>>20)
	if peak > 500<<20 {
		t.Errorf("peak RSS is %d MiB, want at most 500", peak>>20)
	}
}
