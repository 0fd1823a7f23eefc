package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// Principal is who asks, as package access knows it.
type Principal interface {
	// String gives the principal's name.
	String() string
	// Scope gives the namespaces in which the principal has a permission; all is true if that is every one.
	Scope(permission string) (all bool, namespaces []string)
}

// Act is a question about to be asked, without its text.
type Act struct {
	Principal string
	Allowed   bool
	RequestID string
	Remote    string
}

// Running is a statement that is being answered.
type Running struct {
	ID        string // names it to the client, to ClickHouse and in the log
	SQL       string
	Principal string
}

// Upstream is the ClickHouse that answers, and as whom it is asked.
type Upstream struct {
	Transport      http.RoundTripper // it gives up a ClickHouse that does not answer, and one that breaks off
	URL            string
	User, Password string
	Database       string // the only one there is for askers; clients call it default
}

// Limits bound what askers may use. Zero fields take the defaults.
type Limits struct {
	MaxDuration  time.Duration // of one statement, by ClickHouse's clock. 0: 60 s
	MaxMemory    uint64        // of one statement, bytes. 0: 1 GiB
	MaxRows      uint64        // of one answer. 0: 50,000,000
	MaxBytes     uint64        // of one answer, bytes as ClickHouse holds them. 0: 8 GiB
	PerPrincipal int           // statements at once. 0: 4
	Overall      int           // statements at once. 0: 5, so that the engine has a place left for the console
	Patience     time.Duration // how long a statement waits for its place. 0: 10 s
	EndTime      time.Duration // how long a statement that nobody waits for may work on until it is told to Overdue. 0: 5 min
	WriteTime    time.Duration // how long one piece of an answer may take to be taken; a slower reader is cut off. 0: 30 s
}

// Options are what a Gateway stands on. All are needed but Overdue, Limits and Log.
type Options struct {
	// Authenticate gives the principal of a token, or KindUnauthenticated.
	Authenticate func(ctx context.Context, token string) (Principal, error)
	// Permission is the one that lets a principal ask.
	Permission string
	// Audit keeps an act, durably, before it takes effect; an error forbids the act.
	Audit func(ctx context.Context, act Act) error
	// Admit refuses a statement that reaches for more than rows; its error is in ClickHouse's words.
	Admit func(ctx context.Context, sql string, scope statement.Scope) error
	// Begin notes a statement where whoever asked it sees and can cancel it, until end is called, and gives the context it runs
	// under. Of one that somebody cancelled the cause of that context may have a method StoppedBy() string, which gives who.
	// KindConflict: one of that ID runs.
	Begin func(ctx context.Context, running Running) (under context.Context, end func(), err error)
	// Settings are those every statement of an asker has, whatever it asks for.
	Settings func(scope statement.Scope) (map[string]string, error)
	// Works tells whether ClickHouse still has a statement of that ID under way.
	Works func(ctx context.Context, id string) (bool, error)
	// Overdue is told, once, of a statement that works on for Limits.EndTime after it was cancelled. nil: nothing is done about it.
	Overdue func(id string)
	// Upstream gives the ClickHouse to ask.
	Upstream func(scope statement.Scope) (Upstream, error)
	Limits   Limits
	Log      *slog.Logger
}

// Gateway answers under a prefix of the server. Safe for concurrent use.
type Gateway struct {
	o      Options
	places chan struct{}
	held   abandoned

	mu   sync.Mutex
	mine map[string]*share // by principal, while it asks
}

// share is one principal's places.
type share struct {
	places chan struct{}
	users  int
}

// New checks and assigns.
func New(o Options) (*Gateway, error) {
	if o.Authenticate == nil || o.Permission == "" || o.Audit == nil || o.Admit == nil || o.Begin == nil || o.Settings == nil || o.Works == nil || o.Upstream == nil {
		return nil, errors.New("gateway: Authenticate, Permission, Audit, Admit, Begin, Settings, Works and Upstream are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &o.Limits
	fill(&l.MaxDuration, time.Minute)
	fill(&l.MaxMemory, 1<<30)
	fill(&l.MaxRows, 50_000_000)
	fill(&l.MaxBytes, 8<<30)
	fill(&l.PerPrincipal, 4)
	fill(&l.Overall, 5)
	fill(&l.Patience, 10*time.Second)
	fill(&l.EndTime, 5*time.Minute)
	fill(&l.WriteTime, 30*time.Second)
	return &Gateway{o: o, places: make(chan struct{}, l.Overall), mine: make(map[string]*share)}, nil
}

func fill[T int | uint64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// ServeHTTP answers what comes after the prefix: / and /ping.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := "/" + strings.TrimPrefix(r.URL.Path, "/") // some clients leave the last slash of the prefix out
	switch {
	case path == "/ping", path == "/replicas_status", path == "/" && r.Method == http.MethodGet && r.URL.RawQuery == "":
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		_, _ = io.WriteString(w, "Ok.\n") // whoever asked is gone if this fails
		return
	case path != "/":
		g.refuse(w, &Error{Code: 404, Status: http.StatusNotFound, Text: "There is no handle " + path + " under /clickhouse"})
		return
	}
	id := r.URL.Query().Get("query_id")
	if !plainID.MatchString(id) { // it names the query to the engine and in the log: nothing but a name
		id = newID()
	}
	w.Header().Set("X-ClickHouse-Query-Id", id)
	if err := g.answer(w, r, id); err != nil {
		g.refuse(w, err)
	}
}

// answer carries out one request. An error means that nothing was answered yet.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, id string) error {
	ctx := r.Context()
	who, scope, err := g.enter(ctx, r, id)
	if err != nil {
		return err
	}
	q, err := g.read(w, r, scope)
	if err != nil {
		return err
	}
	q.id = id
	if err := g.o.Admit(ctx, q.sql, scope); err != nil {
		return err
	}
	ctx, end, err := g.o.Begin(ctx, Running{ID: id, SQL: q.sql, Principal: who.String()})
	if err != nil {
		return err
	}
	defer end()
	free, err := g.Place(ctx, who.String(), id)
	if err != nil {
		return err
	}
	ended := false
	defer func() { free(ended) }()
	up, err := g.o.Upstream(scope)
	if err != nil {
		return err
	}
	resp, err := g.ask(ctx, up, q)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	g.pass(w, r.WithContext(ctx), q, scope, resp) // it panics where the answer breaks off
	ended = true
	return nil
}

// enter finds who asks and what it may see, and keeps the question in the audit before anything comes of it.
func (g *Gateway) enter(ctx context.Context, r *http.Request, id string) (Principal, statement.Scope, error) {
	token := tokenOf(r)
	if token == "" {
		return nil, statement.Scope{}, &Error{Code: 194, Status: http.StatusUnauthorized, Name: "REQUIRED_PASSWORD", Text: "Authentication failed: give a token of Gnomon as the password (any user name)"}
	}
	who, err := g.o.Authenticate(ctx, token)
	if err != nil {
		return nil, statement.Scope{}, err
	}
	all, namespaces := who.Scope(g.o.Permission)
	allowed := all || len(namespaces) > 0
	if err := g.o.Audit(ctx, Act{Principal: who.String(), Allowed: allowed, RequestID: id, Remote: r.RemoteAddr}); err != nil {
		return nil, statement.Scope{}, err
	}
	if !allowed {
		return nil, statement.Scope{}, &Error{Code: 497, Status: http.StatusForbidden, Name: "ACCESS_DENIED", Text: who.String() + ": Not enough privileges. A grant as analyst in at least one namespace is needed"}
	}
	return who, statement.Scope{All: all, Namespaces: namespaces}, nil
}

// tokenOf finds the token where clients put a password.
func tokenOf(r *http.Request) string {
	if key := r.Header.Get("X-ClickHouse-Key"); key != "" {
		return key
	}
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return r.URL.Query().Get("password")
}

// Place waits until the principal and all together have a statement less under way than they may. Every statement of an analyst
// takes one, whatever way it comes. It fails with KindExhausted, saying who has how many, when that takes too long. Of a
// statement that has not ended when free is called, the place is free once ClickHouse has it no more: it may be in the middle of a
// function that looks at no limit, and who has gone would else fill the engine with such.
func (g *Gateway) Place(ctx context.Context, who, id string) (free func(ended bool), err error) {
	g.mu.Lock()
	s := g.mine[who]
	if s == nil {
		s = &share{places: make(chan struct{}, g.o.Limits.PerPrincipal)}
		g.mine[who] = s
	}
	s.users++
	g.mu.Unlock()
	leave := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if s.users--; s.users == 0 {
			delete(g.mine, who)
		}
	}
	timer := time.NewTimer(g.o.Limits.Patience)
	defer timer.Stop()
	var taken []chan struct{}
	for _, places := range []chan struct{}{s.places, g.places} {
		select {
		case places <- struct{}{}:
			taken = append(taken, places)
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-timer.C:
			err = g.full(who, len(s.places)-len(taken))
		}
		for _, t := range taken {
			<-t
		}
		leave()
		return nil, err
	}
	release := func() {
		<-g.places
		<-s.places
		leave()
	}
	return func(ended bool) {
		if ended {
			release()
			return
		}
		g.held.keep(ctx, func(ctx context.Context) { g.outlast(ctx, who, id) }, release)
	}, nil
}

// full is why a statement has no place.
func (g *Gateway) full(who string, own int) error {
	said := core.Text{
		Zh: fmt.Sprintf("同时执行的语句过多：%s 最多 %d 条，现有 %d 条；所有人合计最多 %d 条，现有 %d 条。请等其中一条结束后再试，或取消一条：GET /v1/queries 列出，DELETE /v1/queries/{id} 取消",
			who, g.o.Limits.PerPrincipal, own, g.o.Limits.Overall, len(g.places)),
		En: fmt.Sprintf("too many simultaneous queries: %s may have %d at once and has %d, all together may have %d and have %d. Try again when one has ended, or cancel one: GET /v1/queries lists them, DELETE /v1/queries/{id} cancels",
			who, g.o.Limits.PerPrincipal, own, g.o.Limits.Overall, len(g.places)),
	}
	return &core.Error{Kind: core.KindExhausted, Op: "query history", Err: errors.New(said.En), Findings: []core.Finding{{Message: said}}}
}

// ask sends the statement on. When ctx ends, the connection breaks, and ClickHouse kills the query.
func (g *Gateway) ask(ctx context.Context, up Upstream, q *question) (*http.Response, error) {
	values := url.Values{"query_id": {q.id}, "database": {up.Database}, "default_format": {q.format}, "cancel_http_readonly_queries_on_client_close": {"1"}}
	if q.revision != "" {
		values.Set("client_protocol_version", q.revision)
	}
	for name, value := range q.params {
		values.Set("param_"+name, value)
	}
	for name, value := range q.settings {
		values.Set(name, value)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, up.URL+"/?"+values.Encode(), strings.NewReader(q.sql))
	if err != nil {
		return nil, core.Errorf(core.KindInternal, "ask ClickHouse", "%w", err)
	}
	req.Header.Set("X-ClickHouse-User", up.User)
	if up.Password != "" {
		req.Header.Set("X-ClickHouse-Key", up.Password)
	}
	resp, err := up.Transport.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, core.Errorf(core.KindUnavailable, "ask ClickHouse", "%w", err)
	}
	return resp, nil
}

// Error is a refusal of the gateway itself, in ClickHouse's form.
type Error struct {
	Code   int // ClickHouse's error number
	Status int
	Name   string // of the number
	Text   string
}

// Error gives the refusal as ClickHouse would say it.
func (e *Error) Error() string {
	text := fmt.Sprintf("Code: %d. DB::Exception: %s.", e.Code, strings.TrimSuffix(e.Text, "."))
	if e.Name != "" {
		text += " (" + e.Name + ")"
	}
	return text
}

// refuse answers with an error. What is the server's own to mend is logged and not shown.
func (g *Gateway) refuse(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = g.translate(err, w.Header().Get("X-ClickHouse-Query-Id"))
	}
	switch {
	case e.Status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="gnomon"`)
	case e.Code == 202:
		w.Header().Set("Retry-After", "5")
	}
	w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(e.Code))
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(e.Status)
	_, _ = io.WriteString(w, e.Error()+"\n") // whoever asked is gone if this fails
}

// translate gives an error of another room ClickHouse's form.
func (g *Gateway) translate(err error, id string) *Error {
	own, _ := errors.AsType[*core.Error](err)
	hint := ""
	if own != nil && len(own.Findings) > 0 {
		hint = own.Findings[0].Message.En + " / " + own.Findings[0].Message.Zh
	}
	if said, ok := errors.AsType[interface {
		error
		Number() int
	}](err); ok {
		return &Error{Code: said.Number(), Status: http.StatusForbidden, Text: cmp.Or(hint, withoutCode(said.Error()))}
	}
	if stopped, ok := errors.AsType[interface {
		error
		StoppedBy() string
	}](err); ok {
		return &Error{Code: 394, Status: http.StatusInternalServerError, Name: "QUERY_WAS_CANCELLED", Text: "The query was cancelled by " + stopped.StoppedBy()}
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: 394, Status: http.StatusInternalServerError, Name: "QUERY_WAS_CANCELLED", Text: "The query was cancelled"}
	case core.KindOf(err) == core.KindExhausted && hint != "":
		return &Error{Code: 202, Status: http.StatusServiceUnavailable, Name: "TOO_MANY_SIMULTANEOUS_QUERIES", Text: hint}
	case core.KindOf(err) == core.KindConflict:
		return &Error{Code: 216, Status: http.StatusConflict, Name: "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", Text: "Query with id = " + id + " is already running"}
	case core.KindOf(err) == core.KindUnauthenticated:
		return &Error{Code: 516, Status: http.StatusForbidden, Name: "AUTHENTICATION_FAILED", Text: "Authentication failed: the token is not known here, or has expired. Give a token of Gnomon as the password (any user name)"}
	case core.KindOf(err) == core.KindDenied:
		return &Error{Code: 497, Status: http.StatusForbidden, Name: "ACCESS_DENIED", Text: own.Err.Error()}
	case core.KindOf(err) == core.KindUnavailable:
		g.o.Log.Warn("history not asked", "query_id", id, "err", err)
		if hint == "" {
			hint = "History does not answer now; try again. The server's log has the cause under query " + id
		}
		return &Error{Code: 210, Status: http.StatusServiceUnavailable, Name: "NETWORK_ERROR", Text: hint}
	}
	g.o.Log.Error("history not asked", "query_id", id, "err", err)
	return &Error{Code: 1002, Status: http.StatusInternalServerError, Name: "UNKNOWN_EXCEPTION", Text: "The server's log has the cause under query " + id}
}

// withoutCode leaves out what Error.Error adds.
func withoutCode(text string) string {
	if _, rest, ok := strings.Cut(text, "DB::Exception: "); ok {
		text = rest
	}
	return text
}

var plainID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

// newID makes a random UUID.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
