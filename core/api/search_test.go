package api_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func TestSearchOfATasksLog(t *testing.T) {
	t.Parallel()
	said := func(w *world) string {
		w.reset("Common")
		id := w.tables.named("Common")
		o := &core.Origin{RunID: "r1", Attempt: 1, TaskID: id, Namespace: "Common", TaskName: "there", FireAt: time.Now().Add(-time.Hour)}
		for i, text := range []string{"Connection REFUSED by pacs", "校验失败：第 3 条", "done", "connection refused again"} {
			w.history.lines = append(w.history.lines, core.LoggedLine{Origin: o, LogLine: core.LogLine{At: o.FireAt, Level: core.LevelInfo, Stream: core.StreamLog, Seq: uint64(i + 1), Message: text}})
		}
		return "/v1/tasks/" + id + "/logs"
	}
	t.Run("FindsWordsInWhateverCaseNewestFirstPageByPage", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		path := said(w)
		query := "?limit=1&search=" + url.QueryEscape("connection refused")
		var found []any
		for cursor := ""; ; {
			a := w.must(200, w.do(w.admin, "GET", path+query+cursor, ""))
			items, _ := a.body["items"].([]any)
			for _, item := range items {
				found = append(found, item.(map[string]any)["seq"])
			}
			next, _ := a.body["next_cursor"].(string)
			if next == "" {
				break
			}
			cursor = "&cursor=" + url.QueryEscape(next)
		}
		if got := fmt.Sprint(found); got != "[4 1]" {
			t.Errorf("found %s", got)
		}
	})
	t.Run("FindsChinese", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		a := w.must(200, w.do(w.admin, "GET", said(w)+"?search="+url.QueryEscape("校验失败"), ""))
		items, _ := a.body["items"].([]any)
		if len(items) != 1 || items[0].(map[string]any)["run_id"] != "r1" {
			t.Errorf("%v", a.body)
		}
	})
	t.Run("RefusesAPeriodWithoutLengthAndAForeignCursor", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		path := said(w)
		for _, query := range []string{"?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "?cursor=1-42"} {
			w.must(422, w.do(w.admin, "GET", path+query, ""))
		}
	})
}
