package pairs

import (
	"context"

	"github.com/forgepipe/forgepipe/pipeline"
)

var _ pipeline.Counter = (*Source)(nil)

// Count lists both folders once more, and opens only those files whose names do not
// tell what they are.
func (s *Source) Count(ctx context.Context) (n int64, err error) {
	err = s.Emit(ctx, func(in pipeline.Input) error {
		if in.Ignored == "" {
			n++
		}
		return ctx.Err()
	})
	return n, err
}
