//go:build linux

package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// evidence is a task that fires at a steady step, and where its attempts leave their evidence.
type evidence struct {
	task  api.Task
	path  string // empty: it leaves none
	lines int    // each attempt says
	step  time.Duration
}

// start is one line of the witness: an attempt that began, whatever Gnomon says about it.
type start struct {
	fire    time.Time
	attempt int
	token   int64
	clock   int64 // CLOCK_MONOTONIC, nanoseconds
	run     string
}

func (e *evidence) starts(t *testing.T) []start {
	t.Helper()
	if e.path == "" {
		return nil
	}
	text, err := os.ReadFile(e.path)
	if err != nil {
		t.Errorf("%s left no evidence: %v", e.task.Name, err)
		return nil
	}
	var all []start
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ",")
		if len(f) != 6 {
			t.Fatalf("%s: torn evidence %q", e.task.Name, line)
		}
		s := start{run: f[5]}
		var errs [4]error
		s.fire, errs[0] = time.Parse(time.RFC3339Nano, f[0])
		s.attempt, errs[1] = strconv.Atoi(f[1])
		s.token, errs[2] = strconv.ParseInt(f[2], 10, 64)
		s.clock, errs[3] = strconv.ParseInt(f[4], 10, 64)
		for _, err := range errs {
			if err != nil {
				t.Fatalf("%s: evidence %q: %v", e.task.Name, line, err)
			}
		}
		all = append(all, s)
	}
	return all
}

// instants enumerates what the task's schedule names from its creation up to an end, without Gnomon's help.
func (e *evidence) instants(end time.Time) []time.Time {
	var at time.Time
	if strings.HasPrefix(e.task.Schedule.Spec, "@every") {
		at = e.task.Schedule.Anchor.UTC().Add(e.step)
	} else {
		at = e.task.CreatedAt.UTC().Truncate(e.step).Add(e.step) // whole seconds, even ones: the epoch was one
	}
	var all []time.Time
	for ; !at.After(end); at = at.Add(e.step) {
		all = append(all, at)
	}
	return all
}

// What history says.
type (
	decision struct {
		Task     string    `json:"task"`
		RunID    string    `json:"run_id"`
		At       time.Time `json:"fire_at"`
		Through  time.Time `json:"fire_through"`
		Count    int       `json:"fire_count"`
		Decision string    `json:"decision"`
		Reason   string    `json:"reason"`
		Trigger  string    `json:"trigger"`
		Decided  time.Time `json:"decided_at"`
		Series   string    `json:"series"`
		CausedBy string    `json:"caused_by"`
		Server   string    `json:"server"`
		Version  int64     `json:"task_version"`
	}
	attempt struct {
		Task     string `json:"task"`
		TaskType string `json:"task_type"`
		RunID    string `json:"run_id"`
		Attempt  int    `json:"attempt"`
		Token    int64  `json:"token"`
		Outcome  string `json:"outcome"`
		Message  string `json:"message"`
	}
	ended struct {
		Task     string `json:"task"`
		RunID    string `json:"run_id"`
		Attempts int    `json:"attempts"`
		Outcome  string `json:"outcome"`
	}
	said struct {
		RunID   string `json:"run_id"`
		Attempt int    `json:"attempt"`
		Seq     uint64 `json:"seq"`
		Stream  string `json:"stream"`
		Message string `json:"message"`
	}
)

// key is an attempt.
type key struct {
	run     string
	attempt int
}

// account is everything Gnomon says after the last restart has settled, up to an end.
type account struct {
	end       time.Time
	decisions map[string][]decision // by task
	runs      map[string]ended
	attempts  map[key]attempt
	lines     []said
}

// settle lets the server catch up, disables every task and waits until nothing is live and history has it all.
func settle(w *world, tasks []*evidence) *account {
	w.t.Helper()
	a := &account{end: time.Now()}
	pause(w.t.Context(), 2*time.Second)
	for _, e := range tasks {
		w.must("POST", "/v1/tasks/"+e.task.ID+"/disable", nil, nil)
	}
	var live struct {
		Items []api.Run `json:"items"`
	}
	w.until(30*time.Second, "no run is live any more", func() bool {
		status, err := w.ask("GET", "/v1/runs?live=true&limit=1000", nil, &live)
		return err == nil && status == http.StatusOK && len(live.Items) == 0
	})
	// What has ended is shipped within a second or two; what is acknowledged in the spool is as well.
	counts := func() string {
		rows, err := query[map[string]any](w, "SELECT (SELECT count() FROM fires) AS f, (SELECT count() FROM runs) AS r, (SELECT count() FROM attempts) AS a, (SELECT count() FROM run_logs) AS l")
		return fmt.Sprint(rows, err)
	}
	last, since := "", time.Now()
	w.until(60*time.Second, "history grows no more", func() bool {
		var status api.Status
		if _, err := w.ask("GET", "/v1/server", nil, &status); err != nil || status.Spool.Unshipped > 0 {
			since = time.Now()
		}
		if now := counts(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 3*time.Second
	})
	a.decisions, a.runs, a.attempts = map[string][]decision{}, map[string]ended{}, map[key]attempt{}
	for _, d := range mustQuery[decision](w, "SELECT * FROM fires ORDER BY task, fire_at") {
		a.decisions[d.Task] = append(a.decisions[d.Task], d)
	}
	for _, r := range mustQuery[ended](w, "SELECT task, run_id, attempts, outcome FROM runs") {
		if _, twice := a.runs[r.RunID]; twice {
			w.t.Errorf("run %s of %s is in history twice", r.RunID, r.Task)
		}
		a.runs[r.RunID] = r
	}
	for _, r := range mustQuery[attempt](w, "SELECT task, task_type, run_id, attempt, token, outcome, message FROM attempts") {
		k := key{r.RunID, r.Attempt}
		if _, twice := a.attempts[k]; twice {
			w.t.Errorf("attempt %d of run %s of %s is in history twice", r.Attempt, r.RunID, r.Task)
		}
		a.attempts[k] = r
	}
	a.lines = mustQuery[said](w, "SELECT run_id, attempt, seq, stream, message FROM run_logs")
	w.t.Logf("history holds %s", last)
	return a
}

// check holds what Gnomon says against the witness and against the schedule.
func (a *account) check(t *testing.T, tasks []*evidence) {
	t.Helper()
	starts, instants := 0, 0
	for _, e := range tasks {
		instants += a.checkDecisions(t, e)
		starts += a.checkStarts(t, e)
	}
	t.Logf("%d starts witnessed, %d instants had to be decided", starts, instants)
	for k, r := range a.attempts {
		if run, ok := a.runs[k.run]; !ok || run.Attempts < k.attempt {
			t.Errorf("attempt %d of %s belongs to no run that ended: %+v", k.attempt, r.Task, run)
		}
	}
}

// checkDecisions: each nominal instant has exactly one decision, and nothing else has one.
func (a *account) checkDecisions(t *testing.T, e *evidence) int {
	t.Helper()
	task := e.task.Name
	all := e.instants(a.end)
	decided := make(map[int64]int, len(all))
	for _, instant := range e.instants(a.end.Add(time.Minute)) {
		decided[instant.UnixMicro()] = 0
	}
	for _, d := range a.decisions[task] {
		count := 0
		for at := d.At; !at.After(d.Through); at = at.Add(e.step) {
			if _, nominal := decided[at.UnixMicro()]; !nominal {
				t.Errorf("%s: %s was %s and is no instant of its schedule", task, at, d.Decision)
			}
			decided[at.UnixMicro()]++
			count++
		}
		if count != d.Count {
			t.Errorf("%s: the decision at %s claims %d instants and covers %d", task, d.At, d.Count, count)
		}
		run, ran := a.runs[d.RunID]
		switch {
		case d.Decision == "started" && (!ran || d.Reason != "" || run.Task != task):
			t.Errorf("%s: the fire at %s was started, and history has no end of it: %+v", task, d.At, run)
		case d.Decision == "skipped" && (ran || d.Reason == ""):
			t.Errorf("%s: the fire at %s was skipped for %q, and history has a run of it: %+v", task, d.At, d.Reason, run)
		}
	}
	for _, at := range all {
		if n := decided[at.UnixMicro()]; n != 1 {
			t.Errorf("%s: the fire at %s has %d decisions", task, at.Format(time.RFC3339Nano), n)
		}
	}
	return len(all)
}

// checkStarts: no attempt began twice, tokens rise, and each start is of a fire that was decided to start.
func (a *account) checkStarts(t *testing.T, e *evidence) int {
	t.Helper()
	task := e.task.Name
	started := map[string]decision{}
	for _, d := range a.decisions[task] {
		if d.Decision == "started" {
			started[d.RunID] = d
		}
	}
	type fired struct {
		at      int64
		attempt int
	}
	seen, tokens, ofRun, ofTask := map[fired]bool{}, map[int64]bool{}, map[string]start{}, int64(0)
	witnessed := map[key]bool{}
	for _, s := range e.starts(t) {
		f := fired{s.fire.UnixMicro(), s.attempt}
		if seen[f] {
			t.Errorf("%s: attempt %d of the fire at %s began twice", task, s.attempt, s.fire)
		}
		if tokens[s.token] {
			t.Errorf("%s: token %d was given twice", task, s.token)
		}
		if before := ofRun[s.run]; s.token <= before.token || s.attempt <= before.attempt {
			t.Errorf("%s: run %s began attempt %d with token %d after attempt %d with token %d", task, s.run, s.attempt, s.token, before.attempt, before.token)
		}
		if e.task.Policies.Overlap != "allow" && s.token <= ofTask {
			t.Errorf("%s: token %d came after %d", task, s.token, ofTask)
		}
		if d, ok := started[s.run]; !ok || !d.At.Equal(s.fire) {
			t.Errorf("%s: run %s began for %s, and no decision says so: %+v", task, s.run, s.fire, d)
		}
		if r, ok := a.attempts[key{s.run, s.attempt}]; !ok || r.Token != s.token {
			t.Errorf("%s: attempt %d of run %s began with token %d, and history says %+v", task, s.attempt, s.run, s.token, r)
		}
		seen[f], tokens[s.token], ofRun[s.run], ofTask = true, true, s, max(ofTask, s.token)
		witnessed[key{s.run, s.attempt}] = true
	}
	for k, r := range a.attempts {
		if e.path != "" && r.Task == task && r.Outcome == "succeeded" && !witnessed[k] {
			t.Errorf("%s: attempt %d of run %s succeeded, and nobody saw it begin", task, k.attempt, k.run)
		}
	}
	return len(witnessed)
}

// checkCatchUp: what an outage beyond missedAfter made of the fires.
func (a *account) checkCatchUp(t *testing.T, tasks []*evidence) {
	t.Helper()
	for _, e := range tasks {
		skipped := 0
		for _, d := range a.decisions[e.task.Name] {
			if d.Reason == "catch_up" {
				skipped += d.Count
			}
			if d.Decision == "started" && e.task.Policies.CatchUp == "none" && d.Decided.Sub(d.At) > missedAfter+time.Second {
				t.Errorf("%s: the fire at %s was started %s late, and its policy is none", e.task.Name, d.At, d.Decided.Sub(d.At))
			}
		}
		if skipped == 0 {
			t.Errorf("%s: no fire was skipped, although no server ran for more than %s", e.task.Name, missedAfter)
		}
	}
}

// checkLines: an attempt's lines are numbered without holes and each is there once, an attempt that succeeded has all it
// said, and whatever a reader saw is there.
func (a *account) checkLines(t *testing.T, tasks []*evidence, reader *reader) {
	t.Helper()
	types := map[string]int{}
	for _, e := range tasks {
		if e.path != "" {
			types[e.task.Name] = e.lines
		}
	}
	type place struct {
		key
		seq uint64
	}
	text, last, count, own := map[place]string{}, map[key]uint64{}, map[key]uint64{}, map[key]int{}
	for _, l := range a.lines {
		k := key{l.RunID, l.Attempt}
		p := place{k, l.Seq}
		if _, twice := text[p]; twice {
			t.Errorf("line %d of attempt %d of run %s is there twice", l.Seq, l.Attempt, l.RunID)
		}
		text[p], last[k] = l.Message, max(last[k], l.Seq)
		count[k]++
		if l.Stream == "log" {
			own[k]++
		}
	}
	for k, n := range count {
		if n != last[k] {
			t.Errorf("attempt %d of run %s has %d lines numbered up to %d", k.attempt, k.run, n, last[k])
		}
	}
	for k, r := range a.attempts {
		if wanted, ok := types[r.Task]; ok && r.Outcome == "succeeded" && own[k] != wanted {
			t.Errorf("attempt %d of run %s of %s said %d lines, and %d are there", k.attempt, k.run, r.Task, wanted, own[k])
		}
	}
	reader.mu.Lock()
	defer reader.mu.Unlock()
	read := 0
	for k, lines := range reader.seen {
		for seq, message := range lines {
			read++
			if got, ok := text[place{k, seq}]; !ok || got != message {
				t.Errorf("a reader saw line %d of attempt %d of run %s: %q; history has %q", seq, k.attempt, k.run, message, got)
			}
		}
	}
	t.Logf("%d lines in history, %d of them seen live", len(a.lines), read)
	if read == 0 {
		t.Error("no line was seen live")
	}
}

// reader follows live logs as a client does, and keeps what it saw.
type reader struct {
	mu   sync.Mutex
	seen map[key]map[uint64]string
	runs map[string]bool
}

func newReader() *reader {
	return &reader{seen: map[key]map[uint64]string{}, runs: map[string]bool{}}
}

// follow follows the runs that are live, up to 16 at once, until stop is called or the server is gone.
func (r *reader) follow(w *world) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	url, token := w.url, w.token
	slots := make(chan struct{}, 16)
	var all sync.WaitGroup
	all.Go(func() {
		for failed := 0; failed < 10 && ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
			var live struct {
				Items []api.Run `json:"items"`
			}
			body, err := get(ctx, url+"/v1/runs?live=true&limit=200", token)
			if err == nil {
				err = json.NewDecoder(body.Body).Decode(&live)
				_ = body.Body.Close()
			}
			if err != nil {
				failed++
				continue
			}
			for _, run := range live.Items {
				r.mu.Lock()
				known := r.runs[run.ID]
				r.mu.Unlock()
				if known || len(slots) == cap(slots) {
					continue
				}
				r.mu.Lock()
				r.runs[run.ID] = true
				r.mu.Unlock()
				slots <- struct{}{}
				all.Go(func() {
					r.tail(ctx, url, token, run.ID)
					<-slots
				})
			}
		}
	})
	return func() { cancel(); all.Wait() }
}

func get(ctx context.Context, url, token string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	return http.DefaultClient.Do(request)
}

// tail reads one live log until it ends, the server is gone or ctx is over.
func (r *reader) tail(ctx context.Context, url, token, run string) {
	answer, err := get(ctx, url+"/v1/runs/"+run+"/logs/live", token)
	if err != nil {
		return
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	for event := ""; lines.Scan(); {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case field == "event":
			event = value
		case field == "data" && event == "line":
			var line api.Line
			if json.Unmarshal([]byte(value), &line) != nil {
				continue // cut off by the kill
			}
			k := key{run, line.Attempt}
			r.mu.Lock()
			if r.seen[k] == nil {
				r.seen[k] = map[uint64]string{}
			}
			r.seen[k][line.Seq] = line.Message
			r.mu.Unlock()
		}
	}
}
