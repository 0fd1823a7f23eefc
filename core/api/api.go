// Package api is Gnomon's REST interface: one file per noun, OpenAPI 3.1, problems by RFC 9457. Sole owner of huma.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Sizes of request bodies, bytes.
const (
	maxBody  = 1 << 20
	maxQuery = 256 << 10
)

// Options are the rooms the API answers for. All are needed but Clock, Log, Hosts, Heartbeat and Poll.
type Options struct {
	Definitions Definitions
	Settings    Settings
	Rehearse    func(ctx context.Context) (Rehearsal, error)
	Catalog     Catalog
	Schedules   Schedules
	Runner      Runner
	Workflows   Workflows
	Insight     Insight
	Live        Live
	History     History
	Query       QueryFunc
	// Place waits until a principal may have one statement more under way, and keeps the place until free is called, and of one
	// that has not ended until history has no statement of that id; KindExhausted with a finding if that takes too long.
	Place    func(ctx context.Context, principal, id string) (free func(ended bool), err error)
	Progress ProgressFunc
	// BackUp backs up history into a folder of the server, upon base if that is not empty; KindInvalid with findings at folder
	// and base, KindConflict if the folder exists.
	BackUp func(ctx context.Context, folder, base string) (Backup, error)
	Logs   Logs
	Health Health
	Tokens Tokens

	// Clock is the time the server lives by; nil: the machine's.
	Clock core.Clock
	// Authenticate gives the principal of a token, or KindUnauthenticated.
	Authenticate func(ctx context.Context, token string) (Principal, error)
	// Audit keeps an act, durably, before it takes effect; an error forbids the act.
	Audit func(ctx context.Context, act Act) error
	// Permissions is the closed list; an operation that names another one is a programmer's mistake.
	Permissions []string
	// Roles are the names of all roles.
	Roles []string
	// Hosts are the names under which the server may be asked besides loopback's, without port.
	Hosts []string
	// Heartbeat is the time between two comments on a silent live log; 0: 15 s.
	Heartbeat time.Duration
	// Poll is how often a live log looks for new lines; 0: 250 ms.
	Poll time.Duration
	Log  *slog.Logger
}

// API answers HTTP requests. Safe for concurrent use.
type API struct {
	opts    Options
	huma    huma.API
	mux     *http.ServeMux
	handler http.Handler
	origin  *http.CrossOriginProtection
	ops     []*huma.Operation
	running queriesRunning
	asking  singleflight.Group // lines of one run, for all who follow it

	stop sync.Once
	done chan struct{} // closed by Stop: live streams end
}

// request is what is known about one request on its way; it lives in the request's context.
type request struct {
	id         string
	lang       string
	operation  string
	log        *slog.Logger
	principal  Principal
	pathFields []string // fields of a noun that stand in the path instead of the body
	task       core.Task
	run        core.Run

	intervention core.Intervention
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{lang: "en", log: slog.New(slog.DiscardHandler)}
}

// New makes the API. It fails if a part is missing or an operation does not declare the permission it needs and where
// its namespace comes from: a server that cannot say who may do what does not start.
func New(o Options) (*API, error) {
	for name, missing := range map[string]bool{
		"definitions": o.Definitions == nil, "catalog": o.Catalog == nil, "schedules": o.Schedules == nil,
		"runner": o.Runner == nil, "settings": o.Settings == nil, "rehearse": o.Rehearse == nil, "workflows": o.Workflows == nil, "insight": o.Insight == nil, "live": o.Live == nil, "history": o.History == nil, "query": o.Query == nil, "place": o.Place == nil, "progress": o.Progress == nil, "backup": o.BackUp == nil, "logs": o.Logs == nil,
		"health": o.Health == nil, "tokens": o.Tokens == nil, "roles": len(o.Roles) == 0, "authenticate": o.Authenticate == nil, "audit": o.Audit == nil,
	} {
		if missing {
			return nil, fmt.Errorf("api needs %s", name)
		}
	}
	return build(o, nil)
}

// Document gives the OpenAPI document as YAML. It needs no server.
func Document(permissions []string) ([]byte, error) {
	a, err := build(Options{Permissions: permissions}, nil)
	if err != nil {
		return nil, err
	}
	return a.huma.OpenAPI().YAML()
}

func build(o Options, more func(huma.API)) (*API, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = core.SystemClock{}
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 15 * time.Second
	}
	if o.Poll <= 0 {
		o.Poll = 250 * time.Millisecond
	}
	a := &API{opts: o, mux: http.NewServeMux(), done: make(chan struct{})}
	config := huma.DefaultConfig("Gnomon", "v1")
	config.Info.Description = "Runs an organisation's background work and keeps everything about it. " +
		"Times are RFC 3339 UTC, durations are written 30s or 1h30m, lists are paged by cursor, problems follow RFC 9457."
	// The built-in pages load scripts from elsewhere and the link transformer adds fields nobody asked for.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", "", nil
	config.RejectUnknownQueryParameters = true
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "The bootstrap token, or one issued later"},
	}
	a.huma = huma.NewAPI(config, &watched{Adapter: humago.NewAdapter(a.mux, ""), api: a})
	a.huma.UseMiddleware(a.authorize)
	a.namespaces()
	a.taskTypes()
	a.tasks()
	a.taskActions()
	a.runs()
	a.workflows()
	a.logs()
	a.logFile()
	a.queue()
	a.interventions()
	a.schedules()
	a.calendars()
	a.holidays()
	a.pools()
	a.downstreams()
	a.breakers()
	a.checks()
	a.insights()
	a.queries()
	a.runningQueries()
	a.tokens()
	a.backups()
	a.server()
	if more != nil {
		more(a.huma)
	}
	var errs []error
	for _, op := range a.ops {
		errs = append(errs, a.check(op))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("build the API: %w", err)
	}
	a.mux.HandleFunc("/", a.nothingHere)
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.refuse(w, r, http.StatusForbidden, core.KindDenied, core.Text{
			Zh: "请求来自别的网站", En: "the request comes from another site",
		})
	}))
	a.origin = origin
	a.handler = a.enter(a.sameHost(origin.Handler(bounded(a.mux))))
	return a, nil
}

// bounded limits what a request may bring.
func bounded(next http.Handler) http.Handler {
	many, one := http.MaxBytesHandler(next, maxCheck), http.MaxBytesHandler(next, maxBody)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == checkPath {
			many.ServeHTTP(w, r)
			return
		}
		one.ServeHTTP(w, r)
	})
}

// watched notes every operation that is registered, by whatever way, so that none escapes the check.
type watched struct {
	huma.Adapter
	api *API
}

func (w *watched) Handle(op *huma.Operation, handler func(huma.Context)) {
	w.api.ops = append(w.api.ops, op)
	w.Adapter.Handle(op, handler)
}

// Beside gives a handler of another room the checks that come before every operation here: request id, security headers, the
// host's name, the site a browser comes from, and what happens after a panic. Who may ask is the handler's own to check.
func (a *API) Beside(next http.Handler) http.Handler {
	return a.enter(a.sameHost(a.origin.Handler(next)))
}

// Handler gives the whole API, checks included.
func (a *API) Handler() http.Handler { return a.handler }

// Stop ends the live streams, so that a graceful shutdown of the HTTP server does not wait for them. Safe to call twice.
func (a *API) Stop() { a.stop.Do(func() { close(a.done) }) }

// stopped tells whether Stop was called.
func (a *API) stopped() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// Operation is one operation as the document names it, and what it demands.
type Operation struct {
	ID, Method, Path, Permission, Namespace string
	Changes                                 bool
}

// Operations lists every operation, for whoever wants to check them all.
func (a *API) Operations() []Operation {
	list := make([]Operation, 0, len(a.ops))
	for _, op := range a.ops {
		r, _ := op.Metadata[ruleKey].(rule)
		list = append(list, Operation{op.OperationID, op.Method, op.Path, r.permission, string(r.source), r.changes})
	}
	return list
}

// enter is the outermost layer: request id, language, security headers, and what happens after a panic.
func (a *API) enter(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req := &request{
			id: uuid.Must(uuid.NewV7()).String(), lang: language(r.Header.Get("Accept-Language")), log: a.opts.Log,
		}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, req))
		h := w.Header()
		h.Set("X-Request-Id", req.id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		out := &counted{ResponseWriter: w}
		began := time.Now()
		defer func() {
			if cause := recover(); cause != nil && cause != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
				a.opts.Log.Error("request panicked", "request_id", req.id, "operation", req.operation,
					"err", fmt.Sprint(cause), "stack", string(debug.Stack()))
				if out.status != 0 {
					panic(http.ErrAbortHandler) // the answer has begun: cut it, so that nobody takes it for whole
				}
				a.refuse(out, r, http.StatusInternalServerError, core.KindInternal, core.Text{
					Zh: "服务器出错；日志中可按请求号 " + req.id + " 查找", En: "the server's log has the cause under request " + req.id,
				})
			} else if cause != nil {
				panic(cause)
			}
			a.opts.Log.Debug("request answered", "request_id", req.id, "operation", req.operation, "method", r.Method,
				"path", r.URL.Path, "status", out.status, "duration_ms", time.Since(began).Milliseconds())
		}()
		next.ServeHTTP(out, r)
	})
}

// counted remembers the status of an answer.
type counted struct {
	http.ResponseWriter
	status int
}

func (c *counted) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *counted) Write(b []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	return c.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// sameHost refuses a request whose Host is not ours: a name somebody else controls that now resolves to this machine
// (DNS rebinding) would let a web page ask us as if it were local.
func (a *API) sameHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ours(r.Host, a.opts.Hosts) {
			a.refuse(w, r, http.StatusMisdirectedRequest, core.KindDenied, core.Text{
				Zh: "本服务器不以这个主机名应答", En: "this server does not answer under that host name",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func ours(hostport string, hosts []string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Unmap().IsLoopback() {
		return true
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

func (a *API) nothingHere(w http.ResponseWriter, r *http.Request) {
	a.refuse(w, r, http.StatusNotFound, core.KindNotFound, core.Text{
		Zh: "没有这个操作：" + r.Method + " " + r.URL.Path, En: "there is no operation " + r.Method + " " + r.URL.Path,
	})
}
