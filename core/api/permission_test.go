package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

// demands has a row for every operation: a request that works for the administrator on a task, run, type or name of the
// namespace Common or Foreign. {ns}, {task} and {run} are filled in. An operation without a row fails.
var demands = map[string]struct{ path, body string }{
	"list-namespaces":    {path: "/v1/namespaces"},
	"get-namespace":      {path: "/v1/namespaces/{ns}"},
	"put-namespace":      {path: "/v1/namespaces/{ns}", body: `{"description":"changed"}`},
	"list-task-types":    {path: "/v1/task-types"},
	"get-task-type":      {path: "/v1/task-types/{ns}.{type}"},
	"list-tasks":         {path: "/v1/tasks"},
	"create-task":        {path: "/v1/namespaces/{ns}/tasks", body: `{"name":"new",` + echo[1:]},
	"get-task":           {path: "/v1/tasks/{task}"},
	"replace-task":       {path: "/v1/tasks/{task}", body: echo},
	"patch-task":         {path: "/v1/tasks/{task}", body: `{"owner":"wang"}`},
	"delete-task":        {path: "/v1/tasks/{task}"},
	"get-task-by-name":   {path: "/v1/namespaces/{ns}/tasks/there"},
	"put-task":           {path: "/v1/namespaces/{ns}/tasks/there", body: echo},
	"list-task-versions": {path: "/v1/tasks/{task}/versions"},
	"enable-task":        {path: "/v1/tasks/{task}/enable"},
	"disable-task":       {path: "/v1/tasks/{task}/disable"},
	"run-task":           {path: "/v1/tasks/{task}/run", body: `{}`},
	"list-runs":          {path: "/v1/runs"},
	"get-run":            {path: "/v1/runs/{run}"},
	"cancel-run":         {path: "/v1/runs/{run}/cancel"},
	"list-attempts":      {path: "/v1/runs/{run}/attempts"},
	"list-samples":       {path: "/v1/runs/{run}/samples"},
	"list-log-lines":     {path: "/v1/runs/{run}/logs"},
	"search-task-logs":   {path: "/v1/tasks/{task}/logs?search=refused"},
	"follow-log":         {path: "/v1/runs/{run}/logs/live"},
	"get-log":            {path: "/v1/runs/{run}/log"},
	"pause-task":         {path: "/v1/tasks/{task}/pause", body: `{"note":"moving"}`},
	"resume-task":        {path: "/v1/tasks/{task}/resume"},
	"backfill-task":      {path: "/v1/tasks/{task}/backfill", body: `{"from":"2026-01-01T00:00:00Z","to":"2026-01-01T03:00:00Z"}`},
	"why-task":           {path: "/v1/tasks/{task}/why"},
	"terminate-run":      {path: "/v1/runs/{run}/terminate"},
	"get-workflow":       {path: "/v1/runs/{run}/workflow"},
	"rerun-workflow":     {path: "/v1/runs/{run}/rerun", body: `{"from":["load"]}`},
	"list-queue":         {path: "/v1/queue"},
	"list-interventions": {path: "/v1/interventions"},
	"get-intervention":   {path: "/v1/interventions/{run}"},
	"retry-intervention": {path: "/v1/interventions/{run}/retry", body: `{"note":"again"}`},
	"skip-intervention":  {path: "/v1/interventions/{run}/skip"},
	"done-intervention":  {path: "/v1/interventions/{run}/done", body: `{"note":"by hand"}`},
	"list-calendars":     {path: "/v1/calendars"},
	"get-calendar":       {path: "/v1/calendars/free"},
	"put-calendar":       {path: "/v1/calendars/free", body: `{"weekdays":["mon"]}`},
	"delete-calendar":    {path: "/v1/calendars/free"},
	"list-calendar-days": {path: "/v1/calendars/free/days?from=2026-10-01"},
	"list-holidays":      {path: "/v1/holidays"},
	"put-holidays":       {path: "/v1/holidays", body: `{"year":2031,"holidays":{"2031-10-01":"国庆节"}}`},
	"list-pools":         {path: "/v1/pools"},
	"get-pool":           {path: "/v1/pools/erp"},
	"put-pool":           {path: "/v1/pools/erp", body: `{"slots":3}`},
	"delete-pool":        {path: "/v1/pools/erp"},
	"list-downstreams":   {path: "/v1/downstreams"},
	"get-downstream":     {path: "/v1/downstreams/his"},
	"put-downstream":     {path: "/v1/downstreams/his", body: `{"failures":3,"cooldown":"1m"}`},
	"delete-downstream":  {path: "/v1/downstreams/his"},
	"list-breakers":      {path: "/v1/breakers"},
	"reset-breaker":      {path: "/v1/breakers/task:{task}/reset"},
	"reconcile":          {path: "/v1/reconciliation"},
	"get-doctor":         {path: "/v1/doctor"},
	"forecast":           {path: "/v1/forecast"},
	"spread-forecast":    {path: "/v1/namespaces/{ns}/forecast/spread", body: `{}`},
	"check-definitions":  {path: "/v1/definitions/check", body: `{"tasks":[{"namespace":"Common","name":"new",` + echo[1:] + `]}`},
	"preview-schedule":   {path: "/v1/schedule/preview", body: `{"spec":"@hourly"}`},
	"query":              {path: "/v1/query", body: `{"sql":"SELECT 1"}`},
	"back-up-history":    {path: "/v1/history/backups", body: `{"folder":"sunday"}`},
	"list-queries":       {path: "/v1/queries"},
	"cancel-query":       {path: "/v1/queries/01942f00-0000-7000-8000-0000000000aa"},
	"list-tokens":        {path: "/v1/tokens"},
	"create-token":       {path: "/v1/tokens", body: `{"principal":"li","grants":{"Common":"analyst"},"expires_in":"720h"}`},
	"revoke-token":       {path: "/v1/tokens/0000000000000000"},
	"get-server":         {path: "/v1/server"},
	"healthz":            {path: "/healthz"},
	"readyz":             {path: "/readyz"},
}

// TestEveryOperationForEveryRoleInEveryNamespace is the generated proof of promise S2: every operation, asked without a
// token, with an unknown one, and by every role granted in Common, on things of Common and of Foreign.
func TestEveryOperationForEveryRoleInEveryNamespace(t *testing.T) {
	t.Parallel()
	for _, op := range setup(t).api.Operations() {
		row, ok := demands[op.ID]
		if !ok {
			t.Errorf("operation %s has no row: say how to ask it", op.ID)
			continue
		}
		t.Run(op.ID, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			ask := func(token, ns string) answer {
				// Each question finds the same things there: a task, a run that has ended, nothing new.
				w.reset(ns)
				path := strings.NewReplacer("{ns}", ns, "{task}", w.tables.named(ns), "{run}", "run-"+ns,
					"{type}", map[string]string{"Common": "Echo", "Foreign": "Secret"}[ns]).Replace(row.path)
				return w.do(token, op.Method, path, row.body)
			}
			if op.Permission == "" {
				if op.Path != "/healthz" && op.Path != "/readyz" {
					t.Fatal("it is open to anyone")
				}
				w.must(200, ask("", "Common"))
				return
			}
			w.must(401, ask("", "Common"))
			w.must(401, ask("gnomon_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "Common"))
			for _, ns := range []string{"Common", "Foreign"} {
				if a := ask(w.admin, ns); a.status >= 400 {
					t.Fatalf("the row does not work for the administrator in %s: %d %s", ns, a.status, a.raw)
				}
			}
			for _, role := range access.Roles() {
				token := w.token(role, "Common")
				allowed := role.Allows(op.Permission)
				home, abroad := ask(token, "Common"), ask(token, "Foreign")
				switch op.Namespace {
				case "all": // a grant in one namespace is never enough
					w.must(403, home)
					w.must(403, abroad)
				case "grants":
					if allowed != (home.status < 400) || !allowed && home.status != 403 {
						t.Errorf("%s: %d %s", role, home.status, home.raw)
					}
					if strings.Contains(home.raw, "Foreign") || strings.Contains(abroad.raw, "Foreign") {
						t.Errorf("%s sees Foreign in %s", role, home.raw)
					}
				default:
					if allowed != (home.status < 400) || !allowed && home.status != 403 {
						t.Errorf("%s at home: %d %s", role, home.status, home.raw)
					}
					if abroad.status != 404 {
						t.Errorf("%s abroad: %d %s", role, abroad.status, abroad.raw)
					}
				}
			}
			w.acts.mu.Lock()
			defer w.acts.mu.Unlock()
			if (len(w.acts.all) > 0) != op.Changes {
				t.Errorf("changes %v, but the audit has %d acts", op.Changes, len(w.acts.all))
			}
			if !op.Changes && op.Method != http.MethodGet && op.ID != "query" && op.ID != "preview-schedule" && op.ID != "check-definitions" {
				t.Error("it changes something and does not say so")
			}
		})
	}
}

// reset puts one task and one ended run into a namespace, and nothing else.
func (w *world) reset(ns string) {
	w.tables.mu.Lock()
	clear(w.tables.tasks)
	clear(w.tables.runs)
	w.tables.tokens[strings.Repeat("0", 64)] = core.Token{Hash: strings.Repeat("0", 64), Principal: "old"}
	w.tables.mu.Unlock()
	acts := w.acts.all
	w.task(ns, "there")
	w.acts.all = acts
	id := w.tables.named(ns)
	state := core.Run{ID: "run-" + ns, TaskID: id, Namespace: ns, TaskName: "there", FireCount: 1, State: core.RunClaimed}
	if strings.HasSuffix(w.t.Name(), "follow-log") {
		state.Verdict = core.Succeeded // a log that is followed ends
	}
	w.tables.put(state)
	w.shared(ns, id)
}

// shared puts there what all namespaces share, and what waits and stands open in both.
func (w *world) shared(ns, id string) {
	w.tables.mu.Lock()
	defer w.tables.mu.Unlock()
	t := w.tables
	clear(t.resources)
	for kind, doc := range map[string]string{
		"calendar free": `{"name":"free","weekdays":["sun"]}`, "pool erp": `{"name":"erp","slots":2}`,
		"downstream his": `{"name":"his","failures":5,"cooldown_ns":60000000000}`,
	} {
		kind, name, _ := strings.Cut(kind, " ")
		t.resources[kind+" "+name] = core.Resource{Kind: kind, Name: name, Version: 1, Doc: []byte(doc)}
	}
	t.holdings = []core.Holding{{Limit: "pool:erp", Namespace: "Foreign", Slots: 2}}
	t.breakers = map[string]core.Breaker{
		"downstream:his": {Name: "downstream:his", State: core.BreakerOpen, Failures: 5, Because: "Foreign could not log on", ProbeRun: "Foreign"},
		"task:" + id:     {Name: "task:" + id, State: core.BreakerOpen, Because: ns + " is broken"},
		"task:gone":      {Name: "task:gone", Because: "Foreign"},
	}
	clear(t.interventions)
	for _, name := range []string{"Foreign", "Common"} {
		t.runs["waits-"+name] = core.Run{
			ID: "waits-" + name, Namespace: name, TaskName: "in" + name, State: core.RunWaiting, Gate: core.GateCapacity, GateKey: "pool:erp",
		}
		t.interventions["run-"+name] = core.Intervention{RunID: "run-" + name, TaskID: id, Namespace: name, Verdict: core.Failed, Attempts: 3}
	}
}

// TestANamespaceThatIsNotThereIsSaid: a name that is mistyped is not answered as one in which all is well, and one that the caller
// may not see looks the same.
func TestANamespaceThatIsNotThereIsSaid(t *testing.T) {
	t.Parallel()
	w := setup(t)
	viewer := w.token(access.Viewer, "Common")
	for _, path := range []string{"/v1/tasks", "/v1/runs", "/v1/queue", "/v1/interventions", "/v1/forecast", "/v1/reconciliation", "/v1/task-types"} {
		for _, token := range []string{viewer, w.admin} {
			w.must(200, w.do(token, "GET", path+"?namespace=Common", ""))
			a := w.must(404, w.do(token, "GET", path+"?namespace=Nope", ""))
			if a.body["kind"] != "not_found" || a.body["detail"] != "there is no namespace Nope, or none you may see" {
				t.Errorf("%s: %s", path, a.raw)
			}
		}
		w.must(200, w.do(w.admin, "GET", path+"?namespace=Foreign", ""))
		unseen := w.must(404, w.do(viewer, "GET", path+"?namespace=Foreign", "", "Accept-Language", "zh"))
		if unseen.body["detail"] != "没有命名空间 Foreign，或您无权查看" {
			t.Errorf("%s: %s", path, unseen.raw)
		}
	}
}

func (s *tables) named(ns string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, versions := range s.tasks {
		if versions[0].Namespace == ns {
			return id
		}
	}
	return "none"
}

func TestAnOperationWithoutRuleKeepsTheServerFromStarting(t *testing.T) {
	t.Parallel()
	w := setup(t)
	type empty struct{}
	for name, op := range map[string]huma.Operation{
		"no rule":     {OperationID: "leak", Method: "GET", Path: "/v1/leak"},
		"hidden":      {OperationID: "leak", Method: "GET", Path: "/v1/leak", Hidden: true},
		"no metadata": {OperationID: "leak", Method: "POST", Path: "/v1/leak", Metadata: map[string]any{"gnomon.rule": "task:read"}},
	} {
		_, err := api.NewWith(w.opts, func(h huma.API) {
			huma.Register(h, op, func(context.Context, *empty) (*empty, error) { return nil, nil })
		})
		if err == nil || !strings.Contains(err.Error(), "declares no permission") {
			t.Errorf("%s: %v", name, err)
		}
	}
	opts := w.opts
	opts.Permissions = []string{"task:read"}
	if _, err := api.New(opts); err == nil || !strings.Contains(err.Error(), `"task:write", which does not exist`) {
		t.Errorf("unknown permission: %v", err)
	}
	opts = w.opts
	opts.Audit = nil
	if _, err := api.New(opts); err == nil {
		t.Error("it starts without an audit")
	}
}

func TestNothingIsDoneThatTheAuditDidNotKeep(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.task("Common", "there")
	w.acts.err = core.Errorf(core.KindUnavailable, "write the audit file", "no space left")
	w.must(503, w.do(w.admin, "DELETE", "/v1/tasks/"+id, ""))
	w.acts.err = nil
	w.must(200, w.do(w.admin, "GET", "/v1/tasks/"+id, ""))
	viewer := w.token(access.Viewer, "Common")
	w.must(403, w.do(viewer, "DELETE", "/v1/tasks/"+id, ""))
	last := w.acts.all[len(w.acts.all)-1]
	got := fmt.Sprint(last.Principal, last.Operation, last.Namespace, last.Allowed)
	if got != fmt.Sprint("viewer", "delete-task", "Common", false) || last.Resource != "/v1/tasks/"+id {
		t.Errorf("kept: %+v", last)
	}
}
