package ort

// CUDASettings tells what the runtime is told of a CUDA session: the settings of
// the provider and of the session.
func CUDASettings(l *Library, o SessionOptions) (cuda, entries map[string]string, arenas string, err error) {
	o.Provider = CUDA
	set, err := o.settings(l)
	return set.cuda, set.entries, o.arenas(), err
}

// Failure makes an error of what the runtime says.
func Failure(text string) error { return failure(text) }

// Present tells whether a provider's library is in dir.
func Present(provider, dir string) bool { return present(provider, dir) }
