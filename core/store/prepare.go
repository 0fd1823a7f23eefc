package store

import (
	"context"
	"database/sql"
	"sync"

	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
)

// preparing keeps the statements of the generated queries prepared: on SQLite the parsing takes longer than most of them.
type preparing struct {
	on    sqlcgen.DBTX // a connection, or a pool of them
	mu    sync.RWMutex
	stmts map[string]*sql.Stmt
}

func newPreparing(on sqlcgen.DBTX) *preparing {
	return &preparing{on: on, stmts: map[string]*sql.Stmt{}}
}

// PrepareContext gives a statement that stays prepared.
func (p *preparing) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	p.mu.RLock()
	stmt := p.stmts[query]
	p.mu.RUnlock()
	if stmt != nil {
		return stmt, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if stmt := p.stmts[query]; stmt != nil {
		return stmt, nil
	}
	stmt, err := p.on.PrepareContext(ctx, query)
	if err == nil {
		p.stmts[query] = stmt
	}
	return stmt, err
}

func (p *preparing) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	stmt, err := p.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

func (p *preparing) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := p.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

func (p *preparing) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	stmt, err := p.PrepareContext(ctx, query)
	if err != nil {
		return p.on.QueryRowContext(ctx, query, args...) // which gives the same error
	}
	return stmt.QueryRowContext(ctx, args...)
}

func (p *preparing) close() {
	for _, stmt := range p.stmts {
		_ = stmt.Close() // what fails to close here is closed with the connection
	}
}
