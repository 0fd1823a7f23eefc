//go:build linux

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// TestNoLineIsLostOrDoubledWhileHistoryFails has runs say lines while the engine is killed in the middle of inserts, stopped,
// out of disk, and while the server itself is killed. The witness, a file beside Gnomon, knows which attempts there were; of
// each of them history must have every line once, without a hole, and all of them if the attempt came to its end.
func TestNoLineIsLostOrDoubledWhileHistoryFails(t *testing.T) {
	w := newWorld(t)
	disk := filepath.Join(w.data, "history")
	if err := os.MkdirAll(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	// A disk of its own can be filled; without the right to mount one, the other faults are all there are.
	small := os.Geteuid() == 0 && syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=200m") == nil
	if small {
		t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	}
	w.start()
	w.namespace("Bench")
	witness := filepath.Join(w.dir, "witness.csv")
	const lines = 2000
	for _, name := range []string{"a", "b"} {
		w.task("Bench", name, api.TaskInput{Type: "Bench.Witness", Schedule: api.Schedule{Spec: "@every 1s"}, Params: params(map[string]any{"path": witness, "lines": lines})})
	}
	attempts := func() map[string]bool {
		all := map[string]bool{}
		text, _ := os.ReadFile(witness)
		for line := range strings.Lines(string(text)) {
			if fields := strings.Split(strings.TrimSpace(line), ","); len(fields) == 6 {
				all[fields[5]] = true
			}
		}
		return all
	}
	more := func(n int) {
		t.Helper()
		before := len(attempts())
		w.until(60*time.Second, "runs go on", func() bool { return len(attempts()) >= before+n })
	}
	signal := func(s syscall.Signal) {
		t.Helper()
		for _, child := range w.children("engine") {
			if err := syscall.Kill(child.pid, s); err != nil {
				t.Log(err) // it ends just now
			}
		}
	}
	more(2)
	for range 3 {
		signal(syscall.SIGKILL)
		more(2)
	}
	signal(syscall.SIGSTOP)
	more(4)
	signal(syscall.SIGCONT)
	if small {
		fill := filepath.Join(disk, "filler")
		file, err := os.Create(fill)
		if err != nil {
			t.Fatal(err)
		}
		block := make([]byte, 1<<20)
		for err == nil {
			_, err = file.Write(block)
		}
		_ = file.Close()
		more(4)
		var status api.Status
		w.must("GET", "/v1/server", nil, &status)
		t.Logf("the disk of history is full: %d segments wait", status.Spool.Unshipped)
		if status.Spool.Unshipped == 0 {
			t.Error("history took lines on a full disk")
		}
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
	}
	w.kill()
	w.start()
	more(2)
	w.until(60*time.Second, "there are enough runs, of which the kill has cut off one of each task at most", func() bool { return len(attempts()) >= 20 })
	var tasks struct {
		Items []api.Task `json:"items"`
	}
	w.must("GET", "/v1/tasks", nil, &tasks)
	for _, task := range tasks.Items {
		w.must("POST", "/v1/tasks/"+task.ID+"/disable", nil, nil)
	}
	w.until(90*time.Second, "history has everything", func() bool {
		var status api.Status
		w.must("GET", "/v1/server", nil, &status)
		var live struct {
			Items []api.Run `json:"items"`
		}
		w.must("GET", "/v1/runs?live=true", nil, &live)
		return status.Executing == 0 && len(live.Items) == 0 && status.Spool.OldestUnshipped == nil && status.History.Answers
	})
	w.until(60*time.Second, "history has the end of each attempt, which is not in the spool", func() bool {
		type count struct{ N int }
		rows, err := query[count](w, "SELECT toInt32(uniqExact(run_id)) AS N FROM attempts")
		return err == nil && len(rows) == 1 && rows[0].N >= len(attempts())
	})
	type attempt struct {
		RunID    string `json:"run_id"`
		Outcome  string `json:"outcome"`
		Said     int    `json:"said"`
		Count    int    `json:"n"`
		Distinct int    `json:"d"`
		Highest  int    `json:"h"`
	}
	whole, cut := 0, 0
	found := map[string]bool{}
	check := func() {
		for _, a := range mustQuery[attempt](w, `SELECT l.run_id AS run_id, any(a.outcome) AS outcome, toInt32(countIf(l.stream = 'log')) AS said, toInt32(count()) AS n, toInt32(uniqExact(l.seq)) AS d, toInt32(max(l.seq)) AS h
FROM run_logs AS l LEFT JOIN attempts AS a ON a.run_id = l.run_id AND a.attempt = l.attempt GROUP BY l.run_id, l.attempt`) {
			found[a.RunID] = true
			if a.Count != a.Distinct || a.Count != a.Highest {
				t.Errorf("run %s: %d lines, %d distinct, the highest is %d", a.RunID, a.Count, a.Distinct, a.Highest)
			}
			if a.Outcome == "succeeded" && a.Said != lines {
				t.Errorf("run %s came to its end and has %d of %d lines", a.RunID, a.Said, lines)
			}
			if a.Outcome == "succeeded" {
				whole++
			} else {
				cut++
			}
		}
	}
	check()
	for run := range attempts() {
		if !found[run] {
			rows := mustQuery[attempt](w, "SELECT run_id, outcome, 0 AS said, 0 AS n, 0 AS d, 0 AS h FROM attempts WHERE run_id = '"+run+"'")
			if len(rows) == 0 || rows[0].Outcome == "succeeded" {
				t.Errorf("the witness saw run %s, and history has none of its lines (%v)", run, rows)
			}
		}
	}
	t.Logf("%d attempts by the witness; in history %d whole, %d cut off", len(attempts()), whole, cut)
	if whole < 15 {
		t.Errorf("only %d attempts came to their end", whole)
	}
	w.interrupt()
}
