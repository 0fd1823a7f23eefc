package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/ledger"
	"github.com/spf13/cobra"
)

func newRunCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{Use: "run", Short: "List runs, read their logs, cancel them"}
	s.flags(cmd)
	cmd.AddCommand(s.runList(), s.runGet(), s.runCancel(), s.runTerminate(), s.runLogs(), s.runWorkflow(), s.runRerun())
	return cmd
}

func (s *session) runPath(id string) (string, error) {
	if !uuidForm.MatchString(id) {
		return "", &usageError{fmt.Errorf(s.say("%q 不是运行的 id；gnomon run list 会列出", "%q is not the id of a run; `gnomon run list` shows them"), id)}
	}
	return "/v1/runs/" + strings.ToLower(id), nil
}

func (s *session) runList() *cobra.Command {
	var namespace, task, taskType string
	var outcomes []string
	var live bool
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List runs and skipped fires, newest first", Args: cobra.NoArgs,
		Example: "  gnomon run list --task Common/keep-alive --outcome failed,timed_out",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return &usageError{fmt.Errorf(s.say("--limit %d：须为 1 或更大", "--limit %d: must be 1 or more"), limit)}
			}
			query := url.Values{"limit": {strconv.Itoa(min(limit, 1000))}}
			if namespace != "" {
				query.Set("namespace", namespace)
			}
			if taskType != "" {
				query.Set("type", taskType)
			}
			if len(outcomes) > 0 {
				query.Set("outcome", strings.Join(outcomes, ","))
			}
			if live {
				query.Set("live", "true")
			}
			if task != "" {
				t, _, err := s.task(cmd, task)
				if err != nil {
					return err
				}
				query.Set("task_id", t.ID)
			}
			items, err := s.list(cmd.Context(), "/v1/runs", query, limit)
			if err != nil {
				return err
			}
			return s.show(array(items), func() error {
				runs, err := each[api.Run](items)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, r := range runs {
					rows = append(rows, []string{
						r.ID, r.Namespace + "/" + r.TaskName, clock(r.FireAt), standing(r), duration(r), r.Usage.CPU, r.Message,
					})
				}
				return s.table([]string{
					s.say("运行", "RUN"), s.say("任务", "TASK"), s.say("触发时刻", "FIRE"), s.say("结果", "OUTCOME"), s.say("用时", "TOOK"),
					"CPU", s.say("消息", "MESSAGE"),
				}, rows)
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&namespace, "namespace", "n", "", "only of this namespace")
	f.StringVar(&task, "task", "", "only of this task: NAMESPACE/NAME")
	f.StringVar(&taskType, "type", "", "only of this task type")
	f.StringSliceVar(&outcomes, "outcome", nil, "only with these outcomes")
	f.BoolVar(&live, "live", false, "only those that have not ended")
	f.IntVar(&limit, "limit", 50, "how many at most")
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

// standing is the outcome of a run, or where it stands.
func standing(r api.Run) string {
	switch {
	case r.Reason != "":
		return r.Outcome + " (" + r.Reason + ")"
	case r.Outcome != "":
		return r.Outcome
	}
	return r.State
}

func (s *session) runGet() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get RUN", Short: "Show a run", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := s.runPath(args[0])
			if err != nil {
				return err
			}
			var r api.Run
			raw, err := s.call(cmd.Context(), request{method: http.MethodGet, path: path}, &r)
			if err != nil {
				return err
			}
			return s.show(raw, func() error { return s.runForPeople(cmd.Context(), r) })
		},
	}
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

// duration says how long a run took. Of one that was lost nobody knows: it ended some time before that was found.
func duration(r api.Run) string {
	if r.Outcome == "lost" {
		return ""
	}
	return took(r.StartedAt, r.EndedAt)
}

// skipped says why a fire was skipped: in the words of `gnomon why`, or else with what its facts say.
func (s *session) skipped(ctx context.Context, r api.Run) string {
	if r.Outcome != "skipped" || r.FireAt == nil {
		return ""
	}
	var why api.Why
	path, query := "/v1/tasks/"+r.TaskID+"/why", url.Values{"at": {r.FireAt.Format(time.RFC3339Nano)}}
	if _, err := s.call(ctx, request{method: http.MethodGet, path: path, query: query}, &why); err == nil && why.RunID == r.ID {
		return s.say(why.Answer.Zh, why.Answer.En)
	}
	var facts struct {
		Key    string `json:"key"`
		Detail string `json:"detail"`
	}
	_ = json.Unmarshal(r.Facts, &facts) // facts without these are none
	detail := ledger.Detail(facts.Detail)
	said := s.say(detail.Zh, detail.En)
	if facts.Key != "" && !strings.Contains(said, facts.Key) {
		said = strings.TrimSuffix(facts.Key+": "+said, ": ")
	}
	return said
}

// asked says what a person was asked, and has decided, about a run.
func (s *session) asked(i *api.Intervention) string {
	switch {
	case i == nil:
		return ""
	case i.ResolvedAt == nil:
		return s.say("自 "+clock(i.CreatedAt)+" 起等待人工处理；`gnomon intervention list` 可查看",
			"waits for a person since "+clock(i.CreatedAt)+"; see `gnomon intervention list`")
	}
	text := i.Action + s.say("，由 ", " by ") + i.By + s.say("，", ", ") + clock(i.ResolvedAt)
	if i.NewRun != "" {
		text += s.say("，运行 ", ", run ") + i.NewRun
	}
	if i.Note != "" {
		text += s.say("，说明：", ", note: ") + i.Note
	}
	return text
}

func (s *session) runForPeople(ctx context.Context, r api.Run) error {
	memory := ""
	if r.Usage.PeakRSSBytes > 0 {
		memory = fmt.Sprintf("%.1f MiB (%s)", float64(r.Usage.PeakRSSBytes)/(1<<20), r.Usage.RSSSource)
	}
	cpu := ""
	if r.Usage.CPU != "" {
		cpu = r.Usage.CPU + " (" + r.Usage.CPUSource + ")"
	}
	output := string(r.Output)
	if output == "null" {
		output = ""
	}
	caused, waits := r.CausedBy, ""
	if r.WorkflowID != "" {
		caused = s.say("工作流 ", "workflow ") + r.WorkflowID + s.say("，步骤 ", ", step ") + r.Step
	}
	if r.State != "ended" && r.Gate != "" {
		waits = strings.TrimSpace(r.Gate + " " + r.GateKey)
		if r.WaitSince != nil {
			waits += s.say("，自 ", ", since ") + clock(r.WaitSince)
		}
	}
	stopped := r.Stop
	if r.StopBy != "" {
		stopped += s.say("，由 ", " by ") + r.StopBy
	}
	ended, lost := clockMillis(r.EndedAt), ""
	if r.Outcome == "lost" {
		ended, lost = "", s.say(ended+" 发现；运行了多久不得而知", "found at "+ended+"; how long it ran is not known")
	}
	message := ledger.Detail(r.Message)
	missed := make([]string, 0, len(r.Breaches))
	for _, b := range r.Breaches {
		limit := ledger.Detail(b.Limit)
		missed = append(missed, b.Kind+": "+s.say(limit.Zh, limit.En)+", "+clock(b.At))
	}
	return s.pairs("run", r.ID, "task", r.Namespace+"/"+r.TaskName, "type", r.TaskType, "trigger", r.Trigger+" "+r.CreatedBy, "caused_by", caused,
		"params", compact(r.Params), "fire", clockMillis(r.FireAt), "moved_from", clockMillis(r.MovedFrom), "outcome", standing(r), "why", s.skipped(ctx, r), "waits_for", waits,
		"intervention", s.asked(r.Intervention), "stop", stopped, "message", s.say(message.Zh, message.En), "breaches", strings.Join(missed, "\n"),
		"started", clockMillis(r.StartedAt), "ended", ended, "lost", lost, "took", duration(r),
		"attempt", strconv.Itoa(r.Attempt), "cpu", cpu, "peak_memory", memory, "output", output)
}

func (s *session) runCancel() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cancel RUN", Short: "Ask a live run to stop", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := s.runPath(args[0])
			if err != nil {
				return err
			}
			raw, err := s.call(cmd.Context(), request{method: http.MethodPost, path: path + "/cancel"}, nil)
			if err != nil {
				return err
			}
			return s.show(raw, func() error {
				_, err := fmt.Fprintln(s.out, s.say("已请求取消 ", "asked to stop ")+args[0])
				return err
			})
		},
	}
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

var errNotSucceeded = errors.New("the run did not succeed")

// await waits for a run's end and prints it. A run that did not succeed is an error.
func (s *session) await(ctx context.Context, id string) error {
	path, err := s.runPath(id)
	if err != nil {
		return err
	}
	for {
		var r api.Run
		raw, err := s.call(ctx, request{method: http.MethodGet, path: path}, &r)
		if err != nil {
			return err
		}
		if r.State == "ended" {
			err := s.show(raw, func() error { return s.runForPeople(ctx, r) })
			if err == nil && r.Outcome != "succeeded" {
				err = fmt.Errorf("%s: %w: %s %s", id, errNotSucceeded, standing(r), r.Message)
			}
			return err
		}
		select {
		case <-time.After(waitFor):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *session) runLogs() *cobra.Command {
	var follow bool
	var attempt int
	var level, file, search string
	cmd := &cobra.Command{
		Use: "logs RUN", Short: "Print what a run said, or keep it in a file", Args: cobra.ExactArgs(1),
		Long: "Print what a run said so far. The forms text (times in UTC) and ndjson come in one piece whatever their length; they\n" +
			"are those of files too.",
		Example: "  gnomon run logs RUN -f\n  gnomon run logs RUN --file run.log\n  gnomon run logs RUN -o ndjson --file run.ndjson",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := s.runPath(args[0])
			if err != nil {
				return err
			}
			query := url.Values{}
			if attempt > 0 {
				query.Set("attempt", strconv.Itoa(attempt))
			}
			if level != "" {
				query.Set("level", level)
			}
			if file != "" && !cmd.Flags().Changed("output") {
				s.output = "text"
				if ending := filepath.Ext(file); ending == ".ndjson" || ending == ".jsonl" {
					s.output = "ndjson"
				}
			}
			whole := s.output == "text" || s.output == "ndjson"
			switch {
			case file != "" && !whole:
				return &usageError{fmt.Errorf(s.say("-o %s：写入文件时只有 text 和 ndjson 两种形式", "-o %s: a file takes the forms text and ndjson"), s.output)}
			case follow && whole:
				return &usageError{fmt.Errorf(s.say("--follow 只有 table 和 json 两种形式，没有 %s", "--follow prints the forms table and json, not %s"), s.output)}
			case search != "" && whole:
				return &usageError{fmt.Errorf(s.say("--grep 只有 table 和 json 两种形式，没有 %s", "--grep prints the forms table and json, not %s"), s.output)}
			case whole:
				return s.wholeLog(cmd.Context(), path+"/log", query, file)
			}
			if follow {
				return s.follow(cmd.Context(), path+"/logs/live", query)
			}
			if search != "" {
				query.Set("search", search)
			}
			query.Set("limit", "10000")
			for {
				var p page
				if _, err := s.call(cmd.Context(), request{method: http.MethodGet, path: path + "/logs", query: query}, &p); err != nil {
					return err
				}
				for _, item := range p.Items {
					if err := s.line(item); err != nil {
						return err
					}
				}
				cursor := strings.Trim(string(p.NextCursor), `"`)
				if cursor == "" || cursor == "null" {
					return nil
				}
				query.Set("cursor", cursor)
			}
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run ends")
	cmd.Flags().IntVar(&attempt, "attempt", 0, "only of this attempt")
	cmd.Flags().StringVar(&search, "grep", "", "only lines whose message contains this, in whatever case; attributes are not searched")
	cmd.MarkFlagsMutuallyExclusive("follow", "grep")
	cmd.Flags().StringVar(&level, "level", "", "only this severe or more: debug, info, warn, error")
	cmd.Flags().StringVar(&file, "file", "", "write the whole log to this file, as text or, if its name ends in .ndjson, as JSON lines")
	s.outputFlag(cmd, "table", "json", "text", "ndjson")
	return cmd
}

// wholeLog prints the log of a run, or keeps it in a file.
func (s *session) wholeLog(ctx context.Context, path string, query url.Values, file string) error {
	accept := "text/plain"
	if s.output == "ndjson" {
		accept = "application/x-ndjson"
	}
	began := time.Now()
	resp, err := s.ask(ctx, request{method: http.MethodGet, path: path, query: query, header: map[string]string{"Accept": accept}})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got := counter{from: resp.Body}
	stop := s.each500ms(ctx, func(context.Context) {
		progress(s.err, s.say("  已收 %s（%s 行），%.1f 秒", "  %s received (%s lines), %.1f s"), sizeText(got.bytes.Load()), thousands(uint64(got.lines.Load())), time.Since(began).Seconds())
	})
	defer stop()
	copyAll := func() error { _, err := io.Copy(s.out, &got); return err }
	if file != "" {
		err = s.toFile(file, copyAll)
	} else {
		err = copyAll()
	}
	stop()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("%s: %w", s.say("日志不完整", "the log is not complete"), err)
	case file != "":
		fmt.Fprintf(s.err, s.say("已写入 %s：%s 行，%s，用时 %s\n", "wrote %s: %s lines, %s in %s\n"), file, resp.Trailer.Get("X-Gnomon-Lines"), sizeText(got.bytes.Load()), time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// line prints one log line; as JSON, one document a line.
func (s *session) line(raw json.RawMessage) error {
	if s.output == "json" {
		_, err := fmt.Fprintln(s.out, string(raw))
		return err
	}
	var l api.Line
	if err := json.Unmarshal(raw, &l); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	text := fmt.Sprintf("%s %-5s ", clockMillis(l.At), l.Level)
	if l.Attempt > 1 {
		text += fmt.Sprintf("#%d ", l.Attempt)
	}
	if l.Stream != "log" {
		text += l.Stream + ": "
	}
	text += l.Message
	for _, key := range slices.Sorted(maps.Keys(l.Attrs)) {
		text += " " + key + "=" + strconv.Quote(l.Attrs[key])
	}
	_, err := fmt.Fprintln(s.out, strings.ReplaceAll(harmless.Replace(text), "\n", "⏎"))
	return err
}

// follow prints a live log until the run's end, taking it up again where it was if the connection is lost.
func (s *session) follow(ctx context.Context, path string, query url.Values) error {
	last := ""
	for failures := 0; ; {
		resp, err := s.ask(ctx, request{
			method: http.MethodGet, path: path, query: query, header: map[string]string{"Accept": "text/event-stream", "Last-Event-ID": last},
		})
		if err == nil {
			var ended bool
			before := last
			ended, err = s.events(resp.Body, &last)
			_ = resp.Body.Close()
			if ended || ctx.Err() != nil {
				return err
			}
			if last != before {
				failures = 0
			}
		}
		var away *unreachableError
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &away) || failures == 20 {
			return err
		}
		failures++
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// events reads server-sent events; last is the id of the last one that was printed.
func (s *session) events(body io.Reader, last *string) (ended bool, err error) {
	lines := bufio.NewReader(body)
	var id, event string
	var data strings.Builder
	for {
		text, err := lines.ReadString('\n')
		if err != nil {
			return false, io.ErrUnexpectedEOF
		}
		text = strings.TrimRight(text, "\r\n")
		field, value, _ := strings.Cut(text, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "id":
			id = value
		case field == "event":
			event = value
		case field == "data":
			data.WriteString(value)
		case text == "" && event == "line":
			if err := s.line(json.RawMessage(data.String())); err != nil {
				return false, err
			}
			*last = id
		case text == "" && event == "end":
			var end api.End
			if err := json.Unmarshal([]byte(data.String()), &end); err != nil {
				return false, fmt.Errorf("read the answer: %w", err)
			}
			_, _ = fmt.Fprintln(s.err, strings.TrimSpace(s.say("运行结束：", "the run ended: ")+end.Outcome+" "+end.Message))
			return true, nil
		}
		if text == "" {
			id, event = "", ""
			data.Reset()
		}
	}
}
