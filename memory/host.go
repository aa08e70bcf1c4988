package memory

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Host reads the memory of the machine that this process runs on, from Linux's
// proc and cgroup file systems. The zero value reads the real ones.
type Host struct {
	// Root is the directory that has proc and sys under it; empty means "/".
	Root string
}

// HostMemory is what the host allows and uses at one instant, in bytes.
type HostMemory struct {
	// Total is the lesser of the physical memory and the limits of the control
	// groups that the process is in.
	Total int64
	// Physical is what the machine has.
	Physical int64
	// Available is how much more can be used without swapping or being killed:
	// the kernel's MemAvailable, or what a control group's limit leaves, where
	// file cache that nobody uses counts as free.
	Available int64
	// RSS is what of this process lies in memory, C memory included.
	RSS int64
	// Stalled is the share of the last ten seconds, from 0 to 1, in which some
	// process waited for memory, of the control group where the kernel tells, else
	// of the machine; Unknown where it tells neither.
	Stalled float64
	// Source names the file that decided Total, for messages.
	Source string
}

const cgroupMount = "/sys/fs/cgroup"

// unlimited stands for a cgroup without a limit. Version 1 writes a number near
// the largest for that, which the comparison with physical memory takes care of.
const unlimited = math.MaxInt64

// Name is "host".
func (h Host) Name() string { return "host" }

// Read takes one reading, for which it reads a few small files. How busy the cores
// are it does not tell.
func (h Host) Read(context.Context) (Reading, error) {
	m, err := h.Memory()
	if err != nil {
		return Reading{}, err
	}
	r := Reading{Physical: m.Physical, Total: m.Total, Free: m.Available, Used: m.Total - m.Available, Own: m.RSS, Stalled: m.Stalled, Busy: Unknown}
	if m.RSS == 0 {
		r.Own = Unknown
	}
	return r, nil
}

// Memory reads the figures. Without control groups, or where their files cannot
// be read, the physical memory stands alone.
func (h Host) Memory() (HostMemory, error) {
	const meminfo = "/proc/meminfo"
	info, err := h.table(meminfo)
	if err != nil {
		return HostMemory{}, fmt.Errorf("reading host memory: %w", err)
	}
	// meminfo counts in KiB.
	m := HostMemory{Total: info["MemTotal"] << 10, Stalled: Unknown, Source: meminfo}
	if m.Total <= 0 {
		return HostMemory{}, fmt.Errorf("reading host memory: %s has no MemTotal", h.path(meminfo))
	}
	m.Physical = m.Total
	available, ok := info["MemAvailable"]
	if !ok { // before Linux 3.14, and in some sandboxes
		available = info["MemFree"] + info["Buffers"] + info["Cached"]
	}
	m.Available = min(available<<10, m.Total)

	for _, g := range h.cgroups() {
		g.apply(h, &m)
		if m.Stalled == Unknown && g.pressure != "" {
			m.Stalled = h.stalled(path.Join(g.dir, g.pressure))
		}
	}
	if m.Stalled == Unknown {
		m.Stalled = h.stalled("/proc/pressure/memory")
	}
	if m.RSS, err = h.rss(); err != nil {
		return HostMemory{}, fmt.Errorf("reading host memory: %w", err)
	}
	return m, nil
}

// cgroup is one directory of one version's hierarchy.
type cgroup struct {
	dir      string
	limits   []string
	current  string
	inactive string // key in memory.stat
	pressure string // file of stall information; empty: this version has none
}

// apply lowers m to what the group allows. A file that is missing sets nothing:
// the root group has no limits, and a container may hide its parents.
func (g cgroup) apply(h Host, m *HostMemory) {
	limit, source := int64(unlimited), ""
	for _, name := range g.limits {
		if n, err := h.number(path.Join(g.dir, name)); err == nil && n < limit {
			limit, source = n, path.Join(g.dir, name)
		}
	}
	if source == "" {
		return
	}
	if limit < m.Total {
		m.Total, m.Source = limit, source
	}
	current, err := h.number(path.Join(g.dir, g.current))
	if err != nil {
		m.Available = min(m.Available, limit)
		return
	}
	// Without memory.stat no cache counts as free, which errs on the safe side.
	stat, _ := h.table(path.Join(g.dir, "memory.stat"))
	used := max(current-stat[g.inactive], 0)
	m.Available = min(m.Available, max(limit-used, 0))
}

// cgroups lists the groups that the process is in, each with its parents up to
// the root: a limit anywhere on the way holds.
func (h Host) cgroups() []cgroup {
	data, err := os.ReadFile(h.path("/proc/self/cgroup"))
	if err != nil {
		return nil
	}
	var all []cgroup
	for line := range strings.Lines(string(data)) {
		// hierarchy:controllers:path, where version 2 is "0::path". The path may
		// contain colons.
		part := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(part) != 3 {
			continue
		}
		switch {
		case part[0] == "0" && part[1] == "":
			for dir := range parents(part[2]) {
				all = append(all, cgroup{
					dir:      path.Join(cgroupMount, dir),
					limits:   []string{"memory.max", "memory.high"},
					current:  "memory.current",
					inactive: "inactive_file",
					pressure: "memory.pressure",
				})
			}
		case hasField(part[1], "memory"):
			for dir := range parents(part[2]) {
				all = append(all, cgroup{
					dir:      path.Join(cgroupMount, "memory", dir),
					limits:   []string{"memory.limit_in_bytes"},
					current:  "memory.usage_in_bytes",
					inactive: "total_inactive_file",
				})
			}
		}
	}
	return all
}

// parents yields dir and everything above it, the root last. In a container dir
// is often that of the host, of which only the root is mounted: then the root
// is the container's own group.
func parents(dir string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for dir = path.Clean("/" + dir); yield(dir) && dir != "/"; dir = path.Dir(dir) {
		}
	}
}

func hasField(list, want string) bool {
	for f := range strings.SplitSeq(list, ",") {
		if f == want {
			return true
		}
	}
	return false
}

func (h Host) path(name string) string { return filepath.Join(cmp.Or(h.Root, "/"), name) }

// number reads a file with one number, or with "max" for no limit.
func (h Host) number(name string) (int64, error) {
	data, err := os.ReadFile(h.path(name))
	if err != nil {
		return 0, err
	}
	text := string(bytes.TrimSpace(data))
	if text == "max" {
		return unlimited, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && errors.Is(err, strconv.ErrRange) {
		return unlimited, nil
	}
	if err != nil || n < 0 {
		return 0, fmt.Errorf("reading %s: %q is not a number of bytes", name, text)
	}
	return n, nil
}

// table reads a file of lines "key value" or "key: value kB".
func (h Host) table(name string) (map[string]int64, error) {
	f, err := os.Open(h.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	values := map[string]int64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		field := strings.Fields(lines.Text())
		if len(field) < 2 {
			continue
		}
		if n, err := strconv.ParseInt(field[1], 10, 64); err == nil {
			values[strings.TrimSuffix(field[0], ":")] = n
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return values, nil
}

// stalled reads avg10 of the first line of a pressure file, a percentage:
// "some avg10=1.50 avg60=0.20 avg300=0.00 total=1234" (Linux, accounting/psi).
func (h Host) stalled(name string) float64 {
	data, err := os.ReadFile(h.path(name))
	if err != nil {
		return Unknown // before Linux 4.20, or switched off
	}
	for field := range strings.FieldsSeq(string(data)) {
		if number, ok := strings.CutPrefix(field, "avg10="); ok {
			if percent, err := strconv.ParseFloat(number, 64); err == nil && percent >= 0 && percent <= 100 {
				return percent / 100
			}
			break
		}
	}
	return Unknown
}

// rss reads the second figure of statm, which counts pages.
func (h Host) rss() (int64, error) {
	const statm = "/proc/self/statm"
	data, err := os.ReadFile(h.path(statm))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // a sandbox may lack it; the limits are still right
	}
	if err != nil {
		return 0, err
	}
	field := strings.Fields(string(data))
	if len(field) < 2 {
		return 0, fmt.Errorf("reading %s: %q has no resident size", statm, data)
	}
	pages, err := strconv.ParseInt(field[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", statm, err)
	}
	return pages * int64(os.Getpagesize()), nil
}
