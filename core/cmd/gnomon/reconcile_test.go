package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/ledger"
)

// What a day came to is said kind by kind: a row that no schedule explains is no double.
func TestWhatADayCameTo(t *testing.T) {
	t.Parallel()
	day, now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 29, 0, 6, 0, 0, time.UTC)
	missing := []time.Time{day.Add(time.Hour)}
	r := ledger.Result{Expected: 20, Decided: 19, Started: 9, Skipped: map[core.Reason]int64{core.ReasonOverlap: 7, core.ReasonPaused: 3}, Missing: 1, Doubled: 2, Unexpected: 3, Miscounted: 4, Unjudged: 5, MissingList: missing}
	want := core.Reconciliation{
		Day: day, Namespace: "Common", TaskName: "t", TaskID: "id", Expected: 20, Decided: 19, Started: 9, Skipped: 10, Missing: 1, Doubled: 2, Unexpected: 3,
		Miscounted: 4, Unjudged: 5, MissingList: missing, CheckedAt: now, Server: "s",
	}
	if diff := cmp.Diff(want, reconciliation(&core.Task{ID: "id", Namespace: "Common", Name: "t"}, &r, day, now, "s")); diff != "" {
		t.Error(diff)
	}
	var found accounts
	found.add(&r)
	found.add(&ledger.Result{Missing: 1, Miscounted: 1})
	if found.tasks != 2 || found.missing != 2 || found.doubled != 2 || found.odd != 8 {
		t.Errorf("%+v", found)
	}
}
