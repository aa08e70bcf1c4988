//go:build cgo

package nvml

import (
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// OpenInjected is Open with lib in place of a library, for go-nvml's mock
// servers.
func OpenInjected(lib nvml.Interface, timeout time.Duration) (*Driver, error) {
	return open(newInjected(lib), timeout)
}
