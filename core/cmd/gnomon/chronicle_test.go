//go:build linux

package main_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// TestHistoryHasEveryVersion: tasks and task types are in history as they change, also what changed and went while the engine
// did not answer; runs join with the version they ran; and a task's log is searched.
func TestHistoryHasEveryVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.script("Bench/Says", `return task { title = { zh = "说", en = "Says" }, run = function(ctx) log.info("校验失败 refused by PACS") end }`)
	w.start()
	w.namespace("Bench")
	rows := func(sql string) string {
		var answer struct {
			Rows [][]any `json:"rows"`
		}
		if status, err := w.ask("POST", "/v1/query", map[string]any{"sql": sql}, &answer); err != nil || status != 200 {
			return fmt.Sprint(status, err)
		}
		return fmt.Sprint(answer.Rows)
	}
	says := w.task("Bench", "says", api.TaskInput{Type: "Bench.Says", Schedule: api.Schedule{Spec: "@every 1s"}, Owner: "wang", Policies: &api.Policies{Timeout: "1m"}})
	gone := w.task("Bench", "gone", api.TaskInput{Type: "Bench.NoOp", Schedule: api.Schedule{Spec: "@manual"}})
	versions := "SELECT task, task_version, owner, deleted FROM tasks ORDER BY task DESC, task_version"
	w.until(30*time.Second, "both tasks are in history", func() bool { return rows(versions) == "[[says 1 wang false] [gone 1  false]]" })
	if got := rows("SELECT JSONExtractString(policies, 'timeout'), schedule, changed_by != '' FROM tasks WHERE task = 'says'"); got != "[[1m @every 1s 1]]" {
		t.Errorf("policies and schedule %s", got)
	}
	w.until(30*time.Second, "the types are in history", func() bool {
		return rows("SELECT plugin, provider_version != '', length(sha256) FROM task_types WHERE task_type = 'Bench.NoOp'") == "[[noop 1 64]]" &&
			strings.HasPrefix(rows("SELECT provider FROM task_types WHERE task_type = 'Bench.Says'"), "[[lua:")
	})

	engine := w.children(" engine ")[0].pid
	if err := syscall.Kill(engine, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.must("PATCH", "/v1/tasks/"+says.ID, map[string]any{"owner": "li"}, nil)
	w.must("PATCH", "/v1/tasks/"+says.ID, map[string]any{"owner": "zhao"}, nil)
	w.must("DELETE", "/v1/tasks/"+gone.ID, nil, nil)
	w.until(30*time.Second, "what changed while the engine was down is in history", func() bool {
		return rows(versions) == "[[says 1 wang false] [says 2 li false] [says 3 zhao false] [gone 1  true]]"
	})

	w.until(30*time.Second, "runs join with their version", func() bool {
		return rows("SELECT DISTINCT owner FROM runs JOIN tasks USING (task_id, task_version) WHERE runs.task = 'says' AND owner = 'zhao'") == "[[zhao]]"
	})
	w.until(30*time.Second, "its log is searched", func() bool {
		out, _, code := w.line("task", "logs", "Bench/says", "--grep", "REFUSED by pacs", "--from", "1h", "-n", "3")
		return code == 0 && strings.Count(out, "校验失败 refused by PACS") == 3
	})
	if out, errOut, code := w.line("task", "logs", "Bench/says", "--grep", "脑梗死"); code != 0 || out != "" || !strings.Contains(errOut, "no line matches") && !strings.Contains(errOut, "没有符合") {
		t.Errorf("%q %q %d", out, errOut, code)
	}

	// A change that no server told of: it is found at the next start.
	w.kill()
	w.start()
	w.until(30*time.Second, "history is as it was", func() bool {
		return rows(versions) == "[[says 1 wang false] [says 2 li false] [says 3 zhao false] [gone 1  true]]"
	})
}

// TestNamespacesKeepTheirHistoryForTheirTime: what a namespace keeps no longer goes soon after it was set, others' stays.
func TestNamespacesKeepTheirHistoryForTheirTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.namespace("Bench")
	w.namespace("Kept")
	client := http.Client{Transport: &http.Transport{DialContext: unixDialer(filepath.Join(w.data, "run", "engine.sock"))}}
	defer client.CloseIdleConnections()
	answer, err := client.Post("http://engine/?database=gnomon", "text/plain", strings.NewReader(
		"INSERT INTO run_logs (namespace, task, run_id, attempt, seq, fire_at, at, message) SELECT ['Bench', 'Kept'][1 + number % 2], 'old', 'r', 1, number, now64(6) - toIntervalDay(20), now64(6) - toIntervalDay(20), 'old' FROM numbers(10)"))
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(err, answer)
	}
	_ = answer.Body.Close()
	if _, errOut, code := w.line("namespace", "create", "Bench", "--keep-lines", "7d"); code != 0 {
		t.Fatalf("%s %d", errOut, code)
	}
	if out, _, _ := w.line("namespace", "get", "Bench"); !strings.Contains(out, "lines: 7d") || !strings.Contains(out, "samples: 30d") || !strings.Contains(out, "runs: forever") {
		t.Errorf("%s", out)
	}
	if _, errOut, code := w.line("namespace", "create", "Bench", "--keep-lines", "a week"); code != 4 || !strings.Contains(errOut, "retention.lines") {
		t.Errorf("%s %d", errOut, code)
	}
	type count struct {
		Namespace string `json:"namespace"`
		Lines     int    `json:"lines"`
	}
	w.until(60*time.Second, "only what is kept is there", func() bool {
		left, err := query[count](w, "SELECT namespace, toInt32(count()) AS lines FROM run_logs WHERE task = 'old' GROUP BY namespace")
		return err == nil && len(left) == 1 && left[0] == count{"Kept", 5}
	})
}

// unixDialer leads every address to a unix socket.
func unixDialer(socket string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
}
