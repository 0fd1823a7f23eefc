//go:build linux && chaos

package main_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// instantNow is CLOCK_MONOTONIC in nanoseconds, which witnesses write beside what they saw.
func instantNow() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

// faultClock is the wall clock of a server under observation, set through the file that GNOMON_FAULT_CLOCK names, and where
// it stood when.
type faultClock struct {
	path  string
	base  time.Time // the machine's wall time at the monotonic time at
	at    int64
	moves []clockMove // rising
}

type clockMove struct {
	at     int64
	offset time.Duration
}

func newFaultClock(t *testing.T, path string) *faultClock {
	c := &faultClock{path: path, base: time.Now().Round(0).UTC(), at: instantNow()}
	c.set(t, 0)
	return c
}

// set moves the server's wall clock to an offset from the machine's; it notices within 50 ms.
func (c *faultClock) set(t *testing.T, offset time.Duration) {
	t.Helper()
	write(t, c.path+".new", offset.String())
	if err := os.Rename(c.path+".new", c.path); err != nil {
		t.Fatal(err)
	}
	c.moves = append(c.moves, clockMove{instantNow(), offset})
}

func (c *faultClock) offset() time.Duration { return c.moves[len(c.moves)-1].offset }

// wall gives the server's wall time at a monotonic time.
func (c *faultClock) wall(at int64) time.Time {
	offset := time.Duration(0)
	for _, m := range c.moves {
		if m.at <= at {
			offset = m.offset
		}
	}
	return c.base.Add(time.Duration(at-c.at) + offset)
}

// highest gives the latest wall time that the server has seen up to a monotonic time.
func (c *faultClock) highest(at int64) time.Time {
	high := c.wall(at)
	for i, m := range c.moves {
		if m.at > at {
			break
		}
		end := at
		if i+1 < len(c.moves) {
			end = min(end, c.moves[i+1].at)
		}
		if w := c.base.Add(time.Duration(end-c.at) + m.offset); w.After(high) {
			high = w
		}
	}
	return high
}

// span is a time by CLOCK_MONOTONIC.
type span struct{ from, to int64 }

// node is one server through all its lives.
type node struct {
	*world
	name    string
	clock   *faultClock
	lives   []*life
	since   int64  // it has been ready and not stopped from then on; 0: it is not
	begun   int64  // its process runs from then on; 0: it does not
	stopped []span // in which it did not run, while its children did
	watch   sync.WaitGroup
}

// life is one process of a node's server.
type life struct {
	node     *node
	id       string  // that it gave itself; "": it ended before it could be asked
	from, to int64   // when it was launched, and when it had ended; 0: not yet
	gone     int64   // when its process was seen to be gone
	ran      []span  // in which it ran
	ready    []span  // in which it was ready and ran too, each by one setting of its clock
	fenced   bool    // it ended by itself: its lease was taken away
	woken    []int64 // when it went on after it had been stopped
}

// last gives the node's latest life.
func (n *node) last() *life { return n.lives[len(n.lives)-1] }

// rise says that the node is at work from now on, fall that it is not.
func (n *node) rise() { n.since = instantNow() }

func (n *node) fall() {
	if n.since != 0 {
		n.last().ready = append(n.last().ready, span{n.since, instantNow()})
		n.since = 0
	}
}

// halt says that the node's process does not run from now on.
func (n *node) halt() {
	n.fall()
	if n.begun != 0 {
		n.last().ran = append(n.last().ran, span{n.begun, instantNow()})
		n.begun = 0
	}
}

// end says that it never will again, and whether it ended by itself.
func (n *node) end(fenced bool) {
	n.halt()
	n.last().to, n.last().fenced = instantNow(), fenced
}

// chaos is a run of faults over one or two servers.
type chaos struct {
	t        *testing.T
	random   *rand.Rand
	dir      string // of the evidence
	nodes    []*node
	subjects []*subject
	lease    time.Duration
	faults   []span // when something was done to them
	count    map[string]int
	exits    int // of servers whose lease was taken away

	mu      sync.Mutex
	deaths  map[int]int64 // of plugins, by process id: when, by CLOCK_MONOTONIC; 0: it lives
	servers map[int]*node // whose they are
}

// plan is how many faults of each kind there are.
type plan struct{ kills, stops, steps, plugins, engines int }

func (p plan) shuffled(random *rand.Rand) []string {
	var all []string
	for kind, n := range map[string]int{"kill": p.kills, "stop": p.stops, "step": p.steps, "plugin": p.plugins, "engine": p.engines} {
		for range n {
			all = append(all, kind)
		}
	}
	// The order of a map is no seed's.
	for i := range all {
		for j := i; j > 0 && all[j] < all[j-1]; j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// add makes a node of a world whose server does not run yet.
func (c *chaos) add(w *world, name string) *node {
	n := &node{world: w, name: name, clock: newFaultClock(c.t, filepath.Join(c.dir, fmt.Sprintf("clock-%d", len(c.nodes))))}
	w.keep = true
	w.env = append(w.env, "GNOMON_FAULT_CLOCK="+n.clock.path, "GNOMON_FAULT_LEASE="+c.lease.String())
	c.nodes = append(c.nodes, n)
	return n
}

// up starts a node's server and waits until it schedules.
func (c *chaos) up(n *node) {
	c.t.Helper()
	c.launch(n)
	c.wait(n)
}

func (c *chaos) launch(n *node) {
	n.begun = instantNow()
	n.lives = append(n.lives, &life{node: n, from: n.begun})
	n.spawn("--no-context")
	n.watch.Go(func() { c.observe(n, n.last(), n.server.Process.Pid, n.ended) }) // ends with the server
}

func (c *chaos) wait(n *node) {
	c.t.Helper()
	n.until(60*time.Second, "server "+n.name+" is ready", func() bool {
		if n.gone() {
			c.t.Fatalf("server %s ended: %s", n.name, n.server.ProcessState)
		}
		answer, err := http.Get(n.url + "/readyz")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	n.rise()
	n.token = strings.TrimSpace(read(c.t, filepath.Join(n.data, "bootstrap-token")))
	var status api.Status
	if code, err := n.ask("GET", "/v1/server", nil, &status); err == nil && code == http.StatusOK {
		n.last().id = status.ServerID
	}
}

// gone says whether a node's server has ended.
func (n *node) gone() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// observe notes which plugins a server has, when each of them dies, and when it dies itself.
func (c *chaos) observe(n *node, l *life, server int, ended chan struct{}) {
	for {
		for _, p := range descendants(server) {
			if !strings.Contains(p.command, "/noop") {
				continue
			}
			c.mu.Lock()
			_, known := c.deaths[p.pid]
			if !known {
				c.deaths[p.pid], c.servers[p.pid] = 0, n
			}
			c.mu.Unlock()
			if known {
				continue
			}
			fd, err := unix.PidfdOpen(p.pid, 0)
			if err != nil {
				c.died(p.pid)
				continue
			}
			n.watch.Go(func() { // ends with the plugin
				defer func() { _ = unix.Close(fd) }()
				for {
					if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1); err == nil {
						c.died(p.pid)
						return
					}
				}
			})
		}
		select {
		case <-ended:
			c.mu.Lock()
			l.gone = instantNow()
			c.mu.Unlock()
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *chaos) died(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deaths[pid] = instantNow()
}

// between gives a random time.
func (c *chaos) between(from, to time.Duration) time.Duration {
	return from + time.Duration(c.random.Int64N(int64(to-from)))
}

func (c *chaos) idle(from, to time.Duration) { pause(c.t.Context(), c.between(from, to)) }

// injure carries out the faults of a plan, one after the other.
func (c *chaos) injure(p plan) {
	c.t.Helper()
	for i, kind := range p.shuffled(c.random) {
		c.idle(200*time.Millisecond, 1500*time.Millisecond)
		c.revive()
		n := c.nodes[c.random.IntN(len(c.nodes))]
		from := instantNow()
		var what string
		switch kind {
		case "kill":
			what = c.kill(n)
		case "stop":
			what = c.stop(n)
		case "step":
			what = c.step()
		case "plugin":
			what = c.strike(n, "/noop")
		case "engine":
			what = c.strike(n, " engine ")
		}
		c.count[kind]++
		c.faults = append(c.faults, span{from, instantNow()})
		c.t.Logf("%2d. %s %s (wall time %s)", i+1, n.name, what, n.clock.wall(instantNow()).Format(time.RFC3339))
		c.revive()
		c.examine()
	}
}

// kill is kill -9 of a server, at times again while it starts, and its next start.
func (c *chaos) kill(n *node) string {
	n.fall()
	fenced := n.gone()
	children := n.world.kill()
	n.end(fenced)
	n.nothingRuns(20*time.Second, children)
	what := "killed"
	if c.random.IntN(4) == 0 { // again, in the middle of recovering
		c.launch(n)
		lived := c.between(0, 1500*time.Millisecond)
		pause(c.t.Context(), lived)
		children := n.world.kill()
		n.end(false)
		n.nothingRuns(20*time.Second, children)
		c.count["kill"]++
		what += fmt.Sprintf(", and again after %s", lived.Round(time.Millisecond))
	}
	if c.random.IntN(4) == 0 {
		what += ", " + c.step()
		c.count["step"]++
	}
	c.idle(0, 2*time.Second)
	c.up(n)
	return what
}

// stop is SIGSTOP of a server, and SIGCONT after half a lease to three.
func (c *chaos) stop(n *node) string {
	lasts := c.between(c.lease/2, 3*c.lease)
	n.fall()
	from := instantNow()
	pid := n.server.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	n.halt()
	what := fmt.Sprintf("stopped for %s", lasts.Round(time.Millisecond))
	if c.random.IntN(3) == 0 {
		half := c.between(0, lasts)
		pause(c.t.Context(), half)
		what += ", meanwhile " + c.step()
		c.count["step"]++
		lasts -= half
	}
	pause(c.t.Context(), lasts)
	n.stopped = append(n.stopped, span{from, instantNow()})
	n.begun = instantNow()
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		c.t.Fatal(err)
	}
	n.last().woken = append(n.last().woken, n.begun)
	pause(c.t.Context(), 300*time.Millisecond)
	n.rise()
	return what
}

// high gives the offset of the clock that is furthest ahead.
func (c *chaos) high() time.Duration {
	high := c.nodes[0].clock.offset()
	for _, n := range c.nodes {
		high = max(high, n.clock.offset())
	}
	return high
}

// highest gives the latest wall time that any server has seen up to a monotonic time.
func (c *chaos) highest(at int64) time.Time {
	high := c.nodes[0].clock.highest(at)
	for _, n := range c.nodes[1:] {
		if other := n.clock.highest(at); other.After(high) {
			high = other
		}
	}
	return high
}

// step sets the wall clock forward or back, of all servers or of one. From a step back it returns after a while, to a bit
// beyond where it stood: what was decided before is not decided again meanwhile, and nothing is lost.
func (c *chaos) step() string {
	by := []time.Duration{time.Second, 7 * time.Second, time.Minute, time.Hour, 400 * 24 * time.Hour}[c.random.IntN(5)]
	by += time.Duration(c.random.IntN(3)) * time.Second
	whose, what := c.nodes, "clock"
	if i := c.random.IntN(2 * len(c.nodes)); len(c.nodes) > 1 && i < len(c.nodes) {
		whose, what = c.nodes[i:i+1], "clock of "+c.nodes[i].name
	}
	high := c.high()
	if c.random.IntN(2) == 0 {
		c.shift(high+by, whose)
		return what + " +" + by.String()
	}
	c.shift(high-by, whose)
	c.idle(500*time.Millisecond, 4*time.Second)
	beyond := time.Duration(c.random.Int64N(20)) * time.Second
	c.shift(high+beyond, whose)
	c.count["step"]++
	return fmt.Sprintf("%s -%s and back, +%s", what, by, beyond)
}

// shift moves clocks; what nodes have lived so far, they have lived by the old one.
func (c *chaos) shift(offset time.Duration, whose []*node) {
	live := make([]bool, len(whose))
	for i, n := range whose {
		live[i] = n.since != 0
		n.fall()
		n.clock.set(c.t, offset)
	}
	pause(c.t.Context(), 60*time.Millisecond) // until the servers have read it
	for i, n := range whose {
		if live[i] {
			n.rise()
		}
	}
}

// strike is kill -9 of one of a server's children.
func (c *chaos) strike(n *node, kind string) string {
	victims := n.children(kind)
	if len(victims) == 0 {
		return "had no" + kind + " to kill"
	}
	victim := victims[len(victims)-1]
	if err := syscall.Kill(victim.pid, syscall.SIGKILL); err != nil {
		return err.Error()
	}
	return "lost its child " + strconv.Itoa(victim.pid) + kind
}

// revive starts servers again that have ended by themselves, which they do if their lease was taken away.
func (c *chaos) revive() {
	c.t.Helper()
	for _, n := range c.nodes {
		if !n.gone() {
			continue
		}
		n.end(true)
		if len(c.nodes) == 1 {
			c.t.Fatalf("server %s ended by itself: %s", n.name, n.server.ProcessState)
		}
		c.exits++
		c.t.Logf("    %s ended: %s", n.name, n.server.ProcessState)
		c.up(n)
	}
}

// examine asks each living server's doctor, until none finds an error: what a death leaves behind is put in order soon.
func (c *chaos) examine() {
	c.t.Helper()
	for _, n := range c.nodes {
		var ill []string
		sound := func() bool {
			if n.gone() { // revive sees to it
				ill = nil
				return true
			}
			var health api.Diagnosis
			if status, err := n.ask("GET", "/v1/doctor", nil, &health); err != nil || status != http.StatusOK {
				ill = []string{fmt.Sprint(status, err)}
				return false
			}
			ill = nil
			for _, check := range health.Checks {
				if !check.OK && check.Severity == "error" {
					ill = append(ill, fmt.Sprintf("%s: %s %.1000s", check.Name, check.Text.En, check.Data))
				}
			}
			return ill == nil
		}
		end := time.Now().Add(4*c.lease + 10*time.Second)
		for !sound() && time.Now().Before(end) {
			pause(c.t.Context(), 200*time.Millisecond)
		}
		for _, what := range ill {
			c.t.Errorf("the doctor of %s finds: %s", n.name, what)
		}
	}
}
