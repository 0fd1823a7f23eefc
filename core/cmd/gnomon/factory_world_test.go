package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/catalog"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/runner"
	"github.com/gnomon-scheduler/gnomon/core/scheduler"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// The factory of deploy/demo lives here in a bubble of testing/synctest: its rooms are the real ones, on a real SQLite store
// and spool, and their clock stands still while any of them works. Two things are the test's: the plant, which is what
// the jobs call, and the archive, which stands for the engine (that lives by the machine's clock).

const demo = "../../../deploy/demo/tasks/manufacturing.yaml"

var shanghai = time.FixedZone("CST", 8*3600) // it has had no summer time since 1991

// local gives an instant of 2026 in Shanghai: "10-01 02:00".
func local(text string) time.Time {
	at, err := time.ParseInLocation("2006-01-02 15:04:05", "2026-"+text+":00", shanghai)
	if err != nil {
		panic(err)
	}
	return at
}

// waitUntil lets the bubble's time pass.
func waitUntil(ctx context.Context, at time.Time) {
	select {
	case <-time.After(time.Until(at)):
	case <-ctx.Done():
	}
}

// call is one attempt as the plant saw it. Calls are what is known from outside of what was done.
type call struct {
	job, task, run string
	fireAt         time.Time
	trigger        core.Trigger
	number         int
	token          int64
	began, ended   time.Time
	verdict        core.Verdict
	input          map[string]any
	output         map[string]any
}

// plant is the factory's system: each call of a job takes some minutes, and now and then it fails, hangs, is busy, or all
// of it is down. What a call does follows from job, instant and number of the attempt alone.
type plant struct {
	down [][2]time.Time

	mu    sync.Mutex
	calls []*call
}

// jobType is Manufacturing.Job as scripts/Manufacturing/Job.lua describes it.
var jobType = core.TaskType{
	Name: "Manufacturing.Job", Provider: "plant", Version: "1.0.0", Timeout: 10 * time.Minute,
	ParamsSchema: json.RawMessage(`{"type":"object","additionalProperties":false,"required":["job"],"properties":{
		"base_url":{"type":"string"},"job":{"type":"string","pattern":"^_?[a-z][a-z0-9_]{1,63}$"},
		"input":{"type":"object"},"timeout_seconds":{"type":"integer","minimum":1,"maximum":3600}}}`),
}

func (p *plant) Validate(context.Context, string, json.RawMessage) ([]core.Finding, error) {
	return nil, nil
}

func (p *plant) isDown(at time.Time) bool {
	return slices.ContainsFunc(p.down, func(d [2]time.Time) bool { return !at.Before(d[0]) && at.Before(d[1]) })
}

func (p *plant) Execute(ctx context.Context, a core.Attempt, sink core.Sink) (core.Outcome, error) {
	var params struct {
		Job   string         `json:"job"`
		Input map[string]any `json:"input"`
	}
	if err := json.Unmarshal(a.Params, &params); err != nil {
		return core.Outcome{}, err
	}
	c := &call{
		job: params.Job, task: a.TaskName, run: a.RunID, fireAt: a.FireAt, trigger: a.Trigger, number: a.Number, token: a.Token,
		began: time.Now(), input: params.Input,
	}
	p.mu.Lock()
	p.calls = append(p.calls, c)
	p.mu.Unlock()
	outcome := p.work(ctx, a, c)
	p.mu.Lock()
	c.ended, c.verdict = time.Now(), outcome.Verdict
	p.mu.Unlock()
	outcome.Began = c.began
	outcome.Usage = core.Usage{CPUSource: core.SourceUnknown, RSSSource: core.SourceUnknown, IOSource: core.SourceUnknown}
	return outcome, sink.Log(context.WithoutCancel(ctx), core.LogLine{At: c.ended.UTC(), Level: core.LevelInfo, Stream: core.StreamLog, Message: "job " + params.Job + " " + string(outcome.Verdict)})
}

func (p *plant) work(ctx context.Context, a core.Attempt, c *call) core.Outcome {
	if p.isDown(c.began) {
		return core.Outcome{Verdict: core.Failed, Message: c.job + ": no answer"}
	}
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, c.job, "|", a.FireAt.Unix(), "|", a.Number) // it cannot fail
	rng := rand.New(rand.NewPCG(h.Sum64(), 38))
	usual := 20*time.Second + time.Duration(len(c.job)*37%160)*time.Second // 20 s to 3 min, the same for each run of a job
	took := time.Duration((0.7 + 0.9*rng.Float64()) * float64(usual))
	fate := rng.IntN(1000)
	if fate < 3 { // it hangs
		took = 24 * time.Hour
	}
	select {
	case <-time.After(took):
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), core.ErrRunTimeout) {
			return core.Outcome{Verdict: core.TimedOut, Message: core.ErrRunTimeout.Error()}
		}
		return core.Outcome{Verdict: core.Cancelled, Message: context.Cause(ctx).Error()}
	}
	switch {
	case fate < 30:
		return core.Outcome{Verdict: core.Failed, Message: c.job + ": answered 500"}
	case fate < 40:
		return core.Outcome{Verdict: core.Failed, Message: c.job + ": the system is busy", RetryAfter: 90 * time.Second}
	}
	batch, given := c.input["batch"].(string)
	if !given {
		batch = "B-" + c.job + "-" + a.FireAt.UTC().Format("0102T1504")
	}
	c.output = map[string]any{"batch": batch, "found": rng.IntN(500)}
	text, err := json.Marshal(c.output)
	if err != nil {
		return core.Outcome{Verdict: core.Failed, Message: err.Error(), Permanent: true}
	}
	return core.Outcome{Verdict: core.Succeeded, Output: text}
}

// archive is history in memory.
type archive struct {
	past // what is not defined below is not asked for

	mu    sync.Mutex
	ended map[string]core.Run
	lines int
	moved []core.BreakerChange
}

func (h *archive) WriteRuns(_ context.Context, _ string, runs []core.Run) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range runs {
		h.ended[r.ID] = r
	}
	return nil
}

func (h *archive) WriteSegment(_ context.Context, s core.Segment) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines += len(s.Logs)
	return nil
}

func (h *archive) WriteBreakerChanges(_ context.Context, _ string, changes []core.BreakerChange) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moved = append(h.moved, changes...)
	return nil
}

// some gives the rows for which is holds, in an order.
func (h *archive) some(order func(a, b core.Run) int, is func(core.Run) bool) []core.Run {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []core.Run{}
	for _, r := range h.ended {
		if is(r) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, order)
	return list
}

func newestFirst(a, b core.Run) int { return strings.Compare(b.ID, a.ID) }

func byInstant(a, b core.Run) int {
	return cmp.Or(a.FireAt.Compare(b.FireAt), strings.Compare(a.ID, b.ID))
}

func (h *archive) Run(_ context.Context, id string) (core.Run, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r, ok := h.ended[id]; ok {
		return r, nil
	}
	return core.Run{}, core.Errorf(core.KindNotFound, "read run "+id, "there is none")
}

func (h *archive) Runs(_ context.Context, f core.RunFilter) ([]core.Run, error) {
	list := h.some(newestFirst, func(r core.Run) bool {
		return !f.LiveOnly && (f.TaskID == "" || r.TaskID == f.TaskID) && (f.WorkflowID == "" || r.WorkflowID == f.WorkflowID) &&
			(f.From.IsZero() || !r.FireAt.Before(f.From)) && (f.To.IsZero() || r.FireAt.Before(f.To)) && (f.BeforeID == "" || r.ID < f.BeforeID)
	})
	return list[:min(len(list), f.Limit)], nil
}

func (h *archive) Fires(_ context.Context, f core.FireFilter) ([]core.Run, error) {
	list := h.some(byInstant, func(r core.Run) bool {
		return (f.TaskID == "" || r.TaskID == f.TaskID) && (f.From.IsZero() || !r.FireThrough.Before(f.From)) && (f.To.IsZero() || !r.FireAt.After(f.To))
	})
	return list[:min(len(list), cmp.Or(f.Limit, len(list)))], nil
}

func (h *archive) EachFire(ctx context.Context, f core.FireFilter, each func(*core.Run) error) error {
	list, err := h.Fires(ctx, f)
	for i := range list {
		if err := each(&list[i]); err != nil {
			return err
		}
	}
	return err
}

func (h *archive) Durations(_ context.Context, _, taskIDs []string, since time.Time) (map[string]core.Usual, error) {
	took := map[string][]time.Duration{}
	h.mu.Lock()
	for _, r := range h.ended {
		if r.Verdict == core.Succeeded && !r.FireAt.Before(since) && (taskIDs == nil || slices.Contains(taskIDs, r.TaskID)) {
			took[r.TaskID] = append(took[r.TaskID], r.EndedAt.Sub(r.StartedAt))
		}
	}
	h.mu.Unlock()
	usual := map[string]core.Usual{}
	for id, list := range took {
		slices.Sort(list)
		usual[id] = core.Usual{Count: uint64(len(list)), P50: list[len(list)/2], P95: list[len(list)*95/100], Max: list[len(list)-1]}
	}
	return usual, nil
}

// Query has no engine to ask.
func (h *archive) Query(context.Context, string, clickhouse.QueryLimits, map[string]string, statement.Scope) (*clickhouse.Rows, error) {
	return nil, core.Errorf(core.KindUnavailable, "query history", "it is in memory")
}

// Admit has nothing to ask.
func (h *archive) Admit(context.Context, string, statement.Scope) error {
	return core.Errorf(core.KindUnavailable, "query history", "it is in memory")
}

// Door leads nowhere.
func (h *archive) Door(statement.Scope) (clickhouse.Door, error) {
	return clickhouse.Door{}, core.Errorf(core.KindUnavailable, "query history", "it is in memory")
}

// RollupState has no roll-ups to be behind.
func (h *archive) RollupState(context.Context) (clickhouse.RolledUp, error) {
	return clickhouse.RolledUp{Through: time.Now()}, nil
}

// ThinState has nothing that was thinned.
func (h *archive) ThinState(context.Context) (clickhouse.Thinned, error) {
	return clickhouse.Thinned{}, nil
}

func (h *archive) Health(context.Context) error { return nil }
func (h *archive) Version() string              { return "in memory" }

// factory is a server with the factory's jobs, as long as it is open.
type factory struct {
	*app
	dir     string
	plant   *plant
	archive *archive
	parts   []part
	token   string // path of its file
	starts  int
}

// newFactory makes one that is not open yet. Its folder is in memory where the machine has such a place: what is tested here
// is not the disk.
func newFactory(t *testing.T) *factory {
	t.Helper()
	place := "/dev/shm"
	if info, err := os.Stat(place); err != nil || !info.IsDir() {
		place = ""
	}
	dir, err := os.MkdirTemp(place, "gn-factory-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &factory{dir: dir, plant: &plant{}, archive: &archive{ended: map[string]core.Run{}}}
}

// open starts a server on the factory's folder, wired as assemble wires it; what looks around by the second looks around
// less often, so that a month does not take the machine an hour.
func (f *factory) open(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	f.starts++
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	a := &app{
		config: Config{Data: f.dir}, log: log, clock: core.SystemClock{}, id: uuid.Must(uuid.NewV7()).String(), hostname: "factory-1",
		began: time.Now(), catalog: catalog.New(), history: &gated{past: f.archive},
	}
	f.app, f.parts = a, nil
	started := func(p part) { f.parts = append(f.parts, p) }
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(a.openStore(ctx, ctx, started))
	must(a.startRecorder(ctx, ctx, started))
	must(a.catalog.Offer("plant", f.plant, []core.TaskType{jobType}))
	a.lease = runner.NewLease(runner.LeaseOptions{Store: a.store, Clock: a.clock, Log: log, ServerID: a.id, Host: a.hostname, Length: 10 * time.Minute})
	must(a.lease.Start(ctx))
	started(part{"lease", time.Second, a.lease.Stop})
	shipper := runner.NewShipper(runner.ShipperOptions{Outbox: a.store, History: a.history, Clock: a.clock, Log: log, Every: 2 * time.Minute})
	must(shipper.Start(ctx))
	started(part{"shipper", 2 * time.Second, shipper.Stop})
	must(a.startDefinitions(ctx, ctx, started))
	usual, diary := newUsuals(a.history, a.clock, log), newBreakerDiary(a.history, slog.New(slog.DiscardHandler))
	a.background(ctx, started, "usual durations", usual.run)
	a.background(ctx, started, "breaker diary", diary.run)
	kept := effective{a.store, a.definitions}
	a.runner = runner.New(runner.Options{
		Store: kept, Catalog: a.catalog, Recorder: spooled{a.spool}, Clock: a.clock, Log: log, ServerID: a.id, MayAct: a.lease.MayAct,
		ForRun: a.forRun, After: a.afterDelay, Drain: 3 * time.Second,
		Announce: func(task core.Task, removed bool) { a.scheduler.Announce(task, removed) },
		Gated:    a.definitions.Gated, Gates: a.definitions.Gates, Check: a.check, Dependents: a.definitions.DependentTasks, Usual: usual.p95, Zone: a.zone,
		BreakerMoved: diary.note,
		Watch:        30 * time.Second, Sweep: 5 * time.Minute, TakeOver: 5 * time.Minute, LookAround: 30 * time.Second,
	})
	a.scheduler = scheduler.New(scheduler.Options{
		Store: kept, Runner: a.runner, Clock: a.clock, Log: log, ServerID: a.id, MayAct: a.lease.MayAct,
		Plan: a.definitions.Plan, Gated: a.definitions.Gated, Scan: 5 * time.Minute, Window: 15 * time.Minute,
	})
	must(a.runner.Start(ctx))
	started(part{"runner", 7 * time.Second, a.runner.Stop})
	must(a.scheduler.Start(ctx))
	started(part{"scheduler", 2 * time.Second, a.scheduler.Stop})
	must(a.buildAPI(ctx, ctx, started))
	var err error
	f.token, _, err = a.access.Bootstrap(ctx, f.dir)
	must(err)
	<-a.scheduler.Ready()
}

// close stops the server as a shutdown does.
func (f *factory) close(t *testing.T) {
	t.Helper()
	for _, p := range slices.Backward(f.parts) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), p.limit)
		if err := p.stop(ctx); err != nil {
			t.Errorf("%s did not stop in order: %v", p.name, err)
		}
		cancel()
	}
	f.parts = nil
}

// inProcess answers requests by a handler, without a network.
type inProcess struct{ handler http.Handler }

func (i inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	i.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

// session is the command line of the factory's server.
func (f *factory) session() *session {
	return &session{server: "http://127.0.0.1:8080", tokenFile: f.token, lang: "en", out: io.Discard, err: io.Discard, transport: inProcess{f.api.Handler()}}
}

// ask puts a question to the REST API.
func (f *factory) ask(t *testing.T, method, path string, query url.Values, body, into any) {
	t.Helper()
	if _, err := f.session().call(t.Context(), request{method: method, path: path, query: query, body: body}, into); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

// task gives one of its tasks.
func (f *factory) task(t *testing.T, name string) api.Task {
	t.Helper()
	var task api.Task
	f.ask(t, http.MethodGet, "/v1/namespaces/Manufacturing/tasks/"+name, nil, nil, &task)
	return task
}

// apply does what `gnomon apply` does with the demo's file, and gives what stands in it.
func (f *factory) apply(t *testing.T) []*defined {
	t.Helper()
	all, err := readFolder(filepath.FromSlash(demo))
	if err == nil {
		err = f.session().apply(t.Context(), all, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// rows gives every row there is, of store and archive, by instant.
func (f *factory) rows(t *testing.T) []core.Run {
	t.Helper()
	kept, err := pages(t.Context(), core.RunFilter{Limit: 1000}, f.store.Runs)
	if err != nil {
		t.Fatal(err)
	}
	all := f.archive.some(byInstant, func(core.Run) bool { return true })
	known := map[string]bool{}
	for _, r := range all {
		known[r.ID] = true
	}
	for _, r := range kept {
		if !known[r.ID] {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, byInstant)
	return all
}

// callsOf gives the calls that were made for each run, by number.
func (p *plant) callsOf() map[string][]*call {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := map[string][]*call{}
	for _, c := range p.calls {
		of[c.run] = append(of[c.run], c)
	}
	return of
}
