package main

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// query answers the API's questions to history.
func (a *app) query(ctx context.Context, q api.Query, head func([]api.Column) error, row func(api.Row) error) (more bool, err error) {
	limits := clickhouse.QueryLimits{MaxRows: q.MaxRows, QueryID: q.ID}
	if q.Export {
		limits.MaxBytes, limits.MaxDuration = 4<<30, 10*time.Minute
	}
	params, err := given(q)
	if err != nil {
		return false, err
	}
	scope := statement.Scope{All: q.All, Namespaces: q.Namespaces}
	if q.Format != "" {
		file, err := a.history.Export(ctx, q.SQL, q.Format, limits, params, scope)
		if err != nil {
			return false, err
		}
		defer func() { _ = file.Close() }()
		_, err = io.Copy(q.Into, file)
		return false, err
	}
	rows, err := a.history.Query(ctx, q.SQL, limits, params, scope)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	var columns []api.Column
	for _, c := range rows.Columns() {
		columns = append(columns, api.Column(c))
	}
	if err := head(columns); err != nil {
		return false, err
	}
	at := queryRow{rows: rows}
	for rows.Next() {
		if at.cells, err = rows.Cells(at.cells); err != nil {
			return false, err
		}
		if err := row(&at); err != nil {
			return false, err
		}
	}
	return rows.More(), rows.Err()
}

// queryRow is the row that rows stand at.
type queryRow struct {
	rows   *clickhouse.Rows
	cells  []json.RawMessage
	values []any
}

func (r *queryRow) Cells() []json.RawMessage { return r.cells }

func (r *queryRow) Values() []any {
	r.values = r.rows.Values(r.values, r.cells)
	return r.values
}

// given gives the parameters of a statement as history takes them.
func given(q api.Query) (map[string]string, error) {
	params := make(map[string]string, len(q.Params))
	for name, value := range q.Params {
		if value == nil {
			if !clickhouse.TakesNull(q.SQL, name) {
				return nil, core.Invalid("query history", core.Finding{Path: "params." + name, Message: core.Text{
					Zh: "语句没有把它声明为可空，不能为 null：写作 {" + name + ":Nullable(…)}", En: "the statement does not declare it Nullable, so that it cannot be null: write {" + name + ":Nullable(…)}",
				}})
			}
			params[name] = clickhouse.Null
			continue
		}
		params[name] = *value
	}
	return params, nil
}

// queryProgress gives how far the running queries are.
func (a *app) queryProgress(ctx context.Context) (map[string]api.QueryProgress, error) {
	running, err := a.history.Progress(ctx)
	if err != nil {
		return nil, err
	}
	all := make(map[string]api.QueryProgress, len(running))
	for id, p := range running {
		all[id] = api.QueryProgress{ReadRows: p.ReadRows, ReadBytes: p.ReadBytes, MemoryBytes: p.MemoryBytes}
	}
	return all, nil
}
