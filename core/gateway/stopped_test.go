package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/engine/enginetest"
	"github.com/gnomon-scheduler/gnomon/core/gateway"
)

// TestAStoppedClickHouseHoldsNoPlace: what it does not answer ends by our own clock, before and after its first rows.
func TestAStoppedClickHouseHoldsNoPlace(t *testing.T) {
	t.Parallel()
	w := setup(t, gateway.Limits{MaxDuration: 5 * time.Second, Overall: 2, PerPrincipal: 1},
		func(o *clickhouse.Options) { o.GraceTime = 500 * time.Millisecond })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url, strings.NewReader("SELECT repeat('x', 1000) FROM numbers(100000000)"))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("", "some")
	begun, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = begun.Body.Close() }()
	enginetest.Halt(t, w.pid())
	a := w.ask("all", "SELECT 1", "max_execution_time=1")
	if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "Code: 210") || !strings.Contains(a.body, "History does not answer now") {
		t.Errorf("%d: %s", a.status, a.body)
	}
	if _, err := io.Copy(io.Discard, begun.Body); err == nil {
		t.Error("half an answer looks whole")
	}
	enginetest.Continue(t, w.pid())
	for _, token := range []string{"all", "some"} {
		if got := w.must(token, "SELECT 1"); got != "1" {
			t.Errorf("%s: %s", token, got)
		}
	}
}
