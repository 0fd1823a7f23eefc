package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Status is how the server is.
type Status struct {
	Version   string      `json:"version" doc:"Of the program" example:"0.3.0"`
	ServerID  string      `json:"server_id" doc:"Changes with every start"`
	StartedAt *Time       `json:"started_at,omitempty" doc:"When it started"`
	Ready     bool        `json:"ready" doc:"Tasks are being scheduled"`
	Store     string      `json:"store" doc:"sqlite or postgresql"`
	Engine    string      `json:"engine" doc:"Where history is kept, and whether it answers"`
	Zones     string      `json:"zones,omitempty" doc:"Version of the time zone database"`
	Executing int         `json:"executing" doc:"Attempts in progress"`
	Spool     SpoolStatus `json:"spool" doc:"What waits to be shipped to history"`

	History HistoryStatus `json:"history" doc:"How history stands"`
}

// HistoryStatus is how history stands, when it was last looked at: whether it answers some seconds ago, its size a minute.
type HistoryStatus struct {
	Embedded    bool           `json:"embedded" doc:"It is the engine that comes with the server; false: a ClickHouse of your own"`
	Version     string         `json:"version" doc:"Of ClickHouse" example:"26.7.2"`
	Answers     bool           `json:"answers" doc:"It answered when it was last asked"`
	DownSince   *Time          `json:"down_since,omitempty" doc:"Since when it has not answered"`
	Why         string         `json:"why,omitempty" doc:"Why it does not answer"`
	MemoryBytes uint64         `json:"memory_bytes,omitempty" doc:"Resident memory of the embedded engine, or what the ClickHouse server counts itself"`
	DiskBytes   uint64         `json:"disk_bytes,omitempty" doc:"Of all tables, compressed; absent for those who may not see all namespaces"`
	FreeBytes   uint64         `json:"free_bytes,omitempty" doc:"Of the disk it lies on"`
	Merges      int            `json:"merges,omitempty" doc:"Merges that were running"`
	Tables      []HistoryTable `json:"tables,omitempty" doc:"By name; absent until it has been looked at, and for those who may not see all namespaces"`
}

// HistoryTable is how large one table of history is.
type HistoryTable struct {
	Name  string `json:"name" doc:"The table" example:"run_logs"`
	Rows  uint64 `json:"rows" doc:"Repeats that are not merged away yet included"`
	Bytes uint64 `json:"bytes" doc:"On disk, compressed"`
	Parts uint64 `json:"parts" doc:"Active parts"`
}

// SpoolStatus is what waits to be shipped to history.
type SpoolStatus struct {
	UsedBytes  uint64 `json:"used_bytes" doc:"On disk now"`
	LimitBytes uint64 `json:"limit_bytes" doc:"At this it is full"`
	Unshipped  uint64 `json:"unshipped_segments" doc:"Segments that history has not acknowledged"`
	Dropped    uint64 `json:"dropped_lines" doc:"Lines not kept because the spool was full"`

	Full            bool    `json:"full" doc:"Writers find no room now"`
	OldestUnshipped *Time   `json:"oldest_unshipped,omitempty" doc:"When the oldest record was said that is not in history"`
	LagSeconds      float64 `json:"ship_lag_seconds" doc:"Its age; 0: history has everything"`
	ShippedLines    uint64  `json:"shipped_lines,omitempty" doc:"Log lines that history has taken since the server started; absent for those who may not see all namespaces"`
	LinesPerSecond  float64 `json:"shipped_lines_per_second,omitempty" doc:"Over the last minute; absent for those who may not see all namespaces"`
	WriteError      string  `json:"write_error,omitempty" doc:"Why its disk takes nothing now; nothing is acknowledged until it does"`
	Quarantined     uint64  `json:"quarantined_segments" doc:"Set aside since the server started, because they were damaged or history refuses them for ever"`
}

// withoutOthers leaves out how much all namespaces together have written: it is not one namespace's business.
func (s *Status) withoutOthers() {
	s.History.Tables, s.History.DiskBytes = nil, 0
	s.Spool.ShippedLines, s.Spool.LinesPerSecond = 0, 0
}

type plainText struct {
	ContentType string `header:"Content-Type"`
	Body        []byte `contentType:"text/plain"`
}

func (a *API) server() {
	tags := []string{"server"}
	register(a, huma.Operation{
		OperationID: "get-server", Method: http.MethodGet, Path: "/v1/server", Tags: tags,
		Summary: "Say what this server is and how it is",
	}, rule{permission: "server:read", source: fromGrants},
		func(ctx context.Context, _ *struct{}) (*struct{ Body Status }, error) {
			status := a.opts.Health.Status(ctx)
			if !requestOf(ctx).principal.Can("server:read", everywhere) {
				status.withoutOthers()
			}
			return &struct{ Body Status }{status}, nil
		})
	register(a, huma.Operation{
		OperationID: "healthz", Method: http.MethodGet, Path: "/healthz", Tags: tags,
		Summary: "Answer, as long as the process can",
	}, rule{source: fromNothing},
		func(context.Context, *struct{}) (*plainText, error) {
			return &plainText{"text/plain; charset=utf-8", []byte("ok\n")}, nil
		})
	register(a, huma.Operation{
		OperationID: "readyz", Method: http.MethodGet, Path: "/readyz", Tags: tags,
		Summary: "Answer 200 once tasks are being scheduled, else 503",
	}, rule{source: fromNothing},
		func(ctx context.Context, _ *struct{}) (*plainText, error) {
			if err := a.opts.Health.Ready(ctx); err != nil {
				// Open to anyone: that it is not ready, and no word about why.
				requestOf(ctx).log.Debug("not ready", "err", err)
				return nil, core.Refuse(core.KindUnavailable, "", core.Text{Zh: "尚未开始调度任务", En: "tasks are not being scheduled yet"})
			}
			return &plainText{"text/plain; charset=utf-8", []byte("ready\n")}, nil
		})
}

// refuse answers outside of huma: what never reaches an operation.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, status int, kind core.Kind, detail core.Text) {
	p := requestOf(r.Context()).refuse(status, kind, detail)
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // an error means the caller went away
}
