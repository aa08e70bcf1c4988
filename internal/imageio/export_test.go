package imageio

import "errors"

// WithoutLibrary makes JPEG go through the standard library until the result is
// called.
func WithoutLibrary() (back func()) {
	old := turboLibrary
	turboLibrary = func() (*turbo, error) { return nil, errors.New("switched off by a test") }
	return func() { turboLibrary = old }
}

// OpenLibrary opens libturbojpeg as the environment variable's value asks.
func OpenLibrary(wanted string) (version, path string, err error) {
	t, err := openTurbo(wanted)
	if err != nil {
		return "", "", err
	}
	return t.version, t.path, nil
}
