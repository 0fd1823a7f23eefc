package clickhouse

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

// taskRow is a task's snapshot with what a column needs made once.
type taskRow struct {
	*core.TaskSnapshot
	labels []core.Attr
	after  []string
}

var tasks = newTable("tasks",
	textOf("task_id", func(r *taskRow) string { return r.Task.ID }),
	i64Of("task_version", func(r *taskRow) int64 { return r.Task.Version }),
	nameOf("namespace", func(r *taskRow) string { return r.Task.Namespace }),
	nameOf("task", func(r *taskRow) string { return r.Task.Name }),
	nameOf("task_type", func(r *taskRow) string { return r.Task.Type }),
	textOf("schedule", func(r *taskRow) string { return r.Task.Schedule.Spec }),
	nameOf("dialect", func(r *taskRow) string { return r.Task.Schedule.Dialect }),
	nameOf("zone", func(r *taskRow) string { return r.Task.Schedule.Zone }),
	boolOf("enabled", func(r *taskRow) bool { return r.Task.Enabled }),
	textOf("disabled_reason", func(r *taskRow) string { return r.Task.DisabledReason }),
	nameOf("owner", func(r *taskRow) string { return r.Task.Owner }),
	nameOf("category", func(r *taskRow) string { return r.Task.Category }),
	textOf("description", func(r *taskRow) string { return r.Task.Description }),
	attrsOf("labels", func(r *taskRow) []core.Attr { return r.labels }),
	textOf("params", func(r *taskRow) string { return string(r.Task.Params) }),
	textOf("policies", func(r *taskRow) string { return r.Policies }),
	textsOf("after", func(r *taskRow) []string { return r.after }),
	timeOf("created_at", func(r *taskRow) time.Time { return r.Task.CreatedAt }),
	timeOf("valid_from", func(r *taskRow) time.Time { return r.Task.UpdatedAt }),
	nameOf("changed_by", func(r *taskRow) string { return r.Task.UpdatedBy }),
	boolOf("deleted", func(r *taskRow) bool { return r.Deleted }),
)

var taskTypes = newTable("task_types",
	nameOf("task_type", func(r *core.TypeSnapshot) string { return r.Type.Name }),
	timeOf("valid_from", func(r *core.TypeSnapshot) time.Time { return r.ValidFrom }),
	nameOf("namespace", func(r *core.TypeSnapshot) string { return r.Type.Namespace() }),
	nameOf("provider", func(r *core.TypeSnapshot) string { return r.Type.Provider }),
	nameOf("plugin", func(r *core.TypeSnapshot) string {
		name, _ := strings.CutPrefix(r.Type.Provider, "plugin:")
		if name == r.Type.Provider {
			return ""
		}
		return name
	}),
	nameOf("provider_version", func(r *core.TypeSnapshot) string { return r.Type.Version }),
	nameOf("sha256", func(r *core.TypeSnapshot) string { return r.SHA256 }),
	textOf("title_zh", func(r *core.TypeSnapshot) string { return r.Type.Title.Zh }),
	textOf("title_en", func(r *core.TypeSnapshot) string { return r.Type.Title.En }),
	textOf("params_schema", func(r *core.TypeSnapshot) string { return string(r.Type.ParamsSchema) }),
	textOf("output_schema", func(r *core.TypeSnapshot) string { return string(r.Type.OutputSchema) }),
	textsOf("needs", func(r *core.TypeSnapshot) []string { return r.Type.Needs }),
	u64Of("timeout_ms", func(r *core.TypeSnapshot) uint64 { return uint64(max(0, r.Type.Timeout.Milliseconds())) }),
	boolOf("resumable", func(r *core.TypeSnapshot) bool { return r.Type.Resumable }),
	nameOf("server", func(r *core.TypeSnapshot) string { return r.Server }),
)

// WriteTasks writes versions of tasks; each is readable once however often it is written, and one that was written as
// deleted stays so. The same batchID always carries the same versions in the same order.
func (c *Client) WriteTasks(ctx context.Context, batchID string, snapshots []core.TaskSnapshot) error {
	rows := make([]taskRow, len(snapshots))
	for i := range snapshots {
		rows[i].TaskSnapshot = &snapshots[i]
		for _, key := range slices.Sorted(maps.Keys(snapshots[i].Task.Labels)) {
			rows[i].labels = append(rows[i].labels, core.Attr{Key: key, Value: snapshots[i].Task.Labels[key]})
		}
		for _, up := range snapshots[i].Task.After {
			rows[i].after = append(rows[i].after, up.Task)
		}
	}
	return tasks.write(ctx, c, batchID, rows)
}

// WriteTaskTypes writes what task types have become. The same batchID always carries the same rows in the same order.
func (c *Client) WriteTaskTypes(ctx context.Context, batchID string, snapshots []core.TypeSnapshot) error {
	return taskTypes.write(ctx, c, batchID, snapshots)
}

// KnownTasks gives the tasks that history has versions of, by id: after < id <= through, at most limit (1 to 100,000); an
// empty through is no bound.
func (c *Client) KnownTasks(ctx context.Context, after, through string, limit int) ([]core.KnownTask, error) {
	const op = "read which tasks history has"
	var w where
	w.add("task_id > {after:String}", ch.Named("after", after))
	if through != "" {
		w.add("task_id <= {through:String}", ch.Named("through", through))
	}
	w.args = append(w.args, ch.Named("limit", uint32(max(1, min(limit, 100_000)))))
	var all []core.KnownTask
	err := c.each(ctx, `SELECT task_id, max(task_version), max(deleted) FROM tasks WHERE `+w.String()+` GROUP BY task_id ORDER BY task_id LIMIT {limit:UInt32}`, w.args, func(rows driver.Rows) error {
		var k core.KnownTask
		err := rows.Scan(&k.TaskID, &k.Version, &k.Deleted)
		all = append(all, k)
		return err
	})
	return all, serverError(op, err)
}

// KnownTypes gives, by the type's name, what history says a task type is at present: provider, version and checksum.
func (c *Client) KnownTypes(ctx context.Context) (map[string]core.TypeSnapshot, error) {
	const op = "read which task types history has"
	all := make(map[string]core.TypeSnapshot)
	err := c.each(ctx, `SELECT task_type, max(valid_from), argMax(provider, valid_from), argMax(provider_version, valid_from), argMax(sha256, valid_from) FROM task_types GROUP BY task_type`, nil, func(rows driver.Rows) error {
		var t core.TypeSnapshot
		err := rows.Scan(&t.Type.Name, &t.ValidFrom, &t.Type.Provider, &t.Type.Version, &t.SHA256)
		all[t.Type.Name] = t
		return err
	})
	return all, serverError(op, err)
}

// taskPlace is where the rows of a task begin: the prefix of the ORDER BY of the tables that have runs.
type taskPlace struct{ namespace, name string }

// taskPlaces gives the namespace and names that a task has had; none if no version of it is known here.
func (c *Client) taskPlaces(ctx context.Context, taskID string) (places []taskPlace, err error) {
	err = c.each(ctx, "SELECT DISTINCT namespace, task FROM tasks WHERE task_id = {task_id:String} LIMIT 100", []any{ch.Named("task_id", taskID)}, func(rows driver.Rows) error {
		var p taskPlace
		err := rows.Scan(&p.namespace, &p.name)
		places = append(places, p)
		return err
	})
	return places, err
}
