package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/forgepipe/forgepipe/internal/ort"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx/testnet"
)

// limits looks what the runtime does where memory ends: at an arena's limit, and at the
// end of the card. What it says there is how the governor knows that it was memory.
func limits(ctx context.Context, s settings) (string, bool, error) {
	held := true
	var b strings.Builder
	b.WriteString("A network that takes a certain size for each item of a batch, in one tensor. A run that has no room must be known as out of memory, and the session must go on.\n\n")
	item, limit := int64(64<<20), int64(512<<20)
	if s.brief {
		item, limit = 8<<20, simulatedBytes/2
	}
	if err := s.limit(ctx, &b, &held, "an arena with a limit", item, 32, limit); err != nil {
		return "", false, err
	}
	limit = 0 // the card's own
	if s.brief {
		limit = simulatedBytes
	}
	// CUDA's kernels count the elements of a tensor in 31 bits; one that has no room never
	// gets that far.
	item = min(s.place.total/16, 4<<30)
	err := s.limit(ctx, &b, &held, "an arena with the whole card", item, int(2*s.place.total/item), limit)
	return b.String(), held, err
}

// limit runs batches of 1, of too many, and of 1 again.
func (s settings) limit(ctx context.Context, b *strings.Builder, held *bool, what string, item int64, many int, limit int64) (err error) {
	file := filepath.Join(s.dir, "limit.onnx")
	if err := testnet.Hog(int(item)).WriteFile(file); err != nil {
		return err
	}
	f, err := model.Open(file, model.FileOptions{})
	if err != nil {
		return err
	}
	o := model.SessionOptions{ArenaLimit: limit}
	if s.place.card == nil {
		o.Device = s.place.name
	}
	session, err := f.Load(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	shape := []int64{3, 8, 8}
	if _, err := run(ctx, session, filled(1, shape), model.SessionRun{}); err != nil {
		return fmt.Errorf("%s, one item: %w", what, err)
	}
	one, err := session.Stats()
	if err != nil {
		return err
	}
	_, none := run(ctx, session, filled(many, shape), model.SessionRun{ShrinkFirst: true})
	known := errors.Is(none, model.ErrOutOfMemory)
	b.WriteString(verdict(held, known, "%s (%s), a run of %d items of %s: out of memory", what, limitText(limit), many, memory.FormatBytes(item)))
	var told *ort.OutOfMemoryError
	if errors.As(none, &told) {
		fmt.Fprintf(b, "  The runtime says: `%s`; it asked for %s.\n", strings.Join(strings.Fields(told.Text), " "), memory.FormatBytes(told.Requested))
	} else if none != nil {
		fmt.Fprintf(b, "  The runtime says: `%s`\n", strings.Join(strings.Fields(none.Error()), " "))
	}
	_, after := run(ctx, session, filled(1, shape), model.SessionRun{ShrinkFirst: true})
	b.WriteString(verdict(held, after == nil, "%s: one item runs again in the same session", what))
	if after != nil {
		fmt.Fprintf(b, "  It says: `%s`\n", strings.Join(strings.Fields(after.Error()), " "))
		return nil
	}
	again, err := session.Stats()
	if err != nil {
		return err
	}
	b.WriteString(verdict(held, again.Allocated <= one.Allocated, "%s: the arena has no more than before: %s, and %s", what, memory.FormatBytes(again.Allocated), memory.FormatBytes(one.Allocated)))
	in := filled(1, shape)
	if _, err := session.Run(ctx, []*model.Tensor{in}, model.SessionRun{ShrinkOnly: true}); err != nil {
		return err
	}
	empty, err := session.Stats()
	if err != nil {
		return err
	}
	b.WriteString(verdict(held, empty.Allocated < item, "%s: it gives all back, but for what the weights take: %s are left", what, memory.FormatBytes(empty.Allocated)))
	return nil
}

func limitText(bytes int64) string {
	if bytes == 0 {
		return "no limit"
	}
	return memory.FormatBytes(bytes)
}
