package memory

import "runtime/metrics"

// ProcessMemory tells whose the memory of this process is, in bytes.
type ProcessMemory struct {
	RSS    int64 // what lies in memory; Unknown where the system does not tell
	GoHeap int64 // live and dead objects of Go that the collector has not swept yet
	Go     int64 // all that Go's runtime has and has not given back: heap, free spans, stacks, its own
	Other  int64 // RSS less Go: C libraries, mapped files, code; Unknown with RSS
}

// Process reads what this process has. The figures are not of one instant, as
// they have different sources.
func (h Host) Process() ProcessMemory {
	sample := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(sample)
	p := ProcessMemory{
		RSS: Unknown, Other: Unknown,
		GoHeap: int64(sample[0].Value.Uint64()),
		Go:     int64(sample[1].Value.Uint64() - sample[2].Value.Uint64()),
	}
	if rss, err := h.rss(); err == nil && rss > 0 {
		// Go counts what it has mapped, of which some was never touched.
		p.RSS, p.Other = rss, max(rss-p.Go, 0)
	}
	return p
}
