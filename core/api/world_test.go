package api_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/catalog"
	"github.com/gnomon-scheduler/gnomon/core/definition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is one server with real definitions, catalog, schedules and access over tables in memory.
type world struct {
	t       *testing.T
	api     *api.API
	url     string
	client  *http.Client
	opts    api.Options
	tables  *tables
	history *history
	insight *insight
	starter *starter
	spool   *spool
	access  *access.Access
	admin   string // token
	log     *bytes.Buffer
	acts    *acts
}

type acts struct {
	mu  sync.Mutex
	all []api.Act
	err error
}

func (a *acts) record(_ context.Context, act api.Act) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, act)
	return a.err
}

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, tables: newTables(), history: &history{}, spool: newSpool(), acts: &acts{}, log: &bytes.Buffer{},
	}
	cat := catalog.New()
	err := cat.Offer("plugin:test", noop{}, []core.TaskType{
		{
			Name: "Common.Echo", Version: "1.0.0", Title: core.Text{Zh: "回声", En: "Echo"},
			ParamsSchema: json.RawMessage(`{"type":"object","properties":{"count":{"type":"integer","minimum":1},"urls":{"type":"array","items":{"type":"string"}}},"additionalProperties":false}`),
		},
		{Name: "Common.Broken", ParamsSchema: json.RawMessage(`{}`), Problem: "Broken.lua:3: unexpected symbol near 'end'"},
		{Name: "Foreign.Secret", ParamsSchema: json.RawMessage(`{}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.access, err = access.New(access.Options{Store: w.tables}); err != nil {
		t.Fatal(err)
	}
	defs := definition.New(definition.Options{
		Store: w.tables, Catalog: cat, Clock: core.SystemClock{}, Log: slog.New(slog.DiscardHandler), Announce: func(core.Task, bool) {},
	})
	w.insight, w.starter = &insight{}, &starter{w: w, defs: defs}
	for _, name := range []string{"Common", "Foreign"} {
		if _, err := defs.PutNamespace(t.Context(), core.Namespace{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	w.opts = api.Options{
		Definitions: defs, Settings: settings{defs}, Rehearse: rehearse(defs), Catalog: cat, Schedules: previews{defs}, Runner: w.starter,
		Workflows: graphs{w}, Insight: w.insight, Live: w.tables, History: w.history,
		Query: w.history.query, Place: w.history.place, Progress: w.history.progress, BackUp: backUp, Logs: w.spool, Health: healthy{}, Tokens: tokens{w.access}, Roles: roles(),
		Authenticate: func(ctx context.Context, token string) (api.Principal, error) {
			return w.access.Authenticate(ctx, token)
		},
		Audit: w.acts.record, Permissions: access.Permissions(), Hosts: []string{"gnomon.hospital.example"},
		Heartbeat: 20 * time.Millisecond, Poll: 5 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(&locked{w: w.log}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	w.serve()
	w.admin = w.token(access.Admin, access.Everywhere)
	return w
}

func (w *world) serve() {
	w.t.Helper()
	var err error
	if w.api, err = api.New(w.opts); err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewServer(w.api.Handler())
	w.url, w.client = server.URL, server.Client()
	w.t.Cleanup(func() {
		w.api.Stop()
		w.client.CloseIdleConnections()
		server.Close()
	})
}

func (w *world) token(role access.Role, namespace string) string {
	w.t.Helper()
	return w.named(string(role), role, namespace)
}

// named issues a token to somebody.
func (w *world) named(name string, role access.Role, namespace string) string {
	w.t.Helper()
	secret, err := w.access.Issue(w.t.Context(), access.Principal{
		Name: name, Grants: map[string]access.Role{namespace: role},
	}, "test", time.Time{})
	if err != nil {
		w.t.Fatal(err)
	}
	return secret.Reveal()
}

// tokens is package access as the API wants it.
type tokens struct{ *access.Access }

func (k tokens) Tokens(ctx context.Context) ([]api.Token, error) {
	held, err := k.Access.Tokens(ctx)
	var list []api.Token
	for _, h := range held {
		grants := map[string]string{}
		for ns, role := range h.Principal.Grants {
			grants[ns] = string(role)
		}
		list = append(list, api.Token{ID: h.ID, Principal: h.Principal.Name, Grants: grants, Purpose: h.Purpose})
	}
	return list, err
}

func (k tokens) IssueToken(ctx context.Context, principal string, grants map[string]string, purpose string, expires time.Time) (api.NewToken, error) {
	p := access.Principal{Name: principal, Grants: map[string]access.Role{}}
	for ns, role := range grants {
		p.Grants[ns] = access.Role(role)
	}
	secret, err := k.Issue(ctx, p, purpose, expires)
	return api.NewToken{Token: api.Token{ID: access.TokenID(secret), Principal: principal, Grants: grants}, Value: secret.Reveal()}, err
}

func (k tokens) RevokeToken(ctx context.Context, id string) error { return k.Revoke(ctx, id) }

type answer struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

// problem gives the location -> message of an answer's errors.
func (a answer) problem() map[string]string {
	out := map[string]string{}
	list, _ := a.body["errors"].([]any)
	for _, e := range list {
		m, _ := e.(map[string]any)
		location, _ := m["location"].(string)
		out[location], _ = m["message"].(string)
	}
	return out
}

// do sends a request; options are name, value pairs of headers.
func (w *world) do(token, method, path, body string, headers ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body == "" {
		req.Body = http.NoBody
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	out := answer{status: resp.StatusCode, header: resp.Header, raw: string(raw)}
	_ = json.Unmarshal(raw, &out.body)
	return out
}

func (w *world) must(status int, a answer) answer {
	w.t.Helper()
	if a.status != status {
		w.t.Fatalf("status %d instead of %d: %s", a.status, status, a.raw)
	}
	return a
}

const echo = `{"type":"Common.Echo","params":{"count":3},"schedule":{"spec":"*/5 * * * *","zone":"Asia/Shanghai"}}`

// task creates a task and gives its id.
func (w *world) task(namespace, name string) string {
	w.t.Helper()
	a := w.must(201, w.do(w.admin, "PUT", "/v1/namespaces/"+namespace+"/tasks/"+name, echo))
	id, _ := a.body["id"].(string)
	return id
}

// noop is a provider that is never asked to execute.
type noop struct{}

func (noop) Execute(context.Context, core.Attempt, core.Sink) (core.Outcome, error) {
	return core.Outcome{Verdict: core.Succeeded}, nil
}

func (noop) Validate(context.Context, string, json.RawMessage) ([]core.Finding, error) {
	return nil, nil
}

type healthy struct{}

func (healthy) Ready(context.Context) error { return nil }
func (healthy) Status(context.Context) api.Status {
	return api.Status{
		Version: "test", Ready: true, Store: "memory", Spool: api.SpoolStatus{ShippedLines: 4711, LinesPerSecond: 11.5, Unshipped: 3},
		History: api.HistoryStatus{Answers: true, DiskBytes: 1 << 20, Tables: []api.HistoryTable{{Name: "runs", Rows: 1556}}},
	}
}

// tables is a store in memory.
type tables struct {
	mu         sync.Mutex
	namespaces map[string]core.Namespace
	tasks      map[string][]core.Task // versions, oldest first
	runs       map[string]core.Run
	tokens     map[string]core.Token

	resources     map[string]core.Resource // kind, a blank and name
	holdings      []core.Holding
	breakers      map[string]core.Breaker
	interventions map[string]core.Intervention
}

func newTables() *tables {
	return &tables{
		namespaces: map[string]core.Namespace{}, tasks: map[string][]core.Task{}, runs: map[string]core.Run{}, tokens: map[string]core.Token{},
		resources: map[string]core.Resource{}, breakers: map[string]core.Breaker{}, interventions: map[string]core.Intervention{},
	}
}

func none(what string) error { return core.Errorf(core.KindNotFound, what, "none") }

func (s *tables) CreateToken(_ context.Context, t core.Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[t.Hash] = t
	return nil
}

func (s *tables) Tokens(context.Context) ([]core.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.tokens), func(a, b core.Token) int { return strings.Compare(a.Hash, b.Hash) }), nil
}

func (s *tables) RevokeToken(_ context.Context, hash string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, hash)
	return nil
}

// roles is the names of all roles.
func roles() (names []string) {
	for _, r := range access.Roles() {
		names = append(names, string(r))
	}
	return names
}

func (s *tables) TokenByHash(_ context.Context, hash string) (core.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tokens[hash]
	if !ok {
		return t, none("token")
	}
	return t, nil
}

func (s *tables) PutNamespace(_ context.Context, n core.Namespace) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.namespaces[n.Name] = n
	return nil
}

func (s *tables) Namespace(_ context.Context, name string) (core.Namespace, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.namespaces[name]
	if !ok {
		return n, none("namespace " + name)
	}
	return n, nil
}

func (s *tables) Namespaces(context.Context) ([]core.Namespace, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []core.Namespace
	for _, n := range s.namespaces {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b core.Namespace) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (s *tables) CreateTask(_ context.Context, t core.Task) (core.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, versions := range s.tasks {
		if o := versions[len(versions)-1]; o.Namespace == t.Namespace && o.Name == t.Name {
			return t, core.Errorf(core.KindConflict, "create task "+t.Name, "there is one of that name")
		}
	}
	t.Version = 1
	s.tasks[t.ID] = []core.Task{t}
	return t, nil
}

func (s *tables) UpdateTask(_ context.Context, t core.Task, _ ...core.Run) (core.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := s.tasks[t.ID]
	if len(versions) == 0 {
		return t, none("task")
	}
	if versions[len(versions)-1].Version != t.Version {
		return t, core.Errorf(core.KindStale, "change task "+t.Name, "another version")
	}
	t.Version++
	s.tasks[t.ID] = append(versions, t)
	return t, nil
}

func (s *tables) DeleteTask(_ context.Context, id string, _ ...core.Run) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tasks, id)
	return nil
}

func (s *tables) Task(_ context.Context, id string) (core.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	versions := s.tasks[id]
	if len(versions) == 0 {
		return core.Task{}, none("task " + id)
	}
	return versions[len(versions)-1], nil
}

func (s *tables) TaskByName(_ context.Context, namespace, name string) (core.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, versions := range s.tasks {
		if t := versions[len(versions)-1]; t.Namespace == namespace && t.Name == name {
			return t, nil
		}
	}
	return core.Task{}, none("task " + name)
}

func (s *tables) Tasks(_ context.Context, f core.TaskFilter) ([]core.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []core.Task
	for _, versions := range s.tasks {
		t := versions[len(versions)-1]
		if t.ID > f.AfterID && (f.Namespaces == nil || slices.Contains(f.Namespaces, t.Namespace)) &&
			(f.Type == "" || f.Type == t.Type) && (f.Enabled == nil || *f.Enabled == t.Enabled) && strings.Contains(t.Name, f.Search) {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b core.Task) int { return cmp.Compare(a.ID, b.ID) })
	return list[:min(len(list), f.Limit)], nil
}

func (s *tables) TaskVersions(_ context.Context, id string) ([]core.Task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.tasks[id])
	slices.Reverse(list)
	return list, nil
}

func (s *tables) put(r core.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[r.ID] = r
}

func (s *tables) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.runs, id)
}

func (s *tables) Run(_ context.Context, id string) (core.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.runs[id]
	if !ok {
		return r, none("run " + id)
	}
	return r, nil
}

func (s *tables) Runs(_ context.Context, f core.RunFilter) ([]core.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []core.Run
	for _, r := range s.runs {
		list = append(list, r)
	}
	return pickRuns(list, f), nil
}

func pickRuns(all []core.Run, f core.RunFilter) []core.Run {
	list := slices.DeleteFunc(slices.Clone(all), func(r core.Run) bool {
		return f.BeforeID != "" && r.ID >= f.BeforeID || f.Namespaces != nil && !slices.Contains(f.Namespaces, r.Namespace) ||
			f.WorkflowID != "" && r.WorkflowID != f.WorkflowID || f.CausedBy != "" && r.CausedBy != f.CausedBy ||
			len(f.States) > 0 && !slices.Contains(f.States, r.State) || f.LiveOnly && r.Verdict != "" || len(f.Verdicts) > 0 && !slices.Contains(f.Verdicts, r.Verdict)
	})
	slices.SortFunc(list, func(a, b core.Run) int { return cmp.Compare(b.ID, a.ID) })
	return list[:min(len(list), f.Limit)]
}

// history is what has been shipped.
type history struct {
	mu         sync.Mutex
	runs       []core.Run
	lines      []core.LoggedLine
	down       bool
	asked      int
	endless    []string // queries
	breakAfter int      // questions for lines
	full       atomic.Bool
	taken      atomic.Int64 // places
	abandoned  atomic.Value // the last query whose place was given back before its end
}

var errDown = core.Errorf(core.KindUnavailable, "ask history", "the engine does not answer")

func (h *history) Runs(_ context.Context, f core.RunFilter) ([]core.Run, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return nil, errDown
	}
	return pickRuns(h.runs, f), nil
}

func (h *history) Run(_ context.Context, id string) (core.Run, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return core.Run{}, errDown
	}
	for _, r := range h.runs {
		if r.ID == id {
			return r, nil
		}
	}
	return core.Run{}, none("run " + id)
}

func (h *history) Attempts(context.Context, string) ([]core.AttemptRecord, error) {
	return []core.AttemptRecord{{Origin: core.Origin{Attempt: 1}, Verdict: core.Failed, Message: "no route"}}, nil
}

func (h *history) Samples(context.Context, string) ([]core.RunSample, error) {
	return []core.RunSample{{Origin: core.Origin{Attempt: 1}, CPU: 1500 * time.Millisecond, CPUSource: core.SourceMeasured}}, nil
}

func (h *history) Lines(_ context.Context, f core.LineFilter) ([]core.LoggedLine, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	if h.down || h.breakAfter > 0 && h.asked > h.breakAfter {
		return nil, errDown
	}
	return pickLines(h.lines, f), nil
}

// SearchLines gives what stands there of a task, the newest first.
func (h *history) SearchLines(_ context.Context, f core.LineSearch) ([]core.LoggedLine, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return nil, errDown
	}
	var list []core.LoggedLine
	for _, l := range slices.Backward(h.lines) {
		if l.Origin.TaskID == f.TaskID && !l.Origin.FireAt.Before(f.From) && l.Origin.FireAt.Before(f.To) && (core.LineFilter{Text: f.Text, MinLevel: f.MinLevel}).Wants(l.LogLine) &&
			(f.Before == nil || l.Seq < f.Before.Seq) {
			list = append(list, l)
		}
	}
	return list[:min(len(list), f.Limit)], nil
}

func pickLines(all []core.LoggedLine, f core.LineFilter) []core.LoggedLine {
	list := slices.DeleteFunc(slices.Clone(all), func(l core.LoggedLine) bool {
		return l.Origin.RunID != f.RunID || f.Attempt != 0 && l.Origin.Attempt != f.Attempt || !f.Wants(l.LogLine) ||
			l.Origin.Attempt < f.AfterAttempt || l.Origin.Attempt == f.AfterAttempt && l.Seq <= f.AfterSeq
	})
	return list[:min(len(list), f.Limit)]
}

// valuesRow is a row of an answer.
type valuesRow []any

func (r valuesRow) Cells() (cells []json.RawMessage) {
	for _, v := range r {
		cell, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		cells = append(cells, cell)
	}
	return cells
}

func (r valuesRow) Values() []any { return r }

func (h *history) query(ctx context.Context, q api.Query, head func([]api.Column) error, row func(api.Row) error) (bool, error) {
	switch q.SQL {
	case "SELEC":
		return false, core.Invalid("query history", core.Finding{Path: "sql", Message: core.Text{Zh: "语法错误", En: "syntax error at position 1"}})
	case "broken":
		err := head([]api.Column{{Name: "n", Type: "UInt64"}})
		for range 50000 {
			err = errors.Join(err, row(valuesRow{uint64(1)}))
		}
		return false, errors.Join(err, errDown)
	case "infinite":
		return false, errors.Join(head([]api.Column{{Name: "a", Type: "Float64"}, {Name: "b", Type: "Nullable(Float32)"}}), row(valuesRow{"-inf", "nan"}))
	case "params":
		var values []any
		for _, name := range slices.Sorted(maps.Keys(q.Params)) {
			if q.Params[name] == nil {
				values = append(values, "NULL")
			} else {
				values = append(values, *q.Params[name])
			}
		}
		return false, errors.Join(head([]api.Column{{Name: "a", Type: "String"}, {Name: "b", Type: "String"}}), row(valuesRow(values)))
	case "stopped":
		slow := core.Text{Zh: "语句的执行时间太长", En: "the statement takes too long"}
		err := &core.Error{Kind: core.KindExhausted, Op: "query history", Err: errors.New(slow.En), Findings: []core.Finding{{Path: "sql", Message: slow}}}
		if q.Format != "" {
			_, _ = q.Into.Write([]byte(strings.Repeat("PAR1", 50000)))
			return false, err
		}
		_ = head([]api.Column{{Name: "n", Type: "UInt64"}})
		for range 50000 {
			_ = row(valuesRow{uint64(1)})
		}
		return false, err
	case "wordy":
		return false, core.Errorf(core.KindInvalid, "query history",
			"Code: 62. DB::Exception: Syntax error: failed at position 1 (SELEC). Expected one of: a, b, c, d, e, f, g, h. (SYNTAX_ERROR)")
	case "endless":
		if err := head([]api.Column{{Name: "n", Type: "UInt64"}}); err != nil {
			return false, err
		}
		h.mu.Lock()
		h.endless = append(h.endless, q.ID)
		h.mu.Unlock()
		<-ctx.Done()
		return false, ctx.Err()
	case "slow": // a row, and the next when the caller goes
		err := errors.Join(head([]api.Column{{Name: "n", Type: "UInt64"}}), row(valuesRow{uint64(7)}))
		<-ctx.Done()
		return false, errors.Join(err, ctx.Err())
	case "file":
		_, err := q.Into.Write([]byte(q.Format))
		return false, err
	case "cells":
		columns := []api.Column{{Name: "=n", Type: "UInt64"}, {Name: "at", Type: "Nullable(DateTime64(3, 'Asia/Shanghai'))"}, {Name: "day", Type: "Date"},
			{Name: "text", Type: "LowCardinality(String)"}, {Name: "list", Type: "Array(UInt8)"}, {Name: "price", Type: "Decimal(9, 2)"}, {Name: "ok", Type: "Bool"}}
		return false, errors.Join(head(columns),
			row(valuesRow{uint64(7), "2026-12-01T08:00:00.25+08:00", "2026-12-01", "=HYPERLINK(\"http://evil\")", json.RawMessage("[1]"), "1.25", true}),
			row(valuesRow{uint64(1)<<53 + 1, nil, "1899-01-01", "中文 +1", json.RawMessage("[]"), "-3", false}))
	case "early":
		return false, errors.Join(head([]api.Column{{Name: "n", Type: "UInt64"}}), row(valuesRow{uint64(1)}), errDown)
	}
	err := head([]api.Column{{Name: "n", Type: "UInt64"}, {Name: "at", Type: "DateTime64(6, 'UTC')"}, {Name: "text", Type: "Nullable(String)"}})
	for i := range min(q.MaxRows, 3) {
		var text any
		if i == 0 {
			text = "é, \"q\"\n"
		}
		err = errors.Join(err, row(valuesRow{uint64(i), "2026-12-01T00:00:00.000005Z", text}))
	}
	return q.MaxRows < 3, err
}

// place refuses while the places are full, and counts those that were not given back.
func (h *history) place(_ context.Context, who, id string) (func(ended bool), error) {
	if h.full.Load() {
		said := core.Text{Zh: who + " 最多 4 条，现有 4 条", En: who + " may have 4 at once and has 4"}
		return nil, &core.Error{Kind: core.KindExhausted, Op: "query history", Err: errors.New(said.En), Findings: []core.Finding{{Message: said}}}
	}
	h.taken.Add(1)
	return func(ended bool) {
		h.taken.Add(-1)
		if !ended {
			h.abandoned.Store(id)
		}
	}, nil
}

func backUp(_ context.Context, folder, base string) (api.Backup, error) {
	return api.Backup{Folder: "/backups/" + folder, Base: base, Tables: []api.BackedTable{}}, nil
}

// progress gives how far the endless queries are.
func (h *history) progress(context.Context) (map[string]api.QueryProgress, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]api.QueryProgress{}
	for _, id := range h.endless {
		all[id] = api.QueryProgress{ReadRows: 12, ReadBytes: 34, MemoryBytes: 56}
	}
	return all, nil
}

// spool is what the recorder holds.
type spool struct {
	mu       sync.Mutex
	lines    []core.LoggedLine
	said     chan struct{}
	followed int // how often
}

func newSpool() *spool { return &spool{said: make(chan struct{})} }

func (s *spool) say(run string, attempt int, from, to uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, spoken(run, attempt, from, to)...)
	close(s.said)
	s.said = make(chan struct{})
}

func (s *spool) tails() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.followed
}

func spoken(run string, attempt int, from, to uint64) (list []core.LoggedLine) {
	for seq := from; seq <= to; seq++ {
		level := core.LevelInfo
		if seq%3 == 0 {
			level = core.LevelError
		}
		list = append(list, core.LoggedLine{Origin: &core.Origin{RunID: run, Attempt: attempt}, LogLine: core.LogLine{
			At: time.Unix(1796083200, 0), Level: level, Stream: core.StreamLog, Seq: seq, Message: "line",
		}})
	}
	return list
}

func (s *spool) Lines(_ context.Context, f core.LineFilter) ([]core.LoggedLine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return pickLines(s.lines, f), nil
}

func (s *spool) Tail(context.Context, string) api.Tail {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.followed++
	return &tail{s: s, said: s.said}
}

type tail struct {
	s    *spool
	said chan struct{}
}

func (t *tail) Next(ctx context.Context) ([]core.LoggedLine, error) {
	select {
	case <-t.said:
		t.s.mu.Lock()
		defer t.s.mu.Unlock()
		t.said = t.s.said
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (*tail) Close() {}

// locked lets the server log while a test reads.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
