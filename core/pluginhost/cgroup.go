package pluginhost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroups are the control groups the host may make children in. A machine has version 2, or version 1, or (as systemd's
// hybrid layout) version 1 for the limits and an empty version 2 beside it, which still kills a whole tree at once.
// A nil *cgroups has none.
type cgroups struct{ tops []cgroupTop }

// cgroupTop is the host's own folder in one hierarchy; each process gets a folder in it.
type cgroupTop struct {
	dir          string
	v2           bool
	memory, pids bool // the limits this hierarchy is for
	cpu          bool // it counts CPU time
}

// openCgroups makes the folder name below the host's own group in every hierarchy that is of use and writable. It fails
// if neither memory nor pids can be limited and no tree can be killed.
func openCgroups(name string) (*cgroups, error) {
	mounts, err := cgroupMounts()
	if err != nil {
		return nil, err
	}
	g := &cgroups{}
	var why []error
	for _, m := range mounts {
		if m.cpu && g.limits(func(t cgroupTop) bool { return t.cpu }) {
			continue
		}
		if (m.memory && g.limits(func(t cgroupTop) bool { return t.memory })) ||
			(!m.memory && m.pids && g.limits(func(t cgroupTop) bool { return t.pids })) {
			continue
		}
		top := cgroupTop{dir: filepath.Join(m.dir, name), v2: m.v2, memory: m.memory, pids: m.pids, cpu: m.v2 || m.cpu}
		if m.v2 {
			available := strings.Fields(readString(filepath.Join(m.dir, "cgroup.controllers")))
			top.memory = slices.Contains(available, "memory")
			top.pids = slices.Contains(available, "pids")
		}
		if err := os.Mkdir(top.dir, 0o755); err != nil {
			why = append(why, err)
			continue
		}
		if top.v2 && (top.memory || top.pids) {
			// A group that holds processes cannot hand controllers down. Then the host's unit lacks Delegate=yes with a
			// sub-group of its own, and the tree is at least killed as a whole.
			if err := handDown(m.dir, top); err != nil {
				why = append(why, err)
				top.memory, top.pids = false, false
			}
		}
		g.tops = append(g.tops, top)
	}
	if len(g.tops) == 0 {
		return nil, errors.Join(append(why, errors.New("no writable cgroup hierarchy"))...)
	}
	return g, nil
}

func (g *cgroups) limits(has func(cgroupTop) bool) bool { return slices.ContainsFunc(g.tops, has) }

func handDown(parent string, top cgroupTop) error {
	var want []string
	if top.memory {
		want = append(want, "+memory")
	}
	if top.pids {
		want = append(want, "+pids")
	}
	text := []byte(strings.Join(want, " "))
	return errors.Join(
		os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), text, 0),
		os.WriteFile(filepath.Join(top.dir, "cgroup.subtree_control"), text, 0))
}

type cgroupMount struct {
	dir          string // the host's own group there
	v2           bool
	memory, pids bool // of a version 1 hierarchy
	cpu          bool // likewise: cpuacct
}

// cgroupMounts finds the hierarchies of use and the host's own place in each. Source: cgroups(7), proc(5) mountinfo.
func cgroupMounts() ([]cgroupMount, error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	place := map[string]string{} // controller, or "" for version 2, to path
	for line := range strings.Lines(string(own)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 {
			for controller := range strings.SplitSeq(parts[1], ",") {
				place[controller] = parts[2]
			}
		}
	}
	var mounts []cgroupMount
	for line := range strings.Lines(string(info)) {
		head, tail, ok := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(head), strings.Fields(tail)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		root, point, fs, options := left[3], left[4], right[0], strings.Split(right[2], ",")
		m := cgroupMount{v2: fs == "cgroup2"}
		var path string
		var known bool
		switch {
		case fs == "cgroup2":
			path, known = place[""]
		case fs == "cgroup" && slices.Contains(options, "memory"):
			path, known = place["memory"]
			m.memory, m.pids = true, slices.Contains(options, "pids")
		case fs == "cgroup" && slices.Contains(options, "pids"):
			path, known = place["pids"]
			m.pids = true
		case fs == "cgroup" && slices.Contains(options, "cpuacct"):
			path, known = place["cpuacct"]
			m.cpu = true
		}
		if !known {
			continue
		}
		if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
			m.dir = filepath.Join(point, rel)
			mounts = append(mounts, m)
		}
	}
	// Version 2 counts CPU time whatever is enabled in it: then cpuacct is not needed.
	slices.SortStableFunc(mounts, func(a, b cgroupMount) int {
		if a.v2 == b.v2 {
			return 0
		}
		if a.v2 {
			return -1
		}
		return 1
	})
	return mounts, nil
}

// cgroup is one process tree's groups. A nil *cgroup has none.
type cgroup struct {
	tops []cgroupTop // dir is the tree's own
	born *os.File    // the version 2 folder, to be born in; nil: none
}

// make gives a new process its groups, with limits. It gives nil if there are none to be had.
func (g *cgroups) make(name string, limits Limits) (*cgroup, error) {
	if g == nil {
		return nil, nil
	}
	c := &cgroup{}
	var errs []error
	for _, top := range g.tops {
		top.dir = filepath.Join(top.dir, name)
		if err := os.Mkdir(top.dir, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		c.tops = append(c.tops, top)
		write := func(file string, value uint64) {
			errs = append(errs, os.WriteFile(filepath.Join(top.dir, file), strconv.AppendUint(nil, value, 10), 0))
		}
		if top.memory && top.v2 {
			write("memory.max", limits.MemoryBytes)
		} else if top.memory {
			write("memory.limit_in_bytes", limits.MemoryBytes)
		}
		if top.pids {
			write("pids.max", limits.Processes)
		}
		if top.v2 {
			dir, err := os.Open(top.dir)
			c.born, errs = dir, append(errs, err)
		}
	}
	return c, errors.Join(errs...)
}

// add moves a process that was just started into the groups it was not born in.
func (c *cgroup) add(pid int) error {
	if c == nil {
		return nil
	}
	var errs []error
	for _, top := range c.tops {
		if !top.v2 {
			errs = append(errs, os.WriteFile(filepath.Join(top.dir, "cgroup.procs"), strconv.AppendInt(nil, int64(pid), 10), 0))
		}
	}
	return errors.Join(errs...)
}

// limitsMemory reports whether the tree's resident memory is limited by the kernel.
func (c *cgroup) limitsMemory() bool {
	return c != nil && slices.ContainsFunc(c.tops, func(t cgroupTop) bool { return t.memory })
}

// outOfMemory reports whether the kernel killed a process of the tree because the tree had reached its memory limit.
func (c *cgroup) outOfMemory() bool {
	if c == nil {
		return false
	}
	for _, top := range c.tops {
		file := "memory.oom_control"
		if top.v2 {
			file = "memory.events"
		}
		if !top.memory {
			continue
		}
		for line := range strings.Lines(readString(filepath.Join(top.dir, file))) {
			if count, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok && count != "0" {
				return true
			}
		}
	}
	return false
}

// kill sends SIGKILL to all processes in the groups, also to those that forked while it looked.
func (c *cgroup) kill() {
	if c == nil {
		return
	}
	for _, top := range c.tops {
		killCgroup(top.dir)
	}
}

// counting gives the folder of the group that counts the tree's CPU time; "": none.
func (c *cgroup) counting() string {
	if c != nil {
		for _, top := range c.tops {
			if top.cpu {
				return top.dir
			}
		}
	}
	return ""
}

// remove removes the empty groups, and gives all the CPU time that was used in them. A killed process leaves its group a
// moment after it died, so that the count is whole only as the folder can be removed. ok is false if nothing counted.
func (c *cgroup) remove() (cpu time.Duration, ok bool) {
	if c == nil {
		return 0, false
	}
	if c.born != nil {
		c.born.Close()
	}
	counting := c.counting()
	for _, top := range c.tops {
		if top.dir != counting {
			removeCgroup(top.dir)
			continue
		}
		for range 100 {
			cpu, ok = cgroupCPU(top.dir)
			if err := os.Remove(top.dir); err == nil || errors.Is(err, os.ErrNotExist) {
				break
			}
			pause(2 * time.Millisecond)
		}
	}
	return cpu, ok
}

// cgroupCPU reads what was used in a group: cpu.stat of version 2 in microseconds, cpuacct.usage of version 1 in nanoseconds.
func cgroupCPU(dir string) (time.Duration, bool) {
	if rest, ok := strings.CutPrefix(readString(filepath.Join(dir, "cpu.stat")), "usage_usec "); ok {
		first, _, _ := strings.Cut(rest, "\n")
		v, err := strconv.ParseInt(first, 10, 64)
		return time.Duration(v) * time.Microsecond, err == nil
	}
	v, err := strconv.ParseInt(strings.TrimSpace(readString(filepath.Join(dir, "cpuacct.usage"))), 10, 64)
	return time.Duration(v), err == nil
}

func (g *cgroups) close() {
	if g == nil {
		return
	}
	for _, top := range g.tops {
		removeCgroup(top.dir)
	}
}

func killCgroup(dir string) {
	if os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) == nil {
		return // version 2, Linux 5.14
	}
	_ = os.WriteFile(filepath.Join(dir, "pids.max"), []byte("0"), 0) // a fork bomb stops forking
	for range 50 {
		pids := strings.Fields(readString(filepath.Join(dir, "cgroup.procs")))
		if len(pids) == 0 {
			return
		}
		for _, text := range pids {
			if pid, err := strconv.Atoi(text); err == nil && pid > 1 {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		pause(2 * time.Millisecond)
	}
}

func removeCgroup(dir string) {
	for range 100 {
		if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		pause(2 * time.Millisecond)
	}
}

// pause lets the kernel finish with a process that was killed; nothing tells when it has.
func pause(d time.Duration) { <-time.After(d) }

func readString(file string) string {
	b, _ := os.ReadFile(file)
	return string(b)
}

// describe names the hierarchies, for the log.
func (g *cgroups) describe() []string {
	if g == nil {
		return nil
	}
	var all []string
	for _, t := range g.tops {
		all = append(all, fmt.Sprintf("%s memory=%t pids=%t cpu=%t", t.dir, t.memory, t.pids, t.cpu))
	}
	return all
}
