package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"

	"github.com/gnomon-scheduler/gnomon/core"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// spec says which process to start.
type spec struct {
	name      string // the plugin's or the pool's
	version   string
	namespace string // of a pool's workers; "" otherwise
	argv      []string
	dir       string // working folder; "": the host's
	limits    Limits
	alone     bool
	worker    bool // of a pool
	silent    bool // it is not asked to describe itself when it starts
}

// process is one child that speaks the plugin contract, from its start until nothing of its tree is left.
//
// Lock order: mu before killing; neither is held while calling out.
type process struct {
	spec
	host   *Host
	log    *slog.Logger
	serial uint64
	client *plugin.Client
	api    pluginv1.PluginServiceClient
	tail   *tail
	ready  atomic.Bool // spawn is done
	said   atomic.Pointer[string]
	// killed is why the host killed it, or asks it to exit; nil: it does not. It takes no attempt any more then. The first reason counts.
	killed atomic.Pointer[string]

	exited chan struct{} // closed when the process has ended; exit is set
	gone   chan struct{} // closed when all that belonged to it is cleared away
	exit   string        // how it ended: "exit status 2"

	// Set when it starts, constant afterwards.
	pid   int
	ticks uint64
	group *cgroup

	mu      sync.Mutex
	calls   call // head of the ring of attempts in progress
	running int
	begun   uint64              // attempts, since it started
	granted map[string]struct{} // every value ever granted to it, to keep them out of messages
	drained chan struct{}       // closed when no attempt is in progress; nil: nobody waits for that

	killing   sync.Mutex
	condemned bool // it was killed, perhaps before it started
	reaped    bool // its PID may belong to another now
}

// spawn starts a process and waits for its handshake and, unless it is silent, its description (else nil). On any error
// nothing of it is left. The error says what the process said last.
func (h *Host) spawn(ctx context.Context, s spec) (*process, *pluginv1.DescribeResponse, error) {
	p := &process{
		spec: s, host: h, log: h.log.With("plugin", s.name), granted: map[string]struct{}{},
		exited: make(chan struct{}), gone: make(chan struct{}),
	}
	p.calls.next, p.calls.prev = &p.calls, &p.calls
	p.tail = &tail{redact: p.redact}
	if p.log.Enabled(ctx, slog.LevelDebug) {
		p.tail.log = p.log
	}
	if err := h.admit(p); err != nil {
		return nil, nil, err
	}
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  protocol.Handshake,
		Plugins:          protocol.Plugins(nil),
		RunnerFunc:       p.runner,
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Logger:           protocol.Silence(),
		SkipHostEnv:      true,
		StartTimeout:     h.opts.StartTimeout,
		SyncStdout:       p.tail,
		SyncStderr:       p.tail,
		GRPCDialOptions:  protocol.DialOptions(),
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: h.dir("s")},
	})
	ctx, cancel := context.WithTimeoutCause(ctx, h.opts.StartTimeout,
		fmt.Errorf("it did not describe itself within %v", h.opts.StartTimeout))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { p.kill("") })
	said, err := p.greet(ctx)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		p.ready.Store(true)
		return p, said, nil
	}
	if p.pid == 0 { // it never ran
		p.client.Kill()
		h.forget(p)
		close(p.exited)
		close(p.gone)
		return nil, nil, err
	}
	select { // it may be about to say why
	case <-p.exited:
	case <-time.After(100 * time.Millisecond):
	}
	p.kill("")
	<-p.gone
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return nil, nil, p.explain(err)
}

// greet performs the handshake and asks the process to describe itself.
func (p *process) greet(ctx context.Context) (*pluginv1.DescribeResponse, error) {
	if _, err := p.client.Start(); err != nil {
		return nil, err
	}
	conn, err := p.client.Client()
	if err != nil {
		return nil, err
	}
	api, err := conn.Dispense(protocol.SetName)
	if err != nil {
		return nil, err
	}
	p.api = api.(pluginv1.PluginServiceClient)
	if p.silent {
		return nil, nil
	}
	return p.api.Describe(ctx, &pluginv1.DescribeRequest{HostVersion: p.host.opts.HostVersion})
}

// deathSignal is sent to a child when the host dies. The SDK takes it like the end of the host-gone pipe, and ends its
// whole process group; any other program ends by it. SIGKILL would leave the SDK no time to end what it has started.
const deathSignal = syscall.SIGTERM

// errProtocol says that the process speaks another version of the contract.
var errProtocol = errors.New("another protocol")

// explain puts into words why a process that is now dead did not start.
func (p *process) explain(err error) error {
	said := p.said.Load()
	switch {
	case said != nil && protocolOf(*said) != "" && protocolOf(*said) != strconv.Itoa(protocol.Version):
		return fmt.Errorf("%w: it speaks version %s of the plugin protocol, this Gnomon speaks version %d",
			errProtocol, protocolOf(*said), protocol.Version)
	case said != nil && protocolOf(*said) == "":
		err = fmt.Errorf("the first line it wrote to stdout is no handshake of a plugin: %q", shorten(*said, 100))
	case said == nil && p.killedBy() == "" && p.exit != "" && !strings.HasPrefix(p.exit, "signal: killed"):
		err = fmt.Errorf("it ended before its handshake: %s", p.exit)
	}
	if text := p.tail.text(); text != "" {
		return fmt.Errorf("%w; it wrote: %s", err, text)
	}
	return err
}

// protocolOf gives the contract's version out of a go-plugin handshake line ("1|1|unix|/path|grpc"), or "".
func protocolOf(handshake string) string {
	parts := strings.Split(strings.TrimSpace(handshake), "|")
	if len(parts) < 4 || parts[0] != strconv.Itoa(plugin.CoreProtocolVersion) {
		return ""
	}
	return parts[1]
}

// runner is what go-plugin calls to have the process started. cmd carries the environment of its handshake.
func (p *process) runner(_ hclog.Logger, cmd *exec.Cmd, socketDir string) (runner.Runner, error) {
	return &child{p: p, env: cmd.Env, sockets: socketDir, stderr: io.NopCloser(strings.NewReader(""))}, nil
}

// child is a process as go-plugin sees it. go-plugin reads one line of its stdout and nothing of its stderr: the rest
// goes to the tail, so that a flood meets our bounds only.
type child struct {
	p       *process
	env     []string
	sockets string
	stdout  io.ReadCloser
	stderr  io.ReadCloser
}

func (c *child) Stdout() io.ReadCloser           { return c.stdout }
func (c *child) Stderr() io.ReadCloser           { return c.stderr }
func (c *child) Name() string                    { return c.p.name }
func (c *child) ID() string                      { return strconv.Itoa(c.p.pid) }
func (c *child) Diagnose(context.Context) string { return "" }

func (c *child) Wait(context.Context) error {
	<-c.p.exited
	return nil
}

func (c *child) Kill(context.Context) error {
	c.p.kill("")
	return nil
}

// PluginToHost accepts only a socket in the folder the process was given.
func (c *child) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" || filepath.Dir(filepath.Clean(address)) != filepath.Clean(c.sockets) {
		return "", "", fmt.Errorf("it listens on %s %q, not on a unix socket in the folder it was given", network, address)
	}
	return network, address, nil
}

func (c *child) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

// Start starts the process in its own process group and control groups, with limits, its stdin empty, and a pipe that
// ends when this host does.
func (c *child) Start(context.Context) (err error) {
	p := c.p
	var closeAfter []*os.File
	defer func() {
		for _, f := range closeAfter {
			f.Close()
		}
	}()
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	outR, outW := pipe()
	errR, errW := pipe()
	goneR, goneW := pipe()
	var null *os.File
	if err == nil {
		null, err = os.Open(os.DevNull)
	}
	closeAfter = append(closeAfter, outW, errW, goneR, null)
	ours := []*os.File{outR, errR, goneW}
	if err != nil {
		closeAfter = append(closeAfter, ours...)
		return err
	}
	if p.group, err = p.host.groups.make(strconv.FormatUint(p.serial, 10), p.limits); err != nil {
		p.log.Warn("a plugin process runs without some of its limits", "err", err)
	}
	env := append(slices.Clone(c.env),
		protocol.EnvHostVersion+"="+p.host.opts.HostVersion,
		protocol.EnvNamespace+"="+p.namespace,
		protocol.EnvHostGoneFD+"="+strconv.Itoa(protocol.HostGoneFD),
		fmt.Sprintf("%s=%s.%d", markName, p.host.id, p.serial))
	attr := &os.ProcAttr{
		Dir: p.dir, Env: env,
		Files: []*os.File{null, outW, errW, goneR},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: deathSignal},
	}
	if p.group != nil && p.group.born != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(p.group.born.Fd())
	}
	proc, err := p.start(attr)
	if err != nil {
		p.group.remove()
		closeAfter = append(closeAfter, ours...)
		return err
	}
	p.killing.Lock()
	p.pid = proc.Pid
	condemned := p.condemned
	p.killing.Unlock()
	if condemned {
		p.killTree()
	}
	p.ticks, _ = startTicks(p.pid)
	if err := errors.Join(p.limit(), p.group.add(p.pid), noteProcess(p.host.opts.RunDir, p.pid, p.ticks)); err != nil {
		p.log.Warn("a plugin process runs without some of its limits", "pid", p.pid, "err", err)
	}
	handshakeR, handshakeW := io.Pipe()
	c.stdout = handshakeR
	var pumps sync.WaitGroup
	pumps.Go(func() { splitHandshake(outR, handshakeW, &p.said, p.tail) }) // ends when the tree has closed its stdout
	pumps.Go(func() { p.tail.drain(errR) })
	go p.wait(proc, &pumps, outR, errR, goneW) // ends when the process has
	return nil
}

// start starts the executable, again if it is still open for writing in a child that another part of this process is
// just forking (https://github.com/golang/go/issues/22315).
func (p *process) start(attr *os.ProcAttr) (proc *os.Process, err error) {
	for range 20 {
		proc, err = p.host.fork.start(p.argv[0], p.argv, attr)
		if !errors.Is(err, syscall.ETXTBSY) {
			return proc, err
		}
		pause(5 * time.Millisecond)
	}
	return proc, err
}

// limit sets the process's own limits; what it forks inherits them. Without a memory cgroup, RLIMIT_DATA bounds what each
// process may map for writing; a Go program maps some 100 MiB more than it uses.
func (p *process) limit() error {
	set := func(resource int, value uint64) error {
		l := unix.Rlimit{Cur: value, Max: value}
		return unix.Prlimit(p.pid, resource, &l, nil)
	}
	err := errors.Join(set(unix.RLIMIT_CORE, 0), set(unix.RLIMIT_NOFILE, p.limits.OpenFiles))
	if !p.group.limitsMemory() {
		const headroom = 256 << 20
		err = errors.Join(err, set(unix.RLIMIT_DATA, p.limits.MemoryBytes+headroom))
	}
	return err
}

// wait ends the rest of the tree when its root has ended, and clears up.
func (p *process) wait(proc *os.Process, pumps *sync.WaitGroup, outR, errR, goneW *os.File) {
	defer close(p.gone)
	for { // the root stays a zombie, so that its PID and group still name this tree
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.killTree()
	if p.group == nil {
		killMarked(fmt.Sprintf("%s.%d\x00", p.host.id, p.serial))
	}
	p.killing.Lock()
	p.reaped = true
	state, err := proc.Wait()
	p.killing.Unlock()
	var used syscall.Rusage // of the root and of what it had waited for
	p.exit = "exit status unknown"
	if err == nil {
		p.exit = state.String()
		if u, ok := state.SysUsage().(*syscall.Rusage); ok {
			used = *u
		}
	}
	if p.group.outOfMemory() {
		p.exit += fmt.Sprintf(": out of memory, the limit is %d MiB", p.limits.MemoryBytes>>20)
	}
	// Whatever escaped every kill may still hold the pipes open; it is not waited for.
	deadline := time.Now().Add(300 * time.Millisecond)
	_, _ = outR.SetReadDeadline(deadline), errR.SetReadDeadline(deadline)
	pumps.Wait()
	close(p.exited)
	outR.Close()
	errR.Close()
	goneW.Close()
	p.client.Kill() // ends go-plugin's goroutines and removes the socket's folder
	p.account(&used)
	_ = os.Remove(noteFile(p.host.opts.RunDir, p.pid))
	p.host.forget(p)
}

// account says what the tree has used, now that nothing of it is left: by its control group, which has counted everything
// that ever ran in it, else by what the root's parent is told.
func (p *process) account(used *syscall.Rusage) {
	const block = 512 // bytes; the unit of ru_inblock and ru_oublock
	counted, ok := p.group.remove()
	if p.host.opts.Ended == nil {
		return
	}
	end := Ended{Process: p.describe(), CPU: time.Duration(used.Utime.Nano() + used.Stime.Nano()), CPUFrom: "rusage",
		ReadBytes: uint64(used.Inblock) * block, WriteBytes: uint64(used.Oublock) * block, PeakRSSBytes: uint64(used.Maxrss) << 10}
	if ok && counted > end.CPU {
		end.CPU, end.CPUFrom = counted, "cgroup"
	}
	p.host.opts.Ended(end)
}

// kill ends the process and its tree at once. why is told to the attempts that it ends; the first reason counts.
func (p *process) kill(why string) {
	if why != "" {
		p.killed.CompareAndSwap(nil, &why)
	}
	p.killTree()
}

func (p *process) killTree() {
	p.killing.Lock()
	defer p.killing.Unlock()
	p.condemned = true
	if p.pid == 0 || p.reaped {
		return
	}
	_ = unix.Kill(-p.pid, unix.SIGKILL)
	p.group.kill()
}

// killedBy gives why the host ends the process; "": it does not.
func (p *process) killedBy() string {
	if why := p.killed.Load(); why != nil {
		return *why
	}
	return ""
}

// stopping is told to attempts that the end of a plugin, a pool or the host ends.
const stopping = "stopped because the server or the plugin is stopping"

// stop asks the process to exit, and kills it after two seconds or when ctx ends. It returns when nothing of it is left.
func (p *process) stop(ctx context.Context) {
	why := stopping
	p.killed.CompareAndSwap(nil, &why)
	asked := make(chan struct{})
	go func() { // ends with the process at the latest
		defer close(asked)
		p.client.Kill()
	}()
	select {
	case <-p.exited:
	case <-ctx.Done():
	case <-time.After(2 * time.Second):
	}
	p.kill(stopping)
	<-p.gone
	<-asked
}

// drain waits until no attempt is in progress, ctx ends or the process does.
func (p *process) drain(ctx context.Context) {
	p.mu.Lock()
	if p.running == 0 {
		p.mu.Unlock()
		return
	}
	if p.drained == nil {
		p.drained = make(chan struct{})
	}
	drained := p.drained
	p.mu.Unlock()
	select {
	case <-drained:
	case <-ctx.Done():
	case <-p.exited:
	}
}

// dead reports whether the process has ended.
func (p *process) dead() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *process) describe() Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := Process{PID: p.pid, StartTicks: p.ticks, Plugin: p.name, Version: p.version, Namespace: p.namespace, Alone: p.alone,
		Group: p.group.counting(), Attempts: p.begun, Worker: p.worker}
	if p.running > 0 {
		d.Running = make([]core.Origin, 0, p.running)
	}
	for c := p.calls.next; c != &p.calls; c = c.next {
		d.Running = append(d.Running, origin(c.attempt))
	}
	return d
}

// remember keeps granted values out of what is told about the process later.
func (p *process) remember(grants map[string]string) {
	if len(grants) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, value := range grants {
		if len(value) >= 4 {
			p.granted[value] = struct{}{}
		}
	}
}

// redact replaces every value ever granted to the process.
func (p *process) redact(text string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for value := range p.granted {
		text = strings.ReplaceAll(text, value, "[redacted]")
	}
	return text
}

func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
