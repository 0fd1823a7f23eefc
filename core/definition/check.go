package definition

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

var (
	namespaceName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,63}$`)
	taskName      = regexp.MustCompile(`^[\pL\pN][\pL\pN._-]{0,127}$`)
	labelKey      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`)
)

const (
	maxTimeout     = 30 * 24 * time.Hour
	maxAttempts    = 100
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

func checkNamespace(ns core.Namespace) []core.Finding {
	if !namespaceName.MatchString(ns.Name) {
		return []core.Finding{finding("name", "命名空间名以大写字母开头，只含字母和数字，至多 64 个字符，例如 ImageArchive",
			"a namespace's name starts with an upper-case letter and has only letters and digits, at most 64: ImageArchive")}
	}
	return nil
}

// checkFields looks at what can be judged from the task alone.
func checkFields(t core.Task) []core.Finding {
	var found []core.Finding
	add := func(path, zh, en string) { found = append(found, finding(path, zh, en)) }
	if !taskName.MatchString(t.Name) {
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
	return append(found, checkPolicies(t.Policies)...)
}

func checkPolicies(p core.Policies) []core.Finding {
	var found []core.Finding
	add := func(path, zh, en string) { found = append(found, finding("policies."+path, zh, en)) }
	if p.Timeout < 0 || p.Timeout > maxTimeout {
		add("timeout", "超时必须在 0 到 30 天之间；0 表示用任务类型的默认值", "must be between 0 and 720h; 0 takes the task type's default")
	}
	if !slices.Contains([]core.Overlap{core.OverlapSkip, core.OverlapAllow}, p.Overlap) {
		add("overlap", "只能是 skip 或 allow", "must be skip or allow")
	}
	if !slices.Contains([]core.CatchUp{core.CatchUpLatest, core.CatchUpNone}, p.CatchUp) {
		add("catch_up", "只能是 latest 或 none", "must be latest or none")
	}
	if p.MaxAttempts < 0 || p.MaxAttempts > maxAttempts {
		add("max_attempts", "必须在 0 到 100 之间", "must be between 0 and 100")
	}
	if p.RetryDelay < 0 || p.RetryDelay > 24*time.Hour {
		add("retry_delay", "必须在 0 到 24 小时之间", "must be between 0 and 24h")
	}
	retriable := []core.Verdict{core.Failed, core.TimedOut, core.Crashed, core.Lost}
	for i, v := range p.RetryOn {
		if !slices.Contains(retriable, v) {
			add(fmt.Sprintf("retry_on[%d]", i), "只能是 failed、timed_out、crashed、lost", "must be one of failed, timed_out, crashed, lost")
		}
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
		return []core.Finding{finding("type", fmt.Sprintf("任务类型 %s 不可用：%v", t.Type, e.Err),
			fmt.Sprintf("task type %s cannot be used: %v", t.Type, e.Err))}, nil
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
