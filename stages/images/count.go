package images

import (
	"context"
	"errors"

	"github.com/forgepipe/forgepipe/pipeline"
)

var _ pipeline.Counter = (*Source)(nil)

// errListed is why the files of a list are not counted: that takes sorting the list,
// and whoever reads it sorts it too.
var errListed = errors.New("a list is counted only when it is read")

// Count lists the folders once more, and opens only those files whose names do not tell
// what they are.
func (s *Source) Count(ctx context.Context) (n int64, err error) {
	if s.list != "" {
		return 0, errListed
	}
	err = s.Emit(ctx, func(in pipeline.Input) error {
		if in.Ignored == "" {
			n++
		}
		return ctx.Err()
	})
	return n, err
}
