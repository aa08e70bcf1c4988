//go:build !cgo

package nvml

func newLibrary(string) (library, error) { return nil, ErrNoCgo }
