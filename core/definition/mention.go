package definition

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

// checkMentions judges what preconditions name: grants, calendars, and of a task's own also other tasks and its parameters.
// at is where they stand. The tasks of a namespace come after its defaults, and have types of their own: a nameless t is held
// against neither.
func (d *Definitions) checkMentions(ctx context.Context, t core.Task, at string, conditions []core.Precondition) ([]core.Finding, error) {
	if d.opts.Preconditions == nil {
		return nil, nil
	}
	var found []core.Finding
	for i, p := range conditions {
		field := fmt.Sprintf("%s.preconditions[%d]", at, i)
		for _, f := range d.opts.Preconditions.CheckGrants(t.Namespace, t.Type, p) {
			found = append(found, core.Finding{Path: join(field, f.Path), Message: f.Message})
		}
		for _, m := range d.mentions(p) {
			said, err := d.unknown(ctx, t, m)
			if err != nil {
				return nil, err
			}
			if said != (core.Text{}) {
				found = append(found, finding(field+".expression", fmt.Sprintf("第 %d 行第 %d 列：%s", m.Line, m.Column, said.Zh),
					fmt.Sprintf("line %d, column %d: %s", m.Line, m.Column, said.En)))
			}
		}
	}
	return found, nil
}

// unknown says that there is no such thing as a precondition of a task mentions; "" if there is, or if nobody can tell.
func (d *Definitions) unknown(ctx context.Context, t core.Task, m core.Mention) (core.Text, error) {
	switch {
	case m.Kind == core.MentionCalendar:
		there := names(d.held.Load().calendars)
		for _, c := range builtIns {
			there = append(there, c.Name)
		}
		if slices.Sort(there); !slices.Contains(there, m.Name) {
			return noSuch("日历", "calendar", "calendars", m.Name, there), nil
		}
	case t.Name == "" || m.Kind == core.MentionTask && m.Name == t.Name: // itself, which may not be stored yet
	case m.Kind == core.MentionParameter:
		return d.untaken(t.Type, m.Name), nil
	case strings.Contains(m.Name, "/"):
		return core.Text{Zh: "任务名里没有“/”：前置条件只看本命名空间 " + t.Namespace + " 的任务，直接写任务名",
			En: `no task's name has a "/": a precondition sees the tasks of its own namespace ` + t.Namespace + ", by their names alone"}, nil
	default:
		_, err := d.opts.Store.TaskByName(ctx, t.Namespace, m.Name)
		if core.KindOf(err) == core.KindNotFound {
			return d.noTask(ctx, t.Namespace, m.Name)
		}
		return core.Text{}, err
	}
	return core.Text{}, nil
}

// checkHanded judges what is laid over parameters when a task is started: that its type takes it. Values that are taken of an
// output are not known before.
func (d *Definitions) checkHanded(ctx context.Context, t core.Task, steps []started) ([]core.Finding, error) {
	var found []core.Finding
	for i, u := range t.After {
		found = append(found, d.handedTo(t.Type, fmt.Sprintf("after[%d].params", i), slices.Collect(maps.Keys(u.Params)))...)
	}
	for _, s := range steps {
		if len(s.step.Params) == 0 {
			continue
		}
		other, err := d.opts.Store.TaskByName(ctx, t.Namespace, s.task)
		if core.KindOf(err) == core.KindNotFound {
			continue // checkLinks has said so
		}
		if err != nil {
			return nil, err
		}
		at := s.at + ".params"
		found = append(found, d.handedTo(other.Type, at, slices.Collect(maps.Keys(s.step.Params)))...)
		constants := s.step.Constants()
		found = append(found, d.checkConstants(other, at, constants, len(constants) < len(s.step.Params))...)
	}
	return found, nil
}

// handedTo gives a finding for each parameter that a type does not take.
func (d *Definitions) handedTo(taskType, at string, params []string) []core.Finding {
	var found []core.Finding
	for _, param := range slices.Sorted(slices.Values(params)) {
		if said := d.untaken(taskType, param); param != "" && said != (core.Text{}) {
			found = append(found, finding(join(at, param), said.Zh, said.En))
		}
	}
	return found
}

// checkConstants holds parameters that are laid over a task's own against its type. What is wrong with the others is not said.
// open: there are some whose values are not known, and on which it may hang what these may be.
func (d *Definitions) checkConstants(t core.Task, at string, constants map[string]json.RawMessage, open bool) []core.Finding {
	taskType, ok := d.opts.Catalog.Type(t.Type)
	if !ok || len(constants) == 0 || open && conditional(taskType) {
		return nil
	}
	over, err := json.Marshal(constants)
	if err != nil {
		return nil // they come from JSON
	}
	laid, err := withParams("", t, over)
	if err != nil {
		return nil // the task's own are broken: its warnings say so
	}
	var found []core.Finding
	for _, f := range d.schemas.check(taskType, laid.Params) {
		path, _ := strings.CutPrefix(f.Path, "params.")
		for name := range constants {
			rest, is := strings.CutPrefix(path, name)
			if is && (rest == "" || rest[0] == '.' || rest[0] == '[') && d.untaken(t.Type, name) == (core.Text{}) {
				found = append(found, core.Finding{Path: join(at, path), Message: f.Message})
				break
			}
		}
	}
	return found
}

// untaken says that a type has no such parameter; "" if it has, if its schema allows others than it names, or if nobody
// offers the type at the moment.
func (d *Definitions) untaken(taskType, name string) core.Text {
	offered, _ := d.opts.Catalog.Type(taskType)
	there, closed := parameters(offered)
	switch {
	case !closed || slices.Contains(there, name):
		return core.Text{}
	case len(there) == 0:
		return core.Text{Zh: "任务类型 " + taskType + " 没有参数", En: "task type " + taskType + " takes no parameters"}
	}
	return noSuch("参数", "parameter", "parameters of "+taskType, name, there)
}

// mentions gives the names that stand in a precondition.
func (d *Definitions) mentions(p core.Precondition) []core.Mention {
	if d.opts.Preconditions == nil {
		return nil
	}
	return d.opts.Preconditions.Mentions(p)
}

// asked gives what preconditions mention of a kind.
func (d *Definitions) asked(conditions []core.Precondition, kind core.MentionKind) []string {
	var list []string
	for _, p := range conditions {
		for _, m := range d.mentions(p) {
			if m.Kind == kind {
				list = append(list, m.Name)
			}
		}
	}
	return list
}
