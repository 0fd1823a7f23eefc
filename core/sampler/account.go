package sampler

import (
	"context"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gnomon-scheduler/gnomon/core"
)

// account is what a tree's recorded readings say of it: the next one is counted from here. Only what the sink has taken
// changes it, so that a lost sample costs resolution and no figure.
type account struct {
	reading
	attempts uint64
	running  bool
	totalRSS uint64
	busyCPU  time.Duration
	busyRSS  uint64
}

// Ended is how a tree has ended, by its parent.
type Ended struct {
	CPU          time.Duration // all it used; of wait4(2), or of its control group
	CPUFrom      string        // "rusage" or "cgroup"
	ReadBytes    uint64
	WriteBytes   uint64
	PeakRSSBytes uint64 // of its largest process
}

// endLimit is how long the last reading of a tree may wait for the sink.
const endLimit = time.Second

// Ended records the last reading of a tree: what it used between the last tick and its end, or in a life that no tick
// saw. Whoever waits for the process calls it before the process ceases to be among the targets.
func (s *Sampler) Ended(ctx context.Context, t Target, end Ended) {
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	k := treeKey{t.PID, t.StartTicks}
	last := reading{ProcSample: core.ProcSample{At: s.clock.Now().UTC(), CPU: end.CPU, ReadBytes: end.ReadBytes, WriteBytes: end.WriteBytes, FDs: -1}, from: end.CPUFrom}
	// What it held is what it was last seen to hold, or the most of a process that nobody saw.
	last.held = end.PeakRSSBytes
	if before, known := s.trees[k]; known {
		last.held = before.RSSBytes
	}
	t.Running = nil
	if err := s.record(ctx, &t, k, last, true); err != nil {
		s.log.Warn("the last reading of a process is lost", "plugin", t.Plugin, "pid", t.PID, "err", err)
	}
	delete(s.trees, k)
}

// read gives what a target uses now.
func (s *Sampler) read(t *Target, now time.Time) (reading, error) {
	if t.Kind == core.TreeServer {
		return s.procs.self(t.PID, now)
	}
	tree, err := s.procs.tree(t.PID, t.StartTicks, now)
	if err == nil && t.Group != "" {
		if cpu, ok := s.procs.group(t.Group); ok && cpu >= tree.CPU-coarse {
			tree.CPU, tree.from = cpu, fromGroup
		}
	}
	return tree, err
}

// record gives a reading to the sink and, once that has taken it, remembers it.
func (s *Sampler) record(ctx context.Context, t *Target, k treeKey, now reading, final bool) error {
	before, known := s.trees[k]
	now.keepUp(before.reading)
	span := age(t.StartTicks)
	if known {
		span = now.At.Sub(before.At)
	}
	span = max(0, span) // a clock that was set back
	held := now.RSSBytes
	if final {
		held = now.held
	}
	spentRSS := uint64(float64(held) * span.Seconds())
	next := account{reading: now, attempts: t.Attempts, running: len(t.Running) > 0, totalRSS: before.totalRSS + spentRSS,
		busyCPU: before.busyCPU, busyRSS: before.busyRSS}
	busy := next.running || before.running || next.attempts != before.attempts
	spentCPU := now.CPU - before.CPU
	if busy {
		next.busyCPU += spentCPU
		next.busyRSS += spentRSS
	}
	kind := t.Kind
	if kind == "" {
		kind = core.TreePlugin
	}
	err := s.sink.RecordPlugin(ctx, core.PluginSample{ProcSample: now.ProcSample, Plugin: t.Plugin, Version: t.Version,
		Namespace: t.Namespace, PID: t.PID, Running: len(t.Running),
		Tree: &core.Tree{Kind: kind, Server: s.server, Host: s.host.name, StartTicks: t.StartTicks, CPUFrom: now.from, Final: final, Span: span,
			Busy: busy, Attempts: t.Attempts, SpentCPU: spentCPU, SpentReadBytes: now.ReadBytes - before.ReadBytes,
			SpentWriteBytes: now.WriteBytes - before.WriteBytes, SpentRSS: spentRSS, TotalRSS: next.totalRSS, BusyCPU: next.busyCPU, BusyRSS: next.busyRSS}})
	if err != nil {
		return err
	}
	s.trees[k] = next
	return nil
}

// Where CPU was read.
const (
	fromProc  = "proc"
	fromGroup = "cgroup"
	fromUsage = "rusage"
)

// coarse is how far /proc/PID/stat and a control group may differ: the former counts in ticks, process by process. A
// group that says much less does not hold the whole tree.
const coarse = 20 * time.Millisecond

// age is how long ago a process began, by its start in ticks since boot; 0 if that is not known.
func age(start uint64) time.Duration {
	var now unix.Timespec
	if start == 0 || unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano()) - time.Duration(start)*tick
}

// blockBytes is the unit of getrusage's block counts, whatever the disk's; they count what /proc/PID/io counts.
const blockBytes = 512

// self reads this process alone. Its children are not in it, neither living nor ended: getrusage tells them apart from
// the process, which /proc/PID/io does not.
func (r *reader) self(pid int, at time.Time) (reading, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return reading{}, err
	}
	out := reading{ProcSample: core.ProcSample{At: at.UTC(), CPU: usedBy(&u), Processes: 1, FDs: r.fds(pid),
		ReadBytes: uint64(u.Inblock) * blockBytes, WriteBytes: uint64(u.Oublock) * blockBytes}, ioRead: true, from: fromUsage}
	for i := range r.procs {
		if r.procs[i].pid == pid {
			out.RSSBytes, out.Threads = r.procs[i].rss*pageBytes, r.procs[i].threads
			return out, nil
		}
	}
	return reading{}, errGone
}

func usedBy(u *syscall.Rusage) time.Duration { return time.Duration(u.Utime.Nano() + u.Stime.Nano()) }

// group reads what everything that ever ran in a control group has used: cpu.stat of version 2 (microseconds, there
// whatever controllers are enabled), cpuacct.usage of version 1 (nanoseconds).
func (r *reader) group(dir string) (time.Duration, bool) {
	if b, err := r.whole(dir + "/cpu.stat"); err == nil {
		v, ok := number(b, "usage_usec ")
		return time.Duration(v) * time.Microsecond, ok
	}
	b, err := r.whole(dir + "/cpuacct.usage")
	if err != nil {
		return 0, false
	}
	v, ok := number(b, "")
	return time.Duration(v), ok
}
