package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// live puts a running run into the world.
func (w *world) live(id string) core.Run {
	run := core.Run{ID: id, TaskID: "t", Namespace: "Common", TaskName: "x", FireAt: time.Now(), FireCount: 1, State: core.RunRunning, Attempt: 1}
	w.tables.put(run)
	return run
}

// end ends it.
func (w *world) end(run core.Run) {
	run.State, run.Verdict, run.EndedAt = core.RunEnded, core.Succeeded, time.Now()
	w.tables.put(run)
}

type event struct {
	id, name string
	data     map[string]any
}

// stream is one connection to a live log.
type stream struct {
	t      *testing.T
	lines  *bufio.Reader
	status int
	quit   context.CancelFunc
	beats  int
	beat   func() // if set, called after each of them
}

func (w *world) follow(path, lastID string) *stream {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.admin)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cancel()
		_ = resp.Body.Close()
	})
	return &stream{t: w.t, lines: bufio.NewReader(resp.Body), status: resp.StatusCode, quit: cancel}
}

// next gives the next event; ok is false at the end of the stream.
func (s *stream) next() (e event, ok bool) {
	s.t.Helper()
	for {
		text, err := s.lines.ReadString('\n')
		if err != nil {
			return e, false
		}
		text = strings.TrimSuffix(text, "\n")
		switch field, value, _ := strings.Cut(text, ": "); {
		case field == "id":
			e.id = value
		case field == "event":
			e.name = value
		case field == "data":
			if err := json.Unmarshal([]byte(value), &e.data); err != nil {
				s.t.Fatal(err)
			}
		case text == "" && e.name != "":
			return e, true
		case text == ": still here":
			if s.beats++; s.beat != nil {
				s.beat()
			}
		}
	}
}

func (s *stream) ids(n int) []string {
	s.t.Helper()
	var ids []string
	for range n {
		e, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended after %v", ids)
		}
		ids = append(ids, e.id)
	}
	return ids
}

func places(attempt int, from, to int) (ids []string) {
	for i := from; i <= to; i++ {
		ids = append(ids, fmt.Sprintf("%d-%d", attempt, i))
	}
	return ids
}

func TestLiveLogIsTakenUpAgainWithoutGapOrRepeat(t *testing.T) {
	t.Parallel()
	w := setup(t)
	run := w.live("r1")
	w.history.lines = spoken("r1", 1, 1, 40) // shipped already; the spool keeps some of it
	w.spool.say("r1", 1, 31, 60)
	s := w.follow("/v1/runs/r1/logs/live", "")
	if got := s.ids(60); !slices.Equal(got, places(1, 1, 60)) {
		t.Fatal(got)
	}
	w.spool.say("r1", 1, 61, 70)
	if got := s.ids(5); !slices.Equal(got, places(1, 61, 65)) {
		t.Fatal(got)
	}
	s.quit() // the connection is lost in the middle
	w.spool.say("r1", 2, 1, 3)
	s = w.follow("/v1/runs/r1/logs/live", "1-65")
	if got := s.ids(8); !slices.Equal(got, append(places(1, 66, 70), places(2, 1, 3)...)) {
		t.Fatal(got)
	}
	w.end(run)
	w.spool.say("r1", 2, 4, 4) // said last, read after the run was seen ended
	if e, ok := s.next(); !ok || e.id != "2-4" {
		t.Fatalf("%+v", e)
	}
	e, ok := s.next()
	if !ok || e.name != "end" || e.data["outcome"] != "succeeded" || e.data["run_id"] != "r1" {
		t.Fatalf("%+v", e)
	}
	if e, ok := s.next(); ok {
		t.Errorf("after the end: %+v", e)
	}
}

func TestLiveLogOfARunLongShipped(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.history.runs = []core.Run{{ID: "old", Namespace: "Common", FireCount: 1, Verdict: core.Failed, Message: "no route"}}
	w.history.lines = spoken("old", 1, 1, 2500)
	s := w.follow("/v1/runs/old/logs/live?level=error", "")
	for i := 3; i <= 2500; i += 3 {
		if e, ok := s.next(); !ok || e.id != fmt.Sprintf("1-%d", i) {
			t.Fatalf("%d: %+v", i, e)
		}
	}
	if e, ok := s.next(); !ok || e.name != "end" || e.data["message"] != "no route" {
		t.Fatalf("%+v", e)
	}
}

func TestLiveLogWaitsForHistoryRatherThanLeaveAHole(t *testing.T) {
	t.Parallel()
	w := setup(t)
	run := w.live("r2")
	w.history.lines = spoken("r2", 1, 1, 10)
	w.history.down = true
	w.spool.say("r2", 1, 8, 12)
	s := w.follow("/v1/runs/r2/logs/live", "")
	done := make(chan []string, 1)
	go func() { done <- s.ids(12) }() // ends when 12 events came
	select {
	case got := <-done:
		t.Fatalf("it sent %v without history", got)
	case <-time.After(60 * time.Millisecond):
	}
	w.history.mu.Lock()
	w.history.down = false
	w.history.mu.Unlock()
	if got := <-done; !slices.Equal(got, places(1, 1, 12)) {
		t.Fatal(got)
	}
	w.history.mu.Lock()
	w.history.down, w.history.asked = true, 0
	w.history.mu.Unlock()
	w.spool.say("r2", 1, 13, 20) // once caught up, the spool alone is enough
	if got := s.ids(8); !slices.Equal(got, places(1, 13, 20)) || w.history.asked != 0 {
		t.Fatal(got, w.history.asked)
	}
	w.end(run)
	if e, ok := s.next(); !ok || e.name != "end" {
		t.Fatalf("%+v", e)
	}
}

func TestSilentLiveLogBeatsAndEndsWithTheServer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.live("r3")
	s := w.follow("/v1/runs/r3/logs/live", "")
	s.beat = func() {
		if s.beats == 2 {
			w.api.Stop()
		}
	}
	if e, ok := s.next(); ok {
		t.Fatalf("%+v", e)
	}
	if s.beats < 2 {
		t.Errorf("%d heartbeats", s.beats)
	}
	for _, bad := range []string{"x", "1", "1-", "-1-2", "1-2-3"} {
		if s := w.follow("/v1/runs/r3/logs/live", bad); s.status != 422 {
			t.Errorf("%q: %d", bad, s.status)
		}
	}
}

func TestLogPagesHoldEachLineOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.live("r4")
	w.history.lines = append(spoken("r4", 1, 1, 50), spoken("r4", 2, 1, 20)...)
	w.spool.say("r4", 1, 40, 50)
	w.spool.say("r4", 2, 1, 33)
	var got []string
	cursor := ""
	for {
		a := w.must(200, w.do(w.admin, "GET", "/v1/runs/r4/logs?limit=7&cursor="+cursor, ""))
		items, _ := a.body["items"].([]any)
		for _, item := range items {
			l, _ := item.(map[string]any)
			got = append(got, fmt.Sprintf("%v-%v", l["attempt"], l["seq"]))
		}
		next, ok := a.body["next_cursor"].(string)
		if !ok {
			break
		}
		cursor = next
	}
	if !slices.Equal(got, append(places(1, 1, 50), places(2, 1, 33)...)) {
		t.Error(got)
	}
	a := w.must(200, w.do(w.admin, "GET", "/v1/runs/r4/logs?attempt=2&level=error", ""))
	if items, _ := a.body["items"].([]any); len(items) != 11 {
		t.Errorf("%d errors in attempt 2", len(items))
	}
}

func TestRunsOfStoreAndHistoryAreOneList(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for i := range 10 {
		run := core.Run{ID: fmt.Sprintf("run-%02d", i), Namespace: "Common", FireCount: 1, Verdict: core.Succeeded, State: core.RunEnded}
		if i < 6 {
			w.history.runs = append(w.history.runs, run)
		}
		if i > 3 { // 4 and 5 are shipped and not deleted yet
			w.tables.put(run)
		}
	}
	list := func(query string) (ids []string, a answer) {
		a = w.must(200, w.do(w.admin, "GET", "/v1/runs?"+query, ""))
		items, _ := a.body["items"].([]any)
		for _, item := range items {
			r, _ := item.(map[string]any)
			ids = append(ids, fmt.Sprint(r["id"]))
		}
		return ids, a
	}
	var all []string
	cursor := ""
	for {
		ids, a := list("limit=4&cursor=" + cursor)
		all = append(all, ids...)
		next, ok := a.body["next_cursor"].(string)
		if !ok {
			break
		}
		cursor = next
	}
	if len(all) != 10 || !slices.IsSortedFunc(all, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Error(all)
	}
	w.tables.drop("run-04")
	if a := w.must(200, w.do(w.admin, "GET", "/v1/runs/run-04", "")); a.body["outcome"] != "succeeded" {
		t.Error(a.raw)
	}
	w.history.down = true
	if ids, a := list(""); len(ids) != 5 || a.body["partial"] == nil {
		t.Error(a.raw)
	}
	w.must(503, w.do(w.admin, "GET", "/v1/runs/run-00", ""))
	w.must(422, w.do(w.admin, "GET", "/v1/runs?outcome=bad", ""))
}

// Many who follow a run from its beginning have history asked once for all, and each gets every line.
func TestManyFollowersAskHistoryTogether(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.live("r5")
	w.history.lines = spoken("r5", 1, 1, 40)
	w.history.mu.Lock() // it is slow
	streams := make([]*stream, 20)
	for i := range streams {
		streams[i] = w.follow("/v1/runs/r5/logs/live", "")
	}
	for w.spool.tails() < len(streams) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond) // until they wait for it
	w.spool.say("r5", 1, 41, 60)
	asked := w.history.asked
	w.history.mu.Unlock()
	for _, s := range streams {
		if got := s.ids(60); !slices.Equal(got, places(1, 1, 60)) {
			t.Fatal(got)
		}
	}
	w.history.mu.Lock()
	defer w.history.mu.Unlock()
	if n := w.history.asked - asked; n > 10 {
		t.Errorf("history was asked %d times for %d followers", n, len(streams))
	}
}
