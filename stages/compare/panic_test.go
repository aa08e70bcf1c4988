package compare

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A panic in a comparison reaches who called, and nobody waits for its result.
func TestPanicEndsAll(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, f), 0o777); err != nil {
			t.Fatal(err)
		}
		for i := range 20 { // more than may be awaited at once
			if err := os.WriteFile(filepath.Join(dir, f, fmt.Sprint(i, ".png")), []byte("x"), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	c, err := newComparer(Options{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	c.ledger = nil // so that it panics
	got := make(chan any, 1)
	go func() {
		defer func() { got <- recover() }()
		_ = c.all(t.Context(), filepath.Join(dir, "a"), filepath.Join(dir, "b"), &Report{})
	}()
	select {
	case p := <-got:
		if !strings.Contains(fmt.Sprint(p), "nil pointer") {
			t.Errorf("the panic is %v", p)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it hangs")
	}
}
