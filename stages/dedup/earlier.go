package dedup

import (
	"context"
	"fmt"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/groups"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// recording is what is looked at of the run's items to tell which of the duplicates that
// were moved or deleted earlier belong to them.
type recording struct {
	sums  [][32]byte      // of the items' files
	roots map[string]bool // of their sources
	last  string          // root
}

// takesAway tells whether source files go from their place.
func (a action) takesAway() bool { return a.Action == moves.Move || a.Action == moves.Delete }

// acts tells whether something is to be done with source files in this run.
func (s *Stage) acts() bool { return s.act.Action != "" && s.open && !s.aside(s.act.folder()) }

func (r *recording) note(it *pipeline.Item) {
	src := it.Source()
	r.sums = append(r.sums, src.SHA256)
	j := moves.Job{Source: src.Name, Path: src.Path}
	if root := j.Root(); root != r.last {
		if r.roots == nil {
			r.roots = map[string]bool{}
		}
		r.roots[root], r.last = true, root
	}
}

// addEarlier adds the duplicates that are no items any more, since an earlier run, or this
// one before it was killed, moved or deleted them: so that what is told of them stays for
// as long as what was kept in their stead.
func (s *Stage) addEarlier(ctx context.Context, g *groups.Writer, r *recording, t *table) error {
	measures := s.measures()
	err := moves.EachAway(ctx, s.act.Options, func(a moves.Away) error {
		m, err := groups.Explained(a.Explained, measures)
		if err != nil || a.Keeper == "" && !m.Decided { // no run has written that
			return nil //nolint:nilerr // as any other line of the record that cannot be read
		}
		m.ID, m.Keeper, m.Earlier = a.ID, a.Keeper, true
		k := t.find(a.Keeper)
		switch {
		case !r.roots[a.Root]: // the record is of another folder, too
			return nil
		case t.find(a.ID) >= 0: // another picture had its place until now
			return nil
		case m.KeeperIndex == "" && k >= 0 && r.sums[k] != a.KeeperSHA256:
			return nil
		}
		return g.AddMember(m)
	})
	if err != nil {
		return fmt.Errorf("reading what earlier runs moved: %w", err)
	}
	return nil
}
