package clickhouse_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/engine"
	"github.com/gnomon-scheduler/gnomon/core/engine/enginetest"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// TestMain is also the engine process: the supervisor starts this binary again with "engine" first.
func TestMain(m *testing.M) {
	if enginetest.Asked() {
		var readable []engine.Readable
		for _, r := range clickhouse.Readables() {
			readable = append(readable, engine.Readable(r))
		}
		if os.Getenv(twoShards) != "" {
			readable = append(readable, shardPolicies()...)
		}
		os.Exit(enginetest.Serve(context.Background(), slog.LevelInfo, readable))
	}
	goleak.VerifyTestMain(m)
}

// twoShards is set for an engine that is both shards of a cluster.
const twoShards = "GNOMON_TEST_TWO_SHARDS"

// world is a history of a test's own, in the real engine.
type world struct {
	*clickhouse.Client
	engine *engine.Supervisor
	dir    string
}

func setup(t testing.TB) *world {
	t.Helper()
	e := enginetest.Start(t)
	w := &world{engine: e.Supervisor, dir: e.Dir, Client: open(t, e.Socket())}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func open(t testing.TB, socket string) *clickhouse.Client {
	t.Helper()
	c, err := clickhouse.Open(t.Context(), clickhouse.Options{Socket: socket, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ask gives the rows of a statement.
func (w *world) ask(t testing.TB, sql string) [][]any {
	t.Helper()
	return w.askAs(t, sql, everything)
}

// askAs gives them to one who may see no more than a scope.
func (w *world) askAs(t testing.TB, sql string, scope statement.Scope) [][]any {
	t.Helper()
	rows, err := w.Query(t.Context(), sql, clickhouse.QueryLimits{}, nil, scope)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	var all [][]any
	for rows.Next() {
		row, err := rows.Scan(nil)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		for i := range row {
			if composed, ok := row[i].(json.RawMessage); ok {
				numbers := json.NewDecoder(bytes.NewReader(composed))
				numbers.UseNumber()
				if err := numbers.Decode(&row[i]); err != nil {
					t.Fatalf("%s: %s: %v", sql, composed, err)
				}
			}
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return all
}

// one gives the only value of a statement, as text.
func (w *world) one(t testing.TB, sql string) string {
	t.Helper()
	rows := w.ask(t, sql)
	if len(rows) != 1 || len(rows[0]) != 1 {
		t.Fatalf("%s: %v", sql, rows)
	}
	return fmt.Sprint(rows[0][0])
}

// everything is the scope of one who may see all namespaces.
var everything = statement.Scope{All: true}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// noon is an instant of today, in whole microseconds.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// segment makes lines of a hundred runs, and some of everything else.
func segment(id string, lines int, attrs bool) core.Segment {
	s := core.Segment{ID: id, Logs: make([]core.LoggedLine, lines)}
	var origin *core.Origin
	at := now()
	for i := range s.Logs {
		if i%1000 == 0 {
			task := i / 1000 % 20
			origin = &core.Origin{RunID: newID(), Attempt: 1, TaskID: fmt.Sprintf("0198c0de-0000-7000-8000-%012d", task), Namespace: "Telemedicine", TaskName: fmt.Sprintf("ecg-timeout-%d", task), TaskType: "Telemedicine.ECGTimeoutFallbackTask", FireAt: at}
		}
		line := core.LogLine{At: at.Add(time.Duration(i) * time.Microsecond), Level: core.LevelInfo, Stream: core.StreamLog, Seq: uint64(i%1000 + 1), Message: fmt.Sprintf("心电图超时兜底 resend record %d to hospital %d, took %d ms", i, i%17, i%911)}
		if attrs {
			line.Attrs = []core.Attr{{Key: "patient", Value: fmt.Sprint(i % 5000)}, {Key: "device", Value: "ecg-12"}}
		}
		s.Logs[i] = core.LoggedLine{Origin: origin, LogLine: line}
	}
	return s
}

func dialer(socket string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
}
