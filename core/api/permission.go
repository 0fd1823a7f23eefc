package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Principal is who asks, as package access knows it.
type Principal interface {
	// String gives the principal's name.
	String() string
	// Can reports whether the principal has a permission in a namespace; "*" asks for all namespaces.
	Can(permission, namespace string) bool
	// Scope gives the namespaces in which the principal has a permission; all is true if that is every one.
	Scope(permission string) (all bool, namespaces []string)
}

// Act is something about to be done that the audit keeps.
type Act struct {
	Principal string
	Operation string
	Namespace string // "" or "*": not of one namespace
	Resource  string
	Allowed   bool
	RequestID string
	Remote    string
}

// everywhere is the namespace of what belongs to none, or to all.
const everywhere = "*"

// source says where the namespace of an operation comes from. It never comes from a body.
type source string

const (
	fromNothing      source = "public"       // no token is needed: /healthz and /readyz, nothing else
	fromPath         source = "path"         // the path parameter {namespace}
	fromType         source = "type"         // the part of the path parameter {type} before the dot
	fromTask         source = "task"         // the stored task {task_id}
	fromRun          source = "run"          // the stored run {run_id}
	fromIntervention source = "intervention" // the stored intervention for {run_id}
	fromBreaker      source = "breaker"      // the task whose breaker {name} is; of a downstream's: a grant for all is needed
	fromGrants       source = "grants"       // a list: what the caller may see; at least one namespace
	fromServer       source = "all"          // of no namespace: a grant for all of them is needed
	inName                  = "{namespace}"
)

// taskBreaker is what the name of a task's own breaker begins with; the task's id follows.
const taskBreaker = "task:"

// rule is what an operation demands. Every operation has one.
type rule struct {
	permission string
	source     source
	changes    bool // recorded in the audit before it takes effect; so are questions in SQL, without their text
}

const ruleKey = "gnomon.rule"

// check says what is wrong with an operation's rule; nil: nothing.
func (a *API) check(op *huma.Operation) error {
	r, ok := op.Metadata[ruleKey].(rule)
	name := op.Method + " " + op.Path
	if !ok {
		return fmt.Errorf("operation %s declares no permission and no namespace", name)
	}
	need := map[source]string{fromPath: inName, fromType: "{type}", fromTask: "{task_id}", fromRun: "{run_id}", fromIntervention: "{run_id}", fromBreaker: "{name}"}
	param, placed := need[r.source]
	switch {
	case r.source == fromNothing:
		if op.Path != "/healthz" && op.Path != "/readyz" {
			return fmt.Errorf("operation %s is public; only /healthz and /readyz may be", name)
		}
		return nil
	case !slices.Contains([]source{fromPath, fromType, fromTask, fromRun, fromIntervention, fromBreaker, fromGrants, fromServer}, r.source):
		return fmt.Errorf("operation %s does not say where its namespace comes from", name)
	case placed && !strings.Contains(op.Path, param):
		return fmt.Errorf("operation %s takes its namespace from %s, which is not in its path", name, param)
	case !slices.Contains(a.opts.Permissions, r.permission):
		return fmt.Errorf("operation %s needs the permission %q, which does not exist", name, r.permission)
	case !r.changes && op.Method != http.MethodGet && op.OperationID != "preview-schedule" && op.OperationID != "check-definitions" && op.OperationID != "query":
		return fmt.Errorf("operation %s changes something and does not say so", name)
	}
	return nil
}

// register adds an operation together with what it demands.
func register[I, O any](a *API, op huma.Operation, r rule, handle func(context.Context, *I) (*O, error)) {
	op.Metadata = map[string]any{ruleKey: r}
	if r.source != fromNothing {
		op.Security = []map[string][]string{{"token": {}}}
		op.Extensions = map[string]any{"x-gnomon-permission": r.permission, "x-gnomon-namespace": string(r.source)}
	}
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxBody
	}
	huma.Register(a.huma, op, handle)
}

// authorize is the one gate in front of every operation: who asks, in which namespace, and may they. It runs before a
// body is read. What has no rule is refused.
func (a *API) authorize(hctx huma.Context, next func(huma.Context)) {
	ctx := hctx.Context()
	req := requestOf(ctx)
	op := hctx.Operation()
	req.operation = op.OperationID
	for _, field := range []string{"namespace", "name"} {
		if strings.Contains(op.Path, "{"+field+"}") {
			req.pathFields = append(req.pathFields, field)
		}
	}
	r, ok := op.Metadata[ruleKey].(rule)
	if !ok {
		a.answer(hctx, core.Errorf(core.KindDenied, op.OperationID, "the operation has no rule"))
		return
	}
	if r.source == fromNothing {
		next(hctx)
		return
	}
	token, ok := bearer(hctx.Header("Authorization"))
	if !ok {
		hctx.SetHeader("WWW-Authenticate", `Bearer realm="gnomon"`)
		a.answer(hctx, core.Refuse(core.KindUnauthenticated, "", core.Text{Zh: "请随请求发送令牌：Authorization: Bearer …", En: "send a token: Authorization: Bearer …"}))
		return
	}
	who, err := a.opts.Authenticate(ctx, token)
	if err != nil {
		if core.KindOf(err) == core.KindUnauthenticated {
			hctx.SetHeader("WWW-Authenticate", `Bearer realm="gnomon", error="invalid_token"`)
		}
		a.answer(hctx, err)
		return
	}
	req.principal = who
	namespace, err := a.place(ctx, hctx, r, req)
	if err == nil {
		err = permit(who, r, namespace, hctx)
	}
	if r.changes && (err == nil || core.KindOf(err) == core.KindDenied) {
		url := hctx.URL()
		kept := a.opts.Audit(ctx, Act{
			Principal: who.String(), Operation: op.OperationID, Namespace: namespace, Resource: url.Path,
			Allowed: err == nil, RequestID: req.id, Remote: hctx.RemoteAddr(),
		})
		err = errors.Join(err, kept)
	}
	if err != nil {
		a.answer(hctx, err)
		return
	}
	next(hctx)
}

// place finds the namespace an operation is about, and loads the task or run it names on the way.
func (a *API) place(ctx context.Context, hctx huma.Context, r rule, req *request) (string, error) {
	switch r.source {
	case fromPath:
		return hctx.Param("namespace"), nil
	case fromType:
		return core.NamespaceOf(hctx.Param("type")), nil
	case fromTask:
		task, err := a.opts.Definitions.Task(ctx, hctx.Param("task_id"))
		req.task = task
		return task.Namespace, unseen(err, hctx)
	case fromRun:
		run, err := a.findRun(ctx, hctx.Param("run_id"))
		req.run = run
		return run.Namespace, unseen(err, hctx)
	case fromIntervention:
		i, err := a.opts.Live.Intervention(ctx, hctx.Param("run_id"))
		req.intervention = i
		return i.Namespace, unseen(err, hctx)
	case fromBreaker:
		if id, ofTask := strings.CutPrefix(hctx.Param("name"), taskBreaker); ofTask {
			task, err := a.opts.Definitions.Task(ctx, id)
			return task.Namespace, unseen(err, hctx)
		}
	}
	return everywhere, nil
}

// permit decides. A namespace in which the caller has no right at all looks as if it were not there.
func permit(who Principal, r rule, namespace string, hctx huma.Context) error {
	if r.source == fromGrants {
		if all, some := who.Scope(r.permission); all || len(some) > 0 {
			return nil
		}
		return denied(who, r, core.Text{Zh: "任何命名空间", En: "any namespace"})
	}
	if who.Can(r.permission, namespace) {
		return nil
	}
	if namespace != everywhere && !who.Can("namespace:read", namespace) {
		return absent(hctx)
	}
	if namespace == everywhere {
		return denied(who, r, allNamespaces)
	}
	return denied(who, r, namespaceText(namespace))
}

// visible gives the namespaces a list may cover: what the caller may see, narrowed to one if asked; nil means every
// namespace. One that does not exist is an error, so that a wrong name is not taken for good news, and one in which the caller
// has no right at all is the same error.
func (a *API) visible(ctx context.Context, permission, asked string) ([]string, error) {
	req := requestOf(ctx)
	if asked == "" {
		all, namespaces := req.principal.Scope(permission)
		if all {
			return nil, nil
		}
		return append([]string{}, namespaces...), nil // the gate let only those pass who may see some
	}
	if !req.principal.Can(permission, asked) && req.principal.Can("namespace:read", asked) {
		return nil, denied(req.principal, rule{permission: permission}, namespaceText(asked))
	}
	_, err := a.opts.Definitions.Namespace(ctx, asked)
	if !req.principal.Can(permission, asked) || core.KindOf(err) == core.KindNotFound {
		return nil, req.refuse(http.StatusNotFound, core.KindNotFound, core.Text{
			Zh: "没有命名空间 " + asked + "，或您无权查看", En: "there is no namespace " + asked + ", or none you may see",
		})
	}
	return []string{asked}, err
}

var allNamespaces = core.Text{Zh: "全部命名空间", En: "all namespaces"}

func namespaceText(name string) core.Text {
	return core.Text{Zh: "命名空间 " + name + " ", En: "namespace " + name}
}

func denied(who Principal, r rule, where core.Text) error {
	return core.Refuse(core.KindDenied, "", core.Text{
		Zh: fmt.Sprintf("%s 在%s中没有权限 %s", who, where.Zh, r.permission), En: fmt.Sprintf("%s lacks the permission %s in %s", who, r.permission, where.En),
	})
}

// absent is the one answer for what is not there and for what the caller may not know of.
func absent(hctx huma.Context) error {
	url := hctx.URL()
	what := asked(url.Path)
	return core.Refuse(core.KindNotFound, "", core.Text{
		Zh: "没有" + what.Zh + "，或您无权查看", En: "there is no " + what.En + ", or none you may see",
	})
}

// asked names the thing that a path is about.
func asked(path string) core.Text {
	parts := strings.Split(strings.TrimPrefix(path, "/v1/"), "/")
	if len(parts) < 2 {
		return core.Text{Zh: " " + path, En: path}
	}
	switch of, id := parts[0], parts[1]; {
	case of == "runs":
		return core.Text{Zh: "运行 " + id, En: "run " + id}
	case of == "interventions":
		return core.Text{Zh: "等待人工处理的运行 " + id, En: "intervention " + id}
	case of == "tasks":
		return core.Text{Zh: "任务 " + id, En: "task " + id}
	case of == "namespaces" && len(parts) > 3 && parts[2] == "tasks":
		return core.Text{Zh: "任务 " + id + "/" + parts[3], En: "task " + id + "/" + parts[3]}
	case of == "namespaces":
		return core.Text{Zh: "命名空间 " + id, En: "namespace " + id}
	}
	return core.Text{Zh: " " + path, En: path}
}

func unseen(err error, hctx huma.Context) error {
	if err != nil && core.KindOf(err) == core.KindNotFound {
		return absent(hctx)
	}
	return err
}

func (a *API) answer(hctx huma.Context, err error) {
	p := problem(hctx.Context(), err)
	_ = huma.WriteErr(a.huma, hctx, p.Status, p.Detail, p) // a write error means the caller went away
}

func bearer(header string) (string, bool) {
	scheme, token, ok := strings.Cut(header, " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer") && token != ""
}
