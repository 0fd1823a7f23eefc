package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// RunningQuery is a query that is being answered.
type RunningQuery struct {
	ID          string `json:"id" doc:"As it was asked with, or as the server has named it"`
	Principal   string `json:"principal" doc:"Who asks"`
	Since       *Time  `json:"since" doc:"When it was asked"`
	SQL         string `json:"sql" doc:"The statement"`
	Door        string `json:"door" enum:"query,clickhouse" doc:"Where it was asked: query: POST /v1/query; clickhouse: /clickhouse/, by a client of ClickHouse"`
	ReadRows    uint64 `json:"read_rows" doc:"Rows read of tables so far; 0 while it waits for its turn, while history does not say, or for one who may see some namespaces only"`
	ReadBytes   uint64 `json:"read_bytes" doc:"Bytes of them, not compressed"`
	MemoryBytes uint64 `json:"memory_bytes" doc:"Memory it uses in ClickHouse now"`
	GivenRows   int64  `json:"given_rows" doc:"Rows answered so far; 0 of what was asked at /clickhouse/, where rows are not counted"`
}

// Cancelled is what became of the wish to cancel a query.
type Cancelled struct {
	Cancelled bool `json:"cancelled" doc:"false: no such query of yours was running any more"`
}

func (a *API) runningQueries() {
	tags := []string{"history"}
	register(a, huma.Operation{
		OperationID: "list-queries", Method: http.MethodGet, Path: "/v1/queries", Tags: tags,
		Summary: "List the queries that run: one's own; an administrator sees all",
	}, rule{permission: "history:query", source: fromGrants},
		func(ctx context.Context, _ *struct{}) (*paged[RunningQuery], error) {
			out := page[RunningQuery]()
			all := a.running.of(requestOf(ctx).principal)
			if len(all) == 0 {
				return out, nil
			}
			far, err := a.opts.Progress(ctx)
			if err != nil { // which there are is known all the same
				requestOf(ctx).log.Debug("progress of queries not known", "request_id", requestOf(ctx).id, "err", err)
			}
			// Rows read are others' too: they are for those who may see all.
			everything, _ := requestOf(ctx).principal.Scope("history:query")
			for _, q := range all {
				p := far[q.id]
				if !everything {
					p.ReadRows, p.ReadBytes = 0, 0
				}
				out.Body.Items = append(out.Body.Items, RunningQuery{
					ID: q.id, Principal: q.who, Since: instant(q.since), SQL: q.sql, Door: q.door,
					ReadRows: p.ReadRows, ReadBytes: p.ReadBytes, MemoryBytes: p.MemoryBytes, GivenRows: q.given.Load(),
				})
			}
			return out, nil
		})
	register(a, huma.Operation{
		OperationID: "cancel-query", Method: http.MethodDelete, Path: "/v1/queries/{query_id}", Tags: tags,
		Summary: "Cancel a query that runs: one's own; an administrator any",
	}, rule{permission: "history:query", source: fromGrants, changes: true},
		func(ctx context.Context, in *struct {
			QueryID string `path:"query_id" pattern:"^[A-Za-z0-9._:-]+$" maxLength:"128" doc:"The query"`
		}) (*struct{ Body Cancelled }, error) {
			return &struct{ Body Cancelled }{Cancelled{a.running.stop(in.QueryID, requestOf(ctx).principal)}}, nil
		})
}

// queriesRunning is the queries that are being answered.
type queriesRunning struct {
	mu  sync.Mutex
	all map[string]*runningQuery // by id
}

type runningQuery struct {
	in      *queriesRunning
	id, sql string
	door    string
	who     string
	since   time.Time
	given   atomic.Int64
	cancel  context.CancelCauseFunc
}

// The doors at which queries are asked.
const (
	queryDoor      = "query"
	clickhouseDoor = "clickhouse"
)

// AskedQuery is a query somebody asks.
type AskedQuery struct {
	ID        string // names it while it runs
	SQL       string
	Principal string // who asks: the principal's name
}

// BeginQuery notes a query that another part of the server answers: until end is called it is in /v1/queries, for whoever
// asked it and for administrators, who may cancel it. It runs under the context that is given back; if that was cancelled by
// somebody, its cause has the method StoppedBy, which gives who. It fails with KindConflict if one of that id runs.
func (a *API) BeginQuery(ctx context.Context, q AskedQuery) (running context.Context, end func(), err error) {
	running, noted, err := a.running.begin(ctx, q, clickhouseDoor)
	if err != nil {
		return nil, nil, err
	}
	return running, noted.end, nil
}

// begin notes a query; it runs under the context that is given back, until end. It fails with KindConflict if one of that
// id runs.
func (r *queriesRunning) begin(ctx context.Context, q AskedQuery, door string) (context.Context, *runningQuery, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	running := &runningQuery{in: r, id: q.ID, sql: q.SQL, door: door, who: q.Principal, since: time.Now(), cancel: cancel}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[running.id] != nil {
		cancel(nil)
		return nil, nil, core.Refuse(core.KindConflict, "query history", core.Text{Zh: "编号为 " + running.id + " 的查询正在运行", En: "a query with the id " + running.id + " is running"})
	}
	if r.all == nil {
		r.all = map[string]*runningQuery{}
	}
	r.all[running.id] = running
	return ctx, running, nil
}

func (q *runningQuery) end() {
	q.in.mu.Lock()
	delete(q.in.all, q.id)
	q.in.mu.Unlock()
	q.cancel(nil)
}

// of gives the queries that somebody may see, the oldest first.
func (r *queriesRunning) of(who Principal) []*runningQuery {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*runningQuery
	for _, q := range r.all {
		if q.belongsTo(who) {
			all = append(all, q)
		}
	}
	slices.SortFunc(all, func(x, y *runningQuery) int { return cmp.Or(x.since.Compare(y.since), cmp.Compare(x.id, y.id)) })
	return all
}

// belongsTo tells whether somebody may see and cancel a query. The right to change namespaces everywhere is the
// administrator's alone.
func (q *runningQuery) belongsTo(who Principal) bool {
	return q.who == who.String() || who.Can("namespace:write", everywhere)
}

func (r *queriesRunning) stop(id string, who Principal) bool {
	r.mu.Lock()
	q := r.all[id]
	r.mu.Unlock()
	if q == nil || !q.belongsTo(who) {
		return false
	}
	q.cancel(&stoppedError{by: who.String()})
	return true
}

// stoppedError is why a query ended that somebody cancelled.
type stoppedError struct{ by string }

// Error says who it was.
func (e *stoppedError) Error() string { return "the query was cancelled by " + e.by }

// StoppedBy gives who it was, for a door whose clients read another kind of error.
func (e *stoppedError) StoppedBy() string { return e.by }

func (e *stoppedError) problem(ctx context.Context) *Problem {
	return requestOf(ctx).refuse(499, core.KindUnavailable, core.Text{Zh: fmt.Sprintf("查询已被 %s 取消", e.by), En: e.Error()})
}

// stoppedOr gives who cancelled a query as the cause of what went wrong with it; err: nobody did.
func stoppedOr(ctx context.Context, err error) error {
	if stopped, ok := errors.AsType[*stoppedError](context.Cause(ctx)); ok {
		return stopped.problem(ctx)
	}
	return err
}
