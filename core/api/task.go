package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Schedule says when a task fires.
type Schedule struct {
	Spec      string `json:"spec" doc:"A cron expression, @hourly…, @every 90s, @after 10m, @at T, @list T1 T2 … or @manual" example:"*/5 * * * *" maxLength:"65536"`
	Dialect   string `json:"dialect,omitempty" doc:"unix (default) or quartz; of cron expressions only" example:"unix" maxLength:"16"`
	Zone      string `json:"zone,omitempty" doc:"IANA time zone; default UTC" example:"Asia/Shanghai" maxLength:"64"`
	OnGap     string `json:"on_gap,omitempty" enum:"run_after,skip" doc:"A local time that does not exist: run_after (default) or skip"`
	OnOverlap string `json:"on_overlap,omitempty" enum:"first,second,both" doc:"A local time that comes twice: first (default), second or both"`
	Anchor    *Time  `json:"anchor,omitempty" readOnly:"true" doc:"Where @every counts from"`

	From     *Time    `json:"from,omitempty" doc:"Nothing fires before it; absent: no such limit"`
	Until    *Time    `json:"until,omitempty" doc:"Nothing fires at it or after; absent: no such limit"`
	Jitter   string   `json:"jitter,omitempty" doc:"A start comes up to this much after its instant, always the same for the same instant" example:"30s" maxLength:"32"`
	OnlyOn   []string `json:"only_on,omitempty" maxItems:"20" doc:"Calendars that must all contain the instant" example:"[\"cn-workdays\"]"`
	NotOn    []string `json:"not_on,omitempty" maxItems:"20" doc:"Calendars that must not contain it" example:"[\"month-end-freeze\"]"`
	OnDayOff string   `json:"on_day_off,omitempty" enum:"skip,next,previous" doc:"An instant the calendars refuse: skip (default), or move it to the next or previous day they allow"`
}

func scheduleOut(s core.Schedule) Schedule {
	return Schedule{
		Spec: s.Spec, Dialect: s.Dialect, Zone: s.Zone, OnGap: s.OnGap, OnOverlap: s.OnOverlap, Anchor: instant(s.Anchor),
		From: instant(s.From), Until: instant(s.Until), Jitter: duration(s.Jitter), OnlyOn: s.OnlyOn, NotOn: s.NotOn, OnDayOff: s.OnDayOff,
	}
}

// schedule reads a schedule, but for its anchor, which nobody sets by hand.
func (s Schedule) schedule(findings *[]core.Finding) core.Schedule {
	return core.Schedule{
		Spec: s.Spec, Dialect: s.Dialect, Zone: s.Zone, OnGap: s.OnGap, OnOverlap: s.OnOverlap, From: s.From.time(), Until: s.Until.time(),
		Jitter: span(s.Jitter, "schedule.jitter", findings), OnlyOn: s.OnlyOn, NotOn: s.NotOn, OnDayOff: s.OnDayOff,
	}
}

// TaskInput is what can be said about a task.
type TaskInput struct {
	Type        string            `json:"type" doc:"Task type" example:"Common.KeepAlive"`
	Params      Object            `json:"params,omitempty" doc:"Parameters, by the schema of the type"`
	Schedule    Schedule          `json:"schedule" doc:"When it fires"`
	Enabled     *bool             `json:"enabled,omitempty" doc:"Default true"`
	StopOnError *bool             `json:"stop_on_error,omitempty" doc:"Short for policies.stop_after: true is 1 (a run that does not succeed disables the task), false is 0 (none does), unless that is said itself; absent: the namespace's default"`
	Owner       string            `json:"owner,omitempty" doc:"Whom to ask about it" example:"wang"`
	Category    string            `json:"category,omitempty" doc:"A word to group tasks by" example:"reports"`
	Description string            `json:"description,omitempty" doc:"What it is for"`
	Labels      map[string]string `json:"labels,omitempty" doc:"Free words to find it by" example:"{\"team\":\"pacs\"}"`
	Policies    *Policies         `json:"policies,omitempty" doc:"How its runs are carried out; what is left out takes the namespace's default, what is written holds: also 0, false and []"`
	After       []Upstream        `json:"after,omitempty" maxItems:"50" doc:"Other tasks of the namespace whose ends start this one"`
}

// NewTask is a TaskInput with the name it shall have.
type NewTask struct {
	Name string `json:"name" doc:"Unique in its namespace" example:"keep-alive-portal"`
	TaskInput
}

// Pause says that a task's fires are skipped for a while.
type Pause struct {
	Since *Time  `json:"since,omitempty" doc:"When it was paused"`
	Until *Time  `json:"until,omitempty" doc:"When it goes on by itself; absent: when somebody resumes it"`
	Note  string `json:"note,omitempty" doc:"Why"`
	By    string `json:"by" doc:"Who paused it" example:"wang"`
}

// Task is a task type plus parameters plus a schedule plus policies, and what happened last.
type Task struct {
	ID             string            `json:"id" doc:"UUIDv7"`
	Name           string            `json:"name" doc:"Unique in its namespace" example:"keep-alive-portal"`
	Namespace      string            `json:"namespace" example:"Common" doc:"Whose it is"`
	Type           string            `json:"type" doc:"Task type" example:"Common.KeepAlive"`
	Params         Object            `json:"params" doc:"Parameters, by the schema of the type"`
	Schedule       Schedule          `json:"schedule" doc:"When it fires"`
	Enabled        bool              `json:"enabled" doc:"Whether its schedule fires"`
	StopOnError    *bool             `json:"stop_on_error,omitempty" doc:"Short for policies.stop_after: true is 1, false is 0; absent: it was not said"`
	Owner          string            `json:"owner" doc:"Whom to ask about it"`
	Category       string            `json:"category" doc:"A word to group tasks by"`
	Description    string            `json:"description" doc:"What it is for"`
	Labels         map[string]string `json:"labels" doc:"Free words to find it by"`
	Policies       Policies          `json:"policies" doc:"What the task itself says, also where it is zero"`
	Effective      *Policies         `json:"effective_policies,omitempty" readOnly:"true" doc:"What holds: the namespace's defaults laid under it; absent in earlier versions"`
	After          []Upstream        `json:"after" doc:"Other tasks of the namespace whose ends start this one"`
	Pause          *Pause            `json:"pause,omitempty" readOnly:"true" doc:"Its fires are skipped meanwhile; set by pause and resume"`
	Version        int64             `json:"version" doc:"Rises with every change; also the ETag"`
	DisabledReason string            `json:"disabled_reason,omitempty" doc:"Why it is disabled, if Gnomon did it"`
	CreatedAt      *Time             `json:"created_at,omitempty" doc:"When it was created"`
	UpdatedAt      *Time             `json:"updated_at,omitempty" doc:"When it was last changed"`
	UpdatedBy      string            `json:"updated_by" doc:"Who changed it"`
	LastStart      *Time             `json:"last_start,omitempty" doc:"When the last attempt began"`
	LastEnd        *Time             `json:"last_end,omitempty" doc:"When the last run ended"`
	LastSuccess    *Time             `json:"last_success,omitempty" doc:"When the last successful run ended"`
	LastOutcome    string            `json:"last_outcome,omitempty" doc:"Of the last run that ended" example:"succeeded"`
	NextFire       *Time             `json:"next_fire,omitempty" doc:"The next nominal instant, started or skipped; absent: none"`
	NextStart      *Time             `json:"next_start,omitempty" readOnly:"true" doc:"The next instant at which it starts: the first from next_fire on that its calendars let through; absent: none"`
	NextSkip       *Text             `json:"next_skip,omitempty" readOnly:"true" doc:"next_fire itself will be skipped, and by what; absent: it starts"`
	LiveRuns       int               `json:"live_runs" doc:"Runs that have not ended"`
	Fired          int64             `json:"fired" doc:"Runs that its schedule has started since it was created: what policies.max_runs counts"`
	Failures       int               `json:"failures" doc:"Runs in a row, up to the last, that did not succeed: what policies.stop_after counts"`
	Problem        string            `json:"problem,omitempty" doc:"Why the stored definition cannot be read"`
	Warnings       []Text            `json:"warnings" doc:"What is allowed and may not be what was meant: a calendar without the coming year, a fire every second that waits for minutes"`
}

func taskOut(t core.Task) Task {
	out := Task{
		ID: t.ID, Name: t.Name, Namespace: t.Namespace, Type: t.Type, Params: Object(t.Params), Enabled: t.Enabled,
		StopOnError: t.StopOnError, Owner: t.Owner, Category: t.Category, Description: t.Description, Labels: t.Labels,
		Version: t.Version, DisabledReason: t.DisabledReason, CreatedAt: instant(t.CreatedAt), UpdatedAt: instant(t.UpdatedAt),
		UpdatedBy: t.UpdatedBy, LastStart: instant(t.State.LastStart), LastEnd: instant(t.State.LastEnd),
		LastSuccess: instant(t.State.LastSuccess), LastOutcome: string(t.State.LastOutcome),
		NextFire: instant(t.State.NextFire), LiveRuns: t.State.Live, Fired: t.State.Fired, Failures: t.State.Failures,
		Schedule: scheduleOut(t.Schedule), Policies: policiesOut(t.Policies), After: upstreamsOut(t.After), Problem: t.Problem,
		Warnings: []Text{},
	}
	if p := t.Pause; !p.Since.IsZero() {
		out.Pause = &Pause{Since: instant(p.Since), Until: instant(p.Until), Note: p.Note, By: p.By}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	return out
}

// taskNow gives a task as it stands, with what holds for it and what may be wrong with it.
func (a *API) taskNow(ctx context.Context, t core.Task) Task {
	out := taskOut(t)
	effective := policiesOut(a.opts.Definitions.Effective(t).Policies)
	out.Effective, out.Warnings = &effective, textsOut(a.opts.Definitions.Warnings(ctx, t))
	start, skip := a.opts.Definitions.Upcoming(t)
	if out.NextStart = instant(start); skip != (core.Text{}) {
		said := text(skip)
		out.NextSkip = &said
	}
	if !t.Pause.Holds(a.opts.Clock.Now()) {
		out.Pause = nil // it is over
	}
	return out
}

// input gives what can be said about a task, as it is now: what a merge patch is laid over.
func (t Task) input() TaskInput {
	t.Schedule.Anchor = nil
	return TaskInput{
		Type: t.Type, Params: t.Params, Schedule: t.Schedule, Enabled: &t.Enabled, StopOnError: t.StopOnError, Owner: t.Owner,
		Category: t.Category, Description: t.Description, Labels: t.Labels, Policies: &t.Policies, After: t.After,
	}
}

// task lays what was said over a stored task, or over an empty one. What cannot be read is a finding.
func (in TaskInput) task(over core.Task, op string) (core.Task, error) {
	var findings []core.Finding
	t := over
	t.Type, t.Params, t.StopOnError = in.Type, json.RawMessage(in.Params), in.StopOnError
	t.Owner, t.Category, t.Description, t.Labels = in.Owner, in.Category, in.Description, in.Labels
	t.Enabled = in.Enabled == nil || *in.Enabled
	t.Schedule = in.Schedule.schedule(&findings)
	t.Schedule.Anchor = over.Schedule.Anchor
	t.Policies = in.Policies.policies("policies", &findings)
	t.After = upstreams(in.After)
	if len(findings) > 0 {
		return t, core.Invalid(op, findings...)
	}
	return t, nil
}

// TaskPath names a task in a path.
type TaskPath struct {
	TaskID string `path:"task_id" doc:"Id of the task" maxLength:"64"`
}

// Match lets a change depend on what was read.
type Match struct {
	IfMatch string `header:"If-Match" doc:"The ETag that was read; the change is refused if it has another by now"`
}

type taskOne struct {
	ETag string `header:"ETag" doc:"The task's version"`
	Body Task
}

type taskCreated struct {
	Status   int
	ETag     string `header:"ETag" doc:"The task's version"`
	Location string `header:"Location" doc:"Where the task is"`
	Body     Task
}

// digest gives the ETag of what has no version: a hash of its JSON.
func digest(v any) string {
	raw, _ := json.Marshal(v)
	sum := sha256.Sum256(raw)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

type versionList struct {
	Body struct {
		Items      []Task `json:"items" doc:"At most limit of them; what happened last is as it is now"`
		NextCursor int64  `json:"next_cursor,omitempty" doc:"Give it as cursor to go on; absent: this was the end"`
	}
}

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

func (a *API) one(ctx context.Context, t core.Task) *taskOne {
	return &taskOne{ETag: etag(t.Version), Body: a.taskNow(ctx, t)}
}

func (a *API) created(ctx context.Context, t core.Task, status int) *taskCreated {
	return &taskCreated{Status: status, ETag: etag(t.Version), Location: "/v1/tasks/" + url.PathEscape(t.ID), Body: a.taskNow(ctx, t)}
}

// matches holds If-Match against a version. An empty header and * match any.
func (m Match) matches(version int64, op string) error {
	if m.IfMatch == "" || m.names(etag(version)) {
		return nil
	}
	return core.Refuse(core.KindStale, op, core.Text{Zh: fmt.Sprintf("它现在是版本 %d，不是 %s；请重新读取后再改", version, m.IfMatch), En: fmt.Sprintf("it has version %d by now, not %s; read it again", version, m.IfMatch)})
}

// names reports whether a tag is among those of If-Match.
func (m Match) names(tag string) bool {
	for said := range strings.SplitSeq(m.IfMatch, ",") {
		if said = strings.TrimSpace(said); said == "*" || said == tag {
			return true
		}
	}
	return false
}

func named(t core.Task) string { return t.Namespace + "/" + t.Name }

func (a *API) tasks() {
	tags := []string{"tasks"}
	register(a, huma.Operation{
		OperationID: "list-tasks", Method: http.MethodGet, Path: "/v1/tasks", Tags: tags,
		Summary: "List tasks, oldest first",
	}, rule{permission: "task:read", source: fromGrants},
		func(ctx context.Context, in *struct {
			Namespace string `query:"namespace" doc:"Only of this namespace"`
			Type      string `query:"type" doc:"Only of this task type"`
			Enabled   string `query:"enabled" enum:"true,false" doc:"Only enabled, or only disabled ones"`
			Search    string `query:"search" doc:"Part of the name or description" maxLength:"200"`
			Cursor    string `query:"cursor" doc:"next_cursor of the page before" maxLength:"64"`
			Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most"`
		}) (*paged[Task], error) {
			out := page[Task]()
			filter := core.TaskFilter{Type: in.Type, Search: in.Search, AfterID: in.Cursor, Limit: in.Limit}
			var err error
			if filter.Namespaces, err = a.visible(ctx, "task:read", in.Namespace); err != nil {
				return nil, err
			}
			if in.Enabled != "" {
				enabled := in.Enabled == "true"
				filter.Enabled = &enabled
			}
			list, err := a.opts.Definitions.Tasks(ctx, filter)
			if err != nil {
				return nil, err
			}
			for _, t := range list {
				out.Body.Items = append(out.Body.Items, a.taskNow(ctx, t))
			}
			if len(list) == in.Limit {
				out.Body.NextCursor = list[len(list)-1].ID
			}
			return out, nil
		})
	register(a, huma.Operation{
		OperationID: "create-task", Method: http.MethodPost, Path: "/v1/namespaces/{namespace}/tasks", Tags: tags,
		Summary: "Create a task", DefaultStatus: http.StatusCreated,
	}, rule{permission: "task:write", source: fromPath, changes: true},
		func(ctx context.Context, in *struct {
			NamespacePath
			Body NewTask
		}) (*taskCreated, error) {
			op := "create task " + in.Namespace + "/" + in.Body.Name
			task, err := in.Body.task(core.Task{Namespace: in.Namespace, Name: in.Body.Name}, op)
			if err == nil {
				task, err = a.opts.Definitions.Create(ctx, task, requestOf(ctx).principal.String())
			}
			if err != nil {
				return nil, err
			}
			return a.created(ctx, task, http.StatusCreated), nil
		})
	register(a, huma.Operation{
		OperationID: "get-task", Method: http.MethodGet, Path: "/v1/tasks/{task_id}", Tags: tags, Summary: "Get a task",
	}, rule{permission: "task:read", source: fromTask},
		func(ctx context.Context, _ *TaskPath) (*taskOne, error) { return a.one(ctx, requestOf(ctx).task), nil })
	register(a, huma.Operation{
		OperationID: "replace-task", Method: http.MethodPut, Path: "/v1/tasks/{task_id}", Tags: tags,
		Summary: "Change a task: what is left out takes its default",
	}, rule{permission: "task:write", source: fromTask, changes: true},
		func(ctx context.Context, in *struct {
			TaskPath
			Match
			Body TaskInput
		}) (*taskOne, error) {
			return a.change(ctx, requestOf(ctx).task, in.Match, in.Body)
		})
	register(a, huma.Operation{
		OperationID: "patch-task", Method: http.MethodPatch, Path: "/v1/tasks/{task_id}", Tags: tags,
		Summary: "Change parts of a task: a JSON merge patch (RFC 7396)",
	}, rule{permission: "task:write", source: fromTask, changes: true},
		func(ctx context.Context, in *struct {
			TaskPath
			Match
			Body Object `contentType:"application/merge-patch+json"`
		}) (*taskOne, error) {
			task := requestOf(ctx).task
			input, err := a.patched(taskOut(task).input(), json.RawMessage(in.Body))
			if err != nil {
				return nil, err
			}
			return a.change(ctx, task, in.Match, input)
		})
	register(a, huma.Operation{
		OperationID: "delete-task", Method: http.MethodDelete, Path: "/v1/tasks/{task_id}", Tags: tags,
		Summary: "Delete a task; its runs stay in history", DefaultStatus: http.StatusNoContent,
	}, rule{permission: "task:write", source: fromTask, changes: true},
		func(ctx context.Context, in *struct {
			TaskPath
			Match
		}) (*struct{}, error) {
			task := requestOf(ctx).task
			if err := in.matches(task.Version, "delete task "+named(task)); err != nil {
				return nil, err
			}
			return nil, a.opts.Definitions.Delete(ctx, task.ID)
		})
	register(a, huma.Operation{
		OperationID: "get-task-by-name", Method: http.MethodGet, Path: "/v1/namespaces/{namespace}/tasks/{name}", Tags: tags,
		Summary: "Get a task by its name",
	}, rule{permission: "task:read", source: fromPath},
		func(ctx context.Context, in *struct {
			NamespacePath
			Name string `path:"name" doc:"Name of the task" maxLength:"512"`
		}) (*taskOne, error) {
			task, err := a.opts.Definitions.TaskByName(ctx, in.Namespace, in.Name)
			if err != nil {
				return nil, err
			}
			return a.one(ctx, task), nil
		})
	register(a, huma.Operation{
		OperationID: "put-task", Method: http.MethodPut, Path: "/v1/namespaces/{namespace}/tasks/{name}", Tags: tags,
		Summary: "Create a task, or make it what is said here; doing it twice changes nothing more",
	}, rule{permission: "task:write", source: fromPath, changes: true},
		func(ctx context.Context, in *struct {
			NamespacePath
			Match
			Name        string `path:"name" doc:"Name of the task" maxLength:"512"`
			IfNoneMatch string `header:"If-None-Match" enum:"*" doc:"*: only if there is no such task yet"`
			Body        TaskInput
		}) (*taskCreated, error) {
			return a.put(ctx, in.Namespace, in.Name, in.Match, in.IfNoneMatch != "", in.Body)
		})
	register(a, huma.Operation{
		OperationID: "list-task-versions", Method: http.MethodGet, Path: "/v1/tasks/{task_id}/versions", Tags: tags,
		Summary: "List every version of a task, newest first",
	}, rule{permission: "task:read", source: fromTask},
		func(ctx context.Context, in *struct {
			TaskPath
			Cursor int64 `query:"cursor" doc:"next_cursor of the page before"`
			Limit  int   `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many at most"`
		}) (*versionList, error) {
			out := &versionList{}
			out.Body.Items = []Task{}
			versions, err := a.opts.Definitions.TaskVersions(ctx, in.TaskID)
			if err != nil {
				return nil, err
			}
			for _, v := range versions {
				if in.Cursor > 0 && v.Version >= in.Cursor {
					continue
				}
				if len(out.Body.Items) == in.Limit {
					out.Body.NextCursor = out.Body.Items[in.Limit-1].Version
					break
				}
				out.Body.Items = append(out.Body.Items, taskOut(v))
			}
			return out, nil
		})
}

// change replaces a task that was loaded a moment ago. Nothing is written if nothing would change.
func (a *API) change(ctx context.Context, old core.Task, match Match, input TaskInput) (*taskOne, error) {
	op := "change task " + named(old)
	if err := match.matches(old.Version, op); err != nil {
		return nil, err
	}
	task, err := input.task(old, op)
	if err != nil {
		return nil, err
	}
	if same(old, task) {
		return a.one(ctx, old), nil
	}
	stored, err := a.opts.Definitions.Replace(ctx, task, requestOf(ctx).principal.String())
	if err != nil {
		return nil, err
	}
	return a.one(ctx, stored), nil
}

// put makes the task of a name what is said; it is tried again if somebody else creates or changes it at that moment and
// the caller did not ask for a version.
func (a *API) put(ctx context.Context, namespace, name string, match Match, onlyNew bool, input TaskInput) (*taskCreated, error) {
	op := "put task " + namespace + "/" + name
	by := requestOf(ctx).principal.String()
	for try := 0; ; try++ {
		old, err := a.opts.Definitions.TaskByName(ctx, namespace, name)
		switch {
		case err != nil && core.KindOf(err) != core.KindNotFound:
			return nil, err
		case err != nil && match.IfMatch != "":
			return nil, core.Refuse(core.KindStale, op, core.Text{Zh: "任务 " + namespace + "/" + name + " 已不存在", En: "there is no such task any more"})
		case err != nil:
			task, err := input.task(core.Task{Namespace: namespace, Name: name}, op)
			if err != nil {
				return nil, err
			}
			stored, err := a.opts.Definitions.Create(ctx, task, by)
			if err == nil {
				return a.created(ctx, stored, http.StatusCreated), nil
			}
			if core.KindOf(err) != core.KindConflict || onlyNew || try == 3 {
				return nil, err
			}
		case onlyNew:
			return nil, core.Refuse(core.KindStale, op, core.Text{Zh: fmt.Sprintf("任务 %s/%s 已存在，版本 %d", namespace, name, old.Version), En: fmt.Sprintf("there is such a task already, in version %d", old.Version)})
		default:
			changed, err := a.change(ctx, old, match, input)
			if err == nil {
				return &taskCreated{
					Status: http.StatusOK, ETag: changed.ETag, Location: "/v1/tasks/" + url.PathEscape(old.ID), Body: changed.Body,
				}, nil
			}
			if core.KindOf(err) != core.KindStale || match.IfMatch != "" || try == 3 {
				return nil, err
			}
		}
	}
}

// same reports whether a definition is what is stored already, once defaults are filled in.
func same(a, b core.Task) bool {
	plain := func(t core.Task) string {
		t.Version, t.DisabledReason = 0, ""
		out := taskOut(t)
		var params any
		if json.Unmarshal(out.Params, &params) == nil && params != nil {
			out.Params, _ = json.Marshal(params)
		}
		raw, _ := json.Marshal(out)
		return string(raw)
	}
	return plain(a) == plain(b)
}

// patched lays a merge patch over an input and holds the result against the schema, as if it had been sent whole.
func (a *API) patched(input TaskInput, patch json.RawMessage) (TaskInput, error) {
	const op = "patch task"
	var target, change any
	whole, err := json.Marshal(input)
	if err == nil {
		err = errors.Join(decode(whole, &target), decode(patch, &change))
	}
	if err != nil {
		return input, core.Errorf(core.KindInvalid, op, "%w", err)
	}
	target = merge(target, change)
	if whole, err = json.Marshal(target); err != nil {
		return input, core.Errorf(core.KindInternal, op, "%w", err)
	}
	var out TaskInput
	return out, a.read(op, "TaskInput", whole, &out)
}

// read holds a JSON document against the schema of a request body, as if it had been sent alone, and reads it into into: as
// much of it as can be read, if it breaks the schema.
func (a *API) read(op, schema string, document json.RawMessage, into any) error {
	var plain any // with plain numbers, which is what the validator knows
	if err := json.Unmarshal(document, &plain); err != nil {
		return core.Errorf(core.KindInvalid, op, "%w", err)
	}
	schemas := a.huma.OpenAPI().Components.Schemas
	path := huma.NewPathBuffer([]byte("body"), 4)
	result := &huma.ValidateResult{}
	huma.Validate(schemas, schemas.Map()[schema], path, huma.ModeWriteToServer, plain, result)
	if len(result.Errors) > 0 {
		e := core.Invalid(op)
		for _, wrong := range result.Errors {
			d, ok := wrong.(huma.ErrorDetailer)
			if !ok {
				continue
			}
			detail := d.ErrorDetail()
			place := strings.TrimPrefix(strings.TrimPrefix(detail.Location, "body"), ".")
			if m := missing.FindStringSubmatch(detail.Message); m != nil {
				place = strings.TrimPrefix(place+"."+m[1], ".")
			}
			e.Findings = append(e.Findings, core.Finding{Path: place, Message: bilingual(detail.Message)})
		}
		_ = json.Unmarshal(document, into)
		return e
	}
	if err := json.Unmarshal(document, into); err != nil {
		return core.Errorf(core.KindInvalid, op, "%w", err)
	}
	return nil
}

// decode reads JSON without losing digits of large numbers.
func decode(raw []byte, into *any) error {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	return d.Decode(into)
}

// merge is RFC 7396 section 2.
func merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for key, value := range changes {
		if value == nil {
			delete(object, key)
		} else {
			object[key] = merge(object[key], value)
		}
	}
	return object
}

// moved renames the paths of an error's findings.
func moved(err error, rename func(string) string) error {
	e, ok := errors.AsType[*core.Error](err)
	if !ok || len(e.Findings) == 0 {
		return err
	}
	copied := *e
	copied.Findings = slices.Clone(e.Findings)
	for i := range copied.Findings {
		copied.Findings[i].Path = rename(copied.Findings[i].Path)
	}
	return fmt.Errorf("%w", &copied)
}
