//go:build linux || darwin

package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Supervisor keeps one engine process alive: it starts it, waits until it answers, starts it again with a growing
// pause when it ends, ends one that hangs, and at last ends it. The process dies with this one, even by kill -9: its standard input is a pipe from
// here, and on Linux the kernel signals it too.
type Supervisor struct {
	o      SupervisorOptions
	client *http.Client

	mu      sync.Mutex
	cmd     *exec.Cmd
	pid     int
	ready   bool
	silent  time.Duration
	renew   chan struct{} // see Renew
	cancel  context.CancelFunc
	stopped chan struct{}
}

const (
	firstPause = 200 * time.Millisecond
	longPause  = 30 * time.Second
	tailBytes  = 4096
	// busyTimes is how many times as long an engine may not answer that uses the processor.
	busyTimes = 5
	// idleShare is the part of a core that is no more than what Go and ClickHouse use while nothing goes on.
	idleShare = 0.05
)

// NewSupervisor checks the options.
func NewSupervisor(o SupervisorOptions) (*Supervisor, error) {
	if o.Dir == "" || o.Socket == "" || o.Log == nil {
		return nil, errors.New("engine supervisor: Dir, Socket and Log are required")
	}
	if o.Executable == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("engine supervisor: %w", err)
		}
		o.Executable = exe
	}
	if o.Args == nil {
		o.Args = []string{"engine"}
	}
	if o.StartTime == 0 {
		o.StartTime = time.Minute
	}
	if o.StopTime == 0 {
		o.StopTime = 10 * time.Second
	}
	if o.LookEvery == 0 {
		o.LookEvery = 5 * time.Second
	}
	if o.HangTime == 0 {
		o.HangTime = time.Minute
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", o.Socket)
	}}
	return &Supervisor{o: o, client: &http.Client{Transport: transport}, renew: make(chan struct{}, 1)}, nil
}

// Socket is the unix socket the engine answers on.
func (s *Supervisor) Socket() string { return s.o.Socket }

// PID is the process id of the engine now; 0 while there is none.
func (s *Supervisor) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

// Ready tells whether the engine answered when it was last started and has not ended since.
func (s *Supervisor) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// Silent is for how long the engine has been asked in vain whether ClickHouse answers; 0: it did when it was last asked.
func (s *Supervisor) Silent() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.silent
}

// Renew has the engine ended and started again, and does not wait for it: for one with a statement that nothing can end. What is under way
// breaks off, as when an engine hangs.
func (s *Supervisor) Renew() {
	select {
	case s.renew <- struct{}{}:
	default:
	}
}

// Start starts the engine and returns once it answers, or with the engine's own words if it ended before (a missing
// library, a damaged or taken folder). From then on the engine is kept alive until Stop; ctx bounds only the start.
func (s *Supervisor) Start(ctx context.Context) error {
	s.mu.Lock()
	if s.stopped != nil {
		s.mu.Unlock()
		return errors.New("engine supervisor: started twice")
	}
	live, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel, s.stopped = cancel, make(chan struct{})
	s.mu.Unlock()

	first, err := s.launch(ctx)
	if err != nil {
		cancel()
		close(s.stopped)
		return core.Errorf(core.KindUnavailable, "start engine", "%w", err)
	}
	// Ends when Stop cancels live.
	go func() {
		defer close(s.stopped)
		s.keep(live, first)
	}()
	return nil
}

// Stop ends the engine: gracefully first, by SIGKILL after the stop time or when ctx ends.
func (s *Supervisor) Stop(ctx context.Context) error {
	s.mu.Lock()
	cancel, stopped := s.cancel, s.stopped
	s.mu.Unlock()
	if stopped == nil {
		return nil
	}
	cancel()
	select {
	case <-stopped:
	case <-ctx.Done():
		s.mu.Lock()
		if s.cmd != nil {
			_ = s.cmd.Process.Kill()
		}
		s.mu.Unlock()
		<-stopped
	}
	return nil
}

// child is one engine process.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{} // closed once the process is reaped and its words are read
	err   error         // how it ended; valid after ended
	tail  *tail
}

// keep restarts the engine until ctx ends, then ends it.
func (s *Supervisor) keep(ctx context.Context, c *child) {
	pause := firstPause
	for {
		began := time.Now()
		if c != nil {
			if s.watch(ctx, c) {
				s.o.Log.Error("engine hangs; it is ended and started again", "pid", c.cmd.Process.Pid, "silent_ms", s.Silent().Milliseconds(), "last_words", c.tail.String())
				s.end(c)
			}
			if ctx.Err() != nil {
				s.end(c)
				return
			}
			s.o.Log.Error("engine ended", "err", c.err, "last_words", c.tail.String())
			if time.Since(began) > time.Minute {
				pause = firstPause
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, longPause)
		next, err := s.launch(ctx)
		if err != nil && ctx.Err() == nil {
			s.o.Log.Error("engine not restarted", "err", err, "next_try_ms", pause.Milliseconds())
		}
		c = next
	}
}

// watch returns when the process has ended, when ctx has, or when it hangs: ClickHouse in it has not answered for HangTime.
// What is counted are questions without an answer, not time: while this process itself was stopped nobody has asked.
func (s *Supervisor) watch(ctx context.Context, c *child) (hung bool) {
	every := time.NewTicker(s.o.LookEvery)
	defer every.Stop()
	pid := c.cmd.Process.Pid
	asked, used := 0, spent(pid)
	select { // what was said of the one before
	case <-s.renew:
	default:
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-c.ended:
			return false
		case <-s.renew:
			s.o.Log.Error("engine is ended and started again, because a statement does not end", "pid", pid)
			s.end(c)
			return false
		case <-every.C:
		}
		limited, cancel := context.WithTimeout(ctx, s.o.LookEvery)
		_, err := s.ping(limited)
		cancel()
		if err == nil {
			asked, used = 0, spent(pid)
		} else {
			asked++
		}
		silent := time.Duration(asked) * s.o.LookEvery
		s.mu.Lock()
		s.silent = silent
		s.mu.Unlock()
		if hangs(silent, spent(pid)-used, s.o.HangTime) {
			return true
		}
	}
}

// hangs judges an engine that has not answered for some time and used so much of the processor meanwhile.
func hangs(silent, used, limit time.Duration) bool {
	if used.Seconds() > idleShare*silent.Seconds() {
		limit *= busyTimes
	}
	return silent >= limit
}

// launch starts a process and waits until it answers. A process that does not is killed.
func (s *Supervisor) launch(ctx context.Context) (*child, error) {
	args := append([]string{}, s.o.Args...)
	args = append(args, "--dir", s.o.Dir, "--socket", s.o.Socket)
	if s.o.Library != "" {
		args = append(args, "--library", s.o.Library)
	}
	if s.o.MaxThreads > 0 {
		args = append(args, "--max-threads", strconv.Itoa(s.o.MaxThreads))
	}
	if s.o.MemoryBytes > 0 {
		args = append(args, "--memory-bytes", strconv.FormatUint(s.o.MemoryBytes, 10))
	}
	if s.o.Backups != "" {
		args = append(args, "--backups", s.o.Backups)
	}
	cmd := exec.Command(s.o.Executable, args...)
	cmd.Env = append(minimalEnv(), "GOMEMLIMIT=64MiB", parentEnv+"=1")
	cmd.Env = append(cmd.Env, s.o.Env...)
	ownGroup(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := standBack(cmd.Process.Pid); err != nil {
		s.o.Log.Warn("engine runs at the scheduler's own priority", "err", err)
	}
	c := &child{cmd: cmd, stdin: stdin, ended: make(chan struct{}), tail: &tail{}}
	s.mu.Lock()
	s.cmd, s.pid, s.ready, s.silent = cmd, cmd.Process.Pid, false, 0
	s.mu.Unlock()
	// Ends with the process, whose end closes the pipe.
	go func() {
		defer close(c.ended)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(make([]byte, 4096), 1<<20)
		for lines.Scan() {
			c.tail.add(lines.Text())
			s.o.Log.Debug("engine says", "line", lines.Text())
		}
		_, _ = io.Copy(io.Discard, stderr)
		c.err = cmd.Wait()
		s.mu.Lock()
		s.cmd, s.pid, s.ready = nil, 0, false
		s.mu.Unlock()
	}()
	if err := s.await(ctx, c); err != nil {
		s.end(c)
		return nil, err
	}
	s.mu.Lock()
	s.ready = s.pid != 0
	s.mu.Unlock()
	s.o.Log.Info("engine started", "pid", cmd.Process.Pid, "socket", s.o.Socket)
	return c, nil
}

// await waits until the process answers /ping.
func (s *Supervisor) await(ctx context.Context, c *child) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.StartTime, fmt.Errorf("no answer within %s", s.o.StartTime))
	defer cancel()
	for {
		if status, err := s.ping(ctx); err == nil && status == http.StatusOK {
			return nil
		}
		timer := time.NewTimer(10 * time.Millisecond)
		select {
		case <-c.ended:
			timer.Stop()
			return fmt.Errorf("the engine ended (%s): %s", c.cmd.ProcessState, c.tail)
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// ping gives the status with which the engine answers whether ClickHouse does, or why it gave none.
func (s *Supervisor) ping(ctx context.Context) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/ping", nil)
	if err != nil {
		return 0, err
	}
	answer, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	return answer.StatusCode, nil
}

// end stops a process: the end of its standard input asks, SIGKILL makes.
func (s *Supervisor) end(c *child) {
	_ = c.stdin.Close()
	timer := time.NewTimer(s.o.StopTime)
	defer timer.Stop()
	select {
	case <-c.ended:
		return
	case <-timer.C:
		s.o.Log.Warn("engine killed", "pid", c.cmd.Process.Pid, "waited_ms", s.o.StopTime.Milliseconds())
		_ = c.cmd.Process.Kill()
	}
	<-c.ended
}

// minimalEnv passes on what finding and loading the library may need, and nothing else.
func minimalEnv() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "GNOMON_LIBCHDB"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// tail keeps the last lines a process said.
type tail struct {
	mu    sync.Mutex
	lines []string
	size  int
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(line) > tailBytes {
		line = line[:tailBytes]
	}
	t.lines, t.size = append(t.lines, line), t.size+len(line)
	for t.size > tailBytes && len(t.lines) > 1 {
		t.size -= len(t.lines[0])
		t.lines = t.lines[1:]
	}
}

// String gives the lines joined; empty if nothing was said.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
