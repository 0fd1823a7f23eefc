package clickhouse_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

func TestAskersSeeTheirNamespaces(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := segment("s", 2000, false)
	for i := range s.Logs {
		origin := *s.Logs[i].Origin
		origin.Namespace = []string{"Common", "Foreign"}[i%2]
		s.Logs[i].Origin, s.Logs[i].Seq = &origin, uint64(i+1)
	}
	if err := w.WriteSegment(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	count := func(scope statement.Scope, sql string) string {
		rows, err := w.Query(t.Context(), sql, clickhouse.QueryLimits{}, nil, scope)
		if err != nil {
			return err.Error()
		}
		defer rows.Close()
		var all []string
		for rows.Next() {
			row, err := rows.Scan(nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprint(row...))
		}
		if err := rows.Err(); err != nil {
			return err.Error()
		}
		return strings.Join(all, " ")
	}
	const sql = "SELECT count() FROM run_logs"
	for want, scope := range map[string]statement.Scope{"2000": everything, "1000": {Namespaces: []string{"Common"}}, "0": {Namespaces: []string{"Other"}}} {
		if got := count(scope, sql); got != want {
			t.Errorf("%v: %s instead of %s", scope, got, want)
		}
	}
	if got := count(statement.Scope{Namespaces: []string{"Common", "Foreign"}}, sql); got != "2000" {
		t.Errorf("two namespaces: %s", got)
	}
	for _, scope := range []statement.Scope{{}, {Namespaces: []string{"Common", "*"}}, {Namespaces: []string{""}}, {Namespaces: []string{"a','*"}}} {
		if _, err := w.Query(t.Context(), sql, clickhouse.QueryLimits{}, nil, scope); core.KindOf(err) != core.KindDenied {
			t.Errorf("%q: %v", scope.Namespaces, err)
		}
	}
	// The part of the key is used: the policy is a condition on it.
	plan := count(everything, "EXPLAIN indexes = 1 SELECT count() FROM run_logs")
	if !strings.Contains(plan, "Row level filter") {
		t.Errorf("no policy in %s", plan)
	}
	if _, err := w.Query(t.Context(), "SELECT * FROM system.parts", clickhouse.QueryLimits{}, nil, statement.Scope{Namespaces: []string{"Common"}}); core.KindOf(err) != core.KindInvalid {
		t.Error(err)
	} else if e, ok := errors.AsType[*clickhouse.ServerError](err); !ok || e.Code != 164 {
		t.Error(err)
	}
	// What makes the analysts' user on a server of one's own is at least ClickHouse's language.
	for _, sql := range clickhouse.Protection("my`base", "password") {
		rows, err := w.Query(t.Context(), "SELECT formatQuery({sql:String})", clickhouse.QueryLimits{}, map[string]string{"sql": sql}, everything)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if !rows.Next() {
			t.Errorf("%s: %v", sql, rows.Err())
		}
		rows.Close()
	}
}
