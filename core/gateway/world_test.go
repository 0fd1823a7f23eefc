package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/engine"
	"github.com/gnomon-scheduler/gnomon/core/engine/enginetest"
	"github.com/gnomon-scheduler/gnomon/core/gateway"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// TestMain is also the engine process: the supervisor starts this binary again with "engine" first.
func TestMain(m *testing.M) {
	if enginetest.Asked() {
		var readable []engine.Readable
		for _, r := range clickhouse.Readables() {
			readable = append(readable, engine.Readable(r))
		}
		os.Exit(enginetest.Serve(context.Background(), slog.LevelInfo, readable))
	}
	goleak.VerifyTestMain(m)
}

// world is a gateway before a history of its own, in the real engine. The namespaces Common and Zeta are the asker's, and
// Foreign lies between them in the order of every key.
type world struct {
	t       *testing.T
	url     string
	socket  string
	client  *http.Client
	history *clickhouse.Client
	gateway *gateway.Gateway
	pid     func() int // of the engine

	mu      sync.Mutex
	acts    []gateway.Act
	fail    error // of the audit
	overdue int   // statements that were told to be
	running map[string]statementRunning
}

// statementRunning is a statement of the gateway that is being answered.
type statementRunning struct {
	gateway.Running
	cancel context.CancelCauseFunc
}

// stopped is why a statement ended that somebody cancelled.
type stopped string

func (s stopped) Error() string     { return "cancelled by " + string(s) }
func (s stopped) StoppedBy() string { return string(s) }

// begin notes a statement as the server does.
func (w *world) begin(ctx context.Context, r gateway.Running) (context.Context, func(), error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, twice := w.running[r.ID]; twice {
		return nil, nil, core.Errorf(core.KindConflict, "query history", "it runs")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	w.running[r.ID] = statementRunning{r, cancel}
	return ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.running, r.ID)
		cancel(nil)
	}, nil
}

// runs gives the statements that are being answered.
func (w *world) runs() map[string]statementRunning {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.running)
}

// free returns when no place is kept for a statement that nobody waits for: the gateway looks for its end from time to time.
func (w *world) free() {
	w.t.Helper()
	for n, _ := w.gateway.Abandoned(); n > 0; n, _ = w.gateway.Abandoned() {
		if w.t.Context().Err() != nil {
			w.t.Fatal("places are kept")
		}
		time.Sleep(time.Millisecond)
	}
}

// secret is in every text of every row of Foreign, and of every row of no namespace.
const secret = "sEcReT"

var tokens = map[string]access.Principal{
	"all":     {Name: "chief", Grants: map[string]access.Role{"*": access.Analyst}},
	"some":    {Name: "li", Grants: map[string]access.Role{"Common": access.Analyst, "Zeta": access.Admin, "Foreign": access.Operator}},
	"nothing": {Name: "wang", Grants: map[string]access.Role{"Common": access.Operator}},
}

func setup(t *testing.T, limits gateway.Limits, tune ...func(*clickhouse.Options)) *world {
	t.Helper()
	e := enginetest.Start(t)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	options := clickhouse.Options{Socket: e.Socket(), Log: log}
	for _, f := range tune {
		f(&options)
	}
	history, err := clickhouse.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, socket: e.Socket(), pid: e.PID, history: history, running: make(map[string]statementRunning)}
	g, err := gateway.New(gateway.Options{
		Permission: access.HistoryQuery, Admit: history.Admit, Begin: w.begin, Settings: history.AskSettings, Limits: limits, Log: log,
		Authenticate: func(_ context.Context, token string) (gateway.Principal, error) {
			p, ok := tokens[token]
			if !ok {
				return nil, core.Errorf(core.KindUnauthenticated, "", "unknown")
			}
			return p, nil
		},
		Audit: func(_ context.Context, act gateway.Act) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.acts = append(w.acts, act)
			return w.fail
		},
		Overdue: func(string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.overdue++
		},
		Works: func(ctx context.Context, id string) (bool, error) {
			running, err := history.Progress(ctx)
			_, works := running[id]
			return works, err
		},
		Upstream: func(scope statement.Scope) (gateway.Upstream, error) {
			door, err := history.Door(scope)
			return gateway.Upstream(door), err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.gateway = g
	server := httptest.NewServer(http.StripPrefix("/clickhouse", g))
	w.url, w.client = server.URL+"/clickhouse/", server.Client()
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		server.Close()
		if err := g.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if err := history.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// answer is what came back.
type answer struct {
	status int
	body   string
	header http.Header
}

// uuid is in messages about tables and in the ID of each query.
var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)

// everything is what a client can see, but for what is made at random or by the clock: it may hold any number.
func (a answer) everything() string {
	header := a.header.Clone()
	for _, random := range []string{"X-Clickhouse-Exception-Tag", "Date"} {
		header.Del(random)
	}
	return uuid.ReplaceAllString(a.body+fmt.Sprint(header), "")
}

// ask posts a statement with "name=value" parameters.
func (w *world) ask(token, sql string, params ...string) answer {
	w.t.Helper()
	a, err := w.try(w.t.Context(), token, sql, params...)
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return a
}

func (w *world) try(ctx context.Context, token, sql string, params ...string) (answer, error) {
	values := url.Values{}
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		values.Set(name, value)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"?"+values.Encode(), strings.NewReader(sql))
	if err != nil {
		return answer{}, err
	}
	req.SetBasicAuth("anyone", token)
	resp, err := w.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(raw), resp.Header}, err
}

// must asks and wants an answer.
func (w *world) must(token, sql string, params ...string) string {
	w.t.Helper()
	a := w.ask(token, sql, params...)
	if a.status != http.StatusOK {
		w.t.Fatalf("%s\nstatus %d: %s", sql, a.status, a.body)
	}
	return strings.TrimSuffix(a.body, "\n")
}

// owner runs a statement as the server does, on the engine's own socket.
func (w *world) owner(sql string, data ...string) string {
	w.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer(w.socket)}}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://engine/?query="+url.QueryEscape(sql), strings.NewReader(strings.Join(data, "\n")))
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var text bytes.Buffer
	_, err = text.ReadFrom(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %d %s %v", sql, resp.StatusCode, text.String(), errors.Join(err))
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// column is a column that can be written.
type column struct{ name, kind string }

// tables gives every table and view of history with its columns: of system.tables, so that a new one is in every test. Derived
// are those that fill does not write: views, dictionaries, and what materialised views write.
func (w *world) tables() (names []string, columns map[string][]column, derived map[string]bool) {
	w.t.Helper()
	columns, derived = make(map[string][]column), make(map[string]bool)
	for line := range strings.SplitSeq(w.owner("SELECT name, engine FROM system.tables WHERE database = 'gnomon' ORDER BY name"), "\n") {
		name, kind, _ := strings.Cut(line, "\t")
		if kind == "MaterializedView" { // it fills a table, holds nothing and is refused: it has no rule
			if a := w.ask("all", "SELECT * FROM `"+name+"`"); a.status == http.StatusOK {
				w.t.Errorf("%s can be read", name)
			}
			continue
		}
		names = append(names, name)
		derived[name] = !strings.HasSuffix(kind, "MergeTree") || strings.HasPrefix(name, ".inner") || name == "schema_migrations"
	}
	for line := range strings.SplitSeq(w.owner("SELECT table, name, type FROM system.columns WHERE database = 'gnomon' AND default_kind NOT IN ('ALIAS', 'MATERIALIZED') ORDER BY table, position FORMAT TSVRaw"), "\n") {
		part := strings.SplitN(line, "\t", 3)
		columns[part[0]] = append(columns[part[0]], column{part[1], part[2]})
		derived[part[0]] = derived[part[0]] || strings.Contains(part[2], "AggregateFunction(") // filled by a materialised view
	}
	return names, columns, derived
}

// rowsEach is how many rows of each namespace every table gets, and foreignRows of Foreign: a number that shows. foreignNumber is
// every number of others' rows.
const (
	rowsEach      = 7
	foreignRows   = 7919
	foreignNumber = 31337
)

// fill writes rows of Common, Foreign, Zeta and of no namespace into every table, in one part each, so that they share granules
// and dictionaries. All texts of Common and Zeta are numbers, so that a conversion fails on a foreign one only.
func (w *world) fill() {
	w.t.Helper()
	names, columns, derived := w.tables()
	for _, table := range names {
		if derived[table] {
			continue
		}
		var list, values []string
		for _, c := range columns[table] {
			list = append(list, "`"+c.name+"`")
			values = append(values, value(c))
		}
		w.owner(fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM (SELECT number AS n, multiIf(n < %d, 'Common', n < %d, 'Zeta', n < %d, '', 'Foreign') AS ns, ns IN ('Common', 'Zeta') AS mine FROM numbers(%d))",
			table, strings.Join(list, ", "), strings.Join(values, ", "), rowsEach, 2*rowsEach, 3*rowsEach, 3*rowsEach+foreignRows))
	}
}

// value makes a value for a column: a number as text in one's own rows, the secret in others'.
func value(c column) string {
	if c.name == "namespace" {
		return "ns"
	}
	return valueOf(c.kind)
}

func valueOf(kind string) string {
	outer, inner, wraps := strings.Cut(kind, "(")
	inner = strings.TrimSuffix(inner, ")")
	switch {
	case wraps && (outer == "LowCardinality" || outer == "Nullable"):
		return valueOf(inner)
	case wraps && outer == "SimpleAggregateFunction":
		_, of, _ := strings.Cut(inner, ", ")
		return valueOf(of)
	case outer == "Map": // keys hold no comma
		key, of, _ := strings.Cut(inner, ", ")
		return "map(" + valueOf(key) + ", " + valueOf(of) + ")"
	case outer == "Array":
		return "[" + valueOf(inner) + "]"
	case outer == "String", outer == "FixedString":
		return "if(mine, toString(n), '" + secret + "' || toString(n))"
	case outer == "DateTime64", outer == "DateTime":
		return "toDateTime64(if(mine, today() - 2, yesterday()), 6, 'UTC')" // younger than what any table drops
	case outer == "Date", outer == "Date32":
		return "if(mine, today() - 2, yesterday())"
	case outer == "Enum8", outer == "Enum16":
		return "CAST(2, '" + strings.ReplaceAll(kind, "'", "\\'") + "')"
	case outer == "Bool":
		return "mine"
	case outer == "UInt8", outer == "Int8":
		return "1"
	case strings.HasPrefix(outer, "UInt"), strings.HasPrefix(outer, "Int"), strings.HasPrefix(outer, "Float"), strings.HasPrefix(outer, "Decimal"):
		return fmt.Sprintf("if(mine, n, %d)", foreignNumber)
	}
	return "defaultValueOfTypeName('" + strings.ReplaceAll(kind, "'", "\\'") + "')"
}
