package ledger_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/ledger"
)

// TestDetailKnowsWhatAdmissionsSay: the words of core.Admit, and of no others, have a translation.
func TestDetailKnowsWhatAdmissionsSay(t *testing.T) {
	t.Parallel()
	run := core.Standing{RunID: "b", State: core.RunQueued, FireAt: at(nine)}
	live := core.Standing{RunID: "a", State: core.RunRunning, FireAt: at("2026-11-20 08:00")}
	wait := core.Standing{RunID: "c", State: core.RunWaiting, Gate: core.GateOverlap, FireAt: at("2026-11-20 08:30")}
	erp := core.Admission{Limits: []core.Limit{{Key: "pool:erp", Slots: 2, Need: 1, MaxWaiting: 1}}}
	breaker := core.Admission{At: at(nine), CatchUp: core.CatchUpNone, Breakers: []core.BreakerRule{{Name: "downstream:his", Failures: 1}}}
	open := func(failures int, because string) core.Standings {
		return core.Standings{Run: run, Breakers: []core.Breaker{{State: core.BreakerOpen, Failures: failures, Because: because, ProbeAt: at(nine).Add(time.Hour)}}}
	}
	for _, c := range []struct {
		a core.Admission
		s core.Standings
	}{
		{core.Admission{}, core.Standings{Run: run, Peers: []core.Standing{live}}},
		{core.Admission{}, core.Standings{Run: run, Peers: []core.Standing{live, wait}}},
		{core.Admission{Overlap: core.OverlapQueue}, core.Standings{Run: run, Peers: []core.Standing{live, wait}}},
		{breaker, open(1, "")}, {breaker, open(5, "")}, {breaker, open(1, "refused")}, {breaker, open(5, "refused")},
		{erp, core.Standings{Run: run, Rooms: []core.Room{{Used: 2}}}},
		{erp, core.Standings{Run: run, Rooms: []core.Room{{Used: 2, Waiting: 1}}}},
	} {
		ruling := core.Admit(c.a, c.s)
		if said := ledger.Detail(ruling.Detail); ruling.Detail == "" || said.En != ruling.Detail || said.Zh == said.En || strings.Contains(said.Zh, "$") {
			t.Errorf("%+v is said as %+v", ruling, said)
		}
	}
	if said := ledger.Detail("params.lines == 1"); said.Zh != "params.lines == 1" || said.En != said.Zh {
		t.Errorf("%+v", said)
	}
}
