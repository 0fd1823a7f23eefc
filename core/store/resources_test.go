package store_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/google/go-cmp/cmp"
)

// everyPolicy has no zero field.
func everyPolicy() core.Policies {
	return core.Policies{Zeros: []string{"stop_after", "sla.finish_by"}, Timeout: 1, SoftTimeout: 2, Overlap: core.OverlapQueue, OverlapLimit: 3, CatchUp: core.CatchUpAll, CatchUpWindow: 4, CatchUpLimit: 5,
		CatchUpSpread: 6, MaxRuns: 7, MaxAttempts: 8, RetryDelay: 9, RetryBackoff: core.BackoffFixed, RetryMaxDelay: 10, RetryJitter: 0.5,
		RetryOn: []core.Verdict{core.Lost}, StopAfter: 11, Intervene: true, Priority: -12, Pools: []core.PoolUse{{Pool: "erp", Slots: 2}},
		Downstreams: []string{"his", "lis"}, Breaker: core.BreakerRule{Failures: 13, Cooldown: 14, Probes: 15},
		Preconditions: []core.Precondition{{Name: "n", SQL: &core.SQLCheck{Connection: "c", Query: "q"}, Every: 16, Deadline: 17, Otherwise: core.OtherwiseRun},
			{HTTP: &core.HTTPCheck{URL: "http://a", Status: 204, Contains: "x"}}, {Expression: "true"}},
		SLA: core.SLA{StartWithin: 18, FinishWithin: 19, FinishBy: "06:00", MaxDuration: 20, P95Factor: 1.5}, LogLevel: core.LevelWarn, LogFull: core.LogFullDrop}
}

func TestEveryPolicyIsKept(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		namespace(t, s)
		policies := everyPolicy()
		for i, v := 0, reflect.ValueOf(policies); i < v.NumField(); i++ {
			if v.Field(i).IsZero() {
				t.Errorf("the test forgets %s", v.Type().Field(i).Name)
			}
		}
		want := newTask("all", at(10))
		want.Policies = policies
		want.After = []core.Upstream{{Task: "b", On: core.OnAlways, Params: map[string]string{"n": "$.n"}}}
		want.Pause = core.Pause{Since: at(1), Until: at(2), Note: "moving", By: "li"}
		want.Schedule.From, want.Schedule.Until, want.Schedule.Jitter = at(1), at(500), time.Second
		want.Schedule.OnlyOn, want.Schedule.NotOn, want.Schedule.OnDayOff = []string{"cn-workdays"}, []string{"audit"}, "next"
		_, err := s.CreateTask(t.Context(), want)
		ok(t, err)
		want.Version = 1
		if diff := cmp.Diff(want, task(t, s, want.ID)); diff != "" {
			t.Error(diff)
		}
		ns := core.Namespace{Name: "Common", Title: core.Text{Zh: "公共"}, CreatedAt: epoch, Defaults: policies, MaxRunning: 7, TypeLimits: map[string]int{"Common.KeepAlive": 2}, Retention: core.Retention{RunsDays: core.KeepForever, LinesDays: 60, SamplesDays: 7, FineDays: 21}}
		ok(t, s.PutNamespace(t.Context(), ns))
		got, err := s.Namespace(t.Context(), "Common")
		ok(t, err)
		if diff := cmp.Diff(ns, got); diff != "" {
			t.Error(diff)
		}
		w.exec(t, "UPDATE namespaces SET doc = '{'")
		if list := must2(s.Namespaces(t.Context())); len(list) != 1 || list[0].MaxRunning != 0 || list[0].Title.Zh != "公共" {
			t.Errorf("a poisoned namespace: %+v", list)
		}
	})
}

// TestWhatIsWrittenAsZeroIsKept: and told from what is not written, in the task, its versions and the defaults.
func TestWhatIsWrittenAsZeroIsKept(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		namespace(t, s)
		zeros := core.Policies{Zeros: []string{"timeout", "stop_after", "breaker.failures"}, RetryOn: []core.Verdict{}, Pools: []core.PoolUse{},
			Downstreams: []string{}, Preconditions: []core.Precondition{}}
		for name, want := range map[string]core.Policies{"zeros": zeros, "nothing": {}} {
			of := newTask(name, at(10))
			of.Policies, of.StopOnError = want, map[string]*bool{"zeros": new(false)}[name]
			_, err := s.CreateTask(t.Context(), of)
			ok(t, err)
			got := task(t, s, of.ID)
			if diff := cmp.Diff(want, got.Policies); diff != "" || !reflect.DeepEqual(got.StopOnError, of.StopOnError) {
				t.Errorf("%s: stop_on_error %v, %s", name, got.StopOnError, diff)
			}
			got.Policies = everyPolicy()
			_, err = s.UpdateTask(t.Context(), got)
			ok(t, err)
			if all := must2(s.TaskVersions(t.Context(), of.ID)); len(all) != 2 || cmp.Diff(want, all[1].Policies) != "" || cmp.Diff(everyPolicy(), all[0].Policies) != "" {
				t.Errorf("%s: versions %+v", name, all)
			}
			ok(t, s.PutNamespace(t.Context(), core.Namespace{Name: "Common", Defaults: want}))
			if diff := cmp.Diff(want, must2(s.Namespace(t.Context(), "Common")).Defaults); diff != "" {
				t.Errorf("%s as defaults: %s", name, diff)
			}
		}
	})
}

func TestAResourceIsChangedInTheVersionSeen(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		r := core.Resource{Kind: "pool", Name: "erp", Doc: []byte(`{"slots":3}`), UpdatedAt: at(1), UpdatedBy: "li"}
		r2 := r
		r2.Version = 1
		_, err := s.PutResource(t.Context(), r2)
		wantKind(t, err, core.KindStale)
		got, err := s.PutResource(t.Context(), r)
		ok(t, err)
		r.Version = 1
		for from, got := range map[string]core.Resource{"put": got, "read": must2(s.Resource(t.Context(), "pool", "erp"))} {
			if diff := cmp.Diff(r, got); diff != "" {
				t.Errorf("%s: %s", from, diff)
			}
		}
		r.Doc = []byte(`{"slots":4}`)
		got, err = s.PutResource(t.Context(), r)
		ok(t, err)
		if got.Version != 2 {
			t.Errorf("version %d", got.Version)
		}
		_, err = s.PutResource(t.Context(), r)
		wantKind(t, err, core.KindStale, "version 1", "version 2")
		r.Version = 0
		got, err = s.PutResource(t.Context(), r)
		ok(t, err)
		if got.Version != 3 {
			t.Errorf("version %d", got.Version)
		}
		_, err = s.PutResource(t.Context(), core.Resource{Kind: "calendar", Name: "erp", Doc: []byte(`{}`)})
		ok(t, err)
		_, err = s.PutResource(t.Context(), core.Resource{Kind: "pool", Name: "Zoo", Doc: []byte(`{}`)})
		ok(t, err)
		if list := must2(s.Resources(t.Context(), "pool")); len(list) != 2 || list[0].Name != "Zoo" || list[1].Version != 3 {
			t.Errorf("pools %+v", list)
		}
		ok(t, s.DeleteResource(t.Context(), "pool", "erp"))
		wantKind(t, s.DeleteResource(t.Context(), "pool", "erp"), core.KindNotFound)
		_, err = s.Resource(t.Context(), "pool", "erp")
		wantKind(t, err, core.KindNotFound)
		if _, err := s.Resource(t.Context(), "calendar", "erp"); err != nil {
			t.Error(err)
		}
	})
}

func TestReferencesFollowTheirTask(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		namespace(t, s)
		a := newTask("a", at(10))
		a.After = []core.Upstream{{Task: "b"}, {Task: "c"}}
		a.Schedule.OnlyOn, a.Schedule.NotOn = []string{"cn-workdays"}, []string{"audit", "cn-workdays"}
		a.Policies.Pools, a.Policies.Downstreams = []core.PoolUse{{Pool: "erp"}}, []string{"his"}
		a.Steps = []string{"b", "b"}
		a.Policies.Preconditions = []core.Precondition{{Expression: `task("b").live == 0 && day(now, "audit") && params.x`}}
		a.Mentions = []core.Mention{{Kind: core.MentionTask, Name: "b"}, {Kind: core.MentionCalendar, Name: "audit"}, {Kind: core.MentionParameter, Name: "x"}}
		b := newTask("b", at(10))
		b.Policies.Downstreams = []string{"his"}
		ok(t, s.CreateTasks(t.Context(), []core.Task{a, b}))
		refs := func(kinds ...string) (list []string) {
			for _, r := range must2(s.AllReferences(t.Context(), kinds...)) {
				list = append(list, r.Namespace+"/"+r.TaskName+" "+r.Kind+" "+r.Name)
			}
			return list
		}
		all := []string{"Common/a upstream b", "Common/a upstream c", "Common/a step b", "Common/a calendar audit", "Common/a calendar cn-workdays",
			"Common/a pool erp", "Common/a downstream his", "Common/b downstream his",
			"Common/a asked_task b", "Common/a asked_calendar audit"}
		if diff := cmp.Diff(all, refs()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"Common/a pool erp", "Common/a step b"}, refs("pool", "step")); diff != "" {
			t.Error(diff)
		}
		want := []core.Reference{{TaskID: a.ID, Namespace: "Common", TaskName: "a", Kind: "downstream", Name: "his"},
			{TaskID: b.ID, Namespace: "Common", TaskName: "b", Kind: "downstream", Name: "his"}}
		if diff := cmp.Diff(want, must2(s.References(t.Context(), "downstream", "his"))); diff != "" {
			t.Error(diff)
		}
		read := task(t, s, a.ID) // which has no steps and mentions: a change of something else leaves them
		read.Name, read.After, read.Policies.Pools, read.Pause = "z", nil, nil, core.Pause{Since: at(1), By: "li"}
		read, err := s.UpdateTask(t.Context(), read)
		ok(t, err)
		if diff := cmp.Diff([]string{"Common/z step b", "Common/z asked_task b"}, refs("upstream", "step", "pool", "asked_task")); diff != "" {
			t.Error(diff)
		}
		read.Params = []byte(`{"steps":[]}`)
		read, err = s.UpdateTask(t.Context(), read)
		ok(t, err)
		if list := refs("step"); len(list) != 0 {
			t.Errorf("steps of other parameters: %v", list)
		}
		read.Steps = []string{"c"}
		read, err = s.UpdateTask(t.Context(), read)
		ok(t, err)
		if diff := cmp.Diff([]string{"Common/z step c"}, refs("step")); diff != "" {
			t.Error(diff)
		}
		_, err = s.UpdateTask(t.Context(), core.Task{ID: a.ID, Namespace: "Common", Name: "stale"})
		wantKind(t, err, core.KindStale)
		read.Mentions = []core.Mention{{Kind: core.MentionTask, Name: "b"}}
		read, err = s.UpdateTask(t.Context(), read)
		ok(t, err)
		read.Policies.Preconditions = nil
		if _, err = s.UpdateTask(t.Context(), read); err != nil || len(refs("asked_task")) != 0 {
			t.Errorf("of preconditions that are gone: %v, %v", refs("asked_task"), err)
		}
		wantSound(t, s)
		ok(t, s.DeleteTask(t.Context(), a.ID))
		if diff := cmp.Diff([]string{"Common/b downstream his"}, refs()); diff != "" {
			t.Error(diff)
		}
		wantSound(t, s)
	})
}

func TestBrokenInvariantsAreFound(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		a := created(t, s, "a")
		run := queuedRun(t, s, &a, at(10), at(20))
		hold := core.Hold{RunID: run.ID, TaskID: a.ID, Token: run.Token, Gate: core.GatePrecondition, At: at(10)}
		_, err := s.Hold(t.Context(), []core.Hold{hold})
		ok(t, err)
		wantSound(t, s, "owner")
		w.exec(t, "UPDATE runs SET gate = ''")
		w.exec(t, "INSERT INTO holds VALUES ('pool:a', $1, 1), ('pool:a', 'gone', 1)", run.ID)
		w.exec(t, "INSERT INTO breakers VALUES ('task:x', 'half_open', 1, 0, 0, 0, $1, '', 0)", run.ID)
		w.exec(t, "INSERT INTO task_refs VALUES ('gone', 'pool', 'a')")
		w.exec(t, "UPDATE task_state SET failures = -1")
		found := map[string]int{}
		for _, v := range must2(s.CheckInvariants(t.Context())) {
			found[v.Rule]++
		}
		want := map[string]int{"owner": 1, "gate": 1, "hold": 2, "breaker": 1, "reference": 1, "counters": 1}
		if diff := cmp.Diff(want, found); diff != "" {
			t.Error(diff)
		}
		w.exec(t, "UPDATE task_state SET failures = 0, queued = 0")
		if found := must2(s.CheckInvariants(t.Context())); found[0].Rule != "counters" {
			t.Errorf("waiting runs are not counted: %+v", found)
		}
	})
}
