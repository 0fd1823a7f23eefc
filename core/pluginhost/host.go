package pluginhost

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Limits bound one process tree. Zero fields take the default.
type Limits struct {
	MemoryBytes uint64 // resident memory of the tree; exact with cgroups, else roughly by RLIMIT_DATA; default 1 GiB
	OpenFiles   uint64 // descriptors of each process, RLIMIT_NOFILE; default 4096
	Processes   uint64 // processes and threads of the tree; needs cgroups; default 1024
}

func (l Limits) filled(from Limits) Limits {
	if l.MemoryBytes == 0 {
		l.MemoryBytes = from.MemoryBytes
	}
	if l.OpenFiles == 0 {
		l.OpenFiles = from.OpenFiles
	}
	if l.Processes == 0 {
		l.Processes = from.Processes
	}
	return l
}

var defaultLimits = Limits{MemoryBytes: 1 << 30, OpenFiles: 4096, Processes: 1024}

// Options are what a host needs.
type Options struct {
	Log *slog.Logger
	// RunDir is a folder of the host's own for sockets, private copies of executables and notes on its children. It is
	// made with mode 0700 and emptied at Start. Its path is short: a unix socket's path ends at 108 bytes.
	RunDir      string
	HostVersion string // Gnomon's version, told to plugins
	// Grants gives what a task type in a namespace may use, by need: "sql:business" -> DSN. It is asked before each
	// attempt of a type that needs anything, so it is quick. nil: nothing is granted.
	Grants func(namespace, taskType string, needs []string) (map[string]string, error)
	// Grace is how long a plugin's attempt may take to stop after it was asked to; then its process is killed.
	// Default 10 s.
	Grace time.Duration
	// StartTimeout is how long a process may take until it has described itself. Default 10 s.
	StartTimeout time.Duration
	Limits       Limits
	// Ended is told what a child and its tree have used in all, once nothing of it is left and before it ceases to be among
	// Processes. It may block for a moment; nil: nobody wants to know.
	Ended func(Ended)
	Clock core.Clock // for back-off, breaker and idle workers; default core.SystemClock
}

// Host owns the child processes that run tasks. New, Start, then Load and Pool; Stop ends all of it.
// All methods are safe for concurrent use.
type Host struct {
	opts Options
	log  *slog.Logger

	mu      sync.Mutex
	started bool
	stopped bool
	procs   map[*process]struct{}
	owners  []owner
	serial  uint64 // of the last process started

	// Set by Start, constant afterwards.
	id     string // marks the environment of every child
	lock   *os.File
	fork   *forker
	groups *cgroups
}

// owner is a Plugin or a Pool.
type owner interface {
	Stop(ctx context.Context) error
}

// maxRunDir leaves room for go-plugin's folder and socket name below 108 bytes.
const maxRunDir = 108 - 1 - len("/s/plugin-dir1234567890/plugin1234567890")

// New checks the options.
func New(opts Options) (*Host, error) {
	const op = "set up the plugin host"
	switch {
	case opts.Log == nil:
		return nil, core.Errorf(core.KindInvalid, op, "no logger")
	case !filepath.IsAbs(opts.RunDir):
		return nil, core.Errorf(core.KindInvalid, op, "run folder %q is not an absolute path", opts.RunDir)
	case len(opts.RunDir) > maxRunDir:
		return nil, core.Errorf(core.KindInvalid, op, "run folder %q is longer than %d bytes, so that the path of a unix "+
			"socket below it would be too long; choose a shorter one, such as /run/gnomon", opts.RunDir, maxRunDir)
	}
	if opts.Grace <= 0 {
		opts.Grace = 10 * time.Second
	}
	if opts.StartTimeout <= 0 {
		opts.StartTimeout = 10 * time.Second
	}
	if opts.Clock == nil {
		opts.Clock = core.SystemClock{}
	}
	opts.Limits = opts.Limits.filled(defaultLimits)
	return &Host{opts: opts, log: opts.Log, procs: map[*process]struct{}{}}, nil
}

// Start takes the run folder, kills what an earlier host left running there, and finds out which limits this machine
// allows. It fails with KindConflict if another host lives in the folder.
func (h *Host) Start(context.Context) error {
	const op = "start the plugin host"
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started {
		return core.Errorf(core.KindConflict, op, "it was started before")
	}
	if err := os.MkdirAll(h.opts.RunDir, 0o700); err != nil {
		return core.Errorf(core.KindInternal, op, "%w", err)
	}
	if err := os.Chmod(h.opts.RunDir, 0o700); err != nil {
		return core.Errorf(core.KindInternal, op, "%w", err)
	}
	lock, err := os.OpenFile(filepath.Join(h.opts.RunDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return core.Errorf(core.KindInternal, op, "%w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return core.Errorf(core.KindConflict, op, "another gnomon uses the run folder %q; stop it, or give this one a folder of its own", h.opts.RunDir)
		}
		return core.Errorf(core.KindInternal, op, "lock the run folder %q: %w", h.opts.RunDir, err)
	}
	if killed := clearLeftovers(h.opts.RunDir); killed > 0 {
		h.log.Warn("killed processes an earlier server had left behind", "count", killed)
	}
	h.id = randomID()
	for _, dir := range []string{h.dir("s"), h.dir("x"), h.dir("p")} {
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
			lock.Close()
			return core.Errorf(core.KindInternal, op, "%w", err)
		}
	}
	groups, err := openCgroups("gnomon-" + h.id)
	if err != nil {
		h.log.Info("no cgroups to limit plugins with, resource limits are per process only", "err", err)
	} else {
		h.log.Info("plugins are limited by cgroups", "groups", groups.describe())
	}
	if err := noteHost(h.opts.RunDir, h.id, groups); err != nil {
		lock.Close()
		return core.Errorf(core.KindInternal, op, "%w", err)
	}
	h.groups, h.lock = groups, lock
	h.fork = startForker()
	h.started = true
	return nil
}

func (h *Host) dir(name string) string { return filepath.Join(h.opts.RunDir, name) }

func randomID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Stop ends all plugins and pools: new attempts are refused at once, those in progress may go on until ctx ends; then
// they end as crashed. Processes are asked to exit, and killed after two seconds or when ctx ends. It returns when no
// child is left.
func (h *Host) Stop(ctx context.Context) error {
	h.mu.Lock()
	if !h.started || h.stopped {
		h.stopped = true
		h.mu.Unlock()
		return nil
	}
	h.stopped = true
	owners := slices.Clone(h.owners)
	h.mu.Unlock()

	var all sync.WaitGroup
	errs := make([]error, len(owners))
	for i, o := range owners {
		all.Go(func() { errs[i] = o.Stop(ctx) })
	}
	all.Wait()
	for _, p := range h.living() { // throwaway workers
		p.kill(stopping)
		<-p.gone
	}
	h.fork.stop()
	h.groups.close()
	errs = append(errs, os.RemoveAll(h.dir("s")), os.RemoveAll(h.dir("x")), os.RemoveAll(h.dir("p")),
		os.Remove(h.dir(hostNote)), h.lock.Close())
	return errors.Join(errs...)
}

// adopt registers a plugin or a pool for Stop.
func (h *Host) adopt(op string, o owner) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.started || h.stopped {
		return core.Errorf(core.KindUnavailable, op, "the plugin host is not running")
	}
	h.owners = append(h.owners, o)
	return nil
}

func (h *Host) disown(o owner) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owners = slices.DeleteFunc(h.owners, func(x owner) bool { return x == o })
}

// admit gives a new process its number, or refuses it because the host does not run.
func (h *Host) admit(p *process) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.started || h.stopped {
		return core.Errorf(core.KindUnavailable, "start a process", "the plugin host is not running")
	}
	h.serial++
	p.serial = h.serial
	h.procs[p] = struct{}{}
	return nil
}

func (h *Host) forget(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.procs, p)
}

func (h *Host) living() []*process {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*process, 0, len(h.procs))
	for p := range h.procs {
		all = append(all, p)
	}
	return all
}

// Process is one living child process, for the sampler.
type Process struct {
	PID        int
	StartTicks uint64 // field 22 of /proc/<pid>/stat: tells the process from a later one with its PID
	Plugin     string // the plugin's name, or the pool's
	Version    string
	Namespace  string        // of a pool's worker; "" for a plugin that serves several
	Alone      bool          // it runs one attempt at a time, so that what it uses is that attempt's
	Worker     bool          // it is a pool's
	Group      string        // folder of the control group that counts its tree's CPU time; "": none
	Running    []core.Origin // attempts in progress
	Attempts   uint64        // begun since it started
}

// Ended is what a child and its tree have used in all.
type Ended struct {
	Process
	CPU          time.Duration
	CPUFrom      string // "cgroup": everything that ever ran in it; "rusage": the child and what it had waited for
	ReadBytes    uint64 // from and to storage
	WriteBytes   uint64
	PeakRSSBytes uint64 // of its largest process
}

// Processes gives the children that have finished their handshake. It costs about a microsecond for each process and
// running attempt.
func (h *Host) Processes() []Process {
	var all []Process
	for _, p := range h.living() {
		if p.ready.Load() {
			all = append(all, p.describe())
		}
	}
	slices.SortFunc(all, func(a, b Process) int { return a.PID - b.PID })
	return all
}
