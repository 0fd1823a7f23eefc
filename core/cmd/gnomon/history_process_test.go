//go:build linux

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// told is what history has of one run's lines.
type told struct {
	RunID    string `json:"run_id"`
	Count    int64  `json:"n"`
	Distinct int64  `json:"d"`
	Highest  int64  `json:"h"`
}

// lines gives what history has of the lines that a run's attempts have said.
func (w *world) lines(run string) (t told) {
	w.t.Helper()
	for _, t = range mustQuery[told](w, "SELECT run_id, toInt64(count()) AS n, toInt64(uniqExact(attempt, seq)) AS d, toInt64(max(seq)) AS h FROM run_logs WHERE run_id = '"+run+"' GROUP BY run_id") {
		return t
	}
	return told{}
}

// TestHistoryIsAskedKeptAndBroughtBack uses what people hold in their hands: SQL with files and Ctrl-C, whole logs, the
// doctor, backup and restore; against the real server and its engine.
func TestHistoryIsAskedKeptAndBroughtBack(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.namespace("Bench")
	const few, many = 2000, 300_000
	chatty := w.task("Bench", "chatty", api.TaskInput{Type: "Bench.NoOp", Schedule: api.Schedule{Spec: "0 0 29 2 *"}, Params: params(map[string]any{"lines": few})})
	first := w.over(w.now(chatty, nil)).ID
	w.until(30*time.Second, "the lines are in history", func() bool { return w.lines(first).Count == few })

	t.Run("AnswersAsFiles", func(t *testing.T) {
		statement := "SELECT run_id, seq, at, message FROM run_logs ORDER BY seq"
		for name, begins := range map[string]string{"a.parquet": "PAR1", "a.xlsx": "PK\x03\x04", "a.csv": "run_id,seq,at,message\n" + first + ",1,", "a.ndjson": `{"run_id":"` + first} {
			out, errOut, code := w.line("sql", statement, "--file", name)
			file, err := os.ReadFile(filepath.Join(w.dir, name))
			if code != 0 || out != "" || err != nil || !bytes.HasPrefix(file, []byte(begins)) || !strings.HasPrefix(errOut, "wrote "+name) {
				t.Errorf("%s: %d %q %q %v %.40q", name, code, out, errOut, err, file)
			}
			if strings.HasSuffix(name, "csv") && bytes.Count(file, []byte{'\n'}) != few+1 {
				t.Errorf("%s has %d lines", name, bytes.Count(file, []byte{'\n'}))
			}
		}
	})
	t.Run("AWrongStatementShowsItsPlace", func(t *testing.T) {
		_, errOut, code := w.line("sql", "SELECT count(),\n  nope\nFROM runs")
		if code != 4 || !strings.HasPrefix(errOut, "gnomon: sql: Unknown expression identifier `nope`") || !strings.HasSuffix(errOut, "  2:   nope\n       ^~~~\n") {
			t.Errorf("%d %s", code, errOut)
		}
	})
	t.Run("CtrlCCancelsOnTheServer", func(t *testing.T) {
		ask := exec.Command(filepath.Join(program(t), "gnomon"), "sql", "SELECT max(sipHash64(number)) FROM numbers(100000000000)")
		ask.Env = w.environment()
		if err := ask.Start(); err != nil {
			t.Fatal(err)
		}
		w.until(30*time.Second, "the query reads", func() bool {
			var running struct {
				Items []api.RunningQuery `json:"items"`
			}
			w.must("GET", "/v1/queries", nil, &running)
			return len(running.Items) == 1 && running.Items[0].ReadRows > 0
		})
		if err := ask.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		_ = ask.Wait()
		if code := ask.ProcessState.ExitCode(); code != 130 {
			t.Errorf("it ended with %d", code)
		}
		w.until(30*time.Second, "nothing of it is left in ClickHouse", func() bool {
			rows := mustQuery[struct {
				N int `json:"n"`
			}](w, "SELECT count() AS n FROM system.processes WHERE query LIKE '%sipHash64%' AND query NOT LIKE '%system.processes%'")
			return rows[0].N == 0
		})
	})
	t.Run("WhatClickHousesClientsAskIsListedAndCancelled", func(t *testing.T) {
		answered := make(chan string, 1)
		go func() { // ends with the query
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/clickhouse/?query_id=notebook-1", strings.NewReader("SELECT max(sipHash64(number)) FROM numbers(200000000000)"))
			if err != nil {
				t.Error(err)
				return
			}
			request.SetBasicAuth("x", w.token)
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Error(err)
				return
			}
			defer answer.Body.Close()
			text, err := io.ReadAll(answer.Body)
			answered <- fmt.Sprint(answer.StatusCode, " ", string(text), err)
		}()
		var running struct {
			Items []api.RunningQuery `json:"items"`
		}
		w.until(30*time.Second, "the query reads", func() bool {
			w.must("GET", "/v1/queries", nil, &running)
			return len(running.Items) == 1 && running.Items[0].ReadRows > 0
		})
		if q := running.Items[0]; q.ID != "notebook-1" || q.Door != "clickhouse" || !strings.Contains(q.SQL, "sipHash64") || q.Principal == "" {
			t.Errorf("%+v", q)
		}
		var done api.Cancelled
		w.must("DELETE", "/v1/queries/notebook-1", nil, &done)
		if got := <-answered; !done.Cancelled || !strings.HasPrefix(got, "500 Code: 394.") || !strings.Contains(got, "cancelled by "+running.Items[0].Principal) {
			t.Errorf("%v %s", done, got)
		}
		w.until(30*time.Second, "nothing of it is left in ClickHouse", func() bool {
			rows := mustQuery[struct {
				N int `json:"n"`
			}](w, "SELECT count() AS n FROM system.processes WHERE query LIKE '%200000000000%' AND query NOT LIKE '%system.processes%'")
			return rows[0].N == 0
		})
	})
	t.Run("OnePersonsStatementsLeaveRoomForAnothers", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ask := func(token, sql string) (int, string, http.Header) {
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/v1/query", strings.NewReader(`{"sql":"`+sql+`"}`))
			if err != nil {
				t.Error(err)
				return 0, "", nil
			}
			request.Header.Set("Authorization", "Bearer "+token)
			request.Header.Set("Content-Type", "application/json")
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				return 0, "", nil // cancelled
			}
			defer answer.Body.Close()
			text, _ := io.ReadAll(answer.Body)
			return answer.StatusCode, string(text), answer.Header
		}
		var other api.NewToken
		w.must("POST", "/v1/tokens", api.TokenInput{Principal: "wang", Grants: map[string]string{"*": "analyst"}}, &other)
		refused := make(chan string, 9)
		var asking sync.WaitGroup
		for range 9 {
			asking.Go(func() { // ends with ctx, or when it is refused
				if status, text, header := ask(w.token, "SELECT max(sipHash64(number)) FROM numbers(300000000000)"); status != 0 {
					refused <- fmt.Sprint(status, " ", header.Get("Retry-After"), " ", text)
				}
			})
		}
		defer asking.Wait()
		defer cancel()
		w.until(30*time.Second, "four of them run", func() bool {
			var running struct {
				Items []api.RunningQuery `json:"items"`
			}
			w.must("GET", "/v1/queries", nil, &running)
			read := 0
			for _, q := range running.Items {
				if q.ReadRows > 0 {
					read++
				}
			}
			return read == 4
		})
		began := time.Now()
		if status, text, _ := ask(other.Value, "SELECT 1"); status != 200 || time.Since(began) > 30*time.Second {
			t.Errorf("another's statement after %s: %d %s", time.Since(began), status, text)
		}
		for range 5 {
			if got := <-refused; !strings.HasPrefix(got, "429 5 ") || !strings.Contains(got, "may have 4 at once and has 4, all together may have 5") {
				t.Errorf("refused with %s", got)
			}
		}
	})
	t.Run("TheDoctorSaysWhereHistoryStands", func(t *testing.T) {
		w.until(30*time.Second, "the storage is known", func() bool {
			var status api.Status
			w.must("GET", "/v1/server", nil, &status)
			return status.History.Answers && status.History.DiskBytes > 0 && status.History.MemoryBytes > 50<<20 && status.Spool.ShippedLines >= few
		})
		out, errOut, code := w.line("doctor")
		if code != 0 {
			t.Errorf("%d %s", code, errOut)
		}
		for _, says := range []string{"history answers, ClickHouse ", "of its limit of 4.0 GiB", "lines a second", "run_logs ", "parts and merges are in order", "of memory", "the disk of the data folder has", "history has runs of Bench "} {
			if !strings.Contains(out, says) {
				t.Errorf("the doctor does not say %q:\n%s", says, out)
			}
		}
	})

	// A second run is in the middle of what it says while a backup is made.
	long := w.now(chatty, map[string]any{"lines": many})
	w.until(30*time.Second, "the run is under way", func() bool { return w.lines(long).Count > 1000 })
	t.Run("AWholeLogWhileTheRunGoesOn", func(t *testing.T) {
		_, errOut, code := w.line("run", "logs", long, "--file", "long.ndjson")
		file, err := os.ReadFile(filepath.Join(w.dir, "long.ndjson"))
		if code != 0 || err != nil {
			t.Fatalf("%d %s %v", code, errOut, err)
		}
		lines := bytes.Split(bytes.TrimSuffix(file, []byte{'\n'}), []byte{'\n'})
		for i, text := range lines {
			var l api.Line
			if err := json.Unmarshal(text, &l); err != nil || l.Seq != uint64(i+1) {
				t.Fatalf("line %d is %s (%v)", i+1, text, err)
			}
		}
		if len(lines) < 1000 {
			t.Errorf("%d lines", len(lines))
		}
	})
	if out, errOut, code := w.line("history", "backup", "sunday"); code != 0 || !strings.Contains(out, "run_logs") {
		t.Fatalf("%d %s %s", code, out, errOut)
	}
	t.Run("BackupsAreRefusedElsewhereAndTwice", func(t *testing.T) {
		for _, c := range []struct{ says, folder string }{{"exists", "sunday"}, {"lie directly in", "/tmp/x"}, {"lie directly in", "../x"}, {"lie directly in", "a/b"}} {
			if _, errOut, code := w.line("history", "backup", c.folder); code != 4 || !strings.Contains(errOut, c.says) {
				t.Errorf("%s: %d %s", c.folder, code, errOut)
			}
		}
		if _, errOut, code := w.line("history", "backup", "x", "--base", "nothing"); code != 4 || !strings.Contains(errOut, "not a whole backup") {
			t.Errorf("%d %s", code, errOut)
		}
	})
	if out, errOut, code := w.line("history", "backup", "monday", "--base", "sunday"); code != 0 {
		t.Fatalf("%d %s %s", code, out, errOut)
	}
	w.over(long)
	backups := filepath.Join(w.data, "backups")
	if _, errOut, code := w.line("history", "restore", filepath.Join(backups, "monday"), "--data", w.data); code != 4 {
		t.Errorf("while the server runs: %d %s", code, errOut)
	}
	w.interrupt()
	if _, errOut, code := w.line("history", "restore", filepath.Join(backups, "monday"), "--data", w.data); code != 4 || !strings.Contains(errOut, "history is not empty: ") {
		t.Errorf("into what is there: %d %s", code, errOut)
	}
	if err := os.Rename(filepath.Join(w.data, "history"), filepath.Join(w.dir, "old")); err != nil {
		t.Fatal(err)
	}
	if out, errOut, code := w.line("history", "restore", filepath.Join(backups, "monday"), "--data", w.data); code != 0 || !strings.Contains(out, "each table compared with the backup") {
		t.Fatalf("%d %s %s", code, out, errOut)
	}
	w.start()
	// The spool still had what was said after the backup; it is there once.
	for run, want := range map[string]int64{first: few, long: many} {
		w.until(60*time.Second, fmt.Sprintf("all lines of run %s are back", run), func() bool { return w.lines(run).Count >= want })
		if got := w.lines(run); got != (told{RunID: run, Count: want, Distinct: want, Highest: want}) {
			t.Errorf("%+v, want %d of each", got, want)
		}
	}
	third := w.over(w.now(chatty, nil)).ID
	w.until(30*time.Second, "later lines come too", func() bool { return w.lines(third).Count == few })
	w.interrupt()
}
