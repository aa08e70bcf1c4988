package memory

import "fmt"

// Swap is the swap space of the machine, in bytes.
type Swap struct {
	Total int64 // bytes that there are
	Used  int64 // bytes of them
}

// Swap reads the swap space. A machine that has none has a Total of 0.
func (h Host) Swap() (Swap, error) {
	const meminfo = "/proc/meminfo"
	info, err := h.table(meminfo)
	if err != nil {
		return Swap{}, fmt.Errorf("reading the swap space: %w", err)
	}
	total, ok := info["SwapTotal"]
	if !ok {
		return Swap{}, fmt.Errorf("reading the swap space: %s has no SwapTotal", h.path(meminfo))
	}
	return Swap{Total: total << 10, Used: max(total-info["SwapFree"], 0) << 10}, nil
}
