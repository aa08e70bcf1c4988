//go:build !cuda

package cuda

func system() (driver, error) { return nil, ErrNotBuilt }
