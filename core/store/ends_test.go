package store_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/google/go-cmp/cmp"
)

func TestFailuresInARowDisableTheTask(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		a.Policies.Overlap = core.OverlapAllow
		second := 10
		end := func(stopAfter int, verdicts ...core.Verdict) []core.Finished {
			t.Helper()
			var ends []core.Finish
			for _, v := range verdicts {
				run, got := claimed(t, s, &a, at(second), at(second+1))
				if !got.Won {
					t.Fatal("not claimed")
				}
				second++
				f := finishOf(&run, v)
				f.StopAfter, f.NextFire, f.Version = stopAfter, at(second+1), a.Version
				f.NextFire = time.Time{}
				ends = append(ends, f)
			}
			got, err := s.Finish(t.Context(), ends)
			ok(t, err)
			return got
		}
		end(3, core.Failed, core.TimedOut)
		if n := task(t, s, a.ID).State.Failures; n != 2 {
			t.Errorf("%d failures", n)
		}
		end(3, core.Succeeded, core.Crashed, core.Cancelled, core.Lost)
		if state := task(t, s, a.ID); state.State.Failures != 2 || !state.Enabled {
			t.Errorf("failures after a success: %+v", state.State)
		}
		got := end(3, core.Cancelled, core.Failed, core.Succeeded) // the success of the same call comes too late
		off := task(t, s, a.ID)
		if got[0].Disabled != "" || !strings.HasPrefix(got[1].Disabled, "stop_on_error: 3 runs in a row failed, the last was ") ||
			!strings.HasSuffix(got[1].Disabled, " (failed)") || got[2].Disabled != "" {
			t.Errorf("finished %+v", got)
		}
		if off.Enabled || off.DisabledReason != got[1].Disabled || off.Version != 2 || off.UpdatedBy != "gnomon" || !off.State.NextFire.IsZero() {
			t.Errorf("the disabled task: %+v", off)
		}
		versions, err := s.TaskVersions(t.Context(), a.ID)
		ok(t, err)
		if len(versions) != 2 || !versions[1].Enabled {
			t.Errorf("%d versions", len(versions))
		}
		off.Enabled, off.DisabledReason, off.State.NextFire = true, "", at(second)
		a, err = s.UpdateTask(t.Context(), off)
		ok(t, err)
		a.Policies.Overlap = core.OverlapAllow
		end(3, core.Failed, core.Failed)
		if on := task(t, s, a.ID); !on.Enabled || on.State.Failures != 2 {
			t.Errorf("after it was enabled again: %+v", on)
		}
		run, _ := claimed(t, s, &a, at(second), at(second+1))
		other, _ := claimed(t, s, &a, at(second+1), at(second+2))
		f := finishOf(&run, core.Failed)
		f.RetryAt, f.StopAfter = at(900), 1
		got[0] = finish(t, s, f)
		if got[0].Disabled != "" || !task(t, s, a.ID).Enabled {
			t.Error("an attempt that is retried disabled the task")
		}
		f.Token, f.RetryAt = got[0].Token, time.Time{}
		if got := finish(t, s, f); got.Disabled != "stop_on_error: run "+run.ID+" failed" {
			t.Errorf("finished %+v", got)
		}
		f = finishOf(&other, core.Failed)
		f.StopAfter = 1
		if got := finish(t, s, f); got.Disabled != "" || got.Stale {
			t.Errorf("a disabled task was disabled again: %+v", got)
		}
		wantSound(t, s)
	})
}

func TestBreachesAreGathered(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		run, _ := claimed(t, s, &a, at(10), at(20))
		late := core.Breach{Kind: core.BreachStart, At: at(11), Limit: "start within 1s"}
		long := core.Breach{Kind: core.BreachLong, At: at(15), Limit: "5s"}
		by := core.Breach{Kind: core.BreachFinish, At: at(16), Limit: "finish by 06:00"}
		within := core.Breach{Kind: core.BreachFinish, At: at(17), Limit: "finish within 7s"}
		ok(t, s.Breach(t.Context(), run.ID, []core.Breach{late}))
		again := late
		again.At = at(12)
		ok(t, s.Breach(t.Context(), run.ID, []core.Breach{again, long}))
		f := finishOf(&run, core.Failed)
		f.RetryAt, f.Breaches = at(20), []core.Breach{by}
		run.Token = finish(t, s, f).Token
		f.Token, f.RetryAt, f.Breaches = run.Token, time.Time{}, []core.Breach{long, within}
		finish(t, s, f)
		if diff := cmp.Diff([]core.Breach{late, long, by, within}, runByID(t, s, run.ID).Breaches); diff != "" {
			t.Error(diff)
		}
		wantKind(t, s.Breach(t.Context(), run.ID, []core.Breach{late}), core.KindNotFound)
		wantKind(t, s.Breach(t.Context(), newID(), []core.Breach{late}), core.KindNotFound)
	})
}

func TestAnEndCausesRunsOfOtherTasksOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a, b, off, edited := created(t, s, "a"), created(t, s, "b"), created(t, s, "off"), created(t, s, "edited")
		off.Enabled = false
		off, err := s.UpdateTask(t.Context(), off)
		ok(t, err)
		old := edited
		edited.Description = "x"
		_, err = s.UpdateTask(t.Context(), edited)
		ok(t, err)
		run, _ := claimed(t, s, &a, at(10), at(20))
		caused := func(task *core.Task) core.Run {
			next := newRun(task, at(11), "me")
			next.State, next.Token, next.Trigger, next.Series, next.CausedBy, next.DecidedAt = "", 0, core.TriggerUpstream, "upstream:"+run.ID, run.ID, time.Time{}
			return next
		}
		gone := newTask("gone", at(10))
		f := finishOf(&run, core.Failed)
		f.RetryAt, f.Then = at(15), []core.Run{caused(&b)}
		got := finish(t, s, f)
		if len(got.Then) != 0 {
			t.Errorf("an attempt caused %+v", got.Then)
		}
		quiet := created(t, s, "quiet")
		skipped, disabled := caused(&quiet), caused(&off)
		disabled.TaskVersion, disabled.Facts, disabled.DecidedAt = off.Version-1, json.RawMessage(`{"upstream":"a"}`), at(11)
		skipped.DecidedAt, skipped.Facts = at(11), json.RawMessage(`{"upstream":"a"}`)
		skipped = skipped.SkippedFor(core.ReasonPaused)
		f.Token, f.RetryAt, f.Then = got.Token, time.Time{}, []core.Run{caused(&b), disabled, caused(&old), caused(&gone), skipped, caused(&b), caused(&a)}
		got = finish(t, s, f)
		if len(got.Then) != 3 || got.Then[0].TaskID != b.ID || got.Then[0].Token != 1 || got.Then[0].State != core.RunQueued ||
			got.Then[1].TaskID != old.ID || got.Then[2].TaskID != a.ID {
			t.Fatalf("caused %+v", got.Then)
		}
		if diff := cmp.Diff(got.Then[0], runByID(t, s, got.Then[0].ID)); diff != "" {
			t.Error(diff)
		}
		if again := finish(t, s, f); !again.Stale || len(again.Then) != 0 {
			t.Errorf("the same end once more: %+v", again)
		}
		list := must2(s.Runs(t.Context(), core.RunFilter{CausedBy: run.ID}))
		if len(list) != 5 {
			t.Errorf("%d caused rows", len(list))
		}
		if diff := cmp.Diff(skipped, runByID(t, s, skipped.ID)); diff != "" {
			t.Error(diff)
		}
		if late := runByID(t, s, disabled.ID); late.Verdict != core.Skipped || late.Reason != core.ReasonDisabled || late.TaskVersion != off.Version || late.Token != 0 ||
			late.State != core.RunEnded || late.Attempt != 0 || string(late.Facts) != `{"upstream":"a"}` {
			t.Errorf("a fire whose task was disabled meanwhile: %+v", late)
		}
		for _, id := range []string{off.ID, quiet.ID} {
			if state := task(t, s, id).State; state.Live != 0 || state.Fired != 0 {
				t.Errorf("a skipped fire counts: %+v", state)
			}
		}
		if state := task(t, s, b.ID).State; state.Live != 1 || state.Fired != 0 {
			t.Errorf("state %+v", state)
		}
		wantSound(t, s, "owner")
		next := got.Then[0]
		if got := admit(t, s, askFor(&next, at(12))); !got.Start {
			t.Errorf("admitted %+v", got)
		}
		wantSound(t, s, "owner")
	})
}

func TestARunIsPutBeforeAPerson(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		var runs []core.Run
		for i := range 3 {
			run, _ := claimed(t, s, &a, at(10+i), at(11+i))
			f := finishOf(&run, core.Failed)
			f.Intervene, f.Outcome.Message = true, "no bed"
			if i == 2 { // a retry is no end
				f.RetryAt = at(90)
			}
			finish(t, s, f)
			ok(t, s.Shipped(t.Context(), []string{run.ID}))
			runs = append(runs, run)
		}
		open := must2(s.Interventions(t.Context(), core.InterventionFilter{}))
		if len(open) != 2 || open[0].RunID != runs[1].ID {
			t.Fatalf("open: %+v", open)
		}
		want := core.Intervention{RunID: runs[0].ID, TaskID: a.ID, Namespace: "Common", TaskName: "a", TaskType: a.Type, FireAt: at(10),
			Params: a.Params, Verdict: core.Failed, Message: "no bed", Attempts: 1, CreatedAt: at(11)}
		if diff := cmp.Diff(want, open[1]); diff != "" {
			t.Error(diff)
		}
		again := newRun(&a, at(10), "me")
		again.Trigger, again.Series, again.CausedBy, again.State, again.CreatedBy = core.TriggerRetry, "retry:"+runs[0].ID, runs[0].ID, "", "li"
		got, made, err := s.ResolveIntervention(t.Context(), runs[0].ID, "retry", "bed mended", "li", at(50), &again)
		ok(t, err)
		want.ResolvedAt, want.Action, want.Note, want.By, want.NewRun = at(50), "retry", "bed mended", "li", again.ID
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if row := runByID(t, s, again.ID); made.Token == 0 || row.Token != made.Token || row.State != core.RunQueued {
			t.Errorf("made %+v, row %+v", made, row)
		}
		other := again
		other.ID = newID()
		_, _, err = s.ResolveIntervention(t.Context(), runs[0].ID, "retry", "", "wang", at(51), &other)
		wantKind(t, err, core.KindConflict, "retry, by li")
		_, _, err = s.ResolveIntervention(t.Context(), newID(), "done", "", "wang", at(51), nil)
		wantKind(t, err, core.KindNotFound)
		gone := newTask("gone", at(10))
		lost := newRun(&gone, at(10), "me")
		_, _, err = s.ResolveIntervention(t.Context(), runs[1].ID, "retry", "", "wang", at(51), &lost)
		wantKind(t, err, core.KindNotFound)
		if _, made, err := s.ResolveIntervention(t.Context(), runs[1].ID, "done", "by hand", "wang", at(52), nil); err != nil || made.ID != "" {
			t.Errorf("done: %+v, %v", made, err)
		}
		for name, c := range map[string]struct {
			filter core.InterventionFilter
			want   int
		}{
			"open":      {core.InterventionFilter{}, 0},
			"resolved":  {core.InterventionFilter{Resolved: true}, 2},
			"task":      {core.InterventionFilter{Resolved: true, TaskID: newID()}, 0},
			"before":    {core.InterventionFilter{Resolved: true, BeforeID: runs[1].ID, Namespaces: []string{"Common"}}, 1},
			"foreign":   {core.InterventionFilter{Resolved: true, Namespaces: []string{"Other"}}, 0},
			"invisible": {core.InterventionFilter{Resolved: true, Namespaces: []string{}}, 0},
			"limit":     {core.InterventionFilter{Resolved: true, Limit: 1}, 1},
		} {
			if list := must2(s.Interventions(t.Context(), c.filter)); len(list) != c.want {
				t.Errorf("%s: %d", name, len(list))
			}
		}
		one, err := s.Intervention(t.Context(), runs[1].ID)
		ok(t, err)
		if one.Action != "done" || one.By != "wang" {
			t.Errorf("one: %+v", one)
		}
		_, err = s.Intervention(t.Context(), newID())
		wantKind(t, err, core.KindNotFound)
		wantSound(t, s, "owner")
	})
}

func TestEnqueueMayBeRepeated(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a, b := created(t, s, "a"), created(t, s, "b")
		last, _ := claimed(t, s, &a, at(10), at(20))
		finish(t, s, finishOf(&last, core.Succeeded))
		step := func(task *core.Task, second int) core.Run {
			run := newRun(task, at(second), "me")
			run.State, run.Trigger, run.Series, run.WorkflowID, run.Step = "", core.TriggerWorkflow, "workflow:w/load#0", "w", "load"
			return run
		}
		runs := []core.Run{step(&a, 5), step(&b, 5), step(&a, 6), step(&a, 10)}
		stored, err := s.Enqueue(t.Context(), runs)
		ok(t, err)
		for i, token := range []int64{2, 1, 3, 4} {
			want := runs[i]
			want.State, want.Token = core.RunQueued, token
			if diff := cmp.Diff(want, runByID(t, s, want.ID)); diff != "" {
				t.Error(diff)
			}
			if want.TaskID == a.ID {
				want.PrevSuccess = at(11)
			}
			if diff := cmp.Diff(want, stored[i]); diff != "" {
				t.Error(diff)
			}
		}
		got := admit(t, s, askFor(&stored[0], at(30)))
		again := []core.Run{step(&a, 5), step(&a, 7), step(&a, 7)}
		twice, err := s.Enqueue(t.Context(), again)
		ok(t, err)
		if twice[0].ID != runs[0].ID || twice[0].State != core.RunClaimed || twice[0].Token != got.Token || twice[1].ID != again[1].ID || twice[2].ID != again[1].ID {
			t.Errorf("repeated: %+v", twice)
		}
		gone := newTask("gone", at(10))
		_, err = s.Enqueue(t.Context(), []core.Run{step(&a, 8), step(&gone, 8)})
		wantKind(t, err, core.KindNotFound, gone.ID)
		clash := step(&a, 9)
		clash.ID = runs[0].ID
		_, err = s.Enqueue(t.Context(), []core.Run{step(&a, 8), clash})
		wantKind(t, err, core.KindConflict)
		if list := must2(s.Runs(t.Context(), core.RunFilter{WorkflowID: "w"})); len(list) != 5 {
			t.Errorf("%d steps", len(list))
		}
		if state := task(t, s, a.ID).State; state.Live != 4 || state.Fired != 1 {
			t.Errorf("state %+v", state)
		}
		wantSound(t, s, "owner")
	})
}

func TestAStrongerStopTakesThePlaceOfAWeaker(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		one, two := queuedRun(t, s, &a, at(10), at(20)), queuedRun(t, s, &a, at(20), at(30))
		ended := queuedRun(t, s, &a, at(30), at(40))
		finish(t, s, finishOf(&ended, core.Cancelled))
		for _, c := range []struct {
			how  core.Stop
			by   string
			want core.StopRequest
		}{
			{core.StopSupersede, "gnomon", core.StopRequest{RunID: one.ID, How: core.StopSupersede, By: "gnomon"}},
			{core.StopTerminate, "li", core.StopRequest{RunID: one.ID, How: core.StopTerminate, By: "li"}},
			{core.StopCancel, "wang", core.StopRequest{RunID: one.ID, How: core.StopTerminate, By: "li"}},
			{core.StopTerminate, "wang", core.StopRequest{RunID: one.ID, How: core.StopTerminate, By: "li"}},
		} {
			ok(t, s.RequestStop(t.Context(), []string{one.ID, ended.ID, newID()}, c.how, c.by))
			if diff := cmp.Diff([]core.StopRequest{c.want}, must2(s.StopRequests(t.Context(), "me"))); diff != "" {
				t.Error(diff)
			}
		}
		ok(t, s.RequestStop(t.Context(), []string{two.ID}, core.StopCancel, "li"))
		if list := must2(s.StopRequests(t.Context(), "me")); len(list) != 2 {
			t.Errorf("%+v", list)
		}
		if list := must2(s.StopRequests(t.Context(), "you")); len(list) != 0 {
			t.Errorf("of another server: %+v", list)
		}
		wantKind(t, s.RequestStop(t.Context(), []string{ended.ID}, core.StopCancel, "li"), core.KindNotFound)
		if row := runByID(t, s, ended.ID); row.Stop != "" {
			t.Errorf("an ended run is asked to stop: %+v", row)
		}
		wantKind(t, s.RequestStop(t.Context(), []string{one.ID}, "softly", "li"), core.KindInvalid, "softly")
		got := admit(t, s, askFor(&one, at(30)))
		one.Token = got.Token
		if row := runByID(t, s, one.ID); row.Stop != core.StopTerminate || row.StopBy != "li" {
			t.Errorf("row %+v", row)
		}
		finish(t, s, finishOf(&one, core.Cancelled))
		if list := must2(s.StopRequests(t.Context(), "me")); len(list) != 1 || list[0].RunID != two.ID {
			t.Errorf("after the end: %+v", list)
		}
	})
}
