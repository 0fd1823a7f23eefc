package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/sampler"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// What issue 4 asks for, on two cores.
const (
	coldGoal = time.Second
	warmGoal = 300 * time.Millisecond
)

var askLimits = clickhouse.QueryLimits{MaxRows: 10_000, MaxDuration: 5 * time.Minute, MaxMemory: 1 << 30}

// question is something that a page or an analyst asks.
type question struct {
	name string
	goal time.Duration // cold; 0: coldGoal
	ask  func(context.Context) (rows int, err error)
}

// answered is how long a question took.
type answered struct {
	question
	cold, warm, cpu time.Duration // warm: the middle one of five; cpu: the engine's, for a warm one
	rows            int
	err             error
}

// values gives the rows of a statement.
func (b *historyBench) values(ctx context.Context, sql string) ([][]any, error) {
	rows, err := b.history.Query(ctx, sql, askLimits, nil, statement.Scope{All: true})
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all [][]any
	for rows.Next() {
		row, err := rows.Scan(nil)
		if err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// count reads the answer to a statement as the API does, and tells how many rows it has.
func (b *historyBench) count(ctx context.Context, sql string) (n int, err error) {
	rows, err := b.history.Query(ctx, sql, askLimits, nil, statement.Scope{All: true})
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var cells []json.RawMessage
	for rows.Next() {
		if cells, err = rows.Cells(cells); err != nil {
			return n, err
		}
		n++
	}
	return n, rows.Err()
}

// size prints what is there and what a row of it takes on disk.
func (b *historyBench) size(ctx context.Context) error {
	rows, err := b.values(ctx, `SELECT table, sum(rows) AS n, sum(bytes_on_disk) AS bytes, count()
FROM system.parts WHERE active AND database = 'gnomon' GROUP BY table ORDER BY bytes DESC`)
	if err != nil {
		return err
	}
	columns, err := b.values(ctx, `SELECT table, arrayStringConcat(arrayMap(x -> concat(x.1, ' ', toString(round(x.2, 1))), arraySlice(arrayReverseSort(x -> x.2, groupArray((column, per_row))), 1, 4)), ', ')
FROM (SELECT table, column, sum(column_bytes_on_disk) / sum(rows) AS per_row FROM system.parts_columns WHERE active AND database = 'gnomon' GROUP BY table, column) WHERE per_row > 0 GROUP BY table`)
	if err != nil {
		return err
	}
	dear := map[any]any{}
	for _, row := range columns {
		dear[row[0]] = row[1]
	}
	var table [][]string
	var total, all float64
	for _, row := range rows {
		n, bytes := number(row[1]), number(row[2])
		total, all = total+bytes, all+n
		if n < 1000 {
			continue
		}
		table = append(table, []string{fmt.Sprint(row[0]), fmt.Sprintf("%.0f", n), fmt.Sprintf("%.1f", bytes/1e6), fmt.Sprintf("%.1f", bytes/n), fmt.Sprint(row[3]), fmt.Sprint(cmp.Or(dear[row[0]], any("")))})
	}
	if !b.began.IsZero() {
		took := time.Since(b.began)
		fmt.Fprintf(b.out, b.say("已生成 %.0f 行，用时 %s（%.0f 行/秒），磁盘 %.2f GB\n", "filled %.0f rows in %s (%.0f rows/s), %.2f GB on disk\n"), all, took.Round(time.Second), all/took.Seconds(), total/1e9)
	}
	return b.table([]string{b.say("表", "TABLE"), b.say("行数", "ROWS"), "MB", b.say("字节/行", "BYTES/ROW"), b.say("数据块", "PARTS"), b.say("最占空间的列（字节/行）", "DEAREST COLUMNS (BYTES/ROW)")}, table)
}

func number(v any) float64 {
	switch n := v.(type) {
	case int64:
		return float64(n)
	case uint64:
		return float64(n)
	case float64:
		return n
	}
	return 0
}

// measure asks every question, cold and warm, and prints how long each took.
func (b *historyBench) measure(ctx context.Context) error {
	questions, err := b.questions(ctx)
	if err != nil {
		return err
	}
	questions = slices.DeleteFunc(questions, func(q question) bool { return !strings.Contains(q.name, b.ask) })
	if len(questions) == 0 {
		return &usageError{fmt.Errorf("--ask %q: no question's name has that in it", b.ask)}
	}
	var all []answered
	dropped := true
	for i, q := range questions {
		progress(b.err, "  %d/%d %s", i+1, len(questions), q.name)
		ok, err := b.cool(ctx)
		if err != nil {
			return err
		}
		dropped = dropped && ok
		a := answered{question: q}
		began := time.Now()
		a.rows, a.err = q.ask(ctx)
		a.cold = time.Since(began)
		var warm []time.Duration
		before, err := sampler.Process(b.engine.PID())
		if err != nil {
			return err
		}
		for range 5 {
			if a.err != nil {
				break
			}
			began = time.Now()
			_, a.err = q.ask(ctx)
			warm = append(warm, time.Since(began))
		}
		if len(warm) > 0 {
			after, err := sampler.Process(b.engine.PID())
			if err != nil {
				return err
			}
			slices.Sort(warm)
			a.warm, a.cpu = warm[len(warm)/2], (after.CPU-before.CPU)/time.Duration(len(warm))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		all = append(all, a)
	}
	progress(b.err, "")
	return b.printAnswers(all, dropped)
}

func (b *historyBench) printAnswers(all []answered, dropped bool) error {
	how := b.say("冷：引擎重启，且数据文件已移出页面缓存", "cold: the engine restarted, its files dropped from the page cache")
	if !dropped {
		how = b.say("冷：引擎重启；数据文件未能移出页面缓存", "cold: the engine restarted; its files could not be dropped from the page cache")
	}
	fmt.Fprintf(b.out, "\n%s; %s\n", how, b.say("热：五次的中位数", "warm: the middle of five"))
	var table [][]string
	slow := 0
	for _, a := range all {
		if a.err != nil {
			slow++
			table = append(table, []string{a.name, "", "", "", "", a.err.Error()})
			continue
		}
		goal, verdict := a.goal, ""
		if goal == 0 {
			goal = coldGoal
		}
		if a.cold > goal || a.goal == 0 && a.warm > warmGoal {
			verdict = b.say("超出目标", "over the goal")
			slow++
		}
		table = append(table, []string{a.name, fmt.Sprint(a.cold.Milliseconds()), fmt.Sprint(a.warm.Milliseconds()), fmt.Sprint(a.cpu.Milliseconds()), fmt.Sprint(a.rows), verdict})
	}
	err := b.table([]string{b.say("问题", "QUESTION"), b.say("冷 毫秒", "COLD MS"), b.say("热 毫秒", "WARM MS"), b.say("引擎 CPU 毫秒", "ENGINE CPU MS"), b.say("行", "ROWS"), ""}, table)
	fmt.Fprintf(b.out, b.say("%d 个问题中 %d 个超出目标（冷 %s，热 %s）\n", "%[2]d of %[1]d questions over the goal (cold %[3]s, warm %[4]s)\n"), len(all), slow, coldGoal, warmGoal)
	return err
}

// cool starts the engine anew with none of its files in memory. ok is false if they could not be dropped from the page
// cache. Other programs' files stay in it.
func (b *historyBench) cool(ctx context.Context) (ok bool, err error) {
	if err := b.close(context.WithoutCancel(ctx)); err != nil {
		return false, err
	}
	ok = true
	err = filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		if file.Sync() != nil || unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED) != nil {
			ok = false
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	return ok, b.open(ctx)
}

// questions gives what is asked: of the views that there are, and what pages ask.
func (b *historyBench) questions(ctx context.Context) ([]question, error) {
	all, err := b.viewQuestions(ctx)
	if err != nil {
		return nil, err
	}
	from := b.world.to.AddDate(0, 0, -30).Format(time.DateTime)
	raw := func(name, sql string) {
		all = append(all, question{name: name, ask: func(ctx context.Context) (int, error) {
			return b.count(ctx, sql)
		}})
	}
	raw("runs: outcomes and percentiles by namespace, 30 days", "SELECT namespace, count(), countIf(outcome = 'succeeded'), quantilesTDigest(0.5, 0.95, 0.99)(duration_ms) FROM runs WHERE fire_at >= '"+from+"' GROUP BY namespace")
	busiest := func(period int64) *benchTask {
		for i := range b.world.tasks {
			if t := &b.world.tasks[i]; t.PeriodS == period && t.Months == 0 {
				return t
			}
		}
		return nil
	}
	for _, r := range rhythms {
		t := busiest(r.periodS)
		if r.months > 0 || t == nil {
			continue
		}
		all = append(all, question{name: "page of runs: a task of " + r.spec, ask: func(ctx context.Context) (int, error) {
			runs, err := b.history.Runs(ctx, core.RunFilter{TaskID: t.TaskID, Namespaces: []string{t.Namespace}, Limit: 50})
			return len(runs), err
		}})
	}
	all = append(all, question{name: "page of runs: a namespace", ask: func(ctx context.Context) (int, error) {
		runs, err := b.history.Runs(ctx, core.RunFilter{Namespaces: []string{"Telemedicine"}, Limit: 50})
		return len(runs), err
	}})
	rows, err := b.values(ctx, fmt.Sprintf("SELECT run_id FROM run_logs WHERE fire_at >= '%s' AND fire_at < '%s' LIMIT 1", b.world.to.AddDate(0, 0, -15).Format(time.DateTime), b.world.to.AddDate(0, 0, -14).Format(time.DateTime)))
	if err != nil {
		return nil, err
	}
	if len(rows) == 1 {
		id := fmt.Sprint(rows[0][0])
		all = append(all, question{name: "page of one run: run, attempts, lines, samples", ask: func(ctx context.Context) (int, error) {
			if _, err := b.history.Run(ctx, id); err != nil {
				return 0, err
			}
			if _, err := b.history.Attempts(ctx, id); err != nil {
				return 0, err
			}
			if _, err := b.history.Samples(ctx, id); err != nil {
				return 0, err
			}
			lines, err := b.history.Lines(ctx, core.LineFilter{RunID: id, Limit: 1000})
			return len(lines), err
		}})
	}
	for _, period := range []int64{1, 60} {
		t := busiest(period)
		if t == nil || b.lines == 0 {
			continue
		}
		search := func(name, text string, words bool) {
			all = append(all, question{name: fmt.Sprintf("search %s in a month of a task of %d s", name, period), goal: coldGoal, ask: func(ctx context.Context) (int, error) {
				lines, err := b.history.SearchLines(ctx, core.LineSearch{
					Namespace: t.Namespace, TaskName: t.Task, TaskID: t.TaskID, From: b.world.to.AddDate(0, 0, -31), To: b.world.to, Text: text, WholeWords: words, Limit: 100,
				})
				return len(lines), err
			}})
		}
		search("处理完成", "处理完成", false)
		search("脑梗死", "脑梗死", false)
		search("connection refused", "connection refused", false)
		search("8842117x", "8842117x", false)
		search("the whole word 8842117x", "8842117x", true)
	}
	return all, nil
}

// placeholder is a parameter of a parameterised view.
var placeholder = regexp.MustCompile(`\{(\w+)\s*:\s*([^}]+)\}`)

// viewQuestions asks each v_* view about the last 30 days, by its first column of days, hours or instants; of one without
// such a column all of it.
func (b *historyBench) viewQuestions(ctx context.Context) ([]question, error) {
	views, err := b.values(ctx, "SELECT name, create_table_query FROM system.tables WHERE database = 'gnomon' AND name LIKE 'v\\_%' ORDER BY name")
	if err != nil {
		return nil, err
	}
	from, to := b.world.to.AddDate(0, 0, -30), b.world.to
	var all []question
	for _, view := range views {
		name, definition := fmt.Sprint(view[0]), fmt.Sprint(view[1])
		source := name
		if found := placeholder.FindAllStringSubmatch(definition, -1); len(found) > 0 {
			given := map[string]string{}
			for _, p := range found {
				value := "Telemedicine"
				if strings.Contains(p[2], "Date") {
					value = from.Format(time.DateTime)
					if slices.Contains([]string{"to", "until", "through"}, p[1]) {
						value = to.Format(time.DateTime)
					}
				}
				given[p[1]] = p[1] + " = '" + value + "'"
			}
			var list []string
			for _, v := range given {
				list = append(list, v)
			}
			slices.Sort(list)
			source += "(" + strings.Join(list, ", ") + ")"
		}
		columns, err := b.values(ctx, "SELECT name FROM system.columns WHERE database = 'gnomon' AND table = '"+name+"' AND match(type, '^(Nullable\\\\(|LowCardinality\\\\()?Date') ORDER BY name NOT IN ('day', 'hour', 'fire_at', 'at'), position LIMIT 1")
		if err != nil {
			return nil, err
		}
		sql, asked := "SELECT * FROM "+source, name
		if len(columns) == 1 && source == name {
			column := fmt.Sprint(columns[0][0])
			sql += fmt.Sprintf(" WHERE `%s` >= '%s' AND `%s` < '%s'", column, from.Format(time.DateOnly), column, to.Format(time.DateOnly))
		} else if source == name {
			asked += b.say("（全部）", " (all of it)")
		}
		all = append(all, question{name: asked, ask: func(ctx context.Context) (int, error) {
			return b.count(ctx, sql)
		}})
	}
	return all, nil
}
