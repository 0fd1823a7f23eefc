package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/catalog"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/definition"
	"github.com/gnomon-scheduler/gnomon/core/engine"
	"github.com/gnomon-scheduler/gnomon/core/gateway"
	"github.com/gnomon-scheduler/gnomon/core/metrics"
	"github.com/gnomon-scheduler/gnomon/core/pluginhost"
	"github.com/gnomon-scheduler/gnomon/core/precondition"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
	"github.com/gnomon-scheduler/gnomon/core/runner"
	"github.com/gnomon-scheduler/gnomon/core/sampler"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
	"github.com/gnomon-scheduler/gnomon/core/scheduler"
	"github.com/gnomon-scheduler/gnomon/core/statement"
	"github.com/gnomon-scheduler/gnomon/core/store"
	"github.com/gnomon-scheduler/gnomon/core/trace"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

// app is the server's rooms, wired.
type app struct {
	config   Config
	log      *slog.Logger
	clock    core.Clock
	id       string
	hostname string
	began    time.Time
	store    *store.Store
	history  *gated
	engine   *engine.Supervisor // nil: a ClickHouse of its own is used
	spool    *recorder.Recorder
	host     *pluginhost.Host
	catalog  *catalog.Catalog
	access   *access.Access
	sampler  *sampler.Sampler
	watched  atomic.Pointer[pluginhost.Host] // host, once it runs: the sampler is there before it
	lease    *runner.Lease
	tracer   *trace.Tracer // nil: runs are not traced

	definitions   *definition.Definitions
	preconditions *precondition.Preconditions
	workflows     *workflow.Executor
	scheduler     *scheduler.Scheduler
	runner        *runner.Runner
	accountant    *accountant
	chronicle     *chronicle
	retention     *retention
	sums          map[string]string // SHA-256 of plugins' executables, by provider
	watch         *historyWatch
	metrics       *metrics.Metrics
	api           *api.API
	gateway       *gateway.Gateway
}

// assemble makes and starts the rooms along the road, from where records end up to where fires begin. starting bounds
// the start, live is the context of what goes on.
func assemble(starting, live context.Context, config Config, log *slog.Logger, started func(part)) (*app, error) {
	a := &app{config: config, log: log, clock: core.SystemClock{}, id: uuid.Must(uuid.NewV7()).String(), began: time.Now()}
	if path := os.Getenv("GNOMON_FAULT_CLOCK"); path != "" {
		a.clock = newFaultClock(path, log)
	}
	for _, step := range []func(context.Context, context.Context, func(part)) error{
		a.openStore, a.openHistory, a.watchHistory, a.startRecorder, a.startSampler, a.startTraces, a.startExecutors, a.startRunning, a.startAccounts, a.buildAPI,
	} {
		if err := step(starting, live, started); err != nil {
			return nil, err
		}
		if err := starting.Err(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *app) openStore(starting, _ context.Context, started func(part)) (err error) {
	a.store, err = store.Open(starting, store.Options{DSN: a.config.StoreDSN, Dir: filepath.Join(a.config.Data, "store"), Log: a.log, Clock: a.clock})
	if err != nil {
		return err
	}
	started(part{"store", 5 * time.Second, func(context.Context) error { return a.store.Close() }})
	return nil
}

func (a *app) openHistory(starting, live context.Context, started func(part)) (err error) {
	options := clickhouse.Options{DSN: a.config.ClickHouseDSN, Log: a.log, Patient: true}
	if options.DSN == "" {
		options.Patient = false // the engine has just been started
		options.Socket = filepath.Join(runDir(a.config.Data), "engine.sock")
		if err := os.MkdirAll(filepath.Dir(options.Socket), 0o700); err != nil {
			return err
		}
		if err := os.MkdirAll(a.config.Backups, 0o700); err != nil {
			return err
		}
		a.engine, err = engine.NewSupervisor(engine.SupervisorOptions{Dir: filepath.Join(a.config.Data, "history"), Socket: options.Socket, Backups: a.config.Backups, Log: a.log})
		if err != nil {
			return err
		}
		if err := a.engine.Start(starting); err != nil {
			return err
		}
		started(part{"engine", 4 * time.Second, a.engine.Stop})
	}
	history, err := clickhouse.Open(starting, options)
	if err != nil {
		return err
	}
	a.history = &gated{past: history}
	started(part{"history", time.Second, func(context.Context) error { return a.history.Close() }})
	a.background(live, started, "roll-ups", func(ctx context.Context) { history.KeepRolledUp(ctx, a.history.gate.RLocker()) })
	return nil
}

func (a *app) startRecorder(_, live context.Context, started func(part)) (err error) {
	spool := recorder.Options{Dir: filepath.Join(a.config.Data, "spool"), Log: a.log, Shipper: a.history}
	if limit := int64(a.config.SpoolMiB) << 20; limit > 0 {
		spool.MaxBytes, spool.SegmentBytes = limit, min(recorder.DefaultSegmentBytes, limit/8)
	}
	a.spool, err = recorder.New(spool)
	if err != nil {
		return err
	}
	if err := a.spool.Start(live); err != nil {
		return err
	}
	started(part{"recorder", 3 * time.Second, a.spool.Stop})
	return nil
}

// startExecutors brings up what runs attempts. A plugin or a script that is refused is said and left out: it must not
// keep the others from running.
func (a *app) startExecutors(starting, live context.Context, started func(part)) (err error) {
	a.host, err = pluginhost.New(pluginhost.Options{
		Log: a.log, RunDir: filepath.Join(runDir(a.config.Data), "plugins"), HostVersion: version, Grants: a.config.grants, Grace: 2 * time.Second,
		Ended: a.processEnded,
	})
	if err != nil {
		return err
	}
	if err := a.host.Start(live); err != nil {
		return err
	}
	started(part{"plugins", 4 * time.Second, a.host.Stop})
	a.catalog, a.sums = catalog.New(), map[string]string{}
	a.watched.Store(a.host)
	dirs, err := pluginDirs(a.config.Plugins)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		plugin, err := a.host.Load(starting, dir)
		if err != nil {
			a.log.Error("plugin refused", "dir", dir, "err", err)
			a.catalog.Refuse("plugin "+filepath.Base(dir), err)
			continue
		}
		a.sums["plugin:"+plugin.Name()] = plugin.SHA256()
		if err := a.catalog.Offer("plugin:"+plugin.Name(), plugin, plugin.Types()); err != nil {
			a.log.Error("plugin's task types not all offered", "plugin", plugin.Name(), "err", err)
		}
		a.log.Info("plugin loaded", "plugin", plugin.Name(), "version", plugin.Version(), "task_types", len(plugin.Types()))
	}
	folder, err := filepath.EvalSymlinks(a.config.Scripts)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pools := make(map[string]*luaPool)
	scripts := catalog.NewScripts(a.catalog, catalog.ScriptsOptions{
		Dir: folder, Log: a.log,
		Workers: func(namespace string) (catalog.Workers, error) { // called from one goroutine
			if pool, ok := pools[namespace]; ok {
				return pool, nil
			}
			pool, err := a.newLuaPool(namespace, folder)
			if err == nil {
				pools[namespace] = pool
			}
			return pool, err
		},
	})
	if err := scripts.Start(live); err != nil {
		return err
	}
	started(part{"scripts", 6 * time.Second, scripts.Stop})
	return nil
}

// luaPool is the workers of one namespace, as the catalog wants them.
type luaPool struct{ *pluginhost.Pool }

// Describe describes one script in a worker of its own.
func (p *luaPool) Describe(ctx context.Context, typeName string) ([]core.TaskType, error) {
	return p.Pool.Describe(ctx, "--only", typeName)
}

func (a *app) newLuaPool(namespace, folder string) (*luaPool, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return nil, err
	}
	size := a.config.LuaWorkers
	if size == 0 {
		size = 4 * runtime.NumCPU() // one attempt at a time each, and most scripts wait for a database
	}
	pool, err := a.host.Pool(pluginhost.PoolOptions{
		Name: "lua-worker", Namespace: namespace, Command: []string{exe, "lua-worker", "--namespace", namespace, "--scripts", folder}, Size: size,
	})
	return &luaPool{pool}, err
}

// startRunning starts runner and scheduler, and what ships beside them.
func (a *app) startRunning(starting, live context.Context, started func(part)) (err error) {
	a.lease = runner.NewLease(runner.LeaseOptions{Store: a.store, Clock: a.clock, Log: a.log, ServerID: a.id, Host: a.hostname, Length: faultLease(a.log)})
	if err := a.lease.Start(live); err != nil {
		return err
	}
	started(part{"lease", time.Second, a.lease.Stop})
	shipper := runner.NewShipper(runner.ShipperOptions{Outbox: a.store, History: a.history, Clock: a.clock, Log: a.log})
	if err := shipper.Start(live); err != nil {
		return err
	}
	started(part{"shipper", 2 * time.Second, shipper.Stop})
	a.chronicle = newChronicle(&chronicle{
		store: a.store, types: func() []core.TaskType { return a.catalog.Types(nil) }, sums: a.sums, history: a.history, clock: a.clock, log: a.log, server: a.id,
	})
	a.retention = newRetention(&retention{store: a.store, history: a.history, gate: &a.history.gate, clock: a.clock, log: a.log})
	if err := a.startDefinitions(starting, live, started); err != nil {
		return err
	}
	usual, diary := newUsuals(a.history, a.clock, a.log), newBreakerDiary(a.history, a.log)
	a.background(live, started, "usual durations", usual.run)
	a.background(live, started, "breaker diary", diary.run)
	if a.metrics, err = metrics.New(metrics.Options{Log: a.log, Collect: a.figures, Version: version}); err != nil {
		return err
	}
	kept := effective{a.store, a.definitions}
	a.runner = runner.New(runner.Options{
		Store: kept, Catalog: a.catalog, Recorder: spooled{a.spool}, Clock: a.clock, Log: a.log, ServerID: a.id, MayAct: a.lease.MayAct,
		ForRun: a.forRun, After: a.afterDelay, Drain: 3 * time.Second,
		Announce: func(task core.Task, removed bool) {
			a.scheduler.Announce(task, removed)
			if removed { // disabled, which is a new version; what else is announced here is only its next fire
				a.chronicle.note(task.ID)
			}
		},
		Gated: a.definitions.Gated, Gates: a.gates, Check: a.check, Dependents: a.definitions.DependentTasks, Usual: usual.p95, Zone: a.zone,
		StillDue:     a.stillDue,
		BreakerMoved: diary.note, Started: a.metrics.ObserveStart, Ended: a.metrics.ObserveEnd, Trace: a.traces(),
	})
	a.scheduler = scheduler.New(scheduler.Options{
		Store: kept, Runner: a.runner, Clock: a.clock, Log: a.log, ServerID: a.id, MayAct: a.lease.MayAct,
		Plan: a.definitions.Plan, Gated: a.definitions.Gated,
	})
	if err := a.runner.Start(live); err != nil {
		return err
	}
	started(part{"runner", 7 * time.Second, a.runner.Stop})
	if err := a.scheduler.Start(live); err != nil {
		return err
	}
	started(part{"scheduler", 2 * time.Second, a.scheduler.Stop})
	a.background(live, started, "definitions of other servers", a.followDefinitions)
	a.background(live, started, "chronicle", a.chronicle.run)
	a.background(live, started, "retention", a.retention.run)
	return nil
}

// startDefinitions reads what tasks stand on, and offers the types of the server itself.
func (a *app) startDefinitions(starting, _ context.Context, _ func(part)) error {
	a.definitions = definition.New(definition.Options{
		Store: a.store, Catalog: a.catalog, Clock: a.clock, Log: a.log, Announce: a.announce, Preconditions: preconditionCheck{a},
		Changed: func() {
			a.retention.look()
			if a.scheduler != nil { // else nobody has made anything of it yet
				a.scheduler.Refresh()
				a.runner.Look()
			}
		},
	})
	a.preconditions = precondition.New(precondition.Options{Calendars: a.definitions, Tasks: a.definitions, Host: a.sampler, Grants: a.config.grants, Needs: a.config.needs})
	a.workflows = workflow.New(workflow.Options{Steps: steps{a}, Clock: a.clock, Recent: steps{a}.recent})
	if err := a.catalog.Offer(workflow.ProviderName, a.workflows, []core.TaskType{workflow.Type()}); err != nil {
		return err
	}
	return a.definitions.Start(starting)
}

// preconditionCheck compiles preconditions for definition, which is there before them.
type preconditionCheck struct{ a *app }

// Check gives what is wrong with a precondition.
func (c preconditionCheck) Check(p core.Precondition) []core.Finding {
	return c.a.preconditions.Check(p)
}

// Mentions gives the names that a precondition has in it.
func (c preconditionCheck) Mentions(p core.Precondition) []core.Mention {
	return c.a.preconditions.Mentions(p)
}

// CheckGrants gives what a precondition needs and was not granted.
func (c preconditionCheck) CheckGrants(namespace, taskType string, p core.Precondition) []core.Finding {
	return c.a.preconditions.CheckGrants(namespace, taskType, p)
}

// gates gives what a run of a task must be admitted by. What it names and nobody here knows is read first: a pool that
// another server has just been given must not be passed by.
func (a *app) gates(task *core.Task) ([]core.Limit, []core.BreakerRule) {
	if !a.definitions.Knows(task) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := a.definitions.Refresh(ctx); err != nil {
			a.log.Error("gates of a task not all known", "task", task.Namespace+"/"+task.Name, "err", err)
		}
	}
	return a.definitions.Gates(task)
}

// followDefinitions reads again and again what other servers have changed, until ctx ends: a change takes effect everywhere
// within a second. Where there is no other server it only mends what could not be read before.
func (a *app) followDefinitions(ctx context.Context) {
	interval := 10 * time.Second
	if a.store.Dialect() == "postgres" {
		interval = time.Second
	}
	every := time.NewTicker(interval)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			if err := a.definitions.Refresh(ctx); err != nil && ctx.Err() == nil {
				a.log.Warn("definitions not read again", "err", err)
			}
		}
	}
}

// startAccounts reconciles each day once it is over.
func (a *app) startAccounts(_, live context.Context, started func(part)) error {
	a.accountant = &accountant{insight: insight{a}}
	a.background(live, started, "accounts", a.accountant.run)
	return nil
}

// background runs something beside the road until the server stops.
func (a *app) background(live context.Context, started func(part), name string, run func(context.Context)) {
	ctx, cancel := context.WithCancel(live)
	done := make(chan struct{})
	go func() { // ends when the part is stopped
		defer close(done)
		run(ctx)
	}()
	started(part{name, time.Second, func(limit context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-limit.Done():
			return context.Cause(limit)
		}
	}})
}

// announce tells scheduler and runner that a task was stored or removed.
func (a *app) announce(task core.Task, removed bool) {
	a.scheduler.Announce(task, removed)
	a.chronicle.note(task.ID)
	reason, facts := core.ReasonDisabled, map[string]any(nil)
	switch {
	case removed:
		reason = core.ReasonEdited
	case task.Enabled && task.Pause.Holds(a.clock.Now()):
		reason, facts = core.ReasonPaused, task.Pause.Facts()
	case task.Enabled:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	go func() { // ends with the write or its deadline
		defer cancel()
		if err := a.runner.Forget(ctx, task.ID, reason, facts); err != nil {
			a.log.Error("pending runs not skipped", "task_id", task.ID, "err", err)
		}
	}()
}

// stillDue says whether a fire that was missed after it had been claimed starts all the same.
func (a *app) stillDue(task *core.Task, fireAt, now time.Time) (core.Reason, json.RawMessage, bool) {
	sched, err := a.definitions.Plan(task)
	if err != nil {
		return "", nil, true // nobody can say what else was missed
	}
	return scheduler.StillDue(task, sched, fireAt, now, scheduler.Rules{})
}

// afterDelay gives the delay of an @after schedule.
func (a *app) afterDelay(task *core.Task) (time.Duration, bool) {
	if len(task.Schedule.Spec) < 6 || task.Schedule.Spec[:6] != "@after" {
		return 0, false
	}
	sched, err := a.definitions.Plan(task)
	if err != nil || sched.Kind() != schedule.After {
		return 0, false
	}
	return sched.After(), true
}

// spooled is the recorder as the runner wants it.
type spooled struct{ *recorder.Recorder }

// Attempt opens the log of a new attempt.
func (s spooled) Attempt(origin core.Origin, level core.Level, full core.LogFull) runner.Log {
	return s.Recorder.Attempt(origin, level, whenFull(full))
}

// Resume opens the log of an attempt that an earlier server began.
func (s spooled) Resume(ctx context.Context, origin core.Origin, level core.Level, full core.LogFull) (runner.Log, error) {
	return s.Recorder.Resume(ctx, origin, level, whenFull(full))
}

func whenFull(policy core.LogFull) recorder.Full {
	if policy == core.LogFullDrop {
		return recorder.Drop
	}
	return recorder.Wait
}

// tailed is the recorder as the API wants it.
type tailed struct{ *recorder.Recorder }

// Tail follows a run's lines.
func (t tailed) Tail(ctx context.Context, runID string) api.Tail { return t.Recorder.Tail(ctx, runID) }

func (a *app) buildAPI(starting, _ context.Context, started func(part)) (err error) {
	if a.access, err = access.New(access.Options{Store: a.store}); err != nil {
		return err
	}
	audit, err := access.OpenAudit(filepath.Join(a.config.Data, "audit.log"), nil)
	if err != nil {
		return err
	}
	started(part{"audit", time.Second, func(context.Context) error { return audit.Close() }})
	a.api, err = api.New(api.Options{
		Definitions: a.definitions, Settings: settings{a.definitions}, Rehearse: a.rehearse, Catalog: a.catalog, Schedules: previews{a.definitions},
		Runner: operator{a.runner, a}, Workflows: workflows{a}, Insight: insight{a}, Live: a.store, History: a.history, Clock: a.clock,
		Query: a.query, Progress: a.queryProgress, BackUp: a.backUp, Logs: tailed{a.spool}, Health: a, Permissions: access.Permissions(), Roles: roles(), Tokens: tokens{a.access}, Log: a.log,
		Place: func(ctx context.Context, principal, id string) (func(ended bool), error) {
			return a.gateway.Place(ctx, principal, id)
		},
		Authenticate: func(ctx context.Context, token string) (api.Principal, error) {
			return a.access.Authenticate(ctx, token)
		},
		Audit: func(ctx context.Context, act api.Act) error {
			return audit.Record(ctx, access.Act{
				Principal: act.Principal, Operation: act.Operation, Namespace: act.Namespace, Resource: act.Resource,
				Allowed: act.Allowed, RequestID: act.RequestID, Remote: act.Remote,
			})
		},
	})
	if err != nil {
		return err
	}
	return a.buildGateway(audit, started)
}

// buildGateway opens the door for ClickHouse's own clients.
func (a *app) buildGateway(audit *access.Audit, started func(part)) (err error) {
	var overdue func(string)
	if a.engine != nil {
		overdue = func(string) { a.engine.Renew() }
	}
	a.gateway, err = gateway.New(gateway.Options{
		Overdue: overdue, Permission: access.HistoryQuery, Admit: a.history.Admit, Settings: a.history.AskSettings, Log: a.log,
		Authenticate: func(ctx context.Context, token string) (gateway.Principal, error) {
			return a.access.Authenticate(ctx, token)
		},
		Audit: func(ctx context.Context, act gateway.Act) error {
			return audit.Record(ctx, access.Act{
				Principal: act.Principal, Operation: "clickhouse-query", Namespace: access.Everywhere, Resource: gatewayPrefix + "/",
				Allowed: act.Allowed, RequestID: act.RequestID, Remote: act.Remote,
			})
		},
		Begin: func(ctx context.Context, r gateway.Running) (context.Context, func(), error) {
			return a.api.BeginQuery(ctx, api.AskedQuery(r))
		},
		Works: func(ctx context.Context, id string) (bool, error) {
			running, err := a.history.Progress(ctx)
			_, works := running[id]
			return works, err
		},
		Upstream: func(scope statement.Scope) (gateway.Upstream, error) {
			door, err := a.history.Door(scope)
			return gateway.Upstream(door), err
		},
	})
	if err != nil {
		return err
	}
	started(part{"gateway", time.Second, a.gateway.Stop})
	return nil
}

// gatewayPrefix is where ClickHouse's clients find the gateway on the server's port.
const gatewayPrefix = "/clickhouse"

// Ready is nil once tasks are being scheduled.
func (a *app) Ready(context.Context) error {
	select {
	case <-a.scheduler.Ready():
		return nil
	default:
		return core.Errorf(core.KindUnavailable, "schedule tasks", "the first pass over the tasks is not done yet")
	}
}

// Status is how the server stands.
func (a *app) Status(ctx context.Context) api.Status {
	began, spool := api.Time{Time: a.began}, a.spool.Stats()
	kept := "embedded ClickHouse"
	if a.engine == nil {
		kept = "ClickHouse"
	}
	if known := a.history.Version(); known != "" {
		kept += " " + known
	}
	history := a.historyStatus()
	if !history.Answers {
		kept += ", does not answer"
	}
	status := api.Status{
		Version: version, ServerID: a.id, StartedAt: &began, Ready: a.Ready(ctx) == nil, Store: a.store.Dialect(), Engine: kept,
		Zones: schedule.TZVersion(), Executing: a.runner.Executing(),
		History: history,
		Spool: api.SpoolStatus{
			UsedBytes: uint64(spool.SpoolBytes), LimitBytes: uint64(spool.MaxBytes), Unshipped: uint64(spool.Unshipped), Dropped: spool.LinesDropped,
			OldestUnshipped: instant(spool.OldestUnshippedAt), LagSeconds: spool.OldestUnshipped.Seconds(), ShippedLines: spool.LinesShipped,
			LinesPerSecond: spool.ShipRate, Full: spool.Full, Quarantined: uint64(spool.Quarantined),
		},
	}
	if spool.WriteError != nil {
		status.Spool.WriteError = spool.WriteError.Error()
	}
	return status
}

// welcome gives the bootstrap token at the first start and tells the command line where this server is.
func (a *app) welcome(ctx context.Context, address string, writeContext bool) error {
	token, created, err := a.access.Bootstrap(ctx, a.config.Data)
	if err != nil {
		return err
	}
	if created {
		a.log.Info("bootstrap token written; keep it secret", "path", token)
	}
	url := "http://" + address
	if writeContext {
		path, err := ContextPath()
		if err == nil {
			err = WriteContext(path, ServerContext{Server: url, TokenFile: token})
		}
		if err != nil {
			return err
		}
	}
	a.log.Info("server listening", "url", url, "data", a.config.Data, "store", a.store.Dialect(), "history", a.history.Version(),
		"task_types", len(a.catalog.Types(nil)), "started_in_ms", time.Since(a.began).Milliseconds())
	return nil
}

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}
