package dedup_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/internal/fsys"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/index"
)

func raw(v ...float32) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// An entry of an index that cannot be compared ends the run, which names it, before anything
// is rejected.
func TestDamagedEntriesEndTheRun(t *testing.T) {
	for name, tt := range map[string]struct {
		column index.Column
		print  []byte
		want   string
	}{
		"zeros":           {index.Column{Name: "v", Size: 8, Vector: true, Model: "net"}, raw(0, 0), "stage dedup2: comparing with the index FOLDER, n by v: "},
		"no vector":       {index.Column{Name: "v", Size: 8, Vector: true, Model: "net"}, nil, "stage dedup2: comparing with the index FOLDER: n has no vector for v"},
		"another length":  {index.Column{Name: "v", Size: 12, Vector: true, Model: "net"}, raw(1, 2, 3), "stage dedup2: column v of the index FOLDER has vectors of 3 numbers, here it has vectors of 2 numbers"},
		"another network": {index.Column{Name: "v", Size: 8, Vector: true, Model: "other"}, raw(1, 2), "stage dedup2: mixed models: column v of the index FOLDER was made by the model other"},
		"a hash":          {index.Column{Name: "v", Size: 8, Version: "1"}, raw(1, 2), "stage dedup2: "},
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "set")
			entries := func(yield func(index.Entry, error) bool) {
				good := slices.Repeat([]byte{0, 0, 128, 63}, tt.column.Size/4) // ones
				_ = yield(index.Entry{ID: "m", Prints: [][]byte{good}}, nil) && yield(index.Entry{ID: "n", Prints: [][]byte{tt.print}}, nil)
			}
			if n, err := index.Add(t.Context(), fsys.OS, folder, []index.Column{tt.column}, entries); n != 2 || err != nil {
				t.Fatalf("%d entries, %v", n, err)
			}
			c := cascade{given: given{"a": {}, "b": {}}, embedded: embedded{"a": {"v": vec(1, 1)}, "b": {"v": vec(2, 2)}}, vectors: []string{"v"}}
			decisions := filepath.Join(t.TempDir(), "decisions.csv")
			b := c.bench(t, config("by", []any{option("vector", "name", "v", "min_similarity", 0.9)}, "against", folder, "decisions", decisions))
			_, err := b.Try(t, pipeline.RunOptions{NoStore: true})
			if want := strings.ReplaceAll(tt.want, "FOLDER", folder); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if said := b.Messages(pipeline.EventRejected); len(said) > 0 {
				t.Errorf("rejected %v", said)
			}
			if _, err := os.Stat(decisions); err == nil {
				t.Error("decisions were written")
			}
		})
	}
}
