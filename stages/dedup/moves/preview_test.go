package moves_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// What a preview says is what comes of it, and nothing has changed by then.
func TestPreview(t *testing.T) {
	for _, tt := range []struct {
		name    string
		actions []moves.Action
		change  func(w world, a *moves.Job)
		why     string // of a.png; empty: it goes as well
	}{
		{"all is well", []moves.Action{moves.Move, moves.Copy, moves.Hardlink, moves.Delete}, func(world, *moves.Job) {}, ""},
		{"its keeper is gone", []moves.Action{moves.Move, moves.Delete}, func(w world, a *moves.Job) { a.KeeperPath += ".gone" }, "its keeper is not there any more"},
		{"it has no keeper", []moves.Action{moves.Delete}, func(w world, a *moves.Job) { a.Keeper, a.KeeperPath = "", "" }, "it was rejected without a keeper, so it is not deleted"},
		{"it is gone", []moves.Action{moves.Move, moves.Delete}, func(w world, a *moves.Job) { must(w.t, os.Remove(a.Path)) }, "it is not there any more"},
		{"its caption is gone", []moves.Action{moves.Move, moves.Delete}, func(w world, a *moves.Job) { must(w.t, os.Remove(filepath.Join(w.in, "a.txt"))) }, "its sidecar is not as the run saw it"},
	} {
		for _, action := range tt.actions {
			t.Run(tt.name+"/"+string(action), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, map[string]string{"keep.png": "keeper", "a.png": "one", "a.txt": "caption", "b.png": "two"})
				o := moves.Options{Action: action, To: w.out, DeleteCount: -1, Record: filepath.Join(w.out, moves.RecordName)}
				a, b := w.job("a.png"), w.job("b.png")
				tt.change(w, &a)
				before := w.tree(w.in)
				r, err := moves.Preview(t.Context(), o, list(a, b))
				must(t, err)
				w.same("sources after the preview", w.tree(w.in), before)
				if _, err := os.Lstat(w.out); err == nil {
					t.Error("a folder was made")
				}
				did := w.applied(o, a, b)
				if r.Images != did.Images || r.Left != did.Left || (r.Left == 1) != (tt.why != "") || r.Left == 1 && (r.Why[0].Text != tt.why || did.Why[0].Text != tt.why) {
					t.Errorf("it said %+v, and what came is %+v", r, did)
				}
				again, err := moves.Preview(t.Context(), o, list(a, b))
				must(t, err)
				if did = w.applied(o, a, b); again.Already != did.Already || again.Images != 0 {
					t.Errorf("then it said %+v, and what came is %+v", again, did)
				}
			})
		}
	}
}
