package compare

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/forgepipe/forgepipe/memory"
)

// While it is waited for the memory of pictures, no file is kept that nothing counts: one
// that is another then is what is compared.
func TestFilesAreNotKeptWhileWaiting(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, v uint8) string {
		t.Helper()
		m := image.NewGray(image.Rect(0, 0, 40, 30))
		for i := range m.Pix {
			m.Pix[i] = v
		}
		var b bytes.Buffer
		if err := png.Encode(&b, m); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	before, after := write("a.png", 1), write("b.png", 1)
	const limit = 64 << 20
	c, err := newComparer(Options{Memory: limit})
	if err != nil {
		t.Fatal(err)
	}
	// Enough is left for the files, and not for what is made of them.
	held, err := c.ledger.Acquire(t.Context(), memory.Request{Kind: memory.Work, Bytes: limit - 8<<10, Holder: "other"})
	if err != nil {
		t.Fatal(err)
	}
	type found struct {
		a, b *file
		done func()
		err  error
	}
	got := make(chan found, 1)
	go func() {
		var f found
		f.a, f.b, f.done, f.err = c.open(t.Context(), before, after)
		got <- f
	}()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, lacks, ok := c.ledger.First(); ok && lacks > 1<<20 { // what the pictures take
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not wait for memory")
		}
	}
	write("a.png", 2)
	held.Release()
	f := <-got
	if f.err != nil {
		t.Fatal(f.err)
	}
	defer f.done()
	if now, err := os.ReadFile(before); err != nil || !bytes.Equal(f.a.data, now) || bytes.Equal(f.b.data, now) {
		t.Errorf("the file of before is compared (%v)", err)
	}
	if used := c.ledger.Usage(); used.Work == 0 {
		t.Errorf("nothing is leased: %+v", used)
	}
}
