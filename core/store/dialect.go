package store

import (
	"context"
	"database/sql"

	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
)

// dialect is what the two databases do not share.
type dialect interface {
	name() string
	readers() *sql.DB
	// session opens the writer's connection.
	session(ctx context.Context) (session, error)
	// alone says that no other process can write: the data folder's lock proves it.
	alone() bool
	// weigh says what to do about the error of a transaction.
	weigh(err error) remedy
	// fault turns an error into one of core's.
	fault(op string, err error) error
	close() error
}

// remedy is what the writer does about a transaction that failed.
type remedy int

const (
	giveUp  remedy = iota // the database is full or damaged: everyone gets the error
	again                 // a deadlock, a lost connection: the same transaction once more
	isolate               // the data may be to blame: each request in a transaction of its own
)

// session is the writer's connection. Only the writer's goroutine uses it.
type session interface {
	begin(ctx context.Context) error
	// commit returns errUnknown if no answer came: the transaction may have been committed or not.
	commit(ctx context.Context) error
	// rollback leaves no transaction open; it fails if the connection is of no use any more.
	rollback(ctx context.Context) error
	// many runs a statement n times: bind appends the arguments of the i-th time to args, got takes its rows affected
	// (returns == 0) or the integers of its one row, nil if there was none. bind and got are called in rising order.
	many(ctx context.Context, stmt statement, n int, bind func(i int, args []any) []any, got func(i int, affected int64, row []int64)) error
	// queries are for the statements that are not hot, in the same transaction.
	queries() *sqlcgen.Queries
	// lockTasks takes the locks of the tasks' state rows in one order for everybody, so that servers do not deadlock.
	lockTasks(ctx context.Context, ids []string) error
	close()
}

// statement is a hot statement; returns is how many integers its RETURNING gives.
type statement struct {
	sql     string
	returns int
}

var (
	claimFire   = statement{sqlcgen.ClaimFire, 3}
	claimMark   = statement{sqlcgen.ClaimMark, 3}
	insertRun   = statement{sqlcgen.InsertRun, 0}
	releaseRun  = statement{sqlcgen.ReleaseRun, 0}
	endRun      = statement{sqlcgen.EndRun, 0}
	endQueued   = statement{sqlcgen.EndQueued, 0}
	countEnd    = statement{sqlcgen.CountEnd, 0}
	retryRun    = statement{sqlcgen.RetryRun, 1}
	countRetry  = statement{sqlcgen.CountRetry, 0}
	moveMark    = statement{sqlcgen.MoveMark, 0}
	skipRun     = statement{sqlcgen.SkipRun, 0}
	runStarted  = statement{sqlcgen.RunStarted, 0}
	shippedRun  = statement{sqlcgen.ShippedRun, 0}
	insertTask  = statement{sqlcgen.InsertTask, 0}
	insertState = statement{sqlcgen.InsertTaskState, 0}
)
