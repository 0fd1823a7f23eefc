//go:build !linux && !darwin

package engine

import (
	"context"
	"runtime"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func unsupported() error {
	return core.Errorf(core.KindUnavailable, "start engine", "there is no embedded ClickHouse for %s; name a ClickHouse server in GNOMON_CLICKHOUSE_DSN", runtime.GOOS)
}

// Serve always fails here: ClickHouse exists for Linux and macOS only.
func Serve(context.Context, Options) error { return unsupported() }

// Supervisor has nothing to keep alive here.
type Supervisor struct{ socket string }

// NewSupervisor always fails here.
func NewSupervisor(o SupervisorOptions) (*Supervisor, error) { return nil, unsupported() }

// Socket is the unix socket the engine would answer on.
func (s *Supervisor) Socket() string { return s.socket }

// PID is always 0 here.
func (s *Supervisor) PID() int { return 0 }

// Ready is always false here.
func (s *Supervisor) Ready() bool { return false }

// Silent is always 0 here.
func (s *Supervisor) Silent() time.Duration { return 0 }

// Start always fails here.
func (s *Supervisor) Start(context.Context) error { return unsupported() }

// Stop does nothing here.
func (s *Supervisor) Stop(context.Context) error { return nil }
