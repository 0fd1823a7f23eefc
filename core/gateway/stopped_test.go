package gateway_test

import (
	"context"
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

// TestAPlaceIsKeptWhileTheEngineWorks: a function that looks at no limit goes on after whoever asked for it has gone, or our
// own clock has given it up.
func TestAPlaceIsKeptWhileTheEngineWorks(t *testing.T) {
	t.Parallel()
	w := setup(t, gateway.Limits{PerPrincipal: 1, Overall: 3, Patience: 50 * time.Millisecond, MaxDuration: time.Minute, EndTime: 100 * time.Millisecond},
		func(o *clickhouse.Options) { o.GraceTime = 10 * time.Millisecond })
	overdue := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.overdue
	}
	// Seconds on any machine.
	const endless = "SELECT length(extractAll(repeat('aa', 750000) || toString(number), '.{1,900}b|a')) FROM numbers(1)"
	working := func(seconds string) bool { // for so long at least
		return w.owner("SELECT count() FROM system.processes WHERE query LIKE '%extractAll%' AND query NOT LIKE '%processes%' AND elapsed >= "+seconds) != "0"
	}
	told := 0
	for name, goes := range map[string]bool{"the client goes": true, "it is given up": false} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan struct{})
			go func() { // ends with the statement, which ends with ctx at the latest
				defer close(done)
				if a, err := w.try(ctx, "some", endless, "max_execution_time=1"); err == nil && a.status == http.StatusOK {
					t.Errorf("the machine is too fast: %s", a.body)
				}
			}()
			for began := time.Now(); !working("0.3"); {
				if time.Since(began) > time.Minute {
					t.Fatal("it does not begin")
				}
			}
			if goes {
				cancel()
			}
			<-done
			if got := w.must("all", "SELECT 1"); got != "1" { // another's place is free
				t.Error(got)
			}
			kept := 0
			for began := time.Now(); ; kept++ {
				was := working("0")
				a := w.ask("some", "SELECT 2")
				if a.status == http.StatusOK {
					if working("0") {
						t.Error("the place is free while the engine works")
					}
					break
				}
				if !strings.Contains(a.body, "Code: 202") || time.Since(began) > time.Minute {
					t.Fatalf("the engine works: %v, %s", was, a.body)
				}
			}
			if told++; overdue() != told {
				t.Errorf("%d times told of %d statements that did not end", overdue(), told)
			}
			if kept == 0 {
				t.Error("the place was free at once")
			}
		})
	}
}
