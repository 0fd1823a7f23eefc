package store_test

import (
	"fmt"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/google/go-cmp/cmp"
)

func TestATaskComesBackAsItWasStored(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		namespace(t, s)
		want := newTask("web", at(10))
		got, err := s.CreateTask(t.Context(), want)
		ok(t, err)
		want.Version = 1
		for from, task := range map[string]core.Task{"create": got, "read": task(t, s, want.ID)} {
			if diff := cmp.Diff(want, task); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", from, diff)
			}
		}
		byName, err := s.TaskByName(t.Context(), "Common", "web")
		ok(t, err)
		if byName.ID != want.ID {
			t.Error("another task by name")
		}
		if string(got.Params) != `{"urls":"http://a/?x=1&y=2"}` {
			t.Errorf("parameters were rewritten: %s", got.Params)
		}
		_, err = s.CreateTask(t.Context(), newTask("web", at(10)))
		wantKind(t, err, core.KindConflict, "Common/web")
		other := newTask("other", at(10))
		other.Namespace = "Nowhere"
		_, err = s.CreateTask(t.Context(), other)
		wantKind(t, err, core.KindNotFound, "Nowhere")
		bad := newTask("bad", at(10))
		bad.Params = []byte(`{`)
		_, err = s.CreateTask(t.Context(), bad)
		wantKind(t, err, core.KindInvalid, "params")
		off := newTask("off", at(10))
		off.Enabled = false
		got, err = s.CreateTask(t.Context(), off)
		ok(t, err)
		if !got.State.NextFire.IsZero() {
			t.Error("a disabled task has a next fire")
		}
		wantSound(t, s)
	})
}

func TestAnEditNamesTheVersionItSaw(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		v1 := created(t, s, "web")
		run, _ := claimed(t, s, &v1, at(10), at(20))
		v2 := v1
		v2.Description, v2.UpdatedBy, v2.Type, v2.State.NextFire = "other", "wang", "Common.Other", at(100)
		v2, err := s.UpdateTask(t.Context(), v2)
		ok(t, err)
		if v2.Version != 2 || !v2.State.NextFire.Equal(at(100)) || v2.State.Live != 1 {
			t.Errorf("after the edit: version %d, next %v, live %d", v2.Version, v2.State.NextFire, v2.State.Live)
		}
		_, err = s.UpdateTask(t.Context(), v1)
		wantKind(t, err, core.KindStale, "version 1", "version 2")
		if _, lost := claimed(t, s, &v1, at(20), at(30)); lost.Won {
			t.Error("a claim of the old version won")
		}
		versions, err := s.TaskVersions(t.Context(), v1.ID)
		ok(t, err)
		if len(versions) != 2 || versions[0].Version != 2 || versions[1].Version != 1 {
			t.Fatalf("versions: %+v", versions)
		}
		if versions[1].Description != v1.Description || versions[1].UpdatedBy != "li" || versions[1].Type != "Common.KeepAlive" {
			t.Errorf("version 1 was not kept: %+v", versions[1])
		}
		second := created(t, s, "second")
		second.Name = "web"
		_, err = s.UpdateTask(t.Context(), second)
		wantKind(t, err, core.KindConflict)
		finish(t, s, finishOf(&run, core.Succeeded))
		wantSound(t, s)
	})
}

func TestADeletedTaskKeepsItsVersionsAndItsRunEnds(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		task := created(t, s, "web")
		run, _ := claimed(t, s, &task, at(10), at(20))
		wantKind(t, s.DeleteNamespace(t.Context(), "Common"), core.KindConflict, "web")
		ok(t, s.DeleteTask(t.Context(), task.ID))
		wantKind(t, s.DeleteTask(t.Context(), task.ID), core.KindNotFound)
		_, err := s.Task(t.Context(), task.ID)
		wantKind(t, err, core.KindNotFound)
		versions, err := s.TaskVersions(t.Context(), task.ID)
		ok(t, err)
		if len(versions) != 1 || versions[0].Name != "web" {
			t.Errorf("versions of the deleted task: %+v", versions)
		}
		f := finishOf(&run, core.Failed)
		f.RetryAt = at(15)
		again := finish(t, s, f)
		if again.Stale || again.Token <= run.Token {
			t.Errorf("retry of a deleted task's run: %+v", again)
		}
		started := admit(t, s, core.Admission{RunID: run.ID, TaskID: task.ID, Token: again.Token, Owner: "me", At: at(15)})
		if !started.Start || started.Token <= again.Token {
			t.Errorf("start of a deleted task's run: %+v", started)
		}
		run.Token = started.Token
		if got := finish(t, s, finishOf(&run, core.Succeeded)); got.Stale {
			t.Error("the run of a deleted task could not end")
		}
		ok(t, s.DeleteNamespace(t.Context(), "Common"))
		wantKind(t, s.DeleteNamespace(t.Context(), "Common"), core.KindNotFound)
		wantSound(t, s, "owner")
		_, err = s.TaskVersions(t.Context(), newID())
		wantKind(t, err, core.KindNotFound)
	})
}

// TestWhatCannotBeDoneIsSaidInChineseToo: by a sentence that names the thing.
func TestWhatCannotBeDoneIsSaidInChineseToo(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		task := created(t, s, "web")
		_, byName := s.TaskByName(t.Context(), "Common", "none")
		_, noPool := s.Resource(t.Context(), "pool", "erp")
		_, noRun := s.Run(t.Context(), "r1")
		stale := task
		stale.Version = 7
		_, staleErr := s.UpdateTask(t.Context(), stale)
		_, there := s.CreateTask(t.Context(), task)
		for want, err := range map[string]error{
			"没有任务 Common/none": byName,
			"没有池 erp":          noPool,
			"没有运行 r1":          noRun,
			"命名空间 Common 中还有任务（例如 web）；请先删除它们":           s.DeleteNamespace(t.Context(), "Common"),
			"任务 Common/web 现在是版本 1，而读到的是版本 7；请重新读取后再改":   staleErr,
			"任务 Common/web（或编号为 " + task.ID + " 的任务）已存在": there,
		} {
			if core.ChineseOf(err) != want {
				t.Errorf("%v: %q; want %q", err, core.ChineseOf(err), want)
			}
		}
	})
}

func TestNamespacesAreListedByName(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		for _, name := range []string{"b", "C", "a"} {
			ok(t, s.PutNamespace(t.Context(), core.Namespace{Name: name, Description: "d", CreatedAt: epoch}))
		}
		ok(t, s.PutNamespace(t.Context(), core.Namespace{Name: "a", Title: core.Text{Zh: "甲"}, CreatedAt: at(5)}))
		list, err := s.Namespaces(t.Context())
		ok(t, err)
		want := []core.Namespace{{Name: "C", Description: "d", CreatedAt: epoch}, {Name: "a", Title: core.Text{Zh: "甲"}, CreatedAt: epoch},
			{Name: "b", Description: "d", CreatedAt: epoch}}
		if diff := cmp.Diff(want, list); diff != "" {
			t.Error(diff)
		}
		_, err = s.Namespace(t.Context(), "x")
		wantKind(t, err, core.KindNotFound)
	})
}

func TestListsFilterAndPage(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		namespace(t, s)
		ok(t, s.PutNamespace(t.Context(), core.Namespace{Name: "Other"}))
		var tasks []core.Task
		for i := range 30 {
			task := newTask(fmt.Sprintf("n%02d", i), at(10+i%3))
			if i%2 == 1 {
				task.Namespace, task.Type, task.Enabled = "Other", "Other.Type", false
			}
			tasks = append(tasks, task)
		}
		tasks[4].Description = `100% of A_B \ 心电图 Über`
		ok(t, s.CreateTasks(t.Context(), tasks))
		yes := true
		for name, c := range map[string]struct {
			filter core.TaskFilter
			want   int
		}{
			"all":          {core.TaskFilter{}, 30},
			"none visible": {core.TaskFilter{Namespaces: []string{}}, 0},
			"namespace":    {core.TaskFilter{Namespaces: []string{"Other"}}, 15},
			"namespaces":   {core.TaskFilter{Namespaces: []string{"Other", "Common"}}, 30},
			"type":         {core.TaskFilter{Type: "Other.Type"}, 15},
			"enabled":      {core.TaskFilter{Enabled: &yes}, 15},
			"name":         {core.TaskFilter{Search: "N1"}, 10},
			"percent":      {core.TaskFilter{Search: "100% OF"}, 1},
			"underscore":   {core.TaskFilter{Search: "a_b"}, 1},
			"not wildcard": {core.TaskFilter{Search: "a%b"}, 0},
			"backslash":    {core.TaskFilter{Search: `\`}, 1},
			"chinese":      {core.TaskFilter{Search: "心电"}, 1},
			"beyond ascii": {core.TaskFilter{Search: "ÜBER"}, 1},
			"limit":        {core.TaskFilter{Limit: 7}, 7},
			"after":        {core.TaskFilter{AfterID: tasks[9].ID}, 20},
		} {
			list, err := s.Tasks(t.Context(), c.filter)
			ok(t, err)
			if len(list) != c.want {
				t.Errorf("%s: %d tasks, want %d", name, len(list), c.want)
			}
		}
		var due []core.Due
		for after := (core.Due{}); ; after = due[len(due)-1] {
			page, err := s.Due(t.Context(), at(11), after, 4)
			ok(t, err)
			if due = append(due, page...); len(page) < 4 {
				break
			}
		}
		if len(due) != 10 {
			t.Errorf("%d due, want 10", len(due))
		}
		for i := 1; i < len(due); i++ {
			if a, b := due[i-1], due[i]; a.NextFire.After(b.NextFire) || a.NextFire.Equal(b.NextFire) && a.TaskID >= b.TaskID {
				t.Error("due tasks are out of order")
			}
		}
		// All or nothing.
		more := []core.Task{newTask("new", at(10)), newTask("n03", at(10))}
		more[1].Namespace = "Other"
		wantKind(t, s.CreateTasks(t.Context(), more), core.KindConflict, "Other/n03")
		_, err := s.TaskByName(t.Context(), "Common", "new")
		wantKind(t, err, core.KindNotFound)
	})
}

func TestOnePoisonedRowSpoilsNoList(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		good, bad := created(t, s, "good"), created(t, s, "bad")
		w.exec(t, "UPDATE tasks SET doc = '{\"schedule\": 7' WHERE id = $1", bad.ID)
		list, err := s.Tasks(t.Context(), core.TaskFilter{})
		ok(t, err)
		if len(list) != 2 || list[0].Problem != "" || list[1].Problem == "" || list[1].Name != "bad" {
			t.Errorf("list with a poisoned row: %+v", list)
		}
		tasks, problems, err := s.Definitions(t.Context(), []string{good.ID, bad.ID, newID()})
		ok(t, err)
		if len(tasks) != 1 || tasks[0].ID != good.ID || len(problems) != 1 {
			t.Fatalf("definitions: %d tasks, problems %v", len(tasks), problems)
		}
		wantKind(t, problems[bad.ID], core.KindDamaged, "Common/bad")
		bad.Description = "mended"
		bad, err = s.UpdateTask(t.Context(), bad) // a person can mend it
		ok(t, err)
		if bad.Problem != "" || bad.Description != "mended" {
			t.Errorf("mended: %+v", bad)
		}
		run, _ := claimed(t, s, &good, at(10), at(20))
		finish(t, s, finishOf(&run, core.Succeeded))
		w.exec(t, "UPDATE runs SET usage = 'x', params = '{', facts = '[[' WHERE id = $1", run.ID)
		runs, err := s.Ended(t.Context(), "", 10)
		ok(t, err)
		if len(runs) != 1 || string(runs[0].Params) != `"{"` || runs[0].Usage.CPUSource != core.SourceUnknown {
			t.Errorf("a poisoned run: %+v", runs)
		}
	})
}

func TestTokensAndSettings(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		token := core.Token{Hash: "ab12", Principal: "li", Grants: map[string]string{"*": "owner"}, Purpose: "bootstrap", CreatedAt: epoch, ExpiresAt: at(100)}
		ok(t, s.CreateToken(t.Context(), token))
		wantKind(t, s.CreateToken(t.Context(), token), core.KindConflict)
		got, err := s.TokenByHash(t.Context(), "ab12")
		ok(t, err)
		if diff := cmp.Diff(token, got); diff != "" {
			t.Error(diff)
		}
		list, err := s.Tokens(t.Context())
		ok(t, err)
		if len(list) != 1 {
			t.Errorf("%d tokens", len(list))
		}
		ok(t, s.RevokeToken(t.Context(), "ab12"))
		wantKind(t, s.RevokeToken(t.Context(), "ab12"), core.KindNotFound)
		_, err = s.TokenByHash(t.Context(), "ab12")
		wantKind(t, err, core.KindNotFound)
		wantKind(t, s.CreateToken(t.Context(), token), core.KindConflict) // a revoked token never comes back

		_, err = s.Setting(t.Context(), "a")
		wantKind(t, err, core.KindNotFound)
		ok(t, s.PutSetting(t.Context(), "a", "1"))
		ok(t, s.PutSetting(t.Context(), "a", "2"))
		value, err := s.Setting(t.Context(), "a")
		ok(t, err)
		if value != "2" {
			t.Errorf("setting is %q", value)
		}
	})
}
