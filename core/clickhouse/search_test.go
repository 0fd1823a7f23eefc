package clickhouse_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func TestSearchLines(t *testing.T) {
	t.Parallel()
	w := setup(t)
	begin := now().Add(-40 * 24 * time.Hour)
	const id = "0198c0de-0000-7000-8000-000000000001"
	var s core.Segment
	var runs []core.Run
	for day := range 40 { // one run a day, renamed after twenty
		name := "verify-old"
		if day >= 20 {
			name = "verify"
		}
		at := begin.Add(time.Duration(day) * 24 * time.Hour)
		o := &core.Origin{RunID: newID(), Attempt: 1, TaskID: id, Namespace: "ImageArchive", TaskName: name, TaskType: "ImageArchive.DataVerifyService", FireAt: at}
		for i, text := range []string{"started", fmt.Sprintf("Document D%03d verified", day), fmt.Sprintf("校验失败：第%d条，Connection Refused", day)} {
			s.Logs = append(s.Logs, core.LoggedLine{Origin: o, LogLine: core.LogLine{At: at, Level: core.Level(2 + i/2*2), Stream: core.StreamLog, Seq: uint64(i + 1), Message: text}})
		}
		other := *o
		other.TaskID, other.TaskName, other.RunID = newID(), "other", newID()
		s.Logs = append(s.Logs, core.LoggedLine{Origin: &other, LogLine: core.LogLine{At: at, Level: core.LevelInfo, Stream: core.StreamLog, Seq: 1, Message: "校验失败 of another task"}})
		runs = append(runs, core.Run{ID: o.RunID, TaskID: id, Namespace: o.Namespace, TaskName: name, TaskType: o.TaskType, FireAt: at, FireThrough: at, FireCount: 1, DecidedAt: at, StartedAt: at, EndedAt: at.Add(time.Second), State: core.RunEnded, Verdict: core.Failed, Attempt: 1, Trigger: core.TriggerSchedule})
	}
	s.ID = "search"
	for range 2 { // a segment that is written again adds nothing, even when its token is forgotten
		if err := w.WriteSegment(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		s.ID = "search-again"
	}
	if err := w.WriteRuns(t.Context(), "search", runs); err != nil {
		t.Fatal(err)
	}
	versions := []core.TaskSnapshot{
		{Task: core.Task{ID: id, Version: 1, Namespace: "ImageArchive", Name: "verify-old", CreatedAt: begin, UpdatedAt: begin}},
		{Task: core.Task{ID: id, Version: 2, Namespace: "ImageArchive", Name: "verify", CreatedAt: begin, UpdatedAt: begin.Add(20 * 24 * time.Hour)}},
	}
	if err := w.WriteTasks(t.Context(), "search", versions); err != nil {
		t.Fatal(err)
	}
	month := core.LineSearch{Namespace: "ImageArchive", TaskName: "verify", TaskID: id, From: begin.Add(-time.Hour), To: now().Add(time.Hour), Limit: 100}
	ask := func(t *testing.T, f core.LineSearch) []string {
		t.Helper()
		lines, err := w.SearchLines(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, l := range lines {
			all = append(all, l.Message)
		}
		return all
	}

	t.Run("ChineseUnderEarlierNamesTooNewestFirst", func(t *testing.T) {
		t.Parallel()
		f := month
		f.Text = "校验失败"
		got := ask(t, f)
		if len(got) != 40 || got[0] != "校验失败：第39条，Connection Refused" || got[39] != "校验失败：第0条，Connection Refused" {
			t.Errorf("%d lines: %q", len(got), got)
		}
	})
	t.Run("WhateverTheCaseAndWithinAWord", func(t *testing.T) {
		t.Parallel()
		f := month
		for text, want := range map[string]int{"connection refused": 40, "d007": 1, "第7条": 1, "nowhere": 0, "": 100} {
			f.Text = text
			if got := ask(t, f); len(got) != want {
				t.Errorf("%q: %d lines, want %d", text, len(got), want)
			}
		}
	})
	t.Run("WholeWordsAlsoBesideChinese", func(t *testing.T) {
		t.Parallel()
		f := month
		f.WholeWords = true
		for text, want := range map[string]int{"connection REFUSED": 40, "D007": 1, "d00": 0, "7": 1, "第7条": 1, "失败": 40, "%": 0, "失_": 0} {
			f.Text = text
			if got := ask(t, f); len(got) != want {
				t.Errorf("%q: %d lines, want %d: %q", text, len(got), want, got)
			}
		}
	})
	t.Run("PageByPageEachLineOnce", func(t *testing.T) {
		t.Parallel()
		f := month
		f.Limit = 7
		seen := map[string]bool{}
		for {
			lines, err := w.SearchLines(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lines {
				key := fmt.Sprint(l.Origin.RunID, l.Seq)
				if seen[key] {
					t.Fatalf("%s twice", key)
				}
				seen[key] = true
			}
			if len(lines) < f.Limit {
				break
			}
			last := lines[len(lines)-1]
			f.Before = &core.LinePlace{FireAt: last.Origin.FireAt, RunID: last.Origin.RunID, Attempt: last.Origin.Attempt, Seq: last.Seq}
		}
		if len(seen) != 120 {
			t.Errorf("%d lines", len(seen))
		}
	})
	t.Run("OnlyThePeriodAndTheSeverity", func(t *testing.T) {
		t.Parallel()
		f := month
		f.From, f.To, f.MinLevel = begin, begin.Add(48*time.Hour), core.LevelError
		if got := ask(t, f); len(got) != 2 {
			t.Errorf("%q", got)
		}
	})
	t.Run("ARunsOwnLog", func(t *testing.T) {
		t.Parallel()
		lines, err := w.Lines(t.Context(), core.LineFilter{RunID: runs[3].ID, Text: "REFUSED", Limit: 10})
		if err != nil || len(lines) != 1 || lines[0].Seq != 3 || lines[0].Origin.RunID != runs[3].ID {
			t.Errorf("%+v %v", lines, err)
		}
	})
}

func TestIndexLines(t *testing.T) {
	t.Parallel()
	w := setup(t)
	today := now().Truncate(24 * time.Hour)
	s := core.Segment{ID: "indexed"}
	for day := range 3 {
		o := &core.Origin{RunID: newID(), Attempt: 1, TaskID: "t", Namespace: "Common", TaskName: "x", TaskType: "Common.X", FireAt: today.AddDate(0, 0, -day).Add(time.Hour)}
		for i := range 20_000 {
			s.Logs = append(s.Logs, core.LoggedLine{Origin: o, LogLine: core.LogLine{At: o.FireAt, Level: core.LevelInfo, Stream: core.StreamLog, Seq: uint64(i + 1), Message: fmt.Sprintf("同步患者P%d的记录 synchronised", i)}})
		}
	}
	if err := w.WriteSegment(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	post(t, w.engine.Socket(), "OPTIMIZE TABLE gnomon.run_logs FINAL")
	// granules gives how many of them a condition would read.
	granules := func(condition string) string {
		t.Helper()
		var last string
		for _, row := range w.ask(t, "EXPLAIN indexes = 1 SELECT count() FROM run_logs WHERE "+condition) {
			if line := strings.TrimSpace(fmt.Sprint(row[0])); strings.HasPrefix(line, "Granules: ") {
				last = strings.TrimPrefix(line, "Granules: ")
			}
		}
		return last
	}
	const word, pair = "hasToken(replaceRegexpAll(lower(message), '[^ -~]+', ' '), 'p40000')", "replaceRegexpAll(message, '[ -~]+', ' ') LIKE '%脑梗死%'"
	whole := granules(word)
	if from, to, _ := strings.Cut(whole, "/"); from != to || from == "0" {
		t.Errorf("inserts and merges have made the indexes: %s", whole)
	}
	until, err := w.IndexLines(t.Context(), time.Time{}, today)
	if err != nil || !until.Equal(today) {
		t.Fatal(until, err)
	}
	for _, condition := range []string{word, pair} {
		if got := granules(condition + " AND fire_at < '" + today.Format(time.DateTime) + "'"); !strings.HasPrefix(got, "0/") {
			t.Errorf("%s reads granules %s", condition, got)
		}
	}
	for text, want := range map[string]int{"P777": 3, "患者P777的": 3, "脑梗死": 0, "P40000": 0} {
		lines, err := w.SearchLines(t.Context(), core.LineSearch{Namespace: "Common", TaskName: "x", TaskID: "t", From: today.AddDate(0, 0, -5), To: today.AddDate(0, 0, 1), Text: text, WholeWords: true, Limit: 100})
		if err != nil || len(lines) != want {
			t.Errorf("%s: %d lines, %v", text, len(lines), err)
		}
	}
}
