package clickhouse_test

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/engine"
	"github.com/gnomon-scheduler/gnomon/core/engine/enginetest"
)

// hurried is a history whose deadlines are short, in an engine that tune may change.
func hurried(t *testing.T, tune ...func(*engine.SupervisorOptions)) *world {
	t.Helper()
	e := enginetest.New(t, slog.LevelWarn, tune...)
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := clickhouse.Open(t.Context(), clickhouse.Options{
		Socket: e.Socket(), Log: slog.New(slog.DiscardHandler), GraceTime: 500 * time.Millisecond, InsertTime: 2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &world{engine: e.Supervisor, dir: e.Dir, Client: c}
}

// TestNothingWaitsForEverForAStoppedEngine: what it has been asked and what it was answering fails by our own clock; what it was
// to take is sent again and there once.
func TestNothingWaitsForEverForAStoppedEngine(t *testing.T) {
	t.Parallel()
	w := hurried(t)
	stopped := fullSegment("stopped")
	limits := clickhouse.QueryLimits{MaxDuration: 5 * time.Second, MaxRows: 1 << 40, MaxBytes: 1 << 40} // not over before it is stopped
	const endless = "SELECT repeat(toString(number), 100) FROM numbers(1000000000)"
	if got := w.one(t, "SELECT 1"); got != "1" { // the guard has been asked for what it knows
		t.Fatal(got)
	}
	rows, err := w.Query(t.Context(), endless, limits, nil, everything)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	file, err := w.Export(t.Context(), endless, "TSV", limits, nil, everything)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	enginetest.Halt(t, w.engine.PID())
	for name, call := range map[string]func() error{
		"an answer that has begun": func() error {
			for rows.Next() {
			}
			return rows.Err()
		},
		"a file that has begun": func() error {
			_, err := io.Copy(io.Discard, file)
			return err
		},
		"a statement": func() error {
			_, err := w.Query(t.Context(), "SELECT 1", clickhouse.QueryLimits{MaxDuration: time.Second}, nil, everything)
			return err
		},
		"an insert": func() error { return w.WriteSegment(t.Context(), stopped) },
	} {
		err := call()
		if core.KindOf(err) != core.KindUnavailable || !strings.Contains(err.Error(), "the embedded engine does not answer (no answer within ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.UseBatches()
	if err := w.WriteSegment(t.Context(), stopped); core.KindOf(err) != core.KindUnavailable {
		t.Errorf("a batch: %v", err)
	}
	enginetest.Continue(t, w.engine.PID())
	until(t, "the segment to be taken", func() error { return w.WriteSegment(t.Context(), stopped) })
	if got := w.one(t, "SELECT count() FROM run_logs"); got != "3000" {
		t.Errorf("%s lines, want 3000", got)
	}
}

// TestAStoppedEngineIsReplacedAndNothingIsLost: whoever tries again comes through without anybody's help.
func TestAStoppedEngineIsReplacedAndNothingIsLost(t *testing.T) {
	t.Parallel()
	w := hurried(t, func(o *engine.SupervisorOptions) {
		o.LookEvery, o.HangTime, o.StopTime = 100*time.Millisecond, 3*time.Second, 100*time.Millisecond
	})
	before, meanwhile := fullSegment("before"), fullSegment("meanwhile")
	until(t, "the first segment to be taken", func() error { return w.WriteSegment(t.Context(), before) })
	stopped := w.engine.PID()
	enginetest.Halt(t, w.engine.PID())
	if err := w.WriteSegment(t.Context(), meanwhile); core.KindOf(err) != core.KindUnavailable {
		t.Errorf("a stopped engine: %v", err)
	}
	until(t, "the segment to be taken", func() error { return w.WriteSegment(t.Context(), meanwhile) })
	until(t, "another engine", func() error {
		if pid := w.engine.PID(); pid == 0 || pid == stopped {
			return errors.New("the stopped one is still there")
		}
		return w.Health(t.Context())
	})
	if got := w.one(t, "SELECT (count(), uniqExact(run_id, attempt, seq)) FROM run_logs"); got != "[6000 6000]" {
		t.Errorf("%s lines, want 6000, each once", got)
	}
}
