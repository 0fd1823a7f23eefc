package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
	"github.com/huandu/go-sqlbuilder"
)

// taskDoc is what a person wrote about a task and no list filters by. Fields are only ever added to it.
type taskDoc struct {
	Params      json.RawMessage   `json:"params,omitempty"`
	Schedule    core.Schedule     `json:"schedule"`
	StopOnError *bool             `json:"stop_on_error,omitempty"`
	Owner       string            `json:"owner,omitempty"`
	Category    string            `json:"category,omitempty"`
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Policies    policyDoc         `json:"policies"`
	After       []core.Upstream   `json:"after,omitempty"`
	Pause       core.Pause        `json:"pause,omitzero"`
}

// policyDoc is core.Policies as it is stored. A list that is there and empty is written, one that is not there is not.
type policyDoc struct {
	Zeros         []string            `json:"zeros,omitempty"`
	Timeout       time.Duration       `json:"timeout_ns,omitempty"`
	SoftTimeout   time.Duration       `json:"soft_timeout_ns,omitempty"`
	Overlap       core.Overlap        `json:"overlap,omitempty"`
	OverlapLimit  int                 `json:"overlap_limit,omitempty"`
	CatchUp       core.CatchUp        `json:"catch_up,omitempty"`
	CatchUpWindow time.Duration       `json:"catch_up_window_ns,omitempty"`
	CatchUpLimit  int                 `json:"catch_up_limit,omitempty"`
	CatchUpSpread time.Duration       `json:"catch_up_spread_ns,omitempty"`
	MaxRuns       int                 `json:"max_runs,omitempty"`
	MaxAttempts   int                 `json:"max_attempts,omitempty"`
	RetryDelay    time.Duration       `json:"retry_delay_ns,omitempty"`
	RetryBackoff  core.Backoff        `json:"retry_backoff,omitempty"`
	RetryMaxDelay time.Duration       `json:"retry_max_delay_ns,omitempty"`
	RetryJitter   float64             `json:"retry_jitter,omitempty"`
	RetryOn       []core.Verdict      `json:"retry_on,omitzero"`
	StopAfter     int                 `json:"stop_after,omitempty"`
	Intervene     bool                `json:"intervene,omitempty"`
	Priority      int                 `json:"priority,omitempty"`
	Pools         []core.PoolUse      `json:"pools,omitzero"`
	Downstreams   []string            `json:"downstreams,omitzero"`
	Breaker       core.BreakerRule    `json:"breaker,omitzero"`
	Preconditions []core.Precondition `json:"preconditions,omitzero"`
	SLA           core.SLA            `json:"sla,omitzero"`
	LogLevel      core.Level          `json:"log_level,omitempty"`
	LogFull       core.LogFull        `json:"log_full,omitempty"`
}

func docOf(t *core.Task) (string, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false) // parameters stay as they were written
	err := enc.Encode(taskDoc{Params: t.Params, Schedule: t.Schedule, StopOnError: t.StopOnError, Owner: t.Owner,
		Category: t.Category, Description: t.Description, Labels: t.Labels, Policies: policyDoc(t.Policies), After: t.After, Pause: t.Pause})
	if err != nil {
		return "", core.Invalid(taskOp("store", t), core.Finding{Path: "params", Message: core.Text{
			Zh: "不是合法的 JSON：" + err.Error(), En: "not valid JSON: " + err.Error()}})
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

// readDoc fills in what doc holds; a doc that cannot be read becomes the task's problem.
func readDoc(t *core.Task, text string) {
	var doc taskDoc
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Problem = "the stored definition cannot be read: " + err.Error()
		return
	}
	t.Params, t.Schedule, t.StopOnError, t.Owner, t.Category = doc.Params, doc.Schedule, doc.StopOnError, doc.Owner, doc.Category
	t.Description, t.Labels, t.Policies = doc.Description, doc.Labels, core.Policies(doc.Policies)
	t.After, t.Pause = doc.After, doc.Pause
}

func taskOp(verb string, t *core.Task) string {
	return fmt.Sprintf("%s task %q", verb, t.Namespace+"/"+t.Name)
}

func searchText(t *core.Task) string { return clean(strings.ToLower(t.Name + "\n" + t.Description)) }

// next gives the mark that a stored task begins with.
func next(t *core.Task) int64 {
	if !t.Enabled {
		return 0
	}
	return micros(t.State.NextFire)
}

// CreateTask stores a new task as version 1, whatever task.Version says; its mark is task.State.NextFire. It fails with
// KindNotFound if the namespace is not there, with KindConflict if the id or the name is taken.
func (s *Store) CreateTask(ctx context.Context, task core.Task) (core.Task, error) {
	tasks := []core.Task{task}
	if err := s.createTasks(ctx, taskOp("create", &task), tasks, false); err != nil {
		return core.Task{}, err
	}
	return tasks[0], nil
}

// CreateTasks stores new tasks as CreateTask does: all of them or none. It has a transaction of its own, and other
// writes wait until it has ended.
func (s *Store) CreateTasks(ctx context.Context, tasks []core.Task) error {
	if len(tasks) == 0 {
		return nil
	}
	copied := make([]core.Task, len(tasks))
	copy(copied, tasks)
	return s.createTasks(ctx, fmt.Sprintf("create %d tasks", len(tasks)), copied, true)
}

func (s *Store) createTasks(ctx context.Context, op string, tasks []core.Task, bulk bool) error {
	now := s.clock.Now()
	docs := make([]string, len(tasks))
	namespaces := map[string]bool{}
	for i := range tasks {
		t := &tasks[i]
		var err error
		if docs[i], err = docOf(t); err != nil {
			return err
		}
		t.Version, t.Problem = 1, ""
		if t.CreatedAt.IsZero() {
			t.CreatedAt = now
		}
		if t.UpdatedAt.IsZero() {
			t.UpdatedAt = t.CreatedAt
		}
		t.CreatedAt, t.UpdatedAt = instant(micros(t.CreatedAt)), instant(micros(t.UpdatedAt))
		t.State = core.TaskState{NextFire: instant(next(t))}
		namespaces[t.Namespace] = true
	}
	return s.fault(op, s.w.submit(ctx, &request{bulk: bulk, do: func(ctx context.Context, t session) error {
		for ns := range namespaces {
			_, err := t.queries().ReadNamespace(ctx, ns)
			if notFound(err) {
				return core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有命名空间 " + ns + "；请先创建", En: fmt.Sprintf("namespace %q does not exist; create it first", ns)})
			}
			if err != nil {
				return err
			}
		}
		return insertTasks(ctx, t, op, tasks, docs)
	}}))
}

// insertTasks stops at the first task that is there already. One task alone has then written nothing; many fail as a
// whole.
func insertTasks(ctx context.Context, s session, op string, tasks []core.Task, docs []string) error {
	const chunk = 1000
	for from := 0; from < len(tasks); from += chunk {
		part := tasks[from:min(from+chunk, len(tasks))]
		taken := -1
		err := s.many(ctx, insertTask, len(part), func(i int, args []any) []any {
			t := &part[i]
			return append(args, t.ID, clean(t.Namespace), clean(t.Name), clean(t.Type), t.Enabled, clean(t.DisabledReason), t.Version,
				searchText(t), clean(docs[from+i]), micros(t.CreatedAt), micros(t.UpdatedAt), clean(t.UpdatedBy))
		}, func(i int, affected int64, _ []int64) {
			if affected == 0 && taken < 0 {
				taken = i
			}
		})
		if err != nil {
			return err
		}
		if taken >= 0 {
			err := core.Refuse(core.KindConflict, op, core.Text{
				Zh: fmt.Sprintf("任务 %s/%s（或编号为 %s 的任务）已存在", part[taken].Namespace, part[taken].Name, part[taken].ID),
				En: fmt.Sprintf("a task %q, or one with id %s, exists already", part[taken].Namespace+"/"+part[taken].Name, part[taken].ID),
			})
			if len(tasks) > 1 {
				return partial{err}
			}
			return err
		}
		err = s.many(ctx, insertState, len(part), func(i int, args []any) []any {
			return append(args, part[i].ID, part[i].Version, micros(part[i].State.NextFire))
		}, nil)
		if err != nil {
			return err
		}
		if err := insertRefs(ctx, s, part); err != nil {
			return err
		}
	}
	return nil
}

// partial marks an error of kind conflict after which the transaction must not go on.
type partial struct{ error }

func (p partial) Unwrap() error { return p.error }

// UpdateTask replaces a definition. task.Version is the version the caller saw: it fails with KindStale if the stored one
// is another, with KindNotFound if the task is gone, and with KindConflict if its new name is taken. The mark becomes
// task.State.NextFire, so that an edit fires nothing retroactively; the rest of the state stays, except that a disabled
// task that is enabled has its failures behind it. Without Steps, the steps of a task stay known as long as its type and
// parameters stay. It gives the task as stored, with its new version.
//
// undecided are the rows of fires that were due by the old mark and that nobody had decided as the caller saw it; they are
// inserted in the same transaction, unless the mark has moved since.
func (s *Store) UpdateTask(ctx context.Context, task core.Task, undecided ...core.Run) (core.Task, error) {
	op := taskOp("change", &task)
	doc, err := docOf(&task)
	if err != nil {
		return core.Task{}, err
	}
	if task.UpdatedAt.IsZero() {
		task.UpdatedAt = s.clock.Now()
	}
	err = s.alter(ctx, op, []string{task.ID}, func(ctx context.Context, t session) error {
		q := t.queries()
		stored, err := q.StoredTask(ctx, task.ID)
		if notFound(err) {
			return core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有任务 " + task.Namespace + "/" + task.Name, En: "no such task"})
		}
		if err != nil {
			return err
		}
		if stored.Version != task.Version {
			return core.Refuse(core.KindStale, op, core.Text{
				Zh: fmt.Sprintf("任务 %s/%s 现在是版本 %d，而读到的是版本 %d；请重新读取后再改", task.Namespace, task.Name, stored.Version, task.Version),
				En: fmt.Sprintf("version %d was seen, but version %d is stored; read the task again and repeat the change", task.Version, stored.Version),
			})
		}
		switch id, err := q.TaskIDByName(ctx, task.Namespace, task.Name); {
		case err == nil && id != task.ID:
			return core.Refuse(core.KindConflict, op, core.Text{Zh: "另一任务已叫 " + task.Namespace + "/" + task.Name, En: "another task has this name"})
		case err != nil && !notFound(err):
			return err
		}
		if err := insertUndecided(ctx, t, stored.NextFire, undecided); err != nil {
			return err
		}
		if err := q.KeepVersion(ctx, task.ID); err != nil {
			return err
		}
		_, err = q.UpdateTask(ctx, sqlcgen.UpdateTaskParams{ID: task.ID, Version: task.Version, Namespace: clean(task.Namespace),
			Name: clean(task.Name), Type: clean(task.Type), Enabled: task.Enabled, DisabledReason: clean(task.DisabledReason),
			Search: searchText(&task), Doc: clean(doc), UpdatedAt: micros(task.UpdatedAt), UpdatedBy: clean(task.UpdatedBy)})
		if err != nil {
			return err
		}
		forget := q.DeleteTaskRefs
		if task.Steps == nil && task.Mentions == nil && sameWork(&task, stored, doc) {
			forget = q.DeleteOtherTaskRefs
		}
		if err := forget(ctx, task.ID); err != nil {
			return err
		}
		if err := insertRefs(ctx, t, []core.Task{task}); err != nil {
			return err
		}
		return q.FollowVersion(ctx, sqlcgen.FollowVersionParams{TaskID: task.ID, NextFire: next(&task),
			KeepFailures: one(stored.Enabled || !task.Enabled)})
	})
	if err != nil {
		return core.Task{}, err
	}
	return s.Task(ctx, task.ID)
}

// insertUndecided inserts the rows of fires that were due and that nobody has decided, unless somebody has meanwhile: then the
// mark is another.
func insertUndecided(ctx context.Context, t session, mark int64, rows []core.Run) error {
	if len(rows) == 0 || micros(rows[0].FireAt) != mark {
		return nil
	}
	return t.many(ctx, insertRunOf, len(rows), func(i int, args []any) []any {
		return bindRunOf(args, &rows[i], core.RunEnded, 0, micros(rows[i].FireAt))
	}, nil)
}

// sameWork says that type, parameters and preconditions of a task are those of its stored version.
func sameWork(task *core.Task, stored sqlcgen.StoredTaskRow, doc string) bool {
	var before, after struct {
		Params   json.RawMessage `json:"params"`
		Policies struct {
			Preconditions json.RawMessage `json:"preconditions"`
		} `json:"policies"`
	}
	return task.Type == stored.Type && json.Unmarshal([]byte(stored.Doc), &before) == nil && json.Unmarshal([]byte(doc), &after) == nil &&
		bytes.Equal(before.Params, after.Params) && bytes.Equal(before.Policies.Preconditions, after.Policies.Preconditions)
}

// DeleteTask removes a task, or fails with KindNotFound. Its versions stay; its live runs end as they would have. undecided are
// as of UpdateTask.
func (s *Store) DeleteTask(ctx context.Context, id string, undecided ...core.Run) error {
	op := "delete task " + id
	return s.alter(ctx, op, []string{id}, func(ctx context.Context, t session) error {
		q := t.queries()
		stored, err := q.StoredTask(ctx, id)
		if notFound(err) {
			return core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有任务 " + id, En: "no such task"})
		}
		if err != nil {
			return err
		}
		if err := insertUndecided(ctx, t, stored.NextFire, undecided); err != nil {
			return err
		}
		if err := q.KeepVersion(ctx, id); err != nil {
			return err
		}
		if _, err := q.DeleteTaskState(ctx, id); err != nil {
			return err
		}
		if err := q.DeleteTaskRefs(ctx, id); err != nil {
			return err
		}
		if err := q.DeleteBreaker(ctx, ownBreaker+id); err != nil {
			return err
		}
		_, err = q.DeleteTask(ctx, id)
		return err
	})
}

var taskColumns = []string{"t.id", "t.namespace", "t.name", "t.type", "t.enabled", "t.disabled_reason", "t.version", "t.doc",
	"t.created_at", "t.updated_at", "t.updated_by", "s.next_fire", "s.live", "s.last_start", "s.last_end", "s.last_success", "s.last_outcome",
	"s.fired", "s.failures"}

func selectTasks() *sqlbuilder.SelectBuilder {
	b := sqlbuilder.PostgreSQL.NewSelectBuilder()
	b.Select(taskColumns...).From("tasks t").Join("task_state s", "s.task_id = t.id")
	return b
}

// tasks runs a select made by selectTasks.
func (s *Store) tasks(ctx context.Context, op string, b *sqlbuilder.SelectBuilder) (list []core.Task, err error) {
	text, args := b.Build()
	err = s.look(ctx, op, func(ctx context.Context) (err error) {
		list, err = s.scanTasks(ctx, text, args)
		return err
	})
	return list, err
}

func (s *Store) scanTasks(ctx context.Context, text string, args []any) (list []core.Task, err error) {
	rows, err := s.read.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var t core.Task
		var doc string
		var created, updated, nextFire, lastStart, lastEnd, lastSuccess int64
		if err := rows.Scan(&t.ID, &t.Namespace, &t.Name, &t.Type, &t.Enabled, &t.DisabledReason, &t.Version, &doc, &created,
			&updated, &t.UpdatedBy, &nextFire, &t.State.Live, &lastStart, &lastEnd, &lastSuccess, &t.State.LastOutcome,
			&t.State.Fired, &t.State.Failures); err != nil {
			return nil, err
		}
		t.CreatedAt, t.UpdatedAt = instant(created), instant(updated)
		t.State.NextFire, t.State.LastStart = instant(nextFire), instant(lastStart)
		t.State.LastEnd, t.State.LastSuccess = instant(lastEnd), instant(lastSuccess)
		readDoc(&t, doc)
		list = append(list, t)
	}
	return list, rows.Err()
}

func (s *Store) oneTask(ctx context.Context, what string, b *sqlbuilder.SelectBuilder) (core.Task, error) {
	op := fmt.Sprintf("read task %q", what)
	list, err := s.tasks(ctx, op, b)
	if err != nil {
		return core.Task{}, err
	}
	if len(list) == 0 {
		return core.Task{}, core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有任务 " + what, En: "no such task"})
	}
	return list[0], nil
}

// Task gives one task, or KindNotFound. A task whose stored definition cannot be read has a Problem.
func (s *Store) Task(ctx context.Context, id string) (core.Task, error) {
	b := selectTasks()
	b.Where(b.Equal("t.id", id))
	return s.oneTask(ctx, id, b)
}

// TaskByName gives one task, or KindNotFound.
func (s *Store) TaskByName(ctx context.Context, namespace, name string) (core.Task, error) {
	b := selectTasks()
	b.Where(b.Equal("t.namespace", namespace), b.Equal("t.name", name))
	return s.oneTask(ctx, namespace+"/"+name, b)
}

// Tasks gives the tasks that pass the filter, by id.
func (s *Store) Tasks(ctx context.Context, f core.TaskFilter) ([]core.Task, error) {
	if f.Namespaces != nil && len(f.Namespaces) == 0 {
		return nil, nil
	}
	b := selectTasks()
	switch {
	case len(f.Namespaces) == 1:
		b.Where(b.Equal("t.namespace", f.Namespaces[0]))
	case f.Namespaces != nil:
		// As an expression, so that rows are read in the order of id until the page is full; the index would have all
		// rows of these namespaces sorted first (1.3 s for a million).
		b.Where(b.In("t.namespace || ''", sqlbuilder.List(f.Namespaces)))
	}
	if f.Type != "" {
		b.Where(b.Equal("t.type", f.Type))
	}
	if f.Enabled != nil {
		b.Where(b.Equal("t.enabled", *f.Enabled))
	}
	if f.Search != "" {
		b.Where("t.search LIKE " + b.Var("%"+likeText(f.Search)+"%") + ` ESCAPE '\'`)
	}
	if f.AfterID != "" {
		b.Where(b.GreaterThan("t.id", f.AfterID))
	}
	b.OrderByAsc("t.id").Limit(page(f.Limit))
	return s.tasks(ctx, "list tasks", b)
}

// likeText takes the meaning of wildcards out of a search.
func likeText(search string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(clean(strings.ToLower(search)))
}

// Definitions gives tasks by id, in no order, without those that are gone. A task whose stored definition cannot be read
// is not among them: problems says, by id, why.
func (s *Store) Definitions(ctx context.Context, ids []string) (tasks []core.Task, problems map[string]error, err error) {
	const chunk = 500
	tasks = make([]core.Task, 0, len(ids))
	for from := 0; from < len(ids); from += chunk {
		b := selectTasks()
		b.Where(b.In("t.id", sqlbuilder.List(ids[from:min(from+chunk, len(ids))])))
		part, err := s.tasks(ctx, "read definitions", b)
		if err != nil {
			return nil, nil, err
		}
		for _, t := range part {
			if t.Problem == "" {
				tasks = append(tasks, t)
				continue
			}
			if problems == nil {
				problems = map[string]error{}
			}
			problems[t.ID] = core.Errorf(core.KindDamaged, taskOp("read", &t), "%s", t.Problem)
		}
	}
	return tasks, problems, nil
}

// TaskVersions gives every version of a task, newest first, also of one that was deleted; or KindNotFound. State is that
// of now, and only with the current version.
func (s *Store) TaskVersions(ctx context.Context, id string) ([]core.Task, error) {
	op := "list versions of task " + id
	var list []core.Task
	switch current, err := s.Task(ctx, id); {
	case err == nil:
		list = append(list, current)
	case core.KindOf(err) != core.KindNotFound:
		return nil, err
	}
	var rows []sqlcgen.TaskVersion
	err := s.look(ctx, op, func(ctx context.Context) (err error) {
		rows, err = s.q.TaskVersions(ctx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		t := core.Task{ID: r.TaskID, Namespace: r.Namespace, Name: r.Name, Type: r.Type, Enabled: r.Enabled, Version: r.Version,
			DisabledReason: r.DisabledReason, CreatedAt: instant(r.CreatedAt), UpdatedAt: instant(r.UpdatedAt), UpdatedBy: r.UpdatedBy}
		readDoc(&t, r.Doc)
		if len(list) > 0 && t.Version >= list[len(list)-1].Version { // changed between the two reads
			continue
		}
		list = append(list, t)
	}
	if len(list) == 0 {
		return nil, core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有任务 " + id, En: "no such task"})
	}
	return list, nil
}
