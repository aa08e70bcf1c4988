package moves_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
	"github.com/forgepipe/forgepipe/stages/images"
	"github.com/forgepipe/forgepipe/stages/internal/stagetest"
)

// A job has the files of an item; a part of a picture has none of its own.
func TestJobOf(t *testing.T) {
	dir := stagetest.Tree(t, "sub/a.png", "sub/a.txt", "sub/b.txt")
	b := stagetest.New(t, nil)
	if err := b.UseSource(t.Context(), pipeline.NewRegistry(images.Info()), "images", map[string]any{"path": dir}); err != nil {
		t.Fatal(err)
	}
	var whole, part moves.Job
	var isWhole, isPart bool
	look := pipeline.Func(func(_ context.Context, it *pipeline.Item) error {
		whole, isWhole = moves.JobOf(it)
		tile := it.Derive("tile=1", pipeline.FromImage(stagetest.Gray(1, 1)))
		part, isPart = moves.JobOf(tile)
		tile.Reject("not wanted")
		return nil
	})
	if err := b.Add(pipeline.Step{ID: "look", Stage: look}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Try(t, pipeline.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	if !isWhole || whole.ID != "sub/a.png" || whole.Source != "sub/a.png" || whole.Path != filepath.Join(dir, "sub/a.png") || whole.Size == 0 || len(whole.Sidecars) != 1 || whole.LQ != nil {
		t.Errorf("%v, %+v", isWhole, whole)
	}
	if isPart {
		t.Errorf("a part of a picture: %+v", part)
	}
}
