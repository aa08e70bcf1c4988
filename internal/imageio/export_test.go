package imageio

import "errors"

// WithoutLibrary makes JPEG go through the standard library until the result is
// called.
func WithoutLibrary() (back func()) {
	old := turboLibrary
	turboLibrary = func() (*turbo, error) { return nil, errors.New("switched off by a test") }
	return func() { turboLibrary = old }
}
