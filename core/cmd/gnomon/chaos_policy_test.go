//go:build linux && chaos

package main_test

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/store/storetest"
)

var (
	chaosSeed   = flag.Uint64("chaos.seed", 0, "seed of the faults of TestPoliciesUnderFaults; 0: another each time")
	chaosKills  = flag.Int("chaos.kills", 2, "how often TestPoliciesUnderFaults kills a server")
	chaosStops  = flag.Int("chaos.stops", 1, "how often it stops one for a while")
	chaosSteps  = flag.Int("chaos.steps", 1, "how often it sets the clock")
	chaosPlugin = flag.Int("chaos.children", 1, "how often it kills a plugin, and how often an engine")
	chaosLease  = flag.Duration("chaos.lease", 2*time.Second, "length of the servers' lease")
)

// TestPoliciesUnderFaults is promises 1, 2, 4 to 7, 11 and 22 for tasks of every policy: whatever is done to the server and its
// clock, the witnesses' evidence and the ledger are as the policies say.
func TestPoliciesUnderFaults(t *testing.T) {
	t.Parallel()
	c := newChaos(t)
	w := newWorld(t)
	c.add(w, "the server")
	c.run()
}

// TestPoliciesUnderFaultsOfTwoServers is the same with two servers on one PostgreSQL store and one history, of which one
// takes over what the other leaves.
func TestPoliciesUnderFaultsOfTwoServers(t *testing.T) {
	t.Parallel()
	c := newChaos(t)
	postgres, err := storetest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = postgres.Stop() })
	history := c.history()
	for _, name := range []string{"server A", "server B"} {
		w := newWorld(t)
		w.env = append(w.env, "GNOMON_STORE_DSN="+postgres.DSN("postgres"), "GNOMON_CLICKHOUSE_DSN="+history)
		c.add(w, name)
	}
	c.run()
}

func newChaos(t *testing.T) *chaos {
	program(t)
	dir, err := os.MkdirTemp("", "gn-e-") // apart from the worlds': what names a world's folder is taken for a process of it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the evidence is kept in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d: -chaos.seed=%d", seed, seed)
	return &chaos{
		t: t, random: rand.New(rand.NewPCG(seed, 0)), dir: dir, lease: *chaosLease,
		count: map[string]int{}, deaths: map[int]int64{}, servers: map[int]*node{},
	}
}

// run injures the servers, lets them settle, and judges what is left.
func (c *chaos) run() {
	c.t.Helper()
	began := time.Now()
	for _, n := range c.nodes {
		c.up(n)
	}
	c.subjects = zoo(c.dir)
	populate(c.nodes[0].world, c.subjects)
	engines := *chaosPlugin
	if len(c.nodes) > 1 {
		engines = 0 // history is not theirs
	}
	c.injure(plan{kills: *chaosKills, stops: *chaosStops, steps: *chaosSteps, plugins: *chaosPlugin, engines: engines})
	ends := c.calm()
	account := c.collect()
	verdict := c.judge(account, ends)
	verdict.check()
	c.t.Logf("faults: %s; %d servers ended because their lease was taken away; %s in all", sorted(c.count), c.exits, time.Since(began).Round(time.Second))
	for _, n := range c.nodes {
		if took := n.interrupt(); took > 10*time.Second {
			c.t.Errorf("%s took %s to end", n.name, took)
		}
		n.nothingRuns(20*time.Second, nil)
		n.watch.Wait()
	}
}

// calm lets the servers alone for a while, gives all schedules an end, and waits until nothing is live any more: nothing
// waits for ever.
func (c *chaos) calm() map[*subject]ending {
	c.t.Helper()
	c.shift(c.high(), c.nodes)
	pause(c.t.Context(), c.lease+12*time.Second)
	c.revive()
	c.examine()
	w := c.nodes[0].world
	until := c.nodes[0].clock.wall(instantNow()).Add(4 * time.Second).Truncate(time.Microsecond)
	ends := map[*subject]ending{}
	for _, s := range c.subjects {
		if s.grid() == (grid{}) {
			continue
		}
		input := s.input
		input.Schedule.Until = &api.Time{Time: until}
		if s.yearly || s.step > 2*time.Second { // a schedule that never fires again is refused
			input.Schedule.Until, input.Schedule.Spec = nil, "@manual"
		}
		var task api.Task
		w.must("PUT", "/v1/tasks/"+s.task.ID, input, &task)
		ends[s] = ending{task.UpdatedAt.Time, until, task.Version}
		if input.Schedule.Until == nil {
			ends[s] = ending{task.UpdatedAt.Time, task.UpdatedAt.Time, task.Version}
		}
	}
	pause(c.t.Context(), 5*time.Second)
	var live, queue struct {
		Items []map[string]any `json:"items"`
	}
	end := time.Now().Add(60 * time.Second)
	for {
		s1, err1 := w.ask("GET", "/v1/runs?live=true&limit=1000", nil, &live)
		s2, err2 := w.ask("GET", "/v1/queue?limit=1000", nil, &queue)
		if err1 == nil && err2 == nil && s1 == http.StatusOK && s2 == http.StatusOK && len(live.Items)+len(queue.Items) == 0 {
			break
		}
		if time.Now().After(end) {
			c.t.Errorf("60 s after the last fire these are still live: %v; and these wait: %v (%v %v)", live.Items, queue.Items, err1, err2)
			break
		}
		pause(c.t.Context(), 100*time.Millisecond)
	}
	c.revive()
	c.examine()
	return ends
}

// collect waits until history has everything, and reads it.
func (c *chaos) collect() *account {
	c.t.Helper()
	w := c.nodes[0].world
	last, since := "", time.Now()
	w.until(60*time.Second, "history grows no more", func() bool {
		for _, n := range c.nodes {
			var status api.Status
			if _, err := n.ask("GET", "/v1/server", nil, &status); err != nil || status.Spool.Unshipped > 0 {
				since = time.Now()
			}
		}
		rows, err := query[map[string]any](w, "SELECT (SELECT count() FROM fires) AS f, (SELECT count() FROM runs) AS r, (SELECT count() FROM attempts) AS a")
		if now := fmt.Sprint(rows, err); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 2*time.Second
	})
	a := &account{decisions: map[string][]decision{}, runs: map[string]ended{}, attempts: map[key]attempt{}}
	for _, d := range mustQuery[decision](w, "SELECT * FROM fires ORDER BY task, fire_at") {
		a.decisions[d.Task] = append(a.decisions[d.Task], d)
	}
	for _, r := range mustQuery[ended](w, "SELECT task, run_id, attempts, outcome FROM runs") {
		if _, twice := a.runs[r.RunID]; twice {
			c.t.Errorf("run %s of %s is in history twice", r.RunID, r.Task)
		}
		a.runs[r.RunID] = r
	}
	for _, r := range mustQuery[attempt](w, "SELECT task, task_type, run_id, attempt, token, outcome, message FROM attempts") {
		a.attempts[key{r.RunID, r.Attempt}] = r
	}
	return a
}

// history starts one ClickHouse engine for several servers, kept alive until the test ends, and gives its address.
func (c *chaos) history() string {
	c.t.Helper()
	socket := filepath.Join(c.dir, "engine.sock")
	engine := exec.Command(filepath.Join(program(c.t), "gnomon"), "engine", "--dir", filepath.Join(c.dir, "history"), "--socket", socket)
	log, err := os.Create(filepath.Join(c.dir, "engine.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	engine.Env, engine.Stderr = append(os.Environ(), "GNOMON_LIBCHDB="+built.libchdb), log
	if err := engine.Start(); err != nil {
		c.t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; pause(c.t.Context(), 50*time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(end) {
			c.t.Fatalf("the engine does not answer: %v", err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() { // ends with the listener
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", socket)
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() { // ends with either connection
					_, _ = io.Copy(pair[0], pair[1])
					_, _ = in.Close(), out.Close()
				}()
			}
		}
	})
	c.t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
		_ = engine.Process.Kill()
		_ = engine.Wait()
		_ = log.Close()
	})
	return "http://" + listener.Addr().String() + "/gnomon"
}
