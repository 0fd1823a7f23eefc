package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Where definitions are checked, and how large a request about many may be, bytes.
const (
	checkPath = "/v1/definitions/check"
	maxCheck  = 8 << 20
)

// CheckRequest is a set of definitions that are meant together.
type CheckRequest struct {
	Calendars   []Object `json:"calendars,omitempty" doc:"Each with its name and what put-calendar takes"`
	Pools       []Object `json:"pools,omitempty" doc:"Each with its name and what put-pool takes"`
	Downstreams []Object `json:"downstreams,omitempty" doc:"Each with its name and what put-downstream takes"`
	Namespaces  []Object `json:"namespaces,omitempty" doc:"Each with its name and what put-namespace takes"`
	Tasks       []Object `json:"tasks,omitempty" doc:"Each with its namespace, its name and what put-task takes"`
}

// CheckAnswer says what would become of definitions.
type CheckAnswer struct {
	OK    bool                `json:"ok" doc:"All of them would be accepted"`
	Items []CheckedDefinition `json:"items" doc:"One for each definition, in an order in which they can be put: each after what it names"`
}

// CheckedDefinition says what would become of one definition.
type CheckedDefinition struct {
	Kind     string         `json:"kind" enum:"calendar,pool,downstream,namespace,task" doc:"What it defines"`
	Index    int            `json:"index" doc:"Which of its kind in the request, from 0"`
	Action   string         `json:"action,omitempty" enum:"create,change,keep" doc:"It would be made, changed, or left as it is; absent: it would be refused"`
	Fields   []string       `json:"fields" doc:"change: the fields that would be other" example:"[\"schedule.spec\"]"`
	Errors   []ProblemError `json:"errors" doc:"Why it would be refused; locations are fields of the definition"`
	Warnings []Text         `json:"warnings" doc:"What would be accepted and may not be what was meant"`
}

// candidate is a definition on its way through a check.
type candidate struct {
	CheckedDefinition
	namespace, name string
	document        json.RawMessage // without the two
	barred          bool            // there is nothing to try: err says why
	err             error
}

// kind is one kind of definition: put puts one where it is rehearsed, and says what that has changed.
type kind struct {
	name, permission string
	list             []Object
	put              func(ctx context.Context, c *candidate) error
}

func (a *API) checks() {
	register(a, huma.Operation{
		OperationID: "check-definitions", Method: http.MethodPost, Path: checkPath, Tags: []string{"definitions"}, MaxBodyBytes: maxCheck,
		Summary: "Say whether definitions would be accepted together, and what they would make and change; nothing is kept",
	}, rule{permission: "task:write", source: fromGrants},
		func(ctx context.Context, in *struct{ Body CheckRequest }) (*struct{ Body CheckAnswer }, error) {
			answer, err := a.checked(ctx, in.Body)
			return &struct{ Body CheckAnswer }{answer}, err
		})
}

// checked puts definitions into a rehearsal. What all namespaces share comes first, as in an apply.
func (a *API) checked(ctx context.Context, in CheckRequest) (answer CheckAnswer, err error) {
	trial, err := a.opts.Rehearse(ctx)
	if err != nil {
		return answer, err
	}
	b := &API{opts: a.opts, huma: a.huma}
	b.opts.Definitions, b.opts.Settings = trial, trial
	answer.OK, answer.Items = true, []CheckedDefinition{}
	for _, k := range []kind{
		settingKind(b, a.calendarSetting(), b.calendarSetting(), in.Calendars),
		settingKind(b, a.poolSetting(), b.poolSetting(), in.Pools),
		settingKind(b, a.downstreamSetting(), b.downstreamSetting(), in.Downstreams),
		a.namespaceKind(b, in.Namespaces), a.taskKind(b, in.Tasks),
	} {
		done, left := k.settle(ctx, k.candidates(requestOf(ctx).principal))
		if err := k.blame(ctx, trial, left); err != nil {
			return answer, err
		}
		for _, c := range append(done, left...) {
			answer.OK = answer.OK && len(c.Errors) == 0
			answer.Items = append(answer.Items, c.CheckedDefinition)
		}
	}
	return answer, nil
}

// candidates reads what there is to check, and bars what has no name, stands there twice, or is not the caller's to change.
func (k kind) candidates(who Principal) []*candidate {
	list := make([]*candidate, len(k.list))
	seen := map[[2]string]bool{}
	for i, document := range k.list {
		c := &candidate{CheckedDefinition: CheckedDefinition{Kind: k.name, Index: i, Fields: []string{}, Errors: []ProblemError{}, Warnings: []Text{}}}
		c.err = c.read(k, document, who)
		if key := [2]string{c.namespace, c.name}; c.err == nil && seen[key] {
			c.err = core.Invalid("check "+k.name, core.Finding{Path: "name", Message: core.Text{
				Zh: "同一名称定义了两次；请删去一个", En: "is defined twice; leave one of them out",
			}})
		} else {
			seen[key] = true
		}
		c.barred = c.err != nil
		list[i] = c
	}
	return list
}

func (c *candidate) read(k kind, document Object, who Principal) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(document, &fields); err != nil {
		return core.Errorf(core.KindInvalid, "check "+k.name, "%w", err)
	}
	for _, part := range []struct {
		path string
		into *string
		of   bool
	}{{"namespace", &c.namespace, k.name == "task"}, {"name", &c.name, true}} {
		if !part.of {
			continue
		}
		if err := json.Unmarshal(fields[part.path], part.into); err != nil || *part.into == "" {
			return core.Invalid("check "+k.name, core.Finding{Path: part.path, Message: core.Text{
				Zh: "缺少必填字段 " + part.path + "（文字）", En: "the required field " + part.path + " is missing, or is no text",
			}})
		}
		delete(fields, part.path)
	}
	where, called := everywhere, allNamespaces
	switch k.name {
	case "task":
		where, called = c.namespace, namespaceText(c.namespace)
	case "namespace":
		where, called = c.name, namespaceText(c.name)
	}
	if !who.Can(k.permission, where) {
		return denied(who, rule{permission: k.permission}, called)
	}
	var err error
	c.document, err = json.Marshal(fields)
	return err
}

// settle puts each candidate as soon as all it names is there, and gives those that are there in that order.
func (k kind) settle(ctx context.Context, left []*candidate) (done, _ []*candidate) {
	for {
		var again []*candidate
		for _, c := range left {
			if !c.barred {
				c.err = k.put(ctx, c)
			}
			if c.err == nil {
				done = append(done, c)
			} else {
				again = append(again, c)
			}
		}
		if len(again) == 0 || len(again) == len(left) {
			return done, again
		}
		left = again
	}
}

// blame says what is wrong with the candidates that could not be put. One that only lacks another of them is not to blame:
// it is tried once more as if they all were there. If none is to blame then, they wait for each other.
func (k kind) blame(ctx context.Context, trial Rehearsal, left []*candidate) error {
	for _, c := range left {
		if c.name == "" {
			continue
		}
		if err := trial.Suppose(ctx, k.name, c.namespace, c.name); err != nil {
			return err
		}
	}
	first := make([]error, len(left))
	blameless := true
	for i, c := range left {
		if first[i] = c.err; !c.barred {
			c.err = k.put(ctx, c)
		}
		blameless = blameless && c.err == nil
	}
	for i, c := range left {
		if blameless {
			c.err = first[i]
		}
		if c.err == nil {
			continue
		}
		c.Action, c.Fields = "", []string{}
		p := problem(ctx, c.err)
		for _, e := range p.Errors {
			e.Location = strings.TrimPrefix(strings.TrimPrefix(e.Location, "body"), ".")
			c.Errors = append(c.Errors, e)
		}
		if len(p.Errors) == 0 {
			c.Errors = append(c.Errors, ProblemError{Message: p.Detail, MessageZh: p.Detail, MessageEn: p.Detail})
		}
	}
	return nil
}

// together joins what breaks the schema with what is wrong besides, of which the same field may be a consequence.
func together(schema, besides error) error {
	e, ok := errors.AsType[*core.Error](schema)
	more, also := errors.AsType[*core.Error](besides)
	if !ok || !also || len(more.Findings) == 0 {
		return cmp.Or(schema, besides)
	}
	for _, f := range more.Findings {
		if !slices.ContainsFunc(e.Findings, func(known core.Finding) bool {
			return strings.HasPrefix(f.Path+".", known.Path+".")
		}) {
			e.Findings = append(e.Findings, f)
		}
	}
	return e
}

// became says what a definition is beside what there was before, in the words in which both are said; before is nil if there
// was nothing.
func (c *candidate) became(before, after any) {
	if before == nil {
		c.Action = "create"
		return
	}
	c.Action, c.Fields = "keep", differing("", plain(before), plain(after), []string{})
	if len(c.Fields) > 0 {
		c.Action = "change"
	}
}

func settingKind[T, In, Out any](b *API, real, trial setting[T, In, Out], list []Object) kind {
	return kind{trial.one, "settings:write", list, func(ctx context.Context, c *candidate) error {
		var in In
		wrong := b.read("check "+trial.one, reflect.TypeFor[In]().Name(), c.document, &in)
		var before any
		old, err := real.get(ctx, c.name)
		if err == nil {
			before = real.said(old.Value)
		} else if core.KindOf(err) != core.KindNotFound {
			return err
		}
		now, _, err := trial.store(ctx, c.name, in, Match{}, false)
		if err == nil {
			c.became(before, trial.said(now.Value))
		}
		return together(wrong, err)
	}}
}

func (a *API) namespaceKind(b *API, list []Object) kind {
	return kind{"namespace", "namespace:write", list, func(ctx context.Context, c *candidate) error {
		var in NamespaceInput
		wrong := b.read("check namespace", "NamespaceInput", c.document, &in)
		var before any
		old, err := a.opts.Definitions.Namespace(ctx, c.name)
		if err == nil {
			before = namespaceSaid(old)
		} else if core.KindOf(err) != core.KindNotFound {
			return err
		}
		now, err := b.putNamespace(ctx, c.name, in)
		if err == nil {
			c.became(before, namespaceSaid(now))
			c.Warnings = textsOut(b.opts.Definitions.NamespaceWarnings(now))
		}
		return together(wrong, err)
	}}
}

func (a *API) taskKind(b *API, list []Object) kind {
	return kind{"task", "task:write", list, func(ctx context.Context, c *candidate) error {
		var in TaskInput
		wrong := b.read("check task", "TaskInput", c.document, &in)
		var before any
		old, err := a.opts.Definitions.TaskByName(ctx, c.namespace, c.name)
		if err == nil {
			before = taskOut(old).input()
		} else if core.KindOf(err) != core.KindNotFound {
			return err
		}
		now, err := b.put(ctx, c.namespace, c.name, Match{}, false, in)
		if err == nil {
			c.became(before, now.Body.input())
			c.Warnings = now.Body.Warnings
		}
		return together(wrong, err)
	}}
}

// plain gives a value as JSON has it.
func plain(v any) (out any) {
	raw, _ := json.Marshal(v)
	_ = json.Unmarshal(raw, &out) // what was written a moment ago can be read
	return out
}

// differing adds the paths at which two JSON values differ to a list; a list of values is one value.
func differing(path string, a, b any, list []string) []string {
	x, isObject := a.(map[string]any)
	y, both := b.(map[string]any)
	if !isObject || !both {
		if !reflect.DeepEqual(a, b) {
			list = append(list, path)
		}
		return list
	}
	keys := maps.Clone(x)
	maps.Copy(keys, y)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		list = differing(strings.TrimPrefix(path+"."+key, "."), x[key], y[key], list)
	}
	return list
}
