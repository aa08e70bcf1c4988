package control

import "time"

// Report is the memory of one process and of the devices that it sees. Bytes are
// integers; a figure that is not known is null, never zero.
type Report struct {
	Devices []Device `json:"devices"`
	Process Process  `json:"process"`
	NVIDIA  NVIDIA   `json:"nvidia"`
}

// Device is one device, and who has leases of it.
type Device struct {
	Device      string   `json:"device"` // "host", "gpu:0"
	Description string   `json:"description,omitempty"`
	Source      string   `json:"source,omitempty"` // what decides total
	Physical    *int64   `json:"physical"`
	Total       *int64   `json:"total"`
	Used        *int64   `json:"used"`
	Free        *int64   `json:"free"`
	Reserved    *int64   `json:"reserved"`
	Own         *int64   `json:"own"`
	Stalled     *float64 `json:"stalled"`     // share of the last ten seconds, 0 to 1
	Busy        *float64 `json:"busy"`        // share of the last second or less, 0 to 1
	AgeSeconds  *float64 `json:"age_seconds"` // of the figures above; null: there are none
	Error       string   `json:"error,omitempty"`
	Leased      *int64   `json:"leased"` // null: nothing leases this device
	Limit       *int64   `json:"limit"`  // of what may be leased
	Waiting     int      `json:"waiting"`
	Holders     []Holder `json:"holders"` // the largest first
}

// Holder is what one holder has of a device, by kind of lease.
type Holder struct {
	Holder string    `json:"holder"`
	Kind   string    `json:"kind"`
	Bytes  int64     `json:"bytes"`
	Leases int       `json:"leases"`
	Since  time.Time `json:"since"` // of the oldest of its leases
}

// Process is whose the memory of the process is.
type Process struct {
	PID    int    `json:"pid"`
	RSS    *int64 `json:"rss"`
	Go     *int64 `json:"go"` // all that Go's runtime has
	GoHeap *int64 `json:"go_heap"`
	Other  *int64 `json:"other"` // C libraries, mapped files, code
}

// NVIDIA tells whether GPUs of NVIDIA can be read.
type NVIDIA struct {
	Driver  string `json:"driver,omitempty"`  // version; empty: not known
	Problem string `json:"problem,omitempty"` // why there are no GPUs
}

// State is whether the run stands still.
type State struct {
	State  string `json:"state"`  // running or paused
	Active int    `json:"active"` // batches that are inside a stage, and end also in a pause
}

// Cleaned is what a clean-up has done.
type Cleaned struct {
	Why     string          `json:"why"`
	At      time.Time       `json:"at"`
	Seconds float64         `json:"seconds"`
	Devices []CleanedDevice `json:"devices"`
	Steps   []CleanedStep   `json:"steps"`
}

// CleanedDevice is a device before and after, as measured: what this process has
// of it, or where that is not known what everybody has.
type CleanedDevice struct {
	Device string `json:"device"`
	Before *int64 `json:"before"`
	After  *int64 `json:"after"`
	Freed  *int64 `json:"freed"` // null: it could not be measured
}

// CleanedStep is one step of a clean-up.
type CleanedStep struct {
	Name   string `json:"name"`
	Device string `json:"device"`
	Freed  *int64 `json:"freed"` // as the step believes; null: it does not know
	Error  string `json:"error,omitempty"`
}
