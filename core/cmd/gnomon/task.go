package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

func newTaskCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{Use: "task", Short: "List, create, change and run tasks"}
	s.flags(cmd)
	cmd.AddCommand(s.taskList(), s.taskGet(), s.taskCreate(), s.taskApply(), s.taskRun(), s.taskDelete(),
		s.taskSwitch("enable", "Enable a task; nothing that was missed meanwhile fires"),
		s.taskSwitch("disable", "Disable a task; a run that is live goes on"), s.taskPause(),
		s.taskSwitch("resume", "End a task's pause; nothing that was skipped meanwhile fires"), s.taskBackfill(), s.taskLogs())
	return cmd
}

var uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// taskPath gives the path of a task written Namespace/name or as an id.
func (s *session) taskPath(ref string) (string, error) {
	if namespace, name, ok := strings.Cut(ref, "/"); ok && namespace != "" && name != "" {
		return "/v1/namespaces/" + url.PathEscape(namespace) + "/tasks/" + url.PathEscape(name), nil
	}
	if uuidForm.MatchString(ref) {
		return "/v1/tasks/" + strings.ToLower(ref), nil
	}
	return "", &usageError{fmt.Errorf(s.say("%q 既不是 命名空间/名称，也不是任务的 id", "%q is neither NAMESPACE/NAME nor the id of a task"), ref)}
}

// params reads the parameters that --params gives.
func (s *session) params(text string) (api.Object, error) {
	if !json.Valid([]byte(text)) {
		return nil, &usageError{errors.New(s.say("--params 不是合法的 JSON", "--params is not valid JSON"))}
	}
	return api.Object(text), nil
}

// task gets a task by name or id.
func (s *session) task(cmd *cobra.Command, ref string) (t api.Task, raw json.RawMessage, err error) {
	path, err := s.taskPath(ref)
	if err == nil {
		raw, err = s.call(cmd.Context(), request{method: http.MethodGet, path: path}, &t)
	}
	return t, raw, err
}

func (s *session) taskList() *cobra.Command {
	var namespace, taskType, search string
	var enabled, disabled bool
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List tasks", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"limit": {"1000"}}
			if limit > 0 && limit < 1000 {
				query.Set("limit", strconv.Itoa(limit))
			}
			for name, value := range map[string]string{"namespace": namespace, "type": taskType, "search": search} {
				if value != "" {
					query.Set(name, value)
				}
			}
			if enabled || disabled {
				query.Set("enabled", strconv.FormatBool(enabled))
			}
			items, err := s.list(cmd.Context(), "/v1/tasks", query, limit)
			if err != nil {
				return err
			}
			return s.show(array(items), func() error {
				tasks, err := each[api.Task](items)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, t := range tasks {
					next := clock(nextStart(t))
					switch {
					case !t.Enabled:
						next = s.say("已停用", "disabled")
					case t.Pause != nil:
						next = s.say("已暂停", "paused")
						if t.Pause.Until != nil {
							next += s.say("，至 ", " until ") + clock(t.Pause.Until)
						}
					}
					rows = append(rows, []string{t.Namespace + "/" + t.Name, t.Type, t.Schedule.Spec, t.LastOutcome, clock(t.LastStart), next})
				}
				return s.table([]string{
					s.say("任务", "TASK"), s.say("类型", "TYPE"), s.say("计划", "SCHEDULE"), s.say("上次结果", "LAST OUTCOME"),
					s.say("上次开始", "LAST START"), s.say("下次触发", "NEXT FIRE"),
				}, rows)
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&namespace, "namespace", "n", "", "only of this namespace")
	f.StringVar(&taskType, "type", "", "only of this task type")
	f.StringVar(&search, "search", "", "part of the name or description")
	f.BoolVar(&enabled, "enabled", false, "only enabled ones")
	f.BoolVar(&disabled, "disabled", false, "only disabled ones")
	f.IntVar(&limit, "limit", 0, "how many at most (default all)")
	cmd.MarkFlagsMutuallyExclusive("enabled", "disabled")
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

func (s *session) taskGet() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get NAMESPACE/NAME", Short: "Show a task", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, raw, err := s.task(cmd, args[0])
			if err != nil {
				return err
			}
			return s.show(raw, func() error { return s.taskForPeople(t) })
		},
	}
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

func (s *session) taskForPeople(t api.Task) error {
	labels := make([]string, 0, len(t.Labels))
	for k, v := range t.Labels {
		labels = append(labels, k+"="+v)
	}
	stop := ""
	if t.StopOnError != nil {
		stop = strconv.FormatBool(*t.StopOnError)
	}
	calendars := ""
	for _, c := range []struct{ zh, en, text string }{
		{"仅在", "only on", strings.Join(t.Schedule.OnlyOn, " ")}, {"不在", "not on", strings.Join(t.Schedule.NotOn, " ")},
		{"遇休息日", "on a day off", t.Schedule.OnDayOff},
	} {
		if c.text != "" {
			calendars += s.say(c.zh+" "+c.text+"；", c.en+" "+c.text+"; ")
		}
	}
	policies := t.Policies
	if t.Effective != nil {
		policies = *t.Effective
	}
	after := make([]string, 0, len(t.After))
	for _, u := range t.After {
		on := cmp.Or(u.On, "success")
		after = append(after, u.Task+" ("+on+")")
	}
	warnings := make([]string, 0, len(t.Warnings))
	for _, w := range t.Warnings {
		warnings = append(warnings, s.say(w.Zh, w.En))
	}
	counted := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	return s.pairs(
		"task", t.Namespace+"/"+t.Name, "id", t.ID, "type", t.Type, "params", compact(t.Params),
		"schedule", strings.TrimSpace(strings.Join([]string{t.Schedule.Spec, t.Schedule.Dialect, t.Schedule.Zone}, " ")),
		"calendars", strings.TrimRight(calendars, "；; "), "jitter", t.Schedule.Jitter, "from", clock(t.Schedule.From), "until", clock(t.Schedule.Until),
		"after", strings.Join(after, "\n"), "enabled", strconv.FormatBool(t.Enabled), "disabled_reason", t.DisabledReason, "paused", s.pauseForPeople(t.Pause),
		"stop_on_error", stop, "owner", t.Owner, "category", t.Category, "description", t.Description, "labels", strings.Join(labels, " "),
		"policies", asYAML(policies), "version", fmt.Sprintf("%d, %s %s", t.Version, clock(t.UpdatedAt), t.UpdatedBy),
		"last_start", clock(t.LastStart), "last_end", clock(t.LastEnd), "last_success", clock(t.LastSuccess),
		"last_outcome", t.LastOutcome, "fired", counted(t.Fired), "failures_in_a_row", counted(int64(t.Failures)), "live_runs", counted(int64(t.LiveRuns)),
		"next_fire", s.nextForPeople(t), "problem", t.Problem, "warnings", strings.Join(warnings, "\n"))
}

// nextStart gives when a task starts next by its schedule. A server that knows of no calendar's skips says only the next instant.
func nextStart(t api.Task) *api.Time {
	if t.NextStart == nil && t.NextSkip == nil {
		return t.NextFire
	}
	return t.NextStart
}

// nextForPeople says when a task starts next, and which instant is skipped before.
func (s *session) nextForPeople(t api.Task) string {
	next := clock(nextStart(t))
	if t.NextSkip == nil {
		return next
	}
	skipped := clock(t.NextFire) + s.say(" ", " is ") + s.say(t.NextSkip.Zh, t.NextSkip.En)
	if next == "" {
		return skipped
	}
	return next + s.say("（", " (") + skipped + s.say("）", ")")
}

// pauseForPeople says since when a task is paused, by whom, until when and why.
func (s *session) pauseForPeople(p *api.Pause) string {
	if p == nil {
		return ""
	}
	text := fmt.Sprintf(s.say("自 %s，由 %s", "since %s by %s"), clock(p.Since), p.By)
	if p.Until != nil {
		text += s.say("，至 ", ", until ") + clock(p.Until)
	}
	if p.Note != "" {
		text += s.say("：", ": ") + p.Note
	}
	return text
}

// asYAML writes what has been said as a person would; nothing said is nothing.
func asYAML(v any) string {
	raw, err := json.Marshal(v)
	if err != nil || string(raw) == "{}" {
		return ""
	}
	text, err := yaml.JSONToYAML(raw)
	if err != nil {
		return string(raw)
	}
	return strings.TrimSpace(string(text))
}

// described is a task as a person writes it in a file: what GET gives may stand there, and what the server alone decides
// is left out.
type described struct {
	namespace, name string
	input           map[string]any
}

var decidedByServer = []string{
	"id", "version", "disabled_reason", "created_at", "updated_at", "updated_by", "last_start", "last_end", "last_success",
	"last_outcome", "next_fire", "next_start", "next_skip", "live_runs", "effective_policies", "pause", "fired", "failures", "problem", "warnings",
}

// readTasks reads tasks from a YAML or JSON file, one or several documents; - is standard input.
func (s *session) readTasks(file string) ([]described, error) {
	text, err := s.read(file)
	if err != nil {
		return nil, err
	}
	var list []described
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document map[string]any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, unreadable(file, err)
		}
		if len(document) == 0 {
			continue
		}
		d := described{input: document}
		d.namespace, _ = document["namespace"].(string)
		d.name, _ = document["name"].(string)
		for _, key := range append(decidedByServer, "namespace", "name") {
			delete(document, key)
		}
		if sched, ok := document["schedule"].(map[string]any); ok {
			delete(sched, "anchor")
		}
		list = append(list, d)
	}
	if len(list) == 0 {
		return nil, refusedFile(file, core.Text{Zh: "文件中没有任务", En: "it describes no task"})
	}
	return list, nil
}

func (s *session) taskCreate() *cobra.Command {
	var file, namespace, name, params string
	var input api.TaskInput
	var policies api.Policies
	var disabled, stop bool
	var attempts int
	cmd := &cobra.Command{
		Use: "create", Short: "Create a task from a file or from flags", Args: cobra.NoArgs,
		Example: `  gnomon task create -f task.yaml
  gnomon task create -n Common --name keep-alive --type Common.KeepAlive --schedule "*/5 * * * *" --zone Asia/Shanghai \
      --params '{"urls":["http://127.0.0.1:9000/health"]}'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []described
			if file != "" {
				var err error
				if list, err = s.readTasks(file); err != nil {
					return err
				}
			} else {
				if params != "" {
					var err error
					if input.Params, err = s.params(params); err != nil {
						return err
					}
				}
				enabled := !disabled
				input.Enabled, input.Policies = &enabled, &policies
				if cmd.Flags().Changed("stop-on-error") {
					input.StopOnError = &stop
				}
				if cmd.Flags().Changed("max-attempts") {
					policies.MaxAttempts = &attempts
				}
				raw, err := json.Marshal(input)
				if err != nil {
					return err
				}
				d := described{namespace: namespace, name: name}
				if err := json.Unmarshal(raw, &d.input); err != nil {
					return err
				}
				list = []described{d}
			}
			for _, d := range list {
				if namespace != "" {
					d.namespace = namespace
				}
				if d.namespace == "" || d.name == "" {
					return &usageError{errors.New(s.say("任务须有命名空间和名称：写在文件里，或用 --namespace 和 --name", "a task needs a namespace and a name: in the file, or --namespace and --name"))}
				}
				d.input["name"] = d.name
				var t api.Task
				raw, err := s.call(cmd.Context(), request{
					method: http.MethodPost, path: "/v1/namespaces/" + url.PathEscape(d.namespace) + "/tasks", body: d.input,
				}, &t)
				if err != nil {
					return err
				}
				if err := s.show(raw, func() error { return s.saved(s.say("已创建", "created"), t) }); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "YAML or JSON file, one or several documents; - is standard input")
	f.StringVarP(&namespace, "namespace", "n", "", "namespace of the task")
	f.StringVar(&name, "name", "", "name of the task")
	f.StringVar(&input.Type, "type", "", "task type")
	f.StringVar(&params, "params", "", "parameters, a JSON object")
	f.StringVar(&input.Schedule.Spec, "schedule", "@manual", "when it fires")
	f.StringVar(&input.Schedule.Dialect, "dialect", "", "unix (default) or quartz")
	f.StringVar(&input.Schedule.Zone, "zone", "", "IANA time zone (default UTC)")
	f.StringSliceVar(&input.Schedule.OnlyOn, "only-on", nil, "calendars that must all hold the instant: cn-workdays")
	f.StringSliceVar(&input.Schedule.NotOn, "not-on", nil, "calendars that must not hold it")
	f.StringVar(&input.Schedule.OnDayOff, "on-day-off", "", "what the calendars refuse: skip (default), next or previous day they allow")
	f.BoolVar(&disabled, "disabled", false, "create it disabled")
	f.BoolVar(&stop, "stop-on-error", false, "a run that does not succeed disables the task; =false: none does, whatever the namespace's default")
	f.StringVar(&input.Owner, "owner", "", "whom to ask about it")
	f.StringVar(&input.Category, "category", "", "what kind of work it is")
	f.StringVar(&input.Description, "description", "", "what it does")
	f.StringToStringVar(&input.Labels, "label", nil, "label: key=value")
	f.StringVar(&policies.Timeout, "timeout", "", "hard limit of one attempt: 30s")
	f.StringVar(&policies.Overlap, "overlap", "", "while an earlier run is live: skip (default), queue(3), cancel_previous, terminate_previous or allow(2)")
	f.StringVar(&policies.CatchUp, "catch-up", "", "fires missed while no server ran: latest (default), none or all")
	f.IntVar(&attempts, "max-attempts", 0, "how often a run is tried in all")
	f.StringVar(&policies.RetryDelay, "retry-delay", "", "wait before the second attempt: 10s")
	cmd.MarkFlagsMutuallyExclusive("file", "name")
	cmd.MarkFlagsMutuallyExclusive("file", "type")
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

func (s *session) saved(what string, t api.Task) error {
	line := what + " " + t.Namespace + "/" + t.Name
	switch {
	case t.Pause != nil:
		line += s.say("，", ", ") + s.pauseForPeople(t.Pause)
	case t.NextFire != nil:
		line += s.say("，下次触发 ", ", next fire ") + s.nextForPeople(t)
	}
	if _, err := fmt.Fprintln(s.out, line); err != nil {
		return err
	}
	s.notes(t.Warnings)
	return nil
}

// notes says beside the output what is allowed and may not be what was meant.
func (s *session) notes(warnings []api.Text) {
	for _, w := range warnings {
		s.note(s.say(w.Zh, w.En))
	}
}

func (s *session) taskApply() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Create tasks, or make them what the file says; doing it twice changes nothing more", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := s.readTasks(file)
			if err != nil {
				return err
			}
			for _, d := range list {
				if d.namespace == "" || d.name == "" {
					return refusedFile(file, core.Text{Zh: "每个任务都须有命名空间和名称", En: "every task needs a namespace and a name"})
				}
				path, err := s.taskPath(d.namespace + "/" + d.name)
				if err != nil {
					return err
				}
				var t api.Task
				raw, err := s.call(cmd.Context(), request{method: http.MethodPut, path: path, body: d.input}, &t)
				if err != nil {
					return &placedError{d.namespace + "/" + d.name, err}
				}
				if err := s.show(raw, func() error { return s.saved(s.say("已应用", "applied"), t) }); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "YAML or JSON file, one or several documents; - is standard input")
	_ = cmd.MarkFlagRequired("file")
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

func (s *session) taskSwitch(verb, short string) *cobra.Command {
	cmd := &cobra.Command{
		Use: verb + " NAMESPACE/NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, _, err := s.task(cmd, args[0])
			if err != nil {
				return err
			}
			var now api.Task
			raw, err := s.call(cmd.Context(), request{method: http.MethodPost, path: "/v1/tasks/" + t.ID + "/" + verb}, &now)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				return s.saved(map[string]string{
					"enable": s.say("已启用", "enabled"), "disable": s.say("已停用", "disabled"), "resume": s.say("已恢复", "resumed"),
				}[verb], now)
			})
		},
	}
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

func (s *session) taskDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAMESPACE/NAME", Short: "Delete a task; its runs stay in history", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, _, err := s.task(cmd, args[0])
			if err != nil {
				return err
			}
			if _, err := s.call(cmd.Context(), request{method: http.MethodDelete, path: "/v1/tasks/" + t.ID}, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.out, s.say("已删除", "deleted")+" "+t.Namespace+"/"+t.Name)
			return err
		},
	}
}

func (s *session) taskRun() *cobra.Command {
	var params string
	var wait bool
	cmd := &cobra.Command{
		Use: "run NAMESPACE/NAME", Short: "Run a task now, enabled or not", Args: cobra.ExactArgs(1),
		Example: "  gnomon task run Common/keep-alive --params '{\"timeout_seconds\":3}' --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, _, err := s.task(cmd, args[0])
			if err != nil {
				return err
			}
			var body api.RunRequest
			if params != "" {
				if body.Params, err = s.params(params); err != nil {
					return err
				}
			}
			var r api.Run
			raw, err := s.call(cmd.Context(), request{method: http.MethodPost, path: "/v1/tasks/" + t.ID + "/run", body: body}, &r)
			if err != nil {
				return err
			}
			if wait {
				return s.await(cmd.Context(), r.ID)
			}
			return s.show(raw, func() error {
				_, err := fmt.Fprintln(s.out, s.say("已开始运行 ", "started run ")+r.ID)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&params, "params", "", "laid over the task's own parameters: a JSON object")
	cmd.Flags().BoolVarP(&wait, "wait", "w", false, "wait for the end; exit code 1 unless it succeeded")
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}
