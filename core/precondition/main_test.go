package precondition_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/precondition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what preconditions of a test are judged with.
type world struct {
	mu     sync.Mutex
	tasks  map[string]core.Task // by namespace/name
	host   *core.HostSample
	grants map[string]string
	asked  []string
}

func (w *world) TaskByName(_ context.Context, namespace, name string) (core.Task, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, namespace+"/"+name)
	t, ok := w.tasks[namespace+"/"+name]
	if !ok {
		return t, core.Errorf(core.KindNotFound, "find task", "no such task")
	}
	return t, nil
}

func (w *world) HostSample() (core.HostSample, bool) {
	if w.host == nil {
		return core.HostSample{}, false
	}
	return *w.host, true
}

// Holds knows weekdays as working days, and the calendar "month-end".
func (w *world) Holds(_ context.Context, calendar string, at time.Time, zone *time.Location) (bool, error) {
	local := at.In(zone)
	switch calendar {
	case precondition.WorkdayCalendar:
		return local.Weekday() != time.Saturday && local.Weekday() != time.Sunday, nil
	case "month-end":
		return local.AddDate(0, 0, 1).Day() == 1, nil
	}
	return false, core.Errorf(core.KindNotFound, "find calendar", "there is no calendar %s", calendar)
}

func (w *world) granted(namespace, _ string, needs []string) (map[string]string, error) {
	value, ok := w.grants[needs[0]]
	if !ok || namespace != "Lab" {
		return nil, core.Errorf(core.KindDenied, "grant "+needs[0], "namespace %s has not been granted it", namespace)
	}
	return map[string]string{needs[0]: value}, nil
}

func setup(w *world) *precondition.Preconditions {
	return precondition.New(precondition.Options{Calendars: w, Tasks: w, Host: w, Grants: w.granted})
}

// noon is Friday, 20 November 2026, 12:00 in Shanghai.
var noon = time.Date(2026, 11, 20, 4, 0, 0, 0, time.UTC)

func facts(params string) precondition.Facts {
	return precondition.Facts{
		Namespace: "Lab", TaskType: "Lab.Report", Params: json.RawMessage(params), FireAt: noon, Now: noon.Add(time.Minute), Zone: "Asia/Shanghai",
	}
}

func stats() *world {
	return &world{
		tasks: map[string]core.Task{
			"Lab/stats": {
				Enabled: true, Pause: core.Pause{Since: noon.Add(-time.Hour)},
				State: core.TaskState{LastOutcome: core.Failed, LastSuccess: noon.Add(-3 * time.Hour), Live: 2, Failures: 1},
			},
			"Lab/new":     {},
			"Other/stats": {State: core.TaskState{LastOutcome: core.Succeeded}},
		},
		host: &core.HostSample{At: noon, Cores: 4, Load1: 6, MemTotalBytes: 100, MemUsedBytes: 60, DataTotalBytes: 1000, DataFreeBytes: 50},
	}
}

func expression(text string) core.Precondition { return core.Precondition{Expression: text} }

func mustCheck(t *testing.T, c *precondition.Preconditions, p core.Precondition) {
	t.Helper()
	for _, f := range c.Check(p) {
		t.Fatalf("%+v: %s: %s", p, f.Path, f.Message.En)
	}
}

func is(t *testing.T, err error, kind core.Kind, words ...string) {
	t.Helper()
	if err == nil || core.KindOf(err) != kind {
		t.Fatalf("the error is %v (%s), want %s", err, core.KindOf(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the error has several lines: %q", err)
	}
}

var errOutage = errors.New("the store does not answer")
