package runner_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/runner"
)

// TestALineIsDurableBeforeTheOutcomeIsWritten: who sees that a run has ended can read all it said.
func TestALineIsDurableBeforeTheOutcomeIsWritten(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "succeed", nil)
	fired := w.fire(t, task.ID, 30*time.Millisecond)
	run := w.wantEnded(t, fired.ID, core.Succeeded, "")
	if run.StartedAt.Before(run.FireAt) || run.EndedAt.Before(run.StartedAt) || string(run.Output) != `{"done":true}` || string(run.Checkpoint) != "after 1" || run.Token != fired.Token {
		t.Errorf("the row: %+v", run)
	}
	if run.Usage.CPU != 7*time.Millisecond || run.Usage.PeakRSSBytes != 9<<20 || run.Usage.CPUSource != core.SourceMeasured || run.Usage.RSSSource != core.SourceShared {
		t.Errorf("usage %+v", run.Usage)
	}
	if got := order(w.diary.all()); got != "execute 1, record 1 succeeded, durable true, finish succeeded" {
		t.Errorf("order: %s", got)
	}
	lines, err := w.spool.Lines(t.Context(), core.LineFilter{RunID: run.ID, Limit: 10})
	if err != nil || len(lines) != 1 || lines[0].Message != "attempt 1" {
		t.Errorf("lines %+v, %v", lines, err)
	}
	record := w.wantAttempts(t, run.ID, core.Succeeded)[0]
	if record.Began.IsZero() || record.StartedAt.IsZero() || record.Token != fired.Token || record.TaskName != task.Name || !record.FireAt.Equal(fired.FireAt) {
		t.Errorf("attempt %+v", record)
	}
	attempt := w.provider.attempts()[0]
	if attempt.RunID != run.ID || attempt.Token != run.Token || !attempt.FireAt.Equal(run.FireAt) || attempt.Number != 1 || !attempt.PrevSuccess.IsZero() {
		t.Errorf("the executor was given %+v", attempt)
	}
	second := w.wantEnded(t, w.fire(t, task.ID, 0).ID, core.Succeeded, "")
	if got := w.provider.attempts()[1]; !got.PrevSuccess.Equal(run.EndedAt) || second.Token <= run.Token {
		t.Errorf("the next run was told of a success at %s; want %s", got.PrevSuccess, run.EndedAt)
	}
	if state := w.task(t, task.ID).State; !state.LastSuccess.Equal(second.EndedAt) || state.LastOutcome != core.Succeeded || state.Live != 0 {
		t.Errorf("the task's state: %+v", state)
	}
}

func TestTheHardTimeoutEndsAnAttempt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if err := w.catalog.Offer("plugin:quick", w.provider, []core.TaskType{{Name: "Lab.Quick", Timeout: 80 * time.Millisecond, ParamsSchema: json.RawMessage(`{}`)}}); err != nil {
		t.Fatal(err)
	}
	w.opts.DefaultTimeout = 120 * time.Millisecond
	w.start(t)
	for do, change := range map[string]func(*core.Task){
		"wait": func(t *core.Task) { t.Policies.Timeout = 50 * time.Millisecond }, // the task's own, and the task says how it ended
		"hold": func(t *core.Task) { t.Type = "Lab.Quick" },                       // its type's, and the executor gave up
	} {
		w.wantEnded(t, w.fire(t, w.create(t, do, change).ID, 0).ID, core.TimedOut, "")
	}
	run := w.wantEnded(t, w.fire(t, w.create(t, "wait", nil).ID, 0).ID, core.TimedOut, "") // the server's
	if took := run.EndedAt.Sub(run.StartedAt); took < 120*time.Millisecond || !strings.Contains(run.Message, "timeout") {
		t.Errorf("the attempt ended after %s: %q", took, run.Message)
	}
}

func TestARunThatWaitsIsCancelledAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "fail", func(t *core.Task) { t.Policies.MaxAttempts, t.Policies.RetryDelay = 2, time.Hour })
	claimed := w.fire(t, task.ID, time.Hour)
	retrying := w.fire(t, task.ID, 0)
	eventually(t, "the second waits for its next attempt", func() bool { return w.run(t, retrying.ID).State == core.RunRetrying })
	alone := w.create(t, "hold", func(t *core.Task) { t.Policies.Overlap = core.OverlapSkip })
	w.fire(t, alone.ID, 0)
	w.executes(t, 1)
	queued := w.fire(t, alone.ID, time.Hour)
	if queued.State != core.RunQueued {
		t.Fatalf("the third is %s", queued.State)
	}
	for _, id := range []string{claimed.ID, retrying.ID, queued.ID} {
		if err := w.Cancel(t.Context(), id, "ann"); err != nil {
			t.Fatal(err)
		}
		run := w.run(t, id)
		if id == retrying.ID { // the runner takes it up just after its row says so
			run = w.ended(t, id)
		}
		if run.State != core.RunEnded || run.Verdict != core.Cancelled || !strings.Contains(run.Message, "ann") {
			t.Errorf("cancelled run: %+v", run)
		}
		if err := w.Cancel(t.Context(), id, "ann"); core.KindOf(err) != core.KindNotFound {
			t.Errorf("cancelling it again gave %v", err)
		}
	}
	close(w.provider.let)
	if n := len(w.provider.attempts()); n != 2 {
		t.Errorf("%d attempts; want the failed one and the one that holds", n)
	}
	w.ended(t, w.fire(t, alone.ID, 0).ID) // nothing of the cancelled one is in the way
}

func TestARunThatExecutesIsCancelled(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "wait", func(t *core.Task) { t.StopOnError, t.Policies.MaxAttempts = new(true), 3 })
	fired := w.fire(t, task.ID, 0)
	eventually(t, "it executes", func() bool { return w.provider.executing() == 1 })
	if _, ok := w.StartedAt(fired.ID); !ok || w.Executing() != 1 {
		t.Error("the runner does not know that it executes")
	}
	if err := w.Cancel(t.Context(), fired.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	if run := w.wantEnded(t, fired.ID, core.Cancelled, ""); run.Message != "cancelled on request by ann" {
		t.Errorf("it ended with %q", run.Message)
	}
	if !w.task(t, task.ID).Enabled {
		t.Error("a cancelled run disabled its task")
	}
	if err := w.Cancel(t.Context(), "no-such-run", "ann"); core.KindOf(err) != core.KindNotFound {
		t.Errorf("cancelling nothing gave %v", err)
	}
	eventually(t, "it is forgotten", func() bool { _, ok := w.StartedAt(fired.ID); return !ok && w.Executing() == 0 })
}

func TestARunIsRetriedToSuccess(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "", func(t *core.Task) {
		t.Params = json.RawMessage(`{"do":"until","until":3}`)
		t.StopOnError, t.Policies.MaxAttempts, t.Policies.RetryDelay = new(true), 4, 40*time.Millisecond
	})
	fired := w.fire(t, task.ID, 0)
	run := w.wantEnded(t, fired.ID, core.Succeeded, "")
	if run.Attempt != 3 || run.Message != "" || !run.FireAt.Equal(fired.FireAt) || run.Token <= fired.Token {
		t.Errorf("the row: %+v", run)
	}
	attempts := w.wantAttempts(t, run.ID, core.Failed, core.Failed, core.Succeeded)
	for i, a := range attempts[:2] {
		if wait := a.RetryAt.Sub(a.EndedAt); wait != 40*time.Millisecond<<i || attempts[i+1].StartedAt.Before(a.RetryAt) {
			t.Errorf("attempt %d: the next was planned after %s and started at %s", i+1, wait, attempts[i+1].StartedAt)
		}
	}
	seen := w.provider.attempts()
	if len(seen) != 3 || string(seen[0].Checkpoint) != "" || string(seen[1].Checkpoint) != "after 1" || string(seen[2].Checkpoint) != "after 2" ||
		seen[1].Token <= seen[0].Token || seen[2].Token <= seen[1].Token || seen[2].Token != run.Token {
		t.Errorf("the executor was given %+v", seen)
	}
	if !w.task(t, task.ID).Enabled {
		t.Error("a run that succeeded in the end disabled its task")
	}
}

func TestAnExecutorThatCannotTryIsAFailure(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	run := w.wantEnded(t, w.fire(t, w.create(t, "error", nil).ID, 0).ID, core.Failed, "")
	if run.Message != "the plugin does not start" {
		t.Errorf("message %q", run.Message)
	}
}

func TestStopOnErrorDisablesTheTaskAndSkipsWhatWasClaimed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "fail", func(t *core.Task) {
		t.StopOnError, t.Policies.MaxAttempts, t.Policies.RetryDelay = new(true), 2, 20*time.Millisecond
	})
	next := w.fire(t, task.ID, time.Hour)
	fired := w.fire(t, task.ID, 0)
	w.wantEnded(t, fired.ID, core.Failed, "")
	w.wantEnded(t, next.ID, core.Skipped, core.ReasonDisabled)
	stored := w.task(t, task.ID)
	if stored.Enabled || !strings.Contains(stored.DisabledReason, "stop_on_error") || !strings.Contains(stored.DisabledReason, fired.ID) || !stored.State.NextFire.IsZero() {
		t.Errorf("the task: %+v", stored)
	}
	if said, gone := w.announced(); len(said) != 0 || len(gone) != 1 || gone[0].ID != task.ID {
		t.Errorf("announced %+v, removed %+v", said, gone)
	}
	w.wantAttempts(t, fired.ID, core.Failed, core.Failed)
}

// TestOverlapIsDecidedAtTheInstant: not when the fire is claimed, a little ahead.
func TestOverlapIsDecidedAtTheInstant(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "hold", func(t *core.Task) { t.Policies.Overlap = core.OverlapSkip })
	first := w.fire(t, task.ID, 0)
	eventually(t, "the first executes", func() bool { return w.provider.executing() == 1 })
	second := w.fire(t, task.ID, 2*time.Second)
	if second.State != core.RunQueued || w.run(t, second.ID).State != core.RunQueued {
		t.Fatalf("the second was claimed as %s beside a live run", second.State)
	}
	skipped := w.wantEnded(t, second.ID, core.Skipped, core.ReasonOverlap)
	if skipped.DecidedAt.Before(second.FireAt) || !strings.Contains(string(skipped.Facts), `1 earlier run is live`) {
		t.Errorf("skipped at %s, before its instant %s, for %s", skipped.DecidedAt, second.FireAt, skipped.Facts)
	}
	third := w.fire(t, task.ID, 3*time.Second)
	close(w.provider.let) // the first ends before the third's instant
	w.wantEnded(t, first.ID, core.Succeeded, "")
	started := w.wantEnded(t, third.ID, core.Succeeded, "")
	if third.State != core.RunQueued || started.StartedAt.Before(third.FireAt) || started.Token <= third.Token {
		t.Errorf("the third: claimed %s with token %d, started at %s with %d", third.State, third.Token, started.StartedAt, started.Token)
	}
	if n := len(w.provider.attempts()); n != 2 {
		t.Errorf("%d attempts; want 2", n)
	}
}

// TestTheNextFireOfAnAfterTaskFollowsEveryEnd: success, failure, cancel and skip alike.
func TestTheNextFireOfAnAfterTaskFollowsEveryEnd(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	create := func(do string) core.Task {
		return w.create(t, do, func(t *core.Task) { t.Schedule.Spec, t.Policies.Overlap = "@after 10m", core.OverlapSkip })
	}
	check := func(what string, task core.Task, ended core.Run) {
		t.Helper()
		var next time.Time
		eventually(t, what+": the next fire is set", func() bool { next = w.task(t, task.ID).State.NextFire; return !next.IsZero() })
		if late := next.Sub(ended.EndedAt) - 10*time.Minute; late.Abs() > time.Millisecond {
			t.Errorf("%s: the next fire is at %s, 10 minutes and %s after the end", what, next, late)
		}
		said, _ := w.announced()
		if len(said) == 0 || said[len(said)-1].ID != task.ID || !said[len(said)-1].State.NextFire.Equal(next) {
			eventually(t, what+": it is announced", func() bool {
				said, _ := w.announced()
				return len(said) > 0 && said[len(said)-1].ID == task.ID && said[len(said)-1].State.NextFire.Equal(next)
			})
		}
	}
	for do, verdict := range map[string]core.Verdict{"succeed": core.Succeeded, "fail": core.Failed} {
		task := create(do)
		check(do, task, w.wantEnded(t, w.fire(t, task.ID, 0).ID, verdict, ""))
	}

	waits := create("wait")
	executing := w.fire(t, waits.ID, 0)
	eventually(t, "it executes", func() bool { return w.provider.executing() == 1 })
	if err := w.Cancel(t.Context(), executing.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	check("cancelled", waits, w.wantEnded(t, executing.ID, core.Cancelled, ""))

	early := create("succeed")
	waiting := w.fire(t, early.ID, time.Hour)
	if err := w.Cancel(t.Context(), waiting.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	check("cancelled before it began", early, w.wantEnded(t, waiting.ID, core.Cancelled, ""))

	unknown := create("succeed")
	task, run := w.claim(t, unknown.ID, "me", time.Now())
	run.TaskType = "Lab.Gone"
	w.Dispatch(task, run)
	check("skipped", unknown, w.wantEnded(t, run.ID, core.Skipped, core.ReasonUnknownType))
}

func TestADisabledAfterTaskGetsNoNextFire(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "hold", func(t *core.Task) { t.Schedule.Spec, t.Enabled = "@after 10m", false })
	manual, err := w.RunNow(t.Context(), task.ID, nil, "ann")
	if err != nil {
		t.Fatal(err)
	}
	switched := w.create(t, "hold", func(t *core.Task) { t.Schedule.Spec = "@after 10m" })
	fired := w.fire(t, switched.ID, 0)
	if _, err := w.defs.SetEnabled(t.Context(), switched.ID, false, "ann"); err != nil {
		t.Fatal(err)
	}
	close(w.provider.let)
	for taskID, runID := range map[string]string{task.ID: manual.ID, switched.ID: fired.ID} {
		w.wantEnded(t, runID, core.Succeeded, "")
		if next := w.task(t, taskID).State.NextFire; !next.IsZero() {
			t.Errorf("a disabled task fires at %s", next)
		}
	}
}

func TestAFireOfAnUnknownTypeIsSkipped(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "succeed", nil)
	claimed, fired := w.claim(t, task.ID, w.opts.ServerID, time.Now())
	w.catalog.Withdraw("plugin:lab")
	w.Dispatch(claimed, fired)
	skipped := w.wantEnded(t, fired.ID, core.Skipped, core.ReasonUnknownType)
	if !strings.Contains(string(skipped.Facts), "Lab.Work") {
		t.Errorf("facts %s", skipped.Facts)
	}
	broken := []core.TaskType{{Name: "Lab.Work", Problem: "does not compile"}}
	if err := w.catalog.Offer("lua:Lab/Work.lua", nil, broken); err != nil {
		t.Fatal(err)
	}
	failed := w.wantEnded(t, w.fire(t, task.ID, 0).ID, core.Failed, "")
	if !strings.Contains(failed.Message, "does not compile") {
		t.Errorf("message %q", failed.Message)
	}
}

func TestNoMoreThanMaxExecutingExecute(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.opts.MaxExecuting = 3
	w.start(t)
	var ids []string
	for range 8 {
		ids = append(ids, w.fire(t, w.create(t, "hold", nil).ID, 0).ID)
	}
	eventually(t, "three execute", func() bool { return w.provider.executing() == 3 })
	if w.Executing() != 3 {
		t.Errorf("%d execute", w.Executing())
	}
	if err := w.Cancel(t.Context(), ids[7], "ann"); err != nil && core.KindOf(err) != core.KindNotFound { // also while it waits for a place
		t.Fatal(err)
	}
	close(w.provider.let)
	for _, id := range ids[:7] {
		w.ended(t, id)
	}
	if w.provider.atOnce() != 3 {
		t.Errorf("%d executed at once; want 3", w.provider.atOnce())
	}
}

// TestRoomCountsWhatWaitsForAPlace: and not what waits for its next attempt, or a bad day would stop everything.
func TestRoomCountsWhatWaitsForAPlace(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.opts.MaxExecuting, w.opts.MaxWaiting = 1, 3
	w.start(t)
	task := w.create(t, "hold", nil)
	for taken := range 6 {
		if room := w.Room(); room != max(0, 4-taken) {
			t.Errorf("with %d runs there is room for %d", taken, room)
		}
		w.fire(t, task.ID, 0)
	}
	close(w.provider.let)
	eventually(t, "all end", func() bool { return w.task(t, task.ID).State.Live == 0 && w.Room() == 4 })
	failing := w.create(t, "fail", func(t *core.Task) { t.Policies.MaxAttempts, t.Policies.RetryDelay = 2, time.Hour })
	var ids []string
	for range 6 {
		ids = append(ids, w.fire(t, failing.ID, 0).ID)
	}
	eventually(t, "all wait for their next attempt", func() bool { return len(w.provider.attempts()) == 12 && w.Room() == 4 })
	for _, id := range ids {
		eventually(t, "it waits", func() bool { return w.run(t, id).State == core.RunRetrying })
		eventually(t, "it is cancelled", func() bool { return w.Cancel(t.Context(), id, "ann") == nil })
	}
	if room := w.Room(); room != 4 {
		t.Errorf("in the end there is room for %d", room)
	}
}

func TestNothingBeginsWithoutTheLease(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "succeed", nil)
	w.may.Store(false)
	fired := w.fire(t, task.ID, 0)
	wait(100 * time.Millisecond)
	if run := w.run(t, fired.ID); len(w.provider.attempts()) != 0 || run.State != core.RunClaimed {
		t.Errorf("%d attempts, the row is %s; want it left to whoever takes over", len(w.provider.attempts()), run.State)
	}
	if _, err := w.RunNow(t.Context(), task.ID, nil, "ann"); core.KindOf(err) != core.KindUnavailable {
		t.Errorf("run now gave %v", err)
	}
}

func TestRunNow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "fail", func(t *core.Task) { t.Policies.Overlap = core.OverlapSkip })
	run, err := w.RunNow(t.Context(), task.ID, json.RawMessage(`{"do":"hold"}`), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if run.Trigger != core.TriggerManual || run.CreatedBy != "ann" || run.Token == 0 || w.run(t, run.ID).State == core.RunEnded {
		t.Errorf("the run: %+v", run)
	}
	if _, err := w.RunNow(t.Context(), task.ID, nil, "bob"); core.KindOf(err) != core.KindConflict || !strings.Contains(err.Error(), run.ID) {
		t.Errorf("a second run beside it gave %v; want a conflict that names it", err)
	}
	close(w.provider.let)
	w.wantEnded(t, run.ID, core.Succeeded, "")
	own, err := w.RunNow(t.Context(), task.ID, nil, "bob")
	if err != nil {
		t.Fatal(err)
	}
	w.wantEnded(t, own.ID, core.Failed, "") // with the task's own parameters
	if next := w.task(t, task.ID).State.NextFire; !next.Equal(task.State.NextFire) {
		t.Errorf("running it by hand moved the next fire from %s to %s", task.State.NextFire, next)
	}
	if _, err := w.RunNow(t.Context(), "no-such-task", nil, "ann"); core.KindOf(err) != core.KindNotFound {
		t.Errorf("running nothing gave %v", err)
	}
	beside := w.create(t, "succeed", func(t *core.Task) { t.Policies.Overlap = core.OverlapAllow })
	for range 3 {
		if _, err := w.RunNow(t.Context(), beside.ID, nil, "ann"); err != nil {
			t.Error(err)
		}
	}
	if err := w.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RunNow(t.Context(), task.ID, nil, "ann"); core.KindOf(err) != core.KindUnavailable {
		t.Errorf("run now on a stopped runner gave %v", err)
	}
}

func TestForgottenRunsAreSkipped(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	task := w.create(t, "hold", nil)
	executing := w.fire(t, task.ID, 0)
	eventually(t, "it executes", func() bool { return w.provider.executing() == 1 })
	waiting, others := w.fire(t, task.ID, time.Hour), w.fire(t, w.create(t, "hold", nil).ID, time.Hour)
	if err := w.Forget(t.Context(), task.ID, core.ReasonEdited, nil); err != nil {
		t.Fatal(err)
	}
	w.wantEnded(t, waiting.ID, core.Skipped, core.ReasonEdited)
	close(w.provider.let)
	w.wantEnded(t, executing.ID, core.Succeeded, "")
	if state := w.run(t, others.ID).State; state != core.RunClaimed {
		t.Errorf("another task's run is %s", state)
	}
}

// TestStopDrains: what executes may end, what is about to begin does, what waits longer is left to the next server.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	executing := w.fire(t, w.create(t, "hold", nil).ID, 0)
	eventually(t, "it executes", func() bool { return w.provider.executing() == 1 })
	soon := w.fire(t, w.create(t, "succeed", nil).ID, 150*time.Millisecond)
	retried := w.fire(t, w.create(t, "fail", func(t *core.Task) { t.Policies.MaxAttempts, t.Policies.RetryDelay = 2, time.Hour }).ID, 0)
	eventually(t, "one waits for its next attempt", func() bool { return w.run(t, retried.ID).State == core.RunRetrying })
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(context.WithoutCancel(t.Context())) }()
	w.wantEnded(t, soon.ID, core.Succeeded, "")
	select {
	case err := <-stopped:
		t.Fatalf("stopped with %v while an attempt executed", err)
	default:
	}
	close(w.provider.let)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if run := w.run(t, executing.ID); run.Verdict != core.Succeeded { // durable by the time Stop returns
		t.Errorf("the drained run: %+v", run)
	}
	if run := w.run(t, retried.ID); run.State != core.RunRetrying || run.Attempt != 2 {
		t.Errorf("the run that waits: %+v", run)
	}
	task, run := w.claim(t, w.create(t, "succeed", nil).ID, "me", time.Now())
	w.Dispatch(task, run)
	if err := w.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if n := len(w.provider.attempts()); n != 3 {
		t.Errorf("%d attempts; want 3: nothing begins after Stop", n)
	}
}

// TestStopCancelsAfterTheDrainTime: and a run that never got a place is not mistaken for one that may have run.
func TestStopCancelsAfterTheDrainTime(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.opts.Drain, w.opts.MaxExecuting = 100*time.Millisecond, 2
	w.start(t)
	cut := w.fire(t, w.create(t, "wait", func(t *core.Task) { t.StopOnError = new(true) }).ID, 0)
	again := w.fire(t, w.create(t, "wait", func(t *core.Task) { t.Policies.MaxAttempts = 2 }).ID, 0)
	eventually(t, "two execute", func() bool { return w.provider.executing() == 2 })
	crowded := w.fire(t, w.create(t, "wait", nil).ID, 0)
	began := time.Now()
	if err := w.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("stopped after %s", took)
	}
	if run := w.run(t, cut.ID); run.Verdict != core.Cancelled || !strings.Contains(run.Message, "shutting down") {
		t.Errorf("the run without retries: %+v", run)
	}
	if run := w.run(t, again.ID); run.State != core.RunRetrying || run.Attempt != 2 {
		t.Errorf("the run with retries: %+v", run)
	}
	if run := w.run(t, crowded.ID); run.Verdict != core.Skipped || run.Reason != core.ReasonShutdown {
		t.Errorf("the run without a place: %+v", run)
	}
	if !w.task(t, cut.TaskID).Enabled || len(w.provider.attempts()) != 2 {
		t.Error("the shutdown disabled a task, or more than two began")
	}
}

func TestStopGivesUpWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(t)
	fired := w.fire(t, w.create(t, "hold", nil).ID, 0)
	eventually(t, "it executes", func() bool { return w.provider.executing() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := w.Stop(ctx); core.KindOf(err) != core.KindUnavailable {
		t.Errorf("stop gave %v", err)
	}
	w.wantEnded(t, fired.ID, core.Cancelled, "") // it was told to
	if err := runner.New(w.opts).Stop(t.Context()); err != nil {
		t.Errorf("stopping what was never started gave %v", err)
	}
}
