package compare

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// What is not complete lies in the folder itself, where it is looked for when it is left.
func TestSheetsGrowWhereTheyAreLookedFor(t *testing.T) {
	dir := t.TempDir()
	c, err := newComparer(Options{})
	if err != nil {
		t.Fatal(err)
	}
	done, err := c.openOut(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	err = c.write("a/b/c.png", func(w io.Writer) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		n := 0
		for _, e := range entries {
			if tempForm.MatchString(e.Name()) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d of %v are such files", n, entries)
		}
		_, err = io.WriteString(w, "sheet")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "a", "b", "c.png")); err != nil || string(got) != "sheet" {
		t.Errorf("%q, %v", got, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left are %v, %v", entries, err)
	}
}
