package clickhouse

import (
	"context"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

// containsText is the condition that a line's message has a text in it, in whatever case.
const containsText = "positionCaseInsensitiveUTF8(message, {text:String}) > 0"

// lineReader reads rows of run_logs.
type lineReader struct {
	all    []core.LoggedLine
	origin *core.Origin // of the last line: lines of one attempt share it
}

func (r *lineReader) scan(rows driver.Rows) error {
	var (
		o             core.Origin
		l             core.LoggedLine
		number        uint16
		level, stream int8
		attrs         map[string]string
	)
	if err := rows.Scan(&o.Namespace, &o.TaskName, &o.TaskType, &o.TaskID, &o.RunID, &number, &o.FireAt, &l.Seq, &l.At, &level, &stream, &l.Message, &attrs); err != nil {
		return err
	}
	o.Attempt = int(number)
	if r.origin == nil || *r.origin != o {
		r.origin = &o
	}
	l.Origin, l.Level, l.Stream = r.origin, core.Level(level), core.Stream(stream)
	for key, value := range attrs {
		l.Attrs = append(l.Attrs, core.Attr{Key: key, Value: value})
	}
	slices.SortFunc(l.Attrs, func(a, b core.Attr) int { return strings.Compare(a.Key, b.Key) })
	r.all = append(r.all, l)
	return nil
}

// searchSteps are how far back a search goes before it goes on to all that is left: most look for what was said lately, and
// a common word fills a page from the last day.
var searchSteps = []time.Duration{24 * time.Hour, 7 * 24 * time.Hour}

// SearchLines gives lines of one task, the newest run first and in it the last line first. Lines that are not shipped yet are
// not here. It fails with KindInvalid if the limit is not between 1 and 10,000.
func (c *Client) SearchLines(ctx context.Context, f core.LineSearch) ([]core.LoggedLine, error) {
	const op = "search log lines in history"
	if f.Limit < 1 || f.Limit > 10_000 {
		return nil, core.Errorf(core.KindInvalid, op, "limit %d is not between 1 and 10,000", f.Limit)
	}
	places, err := c.taskPlaces(ctx, f.TaskID)
	if err != nil {
		return nil, serverError(op, err)
	}
	names := []string{f.TaskName}
	for _, p := range places {
		if p.namespace == f.Namespace && p.name != f.TaskName {
			names = append(names, p.name)
		}
	}
	var w where
	w.add("namespace = {namespace:String} AND task IN {names:Array(String)} AND task_id = {task_id:String}",
		ch.Named("namespace", f.Namespace), ch.Named("names", names), ch.Named("task_id", f.TaskID))
	if f.MinLevel > 0 {
		w.add("toInt8(level) >= {level:Int8}", ch.Named("level", int8(f.MinLevel)))
	}
	to := f.To
	if f.Before != nil {
		w.add("(fire_at, run_id, attempt, seq) < ({before_at:"+inUTC+"}, {before_run:String}, {before_attempt:UInt16}, {before_seq:UInt64})",
			instant("before_at", f.Before.FireAt), ch.Named("before_run", f.Before.RunID), ch.Named("before_attempt", uint16(f.Before.Attempt)), ch.Named("before_seq", f.Before.Seq))
		if next := f.Before.FireAt.Add(time.Microsecond); next.Before(to) {
			to = next
		}
	}
	// A line that is there twice says the same both times, so what it says may be looked at before repeats are removed: then
	// only messages are read of what does not match.
	prewhere := ""
	if f.Text != "" {
		condition, args := textConditions(f.Text, f.WholeWords)
		prewhere = " PREWHERE " + condition
		w.args = append(w.args, args...)
	}
	var lines lineReader
	for step := 0; to.After(f.From) && len(lines.all) < f.Limit; step++ {
		from := f.From
		if step < len(searchSteps) {
			if bound := to.Add(-searchSteps[step]); bound.After(from) {
				from = bound
			}
		}
		bounded := w.with("fire_at >= {from:"+inUTC+"} AND fire_at < {to:"+inUTC+"}", instant("from", from), instant("to", to), ch.Named("limit", uint32(f.Limit-len(lines.all))))
		query := `SELECT namespace, task, task_type, task_id, run_id, attempt, fire_at, seq, at, toInt8(level), toInt8(stream), message, attrs
FROM run_logs` + prewhere + ` WHERE ` + bounded.String() + ` ORDER BY fire_at DESC, run_id DESC, attempt DESC, seq DESC LIMIT {limit:UInt32}`
		if err := c.each(ctx, query, bounded.args, lines.scan); err != nil {
			return nil, serverError(op, err)
		}
		to = from
	}
	return lines.all, nil
}
