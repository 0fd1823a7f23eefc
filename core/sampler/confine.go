package sampler

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Confinement is what the control groups this process lies in, and those above them, allow it.
type Confinement struct {
	Cores       float64 // CPU time per time; 0: no limit
	MemoryBytes uint64  // 0: no limit
}

// Confined reads the limits of this process's control groups: the tightest from its own group up to the top of what is
// mounted here. Source: cgroup v2 cpu.max and memory.max, v1 cpu.cfs_quota_us and memory.limit_in_bytes.
func Confined() Confinement {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Confinement{}
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Confinement{}
	}
	return confined(string(own), string(info))
}

func confined(own, mountinfo string) Confinement {
	place := map[string]string{} // controller, or "" for version 2, to path
	for line := range strings.Lines(own) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 {
			for controller := range strings.SplitSeq(parts[1], ",") {
				place[controller] = parts[2]
			}
		}
	}
	var c Confinement
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, source := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(source) < 3 {
			continue
		}
		root, point := fields[3], unescape.Replace(fields[4])
		switch source[0] {
		case "cgroup2":
			c.walk(root, point, place[""], func(dir string) {
				quota, period, _ := strings.Cut(text(dir, "cpu.max"), " ")
				c.cores(quota, period)
				c.memory(text(dir, "memory.max"))
			})
		case "cgroup":
			for controller := range strings.SplitSeq(source[2], ",") {
				switch controller {
				case "cpu":
					c.walk(root, point, place["cpu"], func(dir string) { c.cores(text(dir, "cpu.cfs_quota_us"), text(dir, "cpu.cfs_period_us")) })
				case "memory":
					c.walk(root, point, place["memory"], func(dir string) { c.memory(text(dir, "memory.limit_in_bytes")) })
				}
			}
		}
	}
	return c
}

// walk looks at a group and those above it, as far as they can be seen from here.
func (c *Confinement) walk(root, point, path string, look func(dir string)) {
	rel, err := filepath.Rel(root, path)
	if path == "" || err != nil || !filepath.IsLocal(rel) {
		look(point) // a name space hides where it lies: the mount's top is its own group
		return
	}
	for dir := filepath.Join(point, rel); ; dir = filepath.Dir(dir) {
		look(dir)
		if dir == point || len(dir) < len(point) {
			return
		}
	}
}

func (c *Confinement) cores(quota, period string) {
	q, err := strconv.ParseFloat(quota, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err == nil && err2 == nil && q > 0 && p > 0 && (c.Cores == 0 || q/p < c.Cores) {
		c.Cores = q / p
	}
}

// unlimited is more than any machine has; version 1 writes the largest whole number of pages for "no limit".
const unlimited = 1 << 60

func (c *Confinement) memory(limit string) {
	if v, err := strconv.ParseUint(limit, 10, 64); err == nil && v < unlimited && (c.MemoryBytes == 0 || v < c.MemoryBytes) {
		c.MemoryBytes = v
	}
}

func text(dir, file string) string {
	b, _ := os.ReadFile(filepath.Join(dir, file))
	return strings.TrimSpace(string(b))
}
