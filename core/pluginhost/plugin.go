package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gnomon-scheduler/gnomon/core"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
)

// Plugin is a loaded plugin: one process that runs many attempts at once, started again when it crashes. It implements
// core.Provider.
type Plugin struct {
	host     *Host
	manifest manifest
	types    []core.TaskType
	needs    map[string][]string // by type; a type that is not in it is not offered
	spec     spec

	mu      sync.Mutex
	proc    *process      // nil while there is none
	changed chan struct{} // closed, and replaced, when proc, breaker or stopped change
	breaker breaker
	stopped bool

	end  context.CancelFunc // ends the supervisor
	done chan struct{}      // closed when it has ended
}

var _ core.Provider = (*Plugin)(nil)

// Load reads the plugin.yaml of a folder, verifies and starts the plugin, and asks it which task types it offers. A
// plugin that is not as it should be is a KindInvalid error with findings; one that is, but does not start, is
// KindUnavailable with what it wrote last. The plugin runs until its Stop or the host's.
func (h *Host) Load(ctx context.Context, dir string) (*Plugin, error) {
	op := fmt.Sprintf("load plugin %q", dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, core.Invalid(op, finding("", fmt.Sprintf("插件文件夹打不开：%v", err), fmt.Sprintf("the plugin's folder cannot be opened: %v", err)))
	}
	defer root.Close()
	m, err := readManifest(root, op)
	if err != nil {
		return nil, err
	}
	p := &Plugin{host: h, manifest: m, needs: map[string][]string{}, changed: make(chan struct{}), done: make(chan struct{})}
	if err := h.adopt(op, p); err != nil {
		return nil, err
	}
	if err := p.begin(ctx, root, dir, op); err != nil {
		close(p.done)
		h.disown(p)
		return nil, err
	}
	return p, nil
}

// begin starts the plugin's first process and its supervisor.
func (p *Plugin) begin(ctx context.Context, root *os.Root, dir, op string) error {
	copyDir := filepath.Join(p.host.dir("x"), p.manifest.Name+"-"+randomID())
	begun := false
	defer func() {
		if !begun {
			_ = os.RemoveAll(copyDir)
		}
	}()
	path, err := p.manifest.privateCopy(root, copyDir, op)
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return core.Errorf(core.KindInternal, op, "%w", err)
	}
	p.spec = spec{name: p.manifest.Name, version: p.manifest.Version, argv: []string{path}, dir: abs, limits: p.host.opts.Limits}
	proc, said, err := p.host.spawn(ctx, p.spec)
	if err != nil {
		return startError(op, err)
	}
	p.types = taskTypes(said, "plugin:"+p.manifest.Name)
	if err := p.checkDescription(said, op); err != nil {
		proc.stop(ctx)
		return err
	}
	for _, t := range p.types {
		p.needs[t.Name] = t.Needs
	}
	p.host.log.Info("plugin started", "plugin", p.manifest.Name, "version", p.manifest.Version, "pid", proc.pid,
		"sdk", said.GetSdk(), "task_types", len(p.types))
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	p.mu.Lock()
	stopped := p.stopped
	p.proc, p.end = proc, end
	p.mu.Unlock()
	begun = true
	if stopped { // the host was stopped meanwhile
		end()
	}
	go p.supervise(alive, proc, copyDir) // ends with Stop
	return nil
}

func (p *Plugin) checkDescription(said *pluginv1.DescribeResponse, op string) error {
	found := checkTypes(p.types, p.manifest.Namespaces)
	if said.GetName() != p.manifest.Name {
		found = append(found, finding("name", fmt.Sprintf("程序自称 %q，与 plugin.yaml 中的 %q 不符", said.GetName(), p.manifest.Name),
			fmt.Sprintf("the program calls itself %q, plugin.yaml says %q", said.GetName(), p.manifest.Name)))
	}
	if said.GetVersion() != p.manifest.Version {
		found = append(found, finding("version", fmt.Sprintf("程序自称版本 %q，与 plugin.yaml 中的 %q 不符", said.GetVersion(), p.manifest.Version),
			fmt.Sprintf("the program says it is version %q, plugin.yaml says %q", said.GetVersion(), p.manifest.Version)))
	}
	if len(found) > 0 {
		return core.Invalid(op, found...)
	}
	return nil
}

// startError gives the reason a process did not start the kind its reader can act on.
func startError(op string, err error) error {
	if e, ok := errors.AsType[*core.Error](err); ok {
		return e
	}
	if errors.Is(err, errProtocol) {
		return core.Invalid(op, finding("protocol", "程序使用的插件协议版本与本程序不同："+err.Error(), err.Error()))
	}
	return core.Errorf(core.KindUnavailable, op, "the program did not start as a plugin: %w", err)
}

// Name gives the plugin's name, as in plugin.yaml.
func (p *Plugin) Name() string { return p.manifest.Name }

// Version gives the plugin's version, as in plugin.yaml.
func (p *Plugin) Version() string { return p.manifest.Version }

// SHA256 is the checksum of the executable that runs here, 64 hexadecimal digits.
func (p *Plugin) SHA256() string { return p.manifest.Executables[platform].SHA256 }

// Types gives the task types the plugin offers. The caller may keep the slice.
func (p *Plugin) Types() []core.TaskType { return slices.Clone(p.types) }

// supervise starts the process again whenever it has ended, until alive does.
func (p *Plugin) supervise(alive context.Context, proc *process, copyDir string) {
	defer close(p.done)
	defer func() { _ = os.RemoveAll(copyDir) }() // what stays is removed with the run folder
	began := p.host.opts.Clock.Now()
	for {
		if proc != nil {
			select {
			case <-proc.exited:
			case <-alive.Done():
				return // Stop ends the process
			}
		}
		now := p.host.opts.Clock.Now()
		var wait time.Duration
		if proc == nil || proc.killedBy() == "" {
			p.mu.Lock()
			wait = p.breaker.crashed(now, now.Sub(began))
			open := p.breaker.open
			p.mu.Unlock()
			if proc != nil {
				p.host.log.Warn("a plugin crashed", "plugin", p.manifest.Name, "version", p.manifest.Version, "pid", proc.pid,
					"exit", proc.exit, "text", proc.tail.text(), "restart_ms", wait.Milliseconds(), "breaker_open", open)
			}
		}
		p.set(nil)
		if !p.sleep(alive, wait) {
			return
		}
		began = p.host.opts.Clock.Now()
		var err error
		proc, _, err = p.host.spawn(alive, p.spec)
		if alive.Err() != nil {
			if proc != nil {
				p.set(proc) // Stop ends it
			}
			return
		}
		if err != nil {
			p.host.log.Warn("a plugin did not start again", "plugin", p.manifest.Name, "version", p.manifest.Version, "err", err)
			continue
		}
		p.host.log.Info("plugin started again", "plugin", p.manifest.Name, "version", p.manifest.Version, "pid", proc.pid)
		p.set(proc)
	}
}

// sleep waits by the host's clock; false: alive ended.
func (p *Plugin) sleep(alive context.Context, d time.Duration) bool {
	if d <= 0 {
		return alive.Err() == nil
	}
	over := make(chan struct{})
	stop := p.host.opts.Clock.AfterFunc(d, func() { close(over) })
	defer stop()
	select {
	case <-over:
		return alive.Err() == nil
	case <-alive.Done():
		return false
	}
}

// set changes the current process and wakes whoever waits for one.
func (p *Plugin) set(proc *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proc = proc
	close(p.changed)
	p.changed = make(chan struct{})
}

// current gives the process that takes attempts, and waits for one that is being started. While the breaker is open it fails at once.
func (p *Plugin) current(ctx context.Context, op string) (*process, error) {
	for {
		p.mu.Lock()
		proc, changed, stopped, open, until := p.proc, p.changed, p.stopped, p.breaker.open, p.breaker.until
		p.mu.Unlock()
		if stopped {
			return nil, core.Errorf(core.KindUnavailable, op, "plugin %q is stopped", p.manifest.Name)
		}
		if proc != nil && !proc.dead() && proc.killed.Load() == nil {
			return proc, nil
		}
		if left := until.Sub(p.host.opts.Clock.Now()); open && left > 0 && proc == nil {
			return nil, core.Errorf(core.KindUnavailable, op, "plugin %q crashed %d times within a minute; it will be started again at %s",
				p.manifest.Name, breakerLimit, until.UTC().Format(time.RFC3339))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, core.Errorf(core.KindUnavailable, op, "plugin %q is not running: %w", p.manifest.Name, context.Cause(ctx))
		}
	}
}

// Execute runs one attempt beside others in the plugin's process. Apart from what core.Executor says: KindNotFound if
// the plugin does not offer the type, KindDenied if a grant is refused, KindUnavailable while the plugin is down.
func (p *Plugin) Execute(ctx context.Context, attempt core.Attempt, sink core.Sink) (core.Outcome, error) {
	needs, ok := p.needs[attempt.TaskType]
	if !ok {
		return core.Outcome{}, p.notOffered("run", attempt.TaskType)
	}
	grants, err := p.host.grants(attempt.Namespace, attempt.TaskType, needs)
	if err != nil {
		return core.Outcome{}, err
	}
	for {
		proc, err := p.current(ctx, "run "+attempt.TaskType)
		if err != nil && ctx.Err() != nil {
			return neverBegan(ctx, "the plugin was not running"), nil
		}
		if err != nil {
			return core.Outcome{}, err
		}
		out, _, err := proc.run(ctx, &attempt, grants, sink, p.host.opts.Grace)
		if !errors.Is(err, errLeaving) {
			return out, err
		}
	}
}

// grants asks for what a type needs.
func (h *Host) grants(namespace, taskType string, needs []string) (map[string]string, error) {
	if len(needs) == 0 || h.opts.Grants == nil {
		return nil, nil
	}
	granted, err := h.opts.Grants(namespace, taskType, needs)
	if err != nil {
		if e, ok := errors.AsType[*core.Error](err); ok {
			return nil, e
		}
		return nil, core.Errorf(core.KindDenied, "grant what "+taskType+" needs", "%w", err)
	}
	return granted, nil
}

func (p *Plugin) notOffered(do, taskType string) error {
	return core.Errorf(core.KindNotFound, fmt.Sprintf("%s %q", do, taskType), "plugin %q %s does not offer it", p.manifest.Name, p.manifest.Version)
}

// validateLimit is how long Validate may take.
const validateLimit = 2 * time.Second

// Validate asks the plugin.
func (p *Plugin) Validate(ctx context.Context, taskType string, params json.RawMessage) ([]core.Finding, error) {
	if _, ok := p.needs[taskType]; !ok {
		return nil, p.notOffered("validate", taskType)
	}
	ctx, cancel := context.WithTimeout(ctx, validateLimit)
	defer cancel()
	proc, err := p.current(ctx, "validate parameters of "+taskType)
	if err != nil {
		return nil, err
	}
	return proc.validate(ctx, taskType, params)
}

func (p *process) validate(ctx context.Context, taskType string, params json.RawMessage) ([]core.Finding, error) {
	answer, err := p.api.Validate(ctx, &pluginv1.ValidateRequest{TaskType: taskType, Params: params})
	if err == nil {
		return findings(answer.GetFindings()), nil
	}
	op := "validate parameters of " + taskType
	switch status.Code(err) {
	case codes.NotFound:
		return nil, core.Errorf(core.KindNotFound, op, "%s %q does not offer it", p.name, p.version)
	case codes.DeadlineExceeded, codes.Unavailable, codes.Canceled:
		return nil, core.Errorf(core.KindUnavailable, op, "%s: %s", p.name, status.Convert(err).Message())
	}
	return nil, core.Errorf(core.KindInternal, op, "%s: %s", p.name, status.Convert(err).Message())
}

// Stop drains and ends the plugin: new attempts are refused at once, those in progress may go on until ctx ends; then
// they end as crashed. It returns when nothing of the plugin is left.
func (p *Plugin) Stop(ctx context.Context) error {
	p.mu.Lock()
	p.stopped = true
	proc, end := p.proc, p.end
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	if proc != nil {
		proc.drain(ctx)
	}
	if end != nil {
		end()
	}
	<-p.done
	p.mu.Lock()
	proc, p.proc = p.proc, nil
	p.mu.Unlock()
	if proc != nil {
		proc.stop(ctx)
	}
	p.host.disown(p)
	return nil
}
