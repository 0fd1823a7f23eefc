// Package workflow carries out graphs of tasks. A workflow is a task of the type Common.Workflow, whose parameters are
// the graph; each of its steps is a run of another task of the namespace. What follows from how the steps stand is pure:
// Parse, Advance, View. The Executor starts the steps, waits for them and hands their outputs on.
package workflow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

// TypeName is the task type of workflows.
const TypeName = "Common.Workflow"

// The limits of a graph.
const (
	maxSteps = 500
	maxNeeds = 100 // of one step
)

// Graph is a workflow's steps and what they need. It comes from Parse and is not changed.
type Graph struct {
	Steps  []Step
	Inputs map[string]json.RawMessage // what steps take by $.inputs.<name>
	Resume *Resume                    // nil: all steps are carried out

	index map[string]int // by name
	order []int          // in which each step stands after what it needs
}

// Step is one step of a workflow.
type Step struct {
	Name   string                     `json:"name"`             // unique in its graph
	Task   string                     `json:"task"`             // name of a task in the workflow's namespace
	Needs  []string                   `json:"needs,omitempty"`  // steps that must be over before it is decided
	When   core.When                  `json:"when,omitempty"`   // after which ends of these; "" is OnSuccess
	Params map[string]json.RawMessage `json:"params,omitempty"` // laid over the task's own; texts that begin with "$." are paths
}

// Resume says that a workflow run takes over what an earlier run of the same workflow came to.
type Resume struct {
	Run  string   `json:"run"`            // the earlier workflow run
	From []string `json:"from,omitempty"` // steps that are carried out again, with all that need them; always those that did not succeed
	Done []string `json:"done,omitempty"` // steps that failed, and of which a person has said that their work was done by hand
}

type document struct {
	Steps  []Step                     `json:"steps"`
	Inputs map[string]json.RawMessage `json:"inputs,omitempty"`
	Resume *Resume                    `json:"resume,omitempty"`
}

var stepName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// Tasks gives the names of the tasks that the steps start, each once, in the order of the steps.
func (g Graph) Tasks() []string {
	var names []string
	for _, s := range g.Steps {
		if !slices.Contains(names, s.Task) {
			names = append(names, s.Task)
		}
	}
	return names
}

func finding(path, zh, en string) core.Finding {
	return core.Finding{Path: path, Message: core.Text{Zh: zh, En: en}}
}

// parsing gathers what is wrong with a graph.
type parsing struct {
	Graph
	found []core.Finding
}

func (p *parsing) refuse(path, zh, en string) { p.found = append(p.found, finding(path, zh, en)) }

// Parse reads a workflow's parameters. The findings' paths begin with "params"; where there are any the graph is of no use.
// Whether the tasks exist is not its concern.
func Parse(params json.RawMessage) (Graph, []core.Finding) {
	var d document
	decoder := json.NewDecoder(bytes.NewReader(params))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return Graph{}, []core.Finding{decodeFinding(err)}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Graph{}, []core.Finding{finding("params", "JSON 文档后面还有内容", "something follows the JSON document")}
	}
	p := &parsing{Graph: Graph{Steps: d.Steps, Inputs: d.Inputs, Resume: d.Resume, index: map[string]int{}}}
	switch n := len(p.Steps); {
	case n == 0:
		p.refuse("params.steps", "工作流没有步骤；请至少写一个", "the workflow has no steps; give at least one")
	case n > maxSteps:
		p.refuse("params.steps", fmt.Sprintf("步骤有 %d 个，最多 %d 个", n, maxSteps), fmt.Sprintf("there are %d steps; at most %d are allowed", n, maxSteps))
	}
	if len(p.found) > 0 {
		return Graph{}, p.found
	}
	for i := range p.Steps {
		p.step(i)
	}
	for i := range p.Steps {
		p.needs(i)
	}
	if len(p.found) == 0 {
		p.sort()
	}
	if len(p.found) == 0 {
		p.paths()
	}
	p.resume()
	if len(p.found) > 0 {
		return Graph{}, p.found
	}
	return p.Graph, nil
}

// decodeFinding puts into words why parameters are not the document they should be.
func decodeFinding(err error) core.Finding {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		path := "params"
		if wrong.Field != "" {
			path += "." + wrong.Field
		}
		return finding(path, "这里不能是 "+wrong.Value, wrong.Value+" cannot stand here")
	}
	if name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown {
		return finding("params", "没有字段 "+name+"；可用的有 steps、inputs、resume，步骤里有 name、task、needs、when、params",
			"there is no field "+name+"; there are steps, inputs and resume, and in a step name, task, needs, when and params")
	}
	return finding("params", "参数不是 JSON 对象："+err.Error(), "the parameters are no JSON object: "+err.Error())
}

func at(step int, field string) string { return fmt.Sprintf("params.steps[%d]%s", step, field) }

func (p *parsing) step(i int) {
	s := &p.Steps[i]
	switch before, twice := p.index[s.Name]; {
	case !stepName.MatchString(s.Name):
		p.refuse(at(i, ".name"), "步骤名以小写字母或数字开头，只含小写字母、数字、“_”“-”，至多 64 个字符",
			`a step's name starts with a lower-case letter or digit and has only these, "_" and "-", at most 64 characters`)
	case twice:
		p.refuse(at(i, ".name"), fmt.Sprintf("步骤名 %s 已被 steps[%d] 使用；请换一个", s.Name, before),
			fmt.Sprintf("the name %s is that of steps[%d] already; choose another one", s.Name, before))
	default:
		p.index[s.Name] = i
	}
	if !core.IsName(s.Task, core.MaxTaskName) {
		p.refuse(at(i, ".task"), "请写同一命名空间里的任务名", "give the name of a task in the same namespace")
	}
	if !slices.Contains([]core.When{"", core.OnSuccess, core.OnFailure, core.OnAlways}, s.When) {
		p.refuse(at(i, ".when"), fmt.Sprintf("%q 不是可选值；请写 success、failure 或 always", s.When), fmt.Sprintf("%q is not a choice; write success, failure or always", s.When))
	}
	if s.When == "" {
		s.When = core.OnSuccess
	}
	if s.When == core.OnFailure && len(s.Needs) == 0 {
		p.refuse(at(i, ".when"), "failure 要和 needs 一起写：没有前置步骤就不会有失败", "failure goes with needs: without any nothing can have failed")
	}
	if len(s.Needs) > maxNeeds {
		p.refuse(at(i, ".needs"), fmt.Sprintf("最多 %d 个前置步骤", maxNeeds), fmt.Sprintf("at most %d steps can be needed", maxNeeds))
	}
}

func (p *parsing) needs(i int) {
	s := p.Steps[i]
	for k, need := range s.Needs {
		path := at(i, fmt.Sprintf(".needs[%d]", k))
		_, known := p.index[need]
		switch {
		case need == s.Name:
			p.refuse(path, "步骤不能等待自己", "a step cannot need itself")
		case !known:
			said := "没有步骤 " + need
			en := "there is no step " + need
			if like := p.like(need); like != "" {
				said, en = said+"；是否指 "+like+"？", en+"; did you mean "+like+"?"
			}
			p.refuse(path, said, en)
		case slices.Contains(s.Needs[:k], need):
			p.refuse(path, "前置步骤 "+need+" 写了两次", "the step "+need+" is needed twice")
		}
	}
}

// like gives the one step whose name differs from a name by one letter that is wrong, missing or too many, or by two that are swapped.
func (p *parsing) like(name string) string {
	for _, s := range p.Steps {
		if oneOff(name, s.Name) {
			return s.Name
		}
	}
	return ""
}

func oneOff(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch {
	case a == "" || len(b)-len(a) > 1:
		return false
	case len(b) > len(a):
		return a[i:] == b[i+1:]
	case i == len(a):
		return true
	}
	return a[i+1:] == b[i+1:] || i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

// sort finds an order in which each step stands after what it needs, or refuses the cycle that keeps it from it.
func (p *parsing) sort() {
	const (
		unseen = iota
		open   // what it needs is being looked at
		done
	)
	state := make([]int, len(p.Steps))
	var line []int // the steps that are open, each needs the next
	var visit func(i int) bool
	visit = func(i int) bool {
		state[i] = open
		line = append(line, i)
		for k, need := range p.Steps[i].Needs {
			n := p.index[need]
			if state[n] == open {
				var names []string
				for _, l := range line[slices.Index(line, n):] {
					names = append(names, p.Steps[l].Name)
				}
				names = append(names, need)
				slices.Reverse(names)
				round := strings.Join(names, " → ")
				p.refuse(at(i, fmt.Sprintf(".needs[%d]", k)), "步骤形成循环："+round+"；请去掉其中一环", "the steps make a cycle: "+round+"; take one of the links out")
				return false
			}
			if state[n] == unseen && !visit(n) {
				return false
			}
		}
		line = line[:len(line)-1]
		state[i] = done
		p.order = append(p.order, i)
		return true
	}
	for i := range p.Steps {
		if state[i] == unseen && !visit(i) {
			return
		}
	}
}

// paths looks at what the steps' parameters point to.
func (p *parsing) paths() {
	above := make([]map[string]bool, len(p.Steps)) // names of all steps that come before, by index
	for _, i := range p.order {
		above[i] = map[string]bool{}
		for _, need := range p.Steps[i].Needs {
			above[i][need] = true
			for name := range above[p.index[need]] {
				above[i][name] = true
			}
		}
	}
	for i, s := range p.Steps {
		for _, key := range sortedKeys(s.Params) {
			where := at(i, ".params."+key)
			err := eachPath(s.Params[key], func(text string) {
				path, ok := parsePath(text)
				switch {
				case !ok:
					p.refuse(where, fmt.Sprintf("%s 不是路径；请写 $.steps.load.output.total、$.inputs.day、$.run.fire_at 这样的路径，普通文字请写成 \"$%s\"", text, text),
						fmt.Sprintf(`%s is no path; write $.steps.load.output.total, $.inputs.day or $.run.fire_at, or as a plain text "$%s"`, text, text))
				case path.root == rootSteps && !above[i][path.step]:
					if _, known := p.index[path.step]; !known {
						p.refuse(where, "没有步骤 "+path.step, "there is no step "+path.step)
						return
					}
					p.refuse(where, fmt.Sprintf("步骤 %s 不在 %s 的前置步骤之中；请把它写进 needs", path.step, s.Name),
						fmt.Sprintf("the step %s is not among those that %s needs; put it into needs", path.step, s.Name))
				case path.root == rootInputs && !has(p.Inputs, path.field):
					p.refuse(where, "inputs 里没有 "+path.field, "inputs has no "+path.field)
				}
			})
			if err != nil {
				p.refuse(where, "不是有效的 JSON", "is not valid JSON")
			}
		}
	}
}

func has(m map[string]json.RawMessage, key string) bool {
	_, ok := m[key]
	return ok
}

func (p *parsing) resume() {
	if p.Resume == nil {
		return
	}
	if p.Resume.Run == "" || len(p.Resume.Run) > 64 {
		p.refuse("params.resume.run", "请写要接着运行的工作流运行编号", "give the id of the workflow run that is gone on with")
	}
	for field, names := range map[string][]string{"from": p.Resume.From, "done": p.Resume.Done} {
		for i, name := range names {
			if _, ok := p.index[name]; !ok {
				p.refuse(fmt.Sprintf("params.resume.%s[%d]", field, i), "没有步骤 "+name, "there is no step "+name)
			}
		}
	}
}

// Resuming gives a workflow run's parameters with the wish to go on with that run: what succeeded or was done by hand is
// taken over, but for the steps in From and all that need them. It fails with KindInvalid if there is no such step.
func Resuming(params json.RawMessage, wish Resume) (json.RawMessage, error) {
	const op = "run workflow again"
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(params, &fields); err != nil {
		return nil, core.Errorf(core.KindInvalid, op, "%w", err)
	}
	resume, err := json.Marshal(wish)
	if err != nil {
		return nil, core.Errorf(core.KindInternal, op, "%w", err)
	}
	fields["resume"] = resume
	params, err = json.Marshal(fields)
	if err != nil {
		return nil, core.Errorf(core.KindInternal, op, "%w", err)
	}
	if _, found := Parse(params); len(found) > 0 {
		return nil, core.Invalid(op, found...)
	}
	return params, nil
}
