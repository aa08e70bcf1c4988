package moves_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// What is kept in memory of a picture that was ever moved is little, and less than is asked for.
func TestMemoryOfARecord(t *testing.T) {
	const pictures = 20_000
	w := newWorld(t, nil)
	w.put(w.out, map[string]string{moves.RecordName: ""})
	file := filepath.Join(w.out, moves.RecordName)
	f, err := os.Create(file)
	must(t, err)
	b := bufio.NewWriter(f)
	explained := ""
	for i := 1; i <= pictures; i++ {
		if i == pictures {
			explained = `,"explained":1`
		}
		fmt.Fprintf(b, `{"event":"intend","run":"r","n":%[1]d,"job":%[1]d,"action":"move","kind":"image","id":"%08[1]d.png","keeper":"k","root":%[2]q,"source":"%08[1]d.png","target":"%08[1]d.png","size":1,"sha256":"%[3]s","time":1%[4]s}`+"\n", i, w.in, strings.Repeat("ab", 32), explained)
	}
	fmt.Fprintf(b, `{"event":"begin","run":"r","action":"move"}`+"\n")
	for i := 1; i <= pictures; i++ {
		fmt.Fprintf(b, `{"event":"done","run":"r","n":%d}`+"\n", i)
	}
	must(t, b.Flush())
	must(t, f.Close())
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, during := heap(), int64(0)
	o := moves.Options{Action: moves.Move, To: w.out}
	must(t, moves.EachAway(t.Context(), o, func(moves.Away) error {
		during = heap()
		return nil
	}))
	each := float64(during-before) / pictures
	if room := float64(moves.Room(o)) / pictures; during == 0 || each > 48 || each > room {
		t.Errorf("a picture takes %.0f bytes, and %.0f are asked for", each, room)
	}
}
