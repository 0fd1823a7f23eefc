package definition_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/catalog"
	"github.com/gnomon-scheduler/gnomon/core/definition"
	"github.com/gnomon-scheduler/gnomon/core/precondition"
	"github.com/gnomon-scheduler/gnomon/core/store"
	"github.com/gnomon-scheduler/gnomon/core/workflow"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const paramsSchema = `{"type":"object","additionalProperties":false,"required":["urls"],"properties":{
	"urls":{"type":"array","minItems":1,"items":{"type":"string"}},
	"batch":{"type":"integer","minimum":1,"maximum":500},
	"mode":{"enum":["fast","slow"]},
	"note":{"type":"string","maxLength":3,"pattern":"^[a-z]*$"}}}`

// provider refuses the note "odd", beyond what the schema can say, and does not answer about the note "off".
type provider struct{}

func (provider) Execute(context.Context, core.Attempt, core.Sink) (core.Outcome, error) {
	return core.Outcome{Verdict: core.Succeeded}, nil
}

func (provider) Validate(_ context.Context, _ string, params json.RawMessage) ([]core.Finding, error) {
	if strings.Contains(string(params), `"off"`) {
		return nil, errors.New("the plugin is being restarted")
	}
	if strings.Contains(string(params), `"odd"`) {
		return []core.Finding{{Path: "note", Message: core.Text{Zh: "不行", En: "is odd"}}}, nil
	}
	return nil, nil
}

// clock is the test's own time.
type clock struct{ now atomic.Pointer[time.Time] }

func (c *clock) Now() time.Time                            { return *c.now.Load() }
func (c *clock) set(t time.Time)                           { c.now.Store(&t) }
func (*clock) AfterFunc(time.Duration, func()) func() bool { panic("a definition waits for nothing") }

var noon = time.Date(2026, 11, 20, 12, 0, 0, 250_000_000, time.UTC)

type announcement struct {
	task    core.Task
	removed bool
}

// preconditions are compiled where Telemedicine was granted the connection business and the host ready.example.
func preconditions() *precondition.Preconditions {
	granted := map[string]string{"http": "ready.example", "sql:business": "sqlite:/x"}
	return precondition.New(precondition.Options{
		Grants: func(namespace, _ string, needs []string) (map[string]string, error) {
			if value, ok := granted[needs[0]]; ok && namespace == "Telemedicine" {
				return map[string]string{needs[0]: value}, nil
			}
			return nil, core.Errorf(core.KindDenied, "grant", "not granted")
		},
		Needs: func(string) []string { return []string{"http", "sql:business"} },
	})
}

// flows is what offers workflows.
type flows struct{ provider }

func (flows) Validate(_ context.Context, _ string, params json.RawMessage) ([]core.Finding, error) {
	_, wrong := workflow.Parse(params)
	for i := range wrong {
		wrong[i].Path = strings.TrimPrefix(strings.TrimPrefix(wrong[i].Path, "params"), ".")
	}
	return wrong, nil
}

type world struct {
	*definition.Definitions
	store   *store.Store
	catalog *catalog.Catalog
	clock   *clock
	changed atomic.Int64

	mu   sync.Mutex
	said []announcement
}

func setup(t *testing.T) *world {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	w := &world{store: s, catalog: catalog.New(), clock: &clock{}}
	w.clock.set(noon)
	types := []core.TaskType{
		{Name: "Common.KeepAlive", ParamsSchema: json.RawMessage(paramsSchema), Timeout: 15 * time.Minute},
		{Name: "Imaging.Export", ParamsSchema: json.RawMessage(`{"type":"object"}`)},
		{Name: "Common.Plain", ParamsSchema: json.RawMessage(`{"type":"object","additionalProperties":false}`)},
		{Name: "Common.Broken", ParamsSchema: json.RawMessage(`{"type":"object"}`), Problem: "script does not compile"},
	}
	if err := w.catalog.Offer("plugin:common", provider{}, types); err != nil {
		t.Fatal(err)
	}
	flow := []core.TaskType{{Name: workflow.TypeName, ParamsSchema: json.RawMessage(`{"type":"object"}`)}}
	if err := w.catalog.Offer("gnomon", flows{}, flow); err != nil {
		t.Fatal(err)
	}
	w.Definitions = w.another(t)
	for _, name := range []string{"Telemedicine", "Imaging"} {
		w.namespace(t, core.Namespace{Name: name})
	}
	return w
}

// another is another server on the same store.
func (w *world) another(t *testing.T) *definition.Definitions {
	t.Helper()
	return definition.New(definition.Options{
		Store: w.store, Catalog: w.catalog, Clock: w.clock, Log: slog.New(slog.DiscardHandler), Preconditions: preconditions(),
		Announce: func(task core.Task, removed bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.said = append(w.said, announcement{task, removed})
		},
		Changed: func() { w.changed.Add(1) },
	})
}

func (w *world) namespace(t *testing.T, ns core.Namespace) {
	t.Helper()
	if _, err := w.PutNamespace(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
}

func (w *world) pool(t *testing.T, pool core.Pool) {
	t.Helper()
	if _, err := w.PutPool(t.Context(), pool, definition.AnyVersion, "ann"); err != nil {
		t.Fatal(err)
	}
}

func (w *world) downstream(t *testing.T, name string) {
	t.Helper()
	if _, err := w.PutDownstream(t.Context(), core.Downstream{Name: name, Failures: 3, Cooldown: time.Minute}, definition.AnyVersion, "ann"); err != nil {
		t.Fatal(err)
	}
}

func (w *world) calendar(t *testing.T, c core.Calendar) {
	t.Helper()
	if _, err := w.PutCalendar(t.Context(), c, definition.AnyVersion, "ann"); err != nil {
		t.Fatal(err)
	}
}

func same(a, b any) bool { return reflect.DeepEqual(a, b) }

func (w *world) announced() []announcement {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return said
}

func (w *world) create(t *testing.T, change func(*core.Task)) core.Task {
	t.Helper()
	task := sound()
	if change != nil {
		change(&task)
	}
	stored, err := w.Create(t.Context(), task, "ann")
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func sound() core.Task {
	return core.Task{
		Namespace: "Telemedicine", Name: "ping", Type: "Common.KeepAlive", Params: json.RawMessage(`{"urls":["http://a/"]}`),
		Schedule: core.Schedule{Spec: "@every 10s"}, Enabled: true,
	}
}

// TestARefusedTaskNamesThePathInBothLanguages: each finding says where and how to mend it, and nothing is stored.
func TestARefusedTaskNamesThePathInBothLanguages(t *testing.T) {
	t.Parallel()
	w := setup(t)
	spec := func(s string) func(*core.Task) { return func(t *core.Task) { t.Schedule.Spec = s } }
	params := func(p string) func(*core.Task) { return func(t *core.Task) { t.Params = json.RawMessage(p) } }
	cases := map[string]struct {
		change func(*core.Task)
		path   string
		says   string // in English
	}{
		"NeverFires":         {spec("0 0 30 2 *"), "schedule.spec", "never fires"},
		"YearLikeSixthField": {spec("0 2 * * 1 2027"), "schedule.spec", "2027"},
		"NotASchedule":       {spec("every day"), "schedule.spec", ""},
		"NoSchedule":         {spec(""), "schedule.spec", ""},
		"AtInThePast":        {spec("@at 2026-11-20T11:59:59Z"), "schedule.spec", "no instant left"},
		"WindowInThePast":    {func(t *core.Task) { t.Schedule.Spec, t.Schedule.Until = "0 * * * *", noon.Add(-time.Hour) }, "schedule.until", "has passed"},
		"UnknownZone":        {func(t *core.Task) { t.Schedule.Zone = "Asia/Shangai" }, "schedule.zone", "Asia/Shanghai"},
		"UnknownDialect":     {func(t *core.Task) { t.Schedule.Dialect = "systemd" }, "schedule.dialect", "unix or quartz"},
		"MissingParam":       {params(`{}`), "params.urls", "is required"},
		"ParamOfWrongType":   {params(`{"urls":["a",7]}`), "params.urls[1]", "string"},
		"ParamTooSmall":      {params(`{"urls":["a"],"batch":0}`), "params.batch", "1"},
		"ParamNotAChoice":    {params(`{"urls":["a"],"mode":"odd"}`), "params.mode", "fast"},
		"ParamTooLong":       {params(`{"urls":["a"],"note":"abcd"}`), "params.note", "3"},
		"UnknownParam":       {params(`{"urls":["a"],"url":"a"}`), "params.url", "unknown parameter"},
		"ParamsNoObject":     {params(`[1]`), "params", "object"},
		"ParamsNoJSON":       {params(`{"urls":`), "params", "JSON"},
		"ProviderRefuses":    {params(`{"urls":["a"],"note":"odd"}`), "params.note", "is odd"},
		"UnknownType":        {func(t *core.Task) { t.Type = "Common.Nothing" }, "type", "no plugin and no script offers it"},
		"TypeOfAnother":      {func(t *core.Task) { t.Type = "Imaging.Export" }, "type", "only its own types"},
		"TypeWithAProblem":   {func(t *core.Task) { t.Type = "Common.Broken" }, "type", "does not compile"},
		"NoNamespace":        {func(t *core.Task) { t.Namespace = "Nowhere" }, "namespace", "create it first"},
		"BadName":            {func(t *core.Task) { t.Name = "a b" }, "name", "letter or digit"},
		"BadLabel":           {func(t *core.Task) { t.Labels = map[string]string{"a b": "c"} }, "labels.a b", "label"},
		"LongDescription":    {func(t *core.Task) { t.Description = strings.Repeat("x", 17<<10) }, "description", "16 KiB"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := sound()
			task.Name = name
			c.change(&task)
			_, err := w.Create(t.Context(), task, "ann")
			wantFinding(t, err, c.path, c.says)
		})
	}
	t.Cleanup(func() {
		tasks, err := w.Tasks(context.WithoutCancel(t.Context()), core.TaskFilter{})
		if err != nil || len(tasks) != 0 || len(w.announced()) != 0 {
			t.Errorf("%d refused tasks were stored (%v)", len(tasks), err)
		}
	})
}

// TestWhyATypeCannotBeUsedIsSaidInChinese: what the catalog says leaves no English tail.
func TestWhyATypeCannotBeUsedIsSaidInChinese(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, zh := range map[string]string{
		"Common.Nothing": "任务类型 Common.Nothing 不可用：没有插件或脚本提供它",
		"Imaging.Export": "任务类型 Imaging.Export 不可用：命名空间 Telemedicine 只能用自己的类型和 Common 的类型",
	} {
		task := sound()
		task.Type = name
		_, err := w.Create(t.Context(), task, "ann")
		if refused, ok := errors.AsType[*core.Error](err); !ok || len(refused.Findings) != 1 || refused.Findings[0].Message.Zh != zh {
			t.Errorf("%s: %+v, want %q", name, err, zh)
		}
	}
}

func wantFinding(t *testing.T, err error, path, says string) {
	t.Helper()
	refused, ok := errors.AsType[*core.Error](err)
	if !ok || refused.Kind != core.KindInvalid || len(refused.Findings) == 0 {
		t.Fatalf("error %v, kind %s; want findings", err, core.KindOf(err))
	}
	found := false
	for _, f := range refused.Findings {
		if f.Message.Zh == "" || f.Message.En == "" || !chinese(f.Message.Zh) {
			t.Errorf("finding %+v is not said in both languages", f)
		}
		found = found || f.Path == path && strings.Contains(f.Message.En, says)
	}
	if !found {
		t.Errorf("findings %+v; want one at %s that says %q", refused.Findings, path, says)
	}
}

func chinese(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r >= 0x4E00 && r <= 0x9FFF })
}

func TestEverythingWrongIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := sound()
	task.Namespace, task.Schedule.Spec, task.Policies.Overlap, task.Params = "Nowhere", "0 0 30 2 *", "never", json.RawMessage(`{"batch":0}`)
	_, err := w.Create(t.Context(), task, "ann")
	for _, path := range []string{"namespace", "schedule.spec", "policies.overlap", "params.urls", "params.batch"} {
		wantFinding(t, err, path, "")
	}
}

func TestANamespaceWithABadNameIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, name := range []string{"", "imaging", "Image Archive", "影像", strings.Repeat("A", 65)} {
		_, err := w.PutNamespace(t.Context(), core.Namespace{Name: name})
		wantFinding(t, err, "name", "upper-case")
	}
}

// TestASchemaNeverReadsFilesOrTheNetwork: a plugin's schema could otherwise make the server fetch what it likes.
func TestASchemaNeverReadsFilesOrTheNetwork(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var fetched atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		_, _ = rw.Write([]byte(`{"type":"object"}`))
	}))
	defer web.Close()
	file := filepath.Join(t.TempDir(), "any.json")
	if err := os.WriteFile(file, []byte(`{"type":"object"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, ref := range []string{"file://" + file, web.URL + "/any.json", "other.json"} {
		name := "Common.Ref" + string(rune('A'+i))
		schema := json.RawMessage(`{"$ref":"` + ref + `"}`)
		if err := w.catalog.Offer("plugin:"+name, provider{}, []core.TaskType{{Name: name, ParamsSchema: schema}}); err != nil {
			t.Fatal(err)
		}
		task := sound()
		task.Type = name
		_, err := w.Create(t.Context(), task, "ann")
		wantFinding(t, err, "type", "may not refer to")
	}
	if fetched.Load() != 0 {
		t.Error("the schema was fetched")
	}
}

func TestANewTaskFiresAfterNowAndIsAnnounced(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cases := map[string]struct {
		spec string
		next time.Time
	}{
		"Every":  {"@every 10s", noon.Add(10 * time.Second)},
		"Cron":   {"0 13 * * *", noon.Truncate(time.Hour).Add(time.Hour)},
		"After":  {"@after 10m", noon.Add(10 * time.Minute)},
		"At":     {"@at 2026-12-01T08:00:00+08:00", time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)},
		"Manual": {"@manual", time.Time{}},
	}
	for name, c := range cases {
		stored := w.create(t, func(task *core.Task) { task.Name, task.Schedule.Spec = name, c.spec })
		if !stored.State.NextFire.Equal(c.next) || stored.Version != 1 || stored.UpdatedBy != "ann" {
			t.Errorf("%s: stored %+v; want its first fire at %s", name, stored, c.next)
		}
		if said := w.announced(); len(said) != 1 || said[0].task.ID != stored.ID || said[0].removed || !said[0].task.State.NextFire.Equal(c.next) {
			t.Errorf("%s: announced %+v", name, said)
		}
	}
	later := w.create(t, func(task *core.Task) {
		task.Name, task.Schedule.Spec, task.Schedule.From = "later", "@after 10m", noon.Add(time.Hour)
	})
	if got := later.State.NextFire; got.Before(noon.Add(time.Hour)) || got.After(noon.Add(time.Hour+time.Second)) {
		t.Errorf("the first fire of a task that begins later is at %s", got)
	}
	off := w.create(t, func(task *core.Task) {
		task.Name, task.Enabled, task.Schedule.Spec = "off", false, "@at 2020-01-01T00:00:00Z"
	})
	if !off.State.NextFire.IsZero() {
		t.Errorf("a disabled task fires at %s", off.State.NextFire)
	}
}

func TestAnEditRecomputesTheNextFireFromNow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, nil)
	w.clock.set(noon.Add(25 * time.Second)) // two fires are past
	task.Schedule.Spec = "30 * * * *"
	edited, err := w.Replace(t.Context(), task, "bob")
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC); !edited.State.NextFire.Equal(want) || edited.Version != 2 || edited.UpdatedBy != "bob" {
		t.Errorf("edited task: next fire %s, version %d, by %s; want %s", edited.State.NextFire, edited.Version, edited.UpdatedBy, want)
	}
	versions, err := w.TaskVersions(t.Context(), task.ID)
	if err != nil || len(versions) != 2 || versions[1].Schedule.Spec != "@every 10s" {
		t.Errorf("versions %+v, %v", versions, err)
	}
}

// TestTheAnchorStaysWhileTheSpecDoes: editing the description does not move the instants of @every.
func TestTheAnchorStaysWhileTheSpecDoes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, nil)
	if !task.Schedule.Anchor.Equal(noon) {
		t.Fatalf("anchor %s; want %s", task.Schedule.Anchor, noon)
	}
	w.clock.set(noon.Add(24 * time.Second))
	task.Description, task.Schedule.Anchor = "now with words", time.Time{}
	same, err := w.Replace(t.Context(), task, "ann")
	if err != nil {
		t.Fatal(err)
	}
	if !same.Schedule.Anchor.Equal(noon) || !same.State.NextFire.Equal(noon.Add(30*time.Second)) {
		t.Errorf("anchor %s, next fire %s; the instants moved", same.Schedule.Anchor, same.State.NextFire)
	}
	same.Schedule.Spec = "@every 20s"
	moved, err := w.Replace(t.Context(), same, "ann")
	if err != nil {
		t.Fatal(err)
	}
	if !moved.Schedule.Anchor.Equal(noon.Add(24*time.Second)) || !moved.State.NextFire.Equal(noon.Add(44*time.Second)) {
		t.Errorf("another spec: anchor %s, next fire %s", moved.Schedule.Anchor, moved.State.NextFire)
	}
}

func TestTheSecondOfTwoEditorsIsRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	mine := w.create(t, nil)
	theirs := mine
	theirs.Description = "theirs"
	if _, err := w.Replace(t.Context(), theirs, "bob"); err != nil {
		t.Fatal(err)
	}
	w.announced()
	mine.Description = "mine"
	if _, err := w.Replace(t.Context(), mine, "ann"); core.KindOf(err) != core.KindStale {
		t.Errorf("the second edit gave %v; want stale", err)
	}
	if stored, err := w.Task(t.Context(), mine.ID); err != nil || stored.Description != "theirs" || len(w.announced()) != 0 {
		t.Errorf("the refused edit left %+v, %v", stored, err)
	}
}

func TestTheNameOfATaskCannotBeChanged(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, nil)
	task.Name = "pong"
	_, err := w.Replace(t.Context(), task, "ann")
	wantFinding(t, err, "name", "cannot be changed")
	if _, err := w.Create(t.Context(), sound(), "ann"); core.KindOf(err) != core.KindConflict {
		t.Errorf("a second task of one name gave %v; want conflict", err)
	}
}

func TestEnablingNeverFiresRetroactively(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, nil)
	w.announced()
	off, err := w.SetEnabled(t.Context(), task.ID, false, "ann")
	if err != nil || off.Enabled || !off.State.NextFire.IsZero() || off.Version != 2 {
		t.Fatalf("disabled: %+v, %v", off, err)
	}
	if again, err := w.SetEnabled(t.Context(), task.ID, false, "ann"); err != nil || again.Version != 2 {
		t.Errorf("disabling twice made version %d, %v", again.Version, err)
	}
	w.clock.set(noon.Add(time.Hour + 3*time.Second))
	on, err := w.SetEnabled(t.Context(), task.ID, true, "ann")
	if err != nil || !on.Enabled || !on.State.NextFire.Equal(noon.Add(time.Hour+10*time.Second)) {
		t.Fatalf("enabled: next fire %s, %v", on.State.NextFire, err)
	}
	if said := w.announced(); len(said) != 2 || said[0].task.Enabled || !said[1].task.Enabled {
		t.Errorf("announced %+v", said)
	}
}

// TestATaskWhoseTypeIsGoneCanBeDisabled: switching off must not depend on what the task needs to run.
func TestATaskWhoseTypeIsGoneCanBeDisabled(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, nil)
	w.catalog.Withdraw("plugin:common")
	off, err := w.SetEnabled(t.Context(), task.ID, false, "ann")
	if err != nil || off.Enabled || string(off.Params) != string(task.Params) {
		t.Fatalf("disabled: %+v, %v", off, err)
	}
	_, err = w.SetEnabled(t.Context(), task.ID, true, "ann")
	wantFinding(t, err, "type", "no plugin and no script offers it")
}

func TestADeletedTaskIsAnnouncedAsRemoved(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, nil)
	w.announced()
	if err := w.Delete(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	if said := w.announced(); len(said) != 1 || !said[0].removed || said[0].task.ID != task.ID {
		t.Errorf("announced %+v", said)
	}
	if _, err := w.Task(t.Context(), task.ID); core.KindOf(err) != core.KindNotFound {
		t.Errorf("the deleted task gave %v", err)
	}
	if err := w.Delete(t.Context(), task.ID); core.KindOf(err) != core.KindNotFound {
		t.Errorf("deleting twice gave %v", err)
	}
}

func TestTheParametersOfOneRunAreLaidOverTheTasks(t *testing.T) {
	t.Parallel()
	w := setup(t)
	task := w.create(t, func(task *core.Task) { task.Params = json.RawMessage(`{"urls":["a"],"batch":7}`) })
	run, err := w.ForRun(t.Context(), task.ID, json.RawMessage(`{"batch":9,"mode":"slow"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(run.Params); got != `{"batch":9,"mode":"slow","urls":["a"]}` {
		t.Errorf("parameters %s", got)
	}
	for override, path := range map[string]string{`{"batch":0}`: "params.batch", `[1]`: "params", `{"urls":null}`: "params.urls", `null`: "params"} {
		_, err := w.ForRun(t.Context(), task.ID, json.RawMessage(override))
		wantFinding(t, err, path, "")
	}
	if stored, err := w.Task(t.Context(), task.ID); err != nil || string(stored.Params) != string(task.Params) || stored.Version != 1 {
		t.Errorf("the task itself changed: %s, %v", stored.Params, err)
	}
}
