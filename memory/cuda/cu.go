//go:build cuda

package cuda

import (
	"errors"
	"fmt"

	"gorgonia.org/cu"

	"github.com/forgepipe/forgepipe/memory"
)

func system() (driver, error) { return cuDriver{}, nil }

// cuDriver is the driver that the program is linked with. cu has called cuInit
// before main, and ended the process if that failed.
type cuDriver struct{}

func (cuDriver) Count() (int, error) { return cu.NumDevices() }

func (cuDriver) Name(gpu int) (string, error) {
	d, err := cu.GetDevice(gpu)
	if err != nil {
		return "", err
	}
	return d.Name()
}

func (cuDriver) UUID(gpu int) (string, error) {
	d, err := cu.GetDevice(gpu)
	if err != nil {
		return "", err
	}
	id, err := d.UUID()
	return "GPU-" + id.String(), err
}

func (cuDriver) Active(gpu int) (bool, error) {
	d, err := cu.GetDevice(gpu)
	if err != nil {
		return false, err
	}
	_, active, err := d.PrimaryCtxState()
	return active != 0, err
}

func (cuDriver) Retain(gpu int) (handle, error) {
	d, err := cu.GetDevice(gpu)
	if err != nil {
		return nil, err
	}
	ctx, err := d.RetainPrimaryCtx()
	if errors.Is(err, cu.OutOfMemory) {
		err = fmt.Errorf("%w: %w", memory.ErrOutOfMemory, err)
	}
	return ctx, err
}

func (cuDriver) Release(gpu int) error {
	d, err := cu.GetDevice(gpu)
	if err != nil {
		return err
	}
	return d.ReleasePrimaryCtx()
}

func (cuDriver) Reset(gpu int) error {
	d, err := cu.GetDevice(gpu)
	if err != nil {
		return err
	}
	return d.ResetPrimaryCtx()
}

func (cuDriver) Current() (handle, error) { return cu.CurrentContext() }

func (cuDriver) SetCurrent(h handle) error {
	ctx, ok := h.(cu.CUContext)
	if !ok {
		panic(fmt.Sprintf("BUG: %T is no context of CUDA", h))
	}
	return cu.SetCurrentContext(ctx)
}

func (cuDriver) MemInfo() (free, total int64, err error) { return cu.MemInfo() }
