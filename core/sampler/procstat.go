package sampler

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// tick is the kernel's USER_HZ, which is 100 on every Linux architecture Go supports.
const tick = time.Second / 100

var pageBytes = uint64(os.Getpagesize())

var errGone = errors.New("no such process")

// stat is what is used of /proc/PID/stat; see proc_pid_stat(5).
type stat struct {
	pid     int
	ppid    int
	group   int
	session int
	cpu     uint64 // ticks, user plus system, of it and of its children that have ended and were waited for
	threads int
	start   uint64 // ticks since boot
	rss     uint64 // pages
}

// reader reads small files of /proc without allocating. procfs would do, but its parser costs 30 µs a process
// (fmt.Fscan) where this costs 4, and every process of the machine is read each second.
type reader struct {
	buf   []byte
	path  []byte
	procs []stat
	kids  map[int][]int // index in procs, by parent
}

func newReader() *reader { return &reader{buf: make([]byte, 4096), kids: map[int][]int{}} }

// file reads /proc/PID/name; what it gives is good until the next call.
func (r *reader) file(pid int, name string) ([]byte, error) {
	p := append(r.path[:0], "/proc/"...)
	p = strconv.AppendInt(p, int64(pid), 10)
	p = append(append(p, '/'), name...)
	r.path = p
	return r.whole(string(p))
}

// whole reads a file as far as the buffer goes; what it gives is good until the next call.
func (r *reader) whole(path string) ([]byte, error) {
	fd, err := open(path)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	n := 0
	for n < len(r.buf) {
		m, err := syscall.Read(fd, r.buf[n:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return r.buf[:n], nil
}

func open(path string) (int, error) {
	for {
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != syscall.EINTR {
			return fd, err
		}
	}
}

func (r *reader) stat(pid int) (stat, error) {
	b, err := r.file(pid, "stat")
	if err != nil {
		return stat{}, err
	}
	s, ok := parseStat(b)
	if !ok {
		return stat{}, fmt.Errorf("unexpected content of /proc/%d/stat", pid)
	}
	return s, nil
}

// parseStat reads the line; the name in it may hold anything, blanks and brackets too.
func parseStat(b []byte) (stat, bool) {
	from, to := bytes.IndexByte(b, ' '), bytes.LastIndexByte(b, ')')
	if from < 0 || to < from || to+4 > len(b) {
		return stat{}, false
	}
	pid, err := strconv.Atoi(string(b[:from]))
	if err != nil {
		return stat{}, false
	}
	s := stat{pid: pid}
	field := 3 // the number proc_pid_stat(5) gives to what follows: the state
	for at := to + 2; at < len(b) && field <= 24; field++ {
		var v uint64
		for ; at < len(b) && b[at] != ' '; at++ {
			if c := b[at]; c >= '0' && c <= '9' {
				v = v*10 + uint64(c-'0')
			}
		}
		at++
		switch field {
		case 4:
			s.ppid = int(v)
		case 5:
			s.group = int(v)
		case 6:
			s.session = int(v)
		case 14, 15, 16, 17: // utime, stime, cutime, cstime
			s.cpu += v
		case 20:
			s.threads = int(v)
		case 22:
			s.start = v
		case 24:
			s.rss = v
		}
	}
	return s, field > 24
}

// scan reads every process once.
func (r *reader) scan() error {
	d, err := os.Open("/proc")
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close()
	if err != nil {
		return err
	}
	r.procs = r.procs[:0]
	clear(r.kids)
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		s, err := r.stat(pid)
		if err != nil {
			continue // ended meanwhile
		}
		r.kids[s.ppid] = append(r.kids[s.ppid], len(r.procs))
		r.procs = append(r.procs, s)
	}
	return nil
}

// reading is a ProcSample and what could not be read for it.
type reading struct {
	core.ProcSample
	ioRead bool   // the figures of every process could be read
	from   string // where CPU was read
	held   uint64 // of a tree that has ended: resident memory before
}

// tree adds up a process, its descendants, and the orphans of its process group or session if it leads one. start is
// the root's start time in ticks, or 0 for any. It needs a scan.
func (r *reader) tree(pid int, start uint64, at time.Time) (reading, error) {
	in := make(map[int]bool, 4)
	var members []int
	add := func(i int) {
		if !in[r.procs[i].pid] {
			in[r.procs[i].pid] = true
			members = append(members, i)
		}
	}
	for i := range r.procs {
		switch s := &r.procs[i]; {
		case s.pid == pid && start != 0 && s.start != start:
			return reading{}, errGone // the number was given to another process
		case s.pid == pid, s.group == pid, s.session == pid:
			add(i)
		}
	}
	if !in[pid] {
		return reading{}, errGone
	}
	for n := 0; n < len(members); n++ {
		for _, i := range r.kids[r.procs[members[n]].pid] {
			add(i)
		}
	}
	out := reading{ProcSample: core.ProcSample{At: at.UTC()}, ioRead: true, from: fromProc}
	for _, i := range members {
		s := &r.procs[i]
		out.CPU += time.Duration(s.cpu) * tick
		out.RSSBytes += s.rss * pageBytes
		out.Threads += s.threads
		out.Processes++
		read, written, err := r.io(s.pid)
		if err != nil {
			out.ioRead = false
		}
		out.ReadBytes += read
		out.WriteBytes += written
		if out.FDs >= 0 {
			if n := r.fds(s.pid); n >= 0 {
				out.FDs += n
			} else {
				out.FDs = -1
			}
		}
	}
	return out, nil
}

// io gives what a process and its waited-for children moved to and from storage: /proc/PID/io, proc_pid_io(5).
func (r *reader) io(pid int) (read, written uint64, err error) {
	b, err := r.file(pid, "io")
	if err != nil {
		return 0, 0, err
	}
	read, ok := number(b, "\nread_bytes: ")
	written, ok2 := number(b, "\nwrite_bytes: ")
	if !ok || !ok2 {
		return 0, 0, fmt.Errorf("unexpected content of /proc/%d/io", pid)
	}
	return read, written, nil
}

// number gives the decimal number behind a label.
func number(b []byte, label string) (v uint64, ok bool) {
	_, rest, ok := bytes.Cut(b, []byte(label))
	if !ok {
		return 0, false
	}
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		v = v*10 + uint64(c-'0')
	}
	return v, true
}

// fds gives the number of open descriptors, or -1. Since Linux 6.2 it is the size of the folder.
func (r *reader) fds(pid int) int {
	path := "/proc/" + strconv.Itoa(pid) + "/fd"
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return -1
	}
	if st.Size > 0 {
		return int(st.Size)
	}
	d, err := os.Open(path)
	if err != nil {
		return -1
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return -1
	}
	return len(names)
}

// Tree reads a process tree once: CPU and I/O since its root began, those of ended and waited-for children included;
// memory, threads, descriptors and processes now. Memory is the sum of RSS, so pages shared by forked processes count
// in each. It fails with KindNotFound if there is no such process. Source: /proc/PID/stat, io and fd.
func Tree(pid int) (core.ProcSample, error) {
	r := newReader()
	op := "read the process tree of " + strconv.Itoa(pid)
	if err := r.scan(); err != nil {
		return core.ProcSample{}, core.Errorf(core.KindUnavailable, op, "%w", err)
	}
	t, err := r.tree(pid, 0, time.Now())
	if err != nil {
		return core.ProcSample{}, core.Errorf(core.KindNotFound, op, "%w", err)
	}
	return t.ProcSample, nil
}

// Process reads CPU, memory and threads of one process without its living children; CPU includes children it has waited
// for. It fails with KindNotFound if there is no such process. Source: /proc/PID/stat.
func Process(pid int) (core.ProcSample, error) {
	one, err := newReader().stat(pid)
	if err != nil {
		return core.ProcSample{}, core.Errorf(core.KindNotFound, "read process "+strconv.Itoa(pid), "%w", err)
	}
	return core.ProcSample{
		At: time.Now().UTC(), CPU: time.Duration(one.cpu) * tick, RSSBytes: one.rss * pageBytes, Threads: one.threads, FDs: -1, Processes: 1,
	}, nil
}

// Self reads this process and its children; see Tree.
func Self() (core.ProcSample, error) { return Tree(os.Getpid()) }

// StartTicks gives when a process began, in clock ticks since boot: with the PID it names a process for ever.
// Source: field 22 of /proc/PID/stat.
func StartTicks(pid int) (uint64, error) {
	s, err := newReader().stat(pid)
	if err != nil {
		return 0, core.Errorf(core.KindNotFound, "read the start time of process "+strconv.Itoa(pid), "%w", err)
	}
	return s.start, nil
}
