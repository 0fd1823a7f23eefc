// Package store keeps definitions and live state: one set of queries for SQLite (embedded, one process per folder) and
// PostgreSQL. Every write goes through one writer, which merges what arrives within a few milliseconds into one
// transaction; a call returns after that transaction is durable. DESIGN.md tells the rest.
package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
)

// Options say where the store is and how it commits.
type Options struct {
	// DSN is "" for SQLite in Dir, or "postgres://user:password@host/database?…".
	DSN string
	// Dir is the data folder of SQLite; it is created if it is missing. One process owns it at a time.
	Dir string
	Log *slog.Logger // nil: nothing is logged
	// GroupWait is how long the writer waits for more to put into a transaction; 0: 2 ms; negative: not at all.
	GroupWait time.Duration
	// MaxBatch is how many claims, finishes and so on make a transaction full; 0: 1,000.
	MaxBatch int
	Clock    core.Clock // nil: the system's
}

// Time limits.
const (
	readTimeout  = 10 * time.Second // of one read
	writeTimeout = 10 * time.Second // of one transaction of the writer
	bulkTimeout  = 10 * time.Minute // of CreateTasks
	retryTimeout = 30 * time.Second // how long a transaction is tried anew while the database does not answer
)

// Store is an open store. All methods are safe for concurrent use. A method that writes returns after its change is
// durable; when its context ends before the writer took the change up, nothing is written.
//
// Errors are of the kinds of package core: KindUnavailable if the database does not answer, KindDamaged if its files are
// damaged, KindStale if this server's registration is gone (see Register).
type Store struct {
	dialect   dialect
	read      *sql.DB
	reads     sqlcgen.DBTX // read, for queries whose text never changes
	q         *sqlcgen.Queries
	w         *writer
	log       *slog.Logger
	clock     core.Clock
	server    atomic.Pointer[registration]
	noOrphans atomic.Pointer[census] // the last look that found none; nil if there may be some
	closing   sync.Once
	closed    error
}

// Open opens the store, creating it only where there is none, and brings its schema up to date. It fails with
// KindConflict if another process has the data folder, and with KindDamaged if what is there is not a sound store of
// this version or an older one. ctx is for opening only.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Clock == nil {
		opts.Clock = core.SystemClock{}
	}
	switch {
	case opts.GroupWait == 0:
		opts.GroupWait = 2 * time.Millisecond
	case opts.GroupWait < 0:
		opts.GroupWait = 0
	}
	if opts.MaxBatch <= 0 {
		opts.MaxBatch = 1000
	}
	var d dialect
	var err error
	switch {
	case opts.DSN == "" && opts.Dir == "":
		return nil, core.Errorf(core.KindInvalid, "open store", "give a data folder or a postgres:// DSN")
	case opts.DSN == "":
		d, err = openSQLite(ctx, opts)
	case strings.HasPrefix(opts.DSN, "postgres://"), strings.HasPrefix(opts.DSN, "postgresql://"):
		d, err = openPostgres(ctx, opts)
	default:
		return nil, core.Errorf(core.KindInvalid, "open store", "the DSN must begin with postgres://; leave it empty for SQLite")
	}
	if err != nil {
		return nil, err
	}
	s := &Store{dialect: d, read: d.readers(), log: opts.Log, clock: opts.Clock}
	s.reads = s.read
	if d.alone() {
		s.reads = newPreparing(s.read)
	}
	s.q = sqlcgen.New(s.reads)
	s.w = newWriter(context.WithoutCancel(ctx), d, opts, &s.server)
	return s, nil
}

// Close ends what the store does: changes already taken up are committed, later ones fail. It is safe to call twice.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.w.stop()
		s.closed = s.dialect.close()
	})
	return s.closed
}

// Dialect gives "sqlite" or "postgres".
func (s *Store) Dialect() string { return s.dialect.name() }

// Stats gives the writer's own figures.
func (s *Store) Stats() Stats {
	return Stats{Commits: s.w.commits.Load(), Requests: s.w.taken.Load(), Retries: s.w.retries.Load()}
}

// Stats are counted since Open.
type Stats struct {
	Commits  int64 // transactions committed
	Requests int64 // calls they carried
	Retries  int64 // transactions tried anew: lost connections, deadlocks, a poisonous neighbour
}

// look has a read carried out, within its deadline and again while the database has only lost a connection. It passes
// on that there was no row.
func (s *Store) look(ctx context.Context, op string, read func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		err := read(ctx)
		if err == nil || notFound(err) {
			return err
		}
		if s.dialect.weigh(err) != again || ctx.Err() != nil {
			return s.fault(op, err)
		}
		s.log.Warn("store read tried anew", "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return s.fault(op, err)
		}
	}
}

// fault turns a database's error into one of core's, in the words of op. Errors of core pass as they are.
func (s *Store) fault(op string, err error) error { return s.dialect.fault(op, err) }

// faultOf is what the dialects share of fault.
func faultOf(op string, err error, kind core.Kind) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*core.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		kind = core.KindUnavailable
	}
	return core.Errorf(kind, op, "%w", err)
}

func notFound(err error) bool { return errors.Is(err, sql.ErrNoRows) }
