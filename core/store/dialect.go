package store

import (
	"context"
	"database/sql"
	"time"

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
	// now gives the database's own wall time, which all servers share.
	now(ctx context.Context) (time.Time, error)
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
	// rows runs a select whose text is made as it is needed.
	rows(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	// free gives back the slots that runs hold. It also gives all breakers that are being probed, and by which run.
	free(ctx context.Context, runs []string) (probed []sqlcgen.ProbedBreakersRow, err error)
	// lock takes the locks of the tasks' state rows, then those of the keys, each in one order for everybody, so that
	// servers do not deadlock. Both are sorted.
	lock(ctx context.Context, tasks []string, keys []int64) error
	close()
}

// statement is a hot statement; returns is how many integers its RETURNING gives.
type statement struct {
	sql     string
	returns int
}

var (
	claimFire    = statement{sqlcgen.ClaimFire, 4}
	claimMark    = statement{sqlcgen.ClaimMark, 4}
	insertRun    = statement{sqlcgen.InsertRun, 0}
	insertRunOf  = statement{sqlcgen.InsertRunOf, 0}
	releaseRun   = statement{sqlcgen.ReleaseRun, 0}
	endRun       = statement{sqlcgen.EndRun, 0}
	endQueued    = statement{sqlcgen.EndQueued, 0}
	countEnd     = statement{sqlcgen.CountEnd, 0}
	countFailure = statement{sqlcgen.CountEnd + "RETURNING failures", 1}
	retryRun     = statement{sqlcgen.RetryRun, 1}
	countRetry   = statement{sqlcgen.CountRetry, 0}
	moveMark     = statement{sqlcgen.MoveMark, 0}
	skipRun      = statement{sqlcgen.SkipRun, 1}
	runStarted   = statement{sqlcgen.RunStarted, 0}
	shippedRun   = statement{sqlcgen.ShippedRun, 0}
	holdRun      = statement{sqlcgen.HoldRun, 0}
	admitRun     = statement{sqlcgen.AdmitRun, 0}
	countAdmit   = statement{sqlcgen.CountAdmit, 0}
	takeSlots    = statement{sqlcgen.TakeSlots, 0}
	freeSlots    = statement{sqlcgen.FreeSlots, 0}
	anythingHeld = statement{sqlcgen.AnythingHeld, 1}
	putBreaker   = statement{sqlcgen.PutBreaker, 0}
	countCaused  = statement{sqlcgen.CountCaused, 2}
	intervene    = statement{sqlcgen.Intervene, 0}
	stopRun      = statement{sqlcgen.StopRun, 0}
	insertTask   = statement{sqlcgen.InsertTask, 0}
	insertState  = statement{sqlcgen.InsertTaskState, 0}
	insertRef    = statement{sqlcgen.InsertTaskRef, 0}
)
