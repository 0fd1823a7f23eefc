package luavm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
	"github.com/gnomon-scheduler/gnomon/sdk/egress"
)

// What a run may use unless Options say otherwise.
const (
	defaultMemoryMB     = 256
	defaultInstructions = 2_000_000_000 // about 40 s of plain arithmetic
)

// Options say what a worker serves and what its runs may use.
type Options struct {
	Namespace    string // serves Dir/<Namespace>/*.lua
	Dir          string // folder of scripts
	Only         string // serves this one task type: "Telemedicine.ECGTimeoutFallbackTask" or its part after the dot; empty: all
	MemoryMB     int    // memory of a run; 0: 256
	Instructions int64  // Lua instructions of a run; 0: 2,000,000,000
	Version      string // semantic version to say in Describe; empty: the SDK's
}

// Worker is a namespace's scripts as task types. It is safe for concurrent use, but runs one script at a time; others
// wait for their turn.
type Worker struct {
	in   *interpreter
	only string
}

var _ sdk.Source = (*Worker)(nil)

// New opens the namespace's folder. It limits nothing of the process: Serve does.
func New(opts Options) (*Worker, error) {
	folder, err := openFolder(opts.Dir, opts.Namespace)
	if err != nil {
		return nil, err
	}
	if opts.MemoryMB == 0 {
		opts.MemoryMB = defaultMemoryMB
	}
	if opts.Instructions == 0 {
		opts.Instructions = defaultInstructions
	}
	only := strings.TrimPrefix(opts.Only, opts.Namespace+".")
	if opts.MemoryMB < 16 || opts.Instructions < 0 || only != "" && !typeFile.MatchString(only) {
		return nil, errors.Join(fmt.Errorf("lua worker: memory %d MB (at least 16), instructions %d or type %q is out of range",
			opts.MemoryMB, opts.Instructions, opts.Only), folder.close())
	}
	return &Worker{only: only, in: &interpreter{
		folder: folder, db: &databases{}, client: egressClient,
		instructions: opts.Instructions, heapLimit: uint64(opts.MemoryMB) << 20,
		turn: make(chan struct{}, 1),
	}}, nil
}

// Close closes databases and files. No run may be going on.
func (w *Worker) Close() error { return errors.Join(w.in.db.close(), w.in.folder.close()) }

func egressClient(allow string) (doer, error) {
	policy, err := egress.Cached(allow)
	if err != nil {
		return nil, fmt.Errorf("the grant \"http\" cannot be read: %w", err)
	}
	return policy.Client(), nil
}

// Serve limits this process to what its runs may use and serves the scripts to the host that started it, over the plugin
// contract. It returns only if that cannot begin; the host ends the process.
func Serve(_ context.Context, opts Options) error {
	w, err := New(opts)
	if err != nil {
		return err
	}
	if err := limitProcess(w.in.heapLimit); err != nil {
		return errors.Join(err, w.Close())
	}
	// The collector keeps the heap below the limit while it can; the interpreter's own look at the heap then ends a run
	// that truly holds too much, and the operating system's limit ends what is faster than both.
	debug.SetMemoryLimit(int64(w.in.heapLimit))
	debug.SetGCPercent(400)
	debug.SetMaxStack(64 << 20)
	version := opts.Version
	if version == "" {
		version = sdk.Version
	}
	sdk.Serve(sdk.Plugin{Name: "lua-" + strings.ToLower(opts.Namespace), Version: version, Source: w})
	return nil
}

// Describe gives all scripts of the namespace, or the one the worker is for. A script with a mistake is given with its
// Problem set.
func (w *Worker) Describe(ctx context.Context) ([]sdk.Description, error) {
	names, err := w.in.folder.types()
	if err != nil {
		return nil, err
	}
	if w.only != "" {
		names = []string{w.only}
	}
	all := make([]sdk.Description, 0, len(names))
	for _, name := range names {
		f, err := w.in.describe(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("describe %s/%s.lua: %w", w.in.folder.namespace, name, err)
		}
		all = append(all, w.description(name, f))
	}
	return all, nil
}

func (w *Worker) description(name string, f *file) sdk.Description {
	d := sdk.Description{Name: w.in.folder.namespace + "." + name, Version: f.version}
	if f.problem != nil {
		d.Title = sdk.Text{Zh: name, En: name}
		d.Problem = f.problem.Error()
		return d
	}
	d.Title = sdk.Text{Zh: f.about.title.zh, En: f.about.title.en}
	d.Description = sdk.Text{Zh: f.about.description.zh, En: f.about.description.en}
	d.ParamsSchema, d.OutputSchema = f.about.params, f.about.output
	d.Needs, d.Timeout = f.about.needs, f.about.timeout
	return d
}

// Lookup gives the task type of one script; sdk.ErrUnknownType if there is no such file.
func (w *Worker) Lookup(ctx context.Context, full string) (sdk.TaskType, error) {
	name, ok := strings.CutPrefix(full, w.in.folder.namespace+".")
	if !ok || w.only != "" && name != w.only {
		return nil, sdk.ErrUnknownType
	}
	f, err := w.in.describe(ctx, name)
	switch {
	case errors.Is(err, errNoScript):
		return nil, sdk.ErrUnknownType
	case err != nil:
		return nil, err
	case f.problem != nil:
		return nil, sdk.Permanent(f.problem)
	}
	return &scriptType{w: w, name: name, file: f}, nil
}

// scriptType is one script as a task type.
type scriptType struct {
	w    *Worker
	name string
	file *file
}

var _ sdk.TaskType = (*scriptType)(nil)

// Describe says what the script's task table says.
func (t *scriptType) Describe() sdk.Description { return t.w.description(t.name, t.file) }

// Validate checks params against the script's schema.
func (t *scriptType) Validate(_ context.Context, params json.RawMessage) []sdk.Finding {
	_, findings := t.file.about.schema.Apply(params)
	return findings
}

// Run runs the script once.
func (t *scriptType) Run(ctx context.Context, run *sdk.Run, params json.RawMessage) (json.RawMessage, error) {
	a := attempt{
		runID: run.ID, number: run.Attempt, token: run.Token, fireAt: run.FireAt, previousSuccess: run.PreviousSuccess,
		zone: run.Zone, params: params, traceparent: traceContext(run.Traceparent), grant: run.Grant,
	}
	var left json.RawMessage
	if _, err := run.LoadCheckpoint(&left); err != nil {
		return nil, sdk.Permanent(err)
	}
	a.checkpoint = left
	output, err := t.w.in.run(ctx, t.name, a, &runTeller{ctx, run})
	failed, ok := errors.AsType[*failure](err)
	switch {
	case !ok:
		return output, err
	case failed.permanent:
		return nil, sdk.Permanent(failed)
	case failed.retryAfter > 0:
		return nil, sdk.RetryAfter(failed.retryAfter, failed)
	}
	return nil, failed
}

// traceContext gives a W3C trace context (https://www.w3.org/TR/trace-context/#traceparent-header), or nothing if it is none:
// what is passed on is a header of requests.
func traceContext(traceparent string) string {
	if !traceContexts.MatchString(traceparent) {
		return ""
	}
	return traceparent
}

var traceContexts = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// runTeller passes on what a script says. It lives as long as the call of Run whose context it carries.
type runTeller struct {
	context.Context
	run *sdk.Run
}

var levels = [...]slog.Level{levelDebug: slog.LevelDebug, levelInfo: slog.LevelInfo, levelWarn: slog.LevelWarn, levelError: slog.LevelError}

func (t *runTeller) log(at time.Time, level severity, message string, attrs []attr) {
	handler := t.run.Log.Handler()
	if !handler.Enabled(t, levels[level]) {
		return
	}
	record := slog.NewRecord(at, levels[level], message, 0)
	for _, a := range attrs {
		record.AddAttrs(slog.String(a.key, a.value))
	}
	_ = handler.Handle(t, record) // the SDK keeps or drops a line by itself and reports nothing
}

func (t *runTeller) progress(done, total int64, note string) { t.run.Progress(done, total, note) }

func (t *runTeller) checkpoint(state []byte) error { return t.run.Checkpoint(json.RawMessage(state)) }
