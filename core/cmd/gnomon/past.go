package main

import (
	"context"
	"io"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
	"github.com/gnomon-scheduler/gnomon/core/runner"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// past is history as the server uses it: package clickhouse, which says what its methods promise. It is named here so that
// a month can be lived through in a test in seconds: the engine lives by the machine's clock.
type past interface {
	api.History
	recorder.Shipper
	runner.History
	annals
	retaining
	Fires(ctx context.Context, filter core.FireFilter) ([]core.Run, error)
	EachFire(ctx context.Context, filter core.FireFilter, each func(*core.Run) error) error
	Durations(ctx context.Context, namespaces, taskIDs []string, since time.Time) (map[string]core.Usual, error)
	WriteReconciliations(ctx context.Context, batchID string, found []core.Reconciliation) error
	WriteBreakerChanges(ctx context.Context, batchID string, changes []core.BreakerChange) error
	Query(ctx context.Context, sql string, limits clickhouse.QueryLimits, params map[string]string, scope statement.Scope) (*clickhouse.Rows, error)
	Export(ctx context.Context, sql, format string, limits clickhouse.QueryLimits, params map[string]string, scope statement.Scope) (io.ReadCloser, error)
	Progress(ctx context.Context) (map[string]clickhouse.QueryProgress, error)
	Admit(ctx context.Context, sql string, scope statement.Scope) error
	AskSettings(scope statement.Scope) (map[string]string, error)
	Door(scope statement.Scope) (clickhouse.Door, error)
	RollupState(ctx context.Context) (clickhouse.RolledUp, error)
	ThinState(ctx context.Context) (clickhouse.Thinned, error)
	Storage(ctx context.Context) (clickhouse.Storage, error)
	Spans(ctx context.Context) ([]clickhouse.Span, error)
	DiskTrend(ctx context.Context, host string, now time.Time) (lost float64, known bool, err error)
	Checksums(ctx context.Context) ([]clickhouse.Checksum, error)
	Backup(ctx context.Context, database, folder, base string) error
	Database(ctx context.Context) (string, error)
	Health(ctx context.Context) error
	Version() string
	Close() error
}

var _ past = (*clickhouse.Client)(nil)
