package network

import (
	"errors"

	"github.com/forgepipe/forgepipe/model/store"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Find is the file of the network that a field of a stage's configuration gives, by its
// path or by its name in the store of models. The preset that goes with it is "" for one
// of which nothing is known. An error is one of the field; it wraps pipeline.ErrLacking
// where the network is known and not in the store, and says what brings it there.
func Find(c pipeline.Config, field string) (store.Found, error) {
	f, err := store.Find(c.String(field))
	switch {
	case errors.Is(err, store.ErrMissing):
		return f, c.Errorf(field, 0, "%w: %w", pipeline.ErrLacking, err)
	case err != nil:
		return f, c.Errorf(field, 0, "%w", err)
	case f.Name != "" && !store.Runnable(f.Format):
		return f, c.Errorf(field, 0, "the model %s is a file of format %s, which stages cannot run yet: export the network to ONNX", f.Name, f.Format)
	}
	return f, nil
}
