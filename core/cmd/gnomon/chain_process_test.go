//go:build linux

package main_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// follows: the ends of a task's runs start others, by how they ended, with what the run hands on.
func follows(t *testing.T, w *world) {
	first, _ := w.works("statistics", "@manual", map[string]any{"output": map[string]any{"rows": 7}}, api.Policies{}, nil)
	after := func(on string, p map[string]string) func(*api.TaskInput) {
		return func(in *api.TaskInput) { in.After = []api.Upstream{{Task: "statistics", On: on, Params: p}} }
	}
	report, _ := w.works("report", "@manual", nil, api.Policies{}, after("success", map[string]string{"millis": "$.rows"}))
	alarm, _ := w.works("alarm", "@manual", nil, api.Policies{}, after("failure", nil))
	always, _ := w.works("cleaning", "@manual", nil, api.Policies{}, after("always", nil))
	caused := func(task api.Task, by string) (found []api.Run) {
		var runs struct{ Items []api.Run }
		w.must("GET", "/v1/runs?task_id="+task.ID, nil, &runs)
		for _, r := range runs.Items {
			if r.CausedBy == by {
				found = append(found, w.run(r.ID))
			}
		}
		return found
	}
	good := w.now(first, nil)
	w.until(30*time.Second, "the report and the cleaning follow", func() bool { return len(caused(report, good)) == 1 && len(caused(always, good)) == 1 })
	if r := w.over(caused(report, good)[0].ID); r.Trigger != "upstream" || !strings.Contains(string(r.Params), `"millis":7`) || r.Outcome != "succeeded" {
		t.Errorf("%+v", r)
	}
	bad := w.now(first, map[string]any{"fail_rate": 1})
	w.until(30*time.Second, "the alarm and the cleaning follow", func() bool { return len(caused(alarm, bad)) == 1 && len(caused(always, bad)) == 1 })
	if len(caused(alarm, good)) != 0 || len(caused(report, bad)) != 0 {
		t.Error("a task followed an end it was not to follow")
	}
	asks := func(task, code string, en, zh []string, data string) {
		t.Helper()
		whyCase{task: task, code: code, en: en, zh: zh, data: data, last: true}.answers(t, w)
	}
	asks("report", "upstream_outcome", []string{"Bench/report has no schedule and runs when statistics succeeds. The last end was that of run " + bad + " of statistics", "failed, but it runs only when statistics succeeds"},
		[]string{"没有计划，在 statistics 成功后运行", "结果：失败；而它只在 statistics 成功后运行"}, `"upstream_run_id":"`+bad+`"`)
	asks("alarm", "started", []string{"runs when statistics fails", "caused by the upstream run " + bad + " (statistics), was started at"}, []string{"由上游运行 " + bad + " (statistics) 触发的一次于"}, `"upstream_outcome":"failed"`)
	leavesWhatDoesNotFollow(t, w, first, after, caused, asks)
}

// leavesWhatDoesNotFollow: an end that does not start a dependent leaves its decision, with the reason, in the store and in history.
func leavesWhatDoesNotFollow(t *testing.T, w *world, first api.Task, after func(string, map[string]string) func(*api.TaskInput),
	caused func(api.Task, string) []api.Run, asks func(task, code string, en, zh []string, data string),
) {
	off, _ := w.works("chain-off", "@manual", nil, api.Policies{}, after("success", nil))
	paused, _ := w.works("chain-paused", "@manual", nil, api.Policies{}, after("success", nil))
	lacking, _ := w.works("chain-lacking", "@manual", nil, api.Policies{}, after("success", map[string]string{"millis": "$.nothing"}))
	misfit, _ := w.works("chain-misfit", "@manual", nil, api.Policies{}, after("success", map[string]string{"path": "$.rows"}))
	asks("chain-off", "upstream_pending", []string{"runs when statistics succeeds. No run of statistics has ended since they were linked, at "}, []string{"自建立关联以来 statistics 没有运行结束过"}, `"version":1`)
	w.says("task", "disable", "Bench/chain-off")
	w.says("task", "pause", "Bench/chain-paused", "--note", "stocktaking")
	asks("chain-off", "upstream_pending", []string{"An end would not start it now: the task was disabled by bootstrap"}, []string{"目前结束也不会启动它：任务已由 bootstrap"}, "")
	good := w.now(first, nil)
	w.over(good)
	for task, reason := range map[*api.Task]string{&off: "disabled", &paused: "paused", &lacking: "params", &misfit: "params"} {
		var runs []api.Run
		w.until(30*time.Second, "the fire of "+task.Name+" is decided", func() bool { runs = caused(*task, good); return len(runs) == 1 })
		if r := runs[0]; r.Trigger != "upstream" || r.Outcome != "skipped" || r.Reason != reason || r.State != "ended" || !strings.Contains(string(r.Facts), `"upstream_run_id":"`+good+`"`) {
			t.Errorf("%s: %+v, facts %s", task.Name, r, r.Facts)
		}
	}
	last := "The last end was that of run " + good + " of statistics"
	asks("chain-off", "disabled", []string{last, "was skipped: the task was disabled by bootstrap at "}, []string{"被跳过：任务已由 bootstrap"}, `"upstream":"statistics"`)
	asks("chain-paused", "paused", []string{last, `was skipped: the task was paused by bootstrap`, `the note "stocktaking"`}, []string{"被跳过：任务已由 bootstrap", "“stocktaking”"}, "")
	asks("chain-lacking", "params", []string{last, "was skipped: the output of its upstream statistics does not give parameters that fit: params.millis: the output of task statistics has nothing at $.nothing"},
		[]string{"被跳过：上游 statistics 的输出给不出合用的参数：params.millis：任务 statistics 的输出里没有 $.nothing"}, "")
	asks("chain-misfit", "params", []string{last, "parameters that fit: params.path: "}, []string{"给不出合用的参数：params.path："}, "")
	const fires = "SELECT task, reason, count(), any(JSONExtractString(facts, 'upstream')), any(trigger), uniqExact(run_id) FROM fires WHERE task LIKE 'chain-%' GROUP BY 1, 2 ORDER BY 1, 2"
	want := "chain-lacking\tparams\t1\tstatistics\tupstream\t1\nchain-misfit\tparams\t1\tstatistics\tupstream\t1\n" +
		"chain-off\tdisabled\t1\tstatistics\tupstream\t1\nchain-paused\tpaused\t1\tstatistics\tupstream\t1\n"
	out := ""
	w.until(30*time.Second, "history has one decision for each", func() bool {
		out = w.says("sql", "-o", "tsv", fires)
		return strings.HasSuffix(out, want)
	})
	// Once the rows are in history alone the answer is the same.
	asks("chain-paused", "paused", []string{last, "the task was paused by bootstrap"}, nil, `"upstream_run_id":"`+good+`"`)
	// Each goes on as it did before once nothing is in its way.
	w.says("task", "enable", "Bench/chain-off")
	w.says("task", "resume", "Bench/chain-paused")
	again := w.now(first, nil)
	w.until(30*time.Second, "those that may start do", func() bool { return len(caused(off, again)) == 1 && len(caused(paused, again)) == 1 })
	if a, b := caused(off, again)[0], caused(paused, again)[0]; a.Reason+b.Reason != "" {
		t.Errorf("they are %+v and %+v", a, b)
	}
}
