package definition

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
)

var (
	namespaceName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,63}$`)
	labelKey      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`)
)

const (
	maxParamsBytes = 256 << 10
	maxTextBytes   = 16 << 10
)

func finding(path, zh, en string) core.Finding {
	return core.Finding{Path: path, Message: core.Text{Zh: zh, En: en}}
}

func asInvalid(err error) (*core.Error, bool) {
	e, ok := errors.AsType[*core.Error](err)
	return e, ok && e.Kind == core.KindInvalid && len(e.Findings) > 0
}

// checkFields looks at what can be judged from the task alone.
func checkFields(t core.Task) []core.Finding {
	var found []core.Finding
	add := func(path, zh, en string) { found = append(found, finding(path, zh, en)) }
	if !core.IsName(t.Name, core.MaxTaskName) {
		add("name", "任务名以字母或数字开头，只含字母、数字、“.”“_”“-”，至多 128 个字符",
			`a task's name starts with a letter or digit and has only letters, digits, ".", "_" and "-", at most 128 characters`)
	}
	if len(t.Params) > maxParamsBytes {
		add("params", "参数超过 256 KiB", "parameters are larger than 256 KiB; put the data where the task can fetch it")
	}
	for path, text := range map[string]string{"owner": t.Owner, "category": t.Category, "description": t.Description} {
		if len(text) > maxTextBytes {
			add(path, "文字超过 16 KiB", "text is longer than 16 KiB")
		}
	}
	for key := range t.Labels {
		if !labelKey.MatchString(key) {
			add("labels."+key, "标签的键只含字母、数字、“.”“_”“/”“-”，至多 63 个字符",
				`a label's key has only letters, digits, ".", "_", "/" and "-", at most 63 characters`)
		}
	}
	return found
}

// checkPolicies judges a task's policies beside the defaults of its namespace.
func (d *Definitions) checkPolicies(t core.Task, defaults core.Policies) []core.Finding {
	all := effective(t.Policies, t.StopOnError, defaults)
	j := judge{at: "policies", own: t.Policies, all: all, task: true, flow: t.Type == workflow.TypeName, shares: d.held.Load().shares, checks: d.opts.Preconditions}
	taskType, _ := d.opts.Catalog.Type(t.Type)
	j.hard = cmp.Or(all.Timeout, taskType.Timeout, d.opts.DefaultTimeout)
	found := j.judge()
	if at := t.Policies.StopAfter; t.StopOnError != nil && *t.StopOnError && (at > 1 || t.Policies.Zero("stop_after")) {
		found = append(found, finding("policies.stop_after", "与 stop_on_error 矛盾：后者在第一次失败时就停用任务；请去掉其中一个",
			"fights with stop_on_error, which disables the task at the first failure; leave one of them out"))
	}
	return found
}

// checkParams holds a task's parameters against its type: that the type can be used, the JSON Schema, and what the
// provider itself has to say. An error means that the check could not be made.
func (d *Definitions) checkParams(ctx context.Context, t core.Task) ([]core.Finding, error) {
	provider, taskType, err := d.opts.Catalog.Lookup(t.Namespace, t.Type)
	if err != nil {
		e, _ := errors.AsType[*core.Error](err)
		if e == nil || e.Kind != core.KindNotFound && e.Kind != core.KindUnavailable {
			return nil, err
		}
		var why core.Text
		for _, f := range e.Findings {
			why = f.Message
		}
		return []core.Finding{finding("type", "任务类型 "+t.Type+" 不可用："+why.Zh, "task type "+t.Type+" cannot be used: "+why.En)}, nil
	}
	if findings := d.schemas.check(taskType, t.Params); len(findings) > 0 {
		return findings, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	findings, err := provider.Validate(ctx, t.Type, t.Params)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, "validate parameters of "+t.Type, "%w", err)
	}
	for i := range findings {
		findings[i].Path = join("params", findings[i].Path)
	}
	return findings, nil
}

func join(parent, path string) string {
	switch {
	case path == "":
		return parent
	case strings.HasPrefix(path, "["):
		return parent + path
	}
	return parent + "." + path
}
