package precondition

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"github.com/gnomon-scheduler/gnomon/core"
)

// What an expression may name. The functions of expr-lang that are left out could make much of little: repeat, replace,
// join, map, reduce, sort, toJSON. Without them, and without let, what an expression holds in memory is never more than
// its parameters times its own length, and only the loops below take time; each of their rounds is counted.
var (
	variables = []string{"fire_at", "host", "now", "params", "zone"}
	functions = []string{"day", "task", "workday"}
	builtins  = []string{"abs", "all", "any", "ceil", "count", "date", "duration", "filter", "find", "first", "float", "floor", "get", "hasPrefix",
		"hasSuffix", "indexOf", "int", "keys", "last", "lastIndexOf", "len", "lower", "max", "mean", "median", "min", "none", "one", "round", "split",
		"string", "sum", "take", "timezone", "trim", "trimPrefix", "trimSuffix", "type", "upper", "values"}
)

// program is a compiled expression.
type program struct {
	run      *vm.Program
	looks    []look                    // what to show of it
	patterns map[string]*regexp.Regexp // of matches
	host     bool                      // it asks about the host
	mentions []core.Mention            // the names in it that are written out, each once
	never    []core.Finding            // comparisons that come out the same whatever happens: a mistake, but none that keeps it from being judged
}

// look is a part of an expression that reads something: task("stats").last_outcome.
type look struct {
	text string
	run  *vm.Program
}

// program gives a compiled expression, or what is wrong with it. An expression that is wrong is not kept.
func (c *Preconditions) program(text string) (*program, []core.Finding) {
	c.mu.Lock()
	p := c.compiled[text]
	c.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, findings := compile(text)
	if p == nil {
		return nil, findings
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.compiled) >= maxCompiled {
		clear(c.compiled)
	}
	c.compiled[text] = p
	return p, nil
}

func compile(text string) (*program, []core.Finding) {
	switch {
	case len(text) > maxExpression:
		return nil, []core.Finding{finding("expression", "表达式超过 4 KiB", "the expression is longer than 4 KiB")}
	case strings.TrimSpace(text) == "":
		return nil, []core.Finding{finding("expression", "表达式为空", "the expression is empty")}
	case !utf8.ValidString(text):
		return nil, []core.Finding{finding("expression", "表达式不是有效的 UTF-8 文本", "the expression is not valid UTF-8")}
	}
	tree, err := parser.Parse(text)
	if err != nil {
		return nil, []core.Finding{libraryFinding(text, err)}
	}
	s := &survey{text: text, patterns: map[string]*regexp.Regexp{}}
	ast.Walk(&tree.Node, s)
	if len(s.findings) > 0 {
		slices.SortStableFunc(s.findings, func(a, b placed) int { return a.at - b.at })
		var list []core.Finding
		for _, f := range s.findings[:min(5, len(s.findings))] {
			list = append(list, f.Finding)
		}
		return nil, list
	}
	if operator := arithmetic(tree.Node); operator != "" {
		s.never = append(s.never, s.finding(tree.Node, "“"+operator+"”的结果不是真或假；请写成比较，例如 params.n + 1 > 3",
			`"`+operator+`" gives neither true nor false; write a comparison: params.n + 1 > 3`))
	}
	p := &program{patterns: s.patterns, host: s.host, mentions: s.mentions, never: s.never}
	if p.run, err = expr.Compile(text, expr.Env(&environment{}), expr.MaxNodes(maxNodes), expr.Patch(guard{}), expr.AsAny()); err != nil {
		return nil, []core.Finding{libraryFinding(text, err)}
	}
	if t := p.run.Node().Type(); t != nil && t.Kind() != reflect.Bool && t.Kind() != reflect.Interface {
		return nil, []core.Finding{finding("expression",
			"表达式的结果必须是真或假，而这里是 "+kindOf(t)+"；请写成比较，例如 task(\"stats\").last_outcome == \"succeeded\"",
			"the expression must give true or false, and this gives "+kindOf(t)+`; write a comparison: task("stats").last_outcome == "succeeded"`)}
	}
	seen := map[string]bool{}
	const most = 8
	var gather func(n ast.Node)
	gather = func(n ast.Node) {
		if len(p.looks) == most {
			return
		}
		if reads(n) {
			if part := n.String(); !seen[part] {
				seen[part] = true
				if run, err := expr.Compile(part, expr.Env(&environment{}), expr.MaxNodes(maxNodes), expr.Patch(guard{})); err == nil {
					p.looks = append(p.looks, look{part, run})
				}
			}
			return
		}
		for _, child := range children(n) {
			gather(child)
		}
	}
	gather(tree.Node)
	return p, nil
}

// arithmetic gives the operator whose result a whole expression is, if that gives no truth whatever it works on: expr-lang does
// not know the types of parameters, and so cannot tell.
func arithmetic(n ast.Node) string {
	operator := ""
	switch n := n.(type) {
	case *ast.BinaryNode:
		operator = n.Operator
	case *ast.UnaryNode:
		operator = n.Operator
	}
	if slices.Contains([]string{"+", "-", "*", "/", "%", "**", "^"}, operator) {
		return operator
	}
	return ""
}

func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Map:
		return "a map"
	case reflect.Slice, reflect.Array:
		return "a list"
	default:
		return t.String()
	}
}

// reads says whether a node is a whole that reads something and can be read again by itself: params.region,
// task("stats").last_outcome, workday(fire_at), fire_at.Hour().
func reads(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return slices.Contains(variables, n.Value) && n.Value != "params" && n.Value != "host"
	case *ast.MemberNode:
		if !constant(n.Property) {
			return false
		}
		if id, ok := n.Node.(*ast.IdentifierNode); ok && (id.Value == "params" || id.Value == "host") {
			return true
		}
		return reads(n.Node)
	case *ast.ChainNode:
		return reads(n.Node)
	case *ast.BuiltinNode:
		return n.Name == "now"
	case *ast.CallNode:
		for _, a := range n.Arguments {
			if !constant(a) && !reads(a) {
				return false
			}
		}
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			return slices.Contains(functions, id.Value)
		}
		return reads(n.Callee)
	}
	return false
}

func constant(n ast.Node) bool {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return true
	}
	return false
}

func children(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.UnaryNode:
		return []ast.Node{n.Node}
	case *ast.BinaryNode:
		return []ast.Node{n.Left, n.Right}
	case *ast.ChainNode:
		return []ast.Node{n.Node}
	case *ast.MemberNode:
		return []ast.Node{n.Node, n.Property}
	case *ast.SliceNode:
		return []ast.Node{n.Node}
	case *ast.CallNode:
		return n.Arguments
	case *ast.BuiltinNode:
		return n.Arguments
	case *ast.PredicateNode:
		return []ast.Node{n.Node}
	case *ast.ConditionalNode:
		return []ast.Node{n.Cond, n.Exp1, n.Exp2}
	case *ast.ArrayNode:
		return n.Nodes
	}
	return nil
}

// placed is a finding and where in the text it is.
type placed struct {
	core.Finding
	at int
}

// survey looks for what an expression may not have, before expr-lang compiles it, so that the user is told what there is.
type survey struct {
	text     string
	findings []placed
	patterns map[string]*regexp.Regexp
	host     bool
	mentions []core.Mention
	never    []core.Finding
}

func (s *survey) refuse(n ast.Node, zh, en string) {
	s.findings = append(s.findings, placed{s.finding(n, zh, en), n.Location().From})
}

// finding says something of a node, and where it is.
func (s *survey) finding(n ast.Node, zh, en string) core.Finding {
	line, column := position(s.text, n.Location().From)
	return finding("expression", fmt.Sprintf("第 %d 行第 %d 列：%s", line, column, zh), fmt.Sprintf("line %d, column %d: %s", line, column, en))
}

// mention keeps a name that is written out; one that is put together is known only when the expression is judged.
func (s *survey) mention(kind core.MentionKind, n ast.Node) {
	name, ok := n.(*ast.StringNode)
	if !ok || slices.ContainsFunc(s.mentions, func(m core.Mention) bool { return m.Kind == kind && m.Name == name.Value }) {
		return
	}
	line, column := position(s.text, n.Location().From)
	s.mentions = append(s.mentions, core.Mention{Kind: kind, Name: name.Value, Line: line, Column: column})
}

// Visit looks at one node; those below it have been seen.
func (s *survey) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		s.host = s.host || n.Value == "host"
		if !slices.Contains(variables, n.Value) && !slices.Contains(functions, n.Value) {
			s.unknown(n, n.Value, "名称", "name", slices.Concat(variables, functions), builtins)
		}
	case *ast.BuiltinNode:
		if n.Name != "now" && !slices.Contains(builtins, n.Name) {
			s.refuse(n, fmt.Sprintf("这里不能用函数 %s；可用的函数：%s", n.Name, strings.Join(slices.Concat(functions, builtins), "、")),
				fmt.Sprintf("the function %s cannot be used here; there are %s", n.Name, strings.Join(slices.Concat(functions, builtins), ", ")))
		}
	case *ast.MemberNode:
		s.member(n)
	case *ast.VariableDeclaratorNode:
		s.refuse(n, "这里不能用 let；请直接写出条件", "let cannot be used here; write the condition out")
	case *ast.SequenceNode:
		s.refuse(n, "只能有一个表达式，不能用“;”分成几个", `there may be one expression only, not several parted by ";"`)
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok && id.Value == "task" && len(n.Arguments) > 0 {
			s.mention(core.MentionTask, n.Arguments[0])
		} else if ok && id.Value == "day" && len(n.Arguments) > 1 {
			s.mention(core.MentionCalendar, n.Arguments[1])
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "matches":
			s.pattern(n)
		case "==", "!=", "in":
			s.outcome(n.Left, n.Right)
			s.outcome(n.Right, n.Left)
		}
	}
}

// outcome looks at what the last outcome of a task is held against.
func (s *survey) outcome(n, against ast.Node) {
	member, ok := unchained(n).(*ast.MemberNode)
	if !ok || !ofTask(member) {
		return
	}
	if field, ok := member.Property.(*ast.StringNode); !ok || field.Value != "last_outcome" {
		return
	}
	words := []ast.Node{against}
	if list, ok := against.(*ast.ArrayNode); ok {
		words = list.Nodes
	}
	for _, w := range words {
		text, ok := w.(*ast.StringNode)
		if !ok || text.Value == "" || slices.Contains(outcomes, core.Verdict(text.Value)) {
			continue
		}
		said := make([]string, len(outcomes))
		for i, o := range outcomes {
			said[i] = string(o)
		}
		s.never = append(s.never, s.finding(w, fmt.Sprintf(`last_outcome 不会是 %q；可能的有：%s，还没有运行结束过时为 ""`, text.Value, strings.Join(said, "、")),
			fmt.Sprintf(`last_outcome is never %q; it is one of %s, or "" before a run has ended`, text.Value, strings.Join(said, ", "))))
	}
}

// ofTask says whether something is asked of a task: task("stats").live.
func ofTask(n *ast.MemberNode) bool {
	call, ok := unchained(n.Node).(*ast.CallNode)
	if !ok {
		return false
	}
	id, ok := call.Callee.(*ast.IdentifierNode)
	return ok && id.Value == "task"
}

// unchained gives what stands in a chain of "?.".
func unchained(n ast.Node) ast.Node {
	if chain, ok := n.(*ast.ChainNode); ok {
		return chain.Node
	}
	return n
}

// member looks at what is asked of a task, of the host or of the parameters.
func (s *survey) member(n *ast.MemberNode) {
	name, ok := n.Property.(*ast.StringNode)
	if !ok {
		return
	}
	of, _ := n.Node.(*ast.IdentifierNode)
	switch {
	case ofTask(n):
		if !slices.Contains(taskFields, name.Value) {
			s.unknown(name, name.Value, "任务属性", "field of a task", taskFields, nil)
		}
	case of == nil:
	case of.Value == "host":
		if !slices.Contains(hostFields, name.Value) {
			s.unknown(name, name.Value, "主机指标", "reading of the host", hostFields, nil)
		}
	case of.Value == "params":
		s.mention(core.MentionParameter, name)
	}
}

func (s *survey) unknown(n ast.Node, name, zh, en string, there, more []string) {
	if like := nearest(name, slices.Concat(there, more)); like != "" {
		s.refuse(n, fmt.Sprintf("没有%s %s；是否指 %s？", zh, name, like), fmt.Sprintf("unknown %s %s; did you mean %s?", en, name, like))
		return
	}
	s.refuse(n, fmt.Sprintf("没有%s %s；可用的有：%s", zh, name, strings.Join(there, "、")),
		fmt.Sprintf("unknown %s %s; there are %s", en, name, strings.Join(there, ", ")))
}

// maxPattern bounds the instructions of a compiled regular expression: the time it takes is their number times the text's length.
const (
	maxPattern     = 1000
	maxPatternText = 4 << 10
)

func (s *survey) pattern(n *ast.BinaryNode) {
	text, ok := n.Right.(*ast.StringNode)
	if !ok {
		s.refuse(n.Right, "matches 右边必须是写明的正则表达式", "on the right of matches stands a regular expression that is written out")
		return
	}
	tree, err := syntax.Parse(text.Value, syntax.Perl)
	if err != nil {
		s.refuse(text, "正则表达式有误："+err.Error(), err.Error())
		return
	}
	compiled, err := syntax.Compile(tree.Simplify())
	if err != nil || len(compiled.Inst) > maxPattern {
		s.refuse(text, "正则表达式太大；请少用重复次数", "the regular expression is too large; use smaller repeat counts")
		return
	}
	s.patterns[text.Value] = regexp.MustCompile(text.Value)
}

// guard rewrites what an expression does: each round of a loop is counted, matches looks at short texts only, a date
// without a zone is one of the schedule's zone, and now() is the now it is judged at.
type guard struct{}

// Visit rewrites one node; those below it have been rewritten.
func (guard) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.PredicateNode:
		step := call("step_")
		step.SetLocation(n.Location())
		n.Node = &ast.SequenceNode{Nodes: []ast.Node{step, n.Node}}
	case *ast.BinaryNode:
		if n.Operator == "matches" {
			ast.Patch(node, call("matches_", n.Left, n.Right))
		}
	case *ast.BuiltinNode:
		if n.Name == "date" && len(n.Arguments) > 0 && len(n.Arguments) < 3 && bare(n.Arguments[0]) {
			n.Arguments = slices.Concat([]ast.Node{&ast.IdentifierNode{Value: "zone_"}}, n.Arguments)
		}
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok && id.Value == "now" && len(n.Arguments) == 0 {
			ast.Patch(node, &ast.IdentifierNode{Value: "now"})
		}
	}
}

func call(name string, arguments ...ast.Node) *ast.CallNode {
	return &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: arguments}
}

// bare says whether the first argument of date is a text and not a zone.
func bare(n ast.Node) bool {
	b, ok := n.(*ast.BuiltinNode)
	return !ok || b.Name != "timezone"
}

// position turns an offset in characters into line and column, both from 1.
func position(text string, at int) (line, column int) {
	line, column = 1, 1
	for _, r := range text {
		if at == 0 {
			break
		}
		at--
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	return line, column
}

// libraryFinding turns an error of expr-lang into a finding: its message is English.
func libraryFinding(text string, err error) core.Finding {
	e, ok := errors.AsType[*file.Error](err)
	if !ok {
		return finding("expression", "表达式无法编译："+err.Error(), "the expression does not compile: "+err.Error())
	}
	line, column := position(text, e.From)
	return finding("expression", fmt.Sprintf("第 %d 行第 %d 列：表达式无法编译：%s", line, column, e.Message),
		fmt.Sprintf("line %d, column %d: %s", line, column, e.Message))
}

// expression judges an expression.
func (c *Preconditions) expression(ctx context.Context, text string, facts Facts) (Result, error) {
	const op = "evaluate expression"
	p, findings := c.program(text)
	if len(findings) > 0 {
		return Result{}, core.Invalid(op, findings...)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, expressionTime, fmt.Errorf("it took longer than %v", expressionTime))
	defer cancel()
	e := c.newEvaluation(ctx, p, facts)
	env, err := e.environment()
	if err != nil {
		return Result{}, core.Errorf(core.KindOf(err), op, "%w", err)
	}
	machine := vm.VM{MemoryBudget: maxElements}
	value, err := machine.Run(p.run, env)
	if err != nil {
		return Result{}, runError(op, text, err)
	}
	is, ok := value.(bool)
	if !ok {
		return Result{}, core.Errorf(core.KindInvalid, op, "it gave %s, not true or false", show(value))
	}
	return Result{True: is, Detail: e.detail(env)}, nil
}

// runError is an error of a running expression, without the picture of the source that expr-lang draws below it.
func runError(op, text string, err error) error {
	e, ok := errors.AsType[*file.Error](err)
	if !ok {
		return core.Errorf(core.KindUnavailable, op, "%w", err)
	}
	line, column := position(text, e.From)
	if inner := e.Unwrap(); inner != nil {
		return core.Errorf(core.KindOf(inner), op, "line %d, column %d: %w", line, column, inner)
	}
	return core.Errorf(core.KindInvalid, op, "line %d, column %d: %s", line, column, e.Message)
}

// detail shows what the expression looked at.
func (e *evaluation) detail(env *environment) string {
	e.replay = true
	var parts []string
	size := 0
	for _, l := range e.program.looks {
		machine := vm.VM{MemoryBudget: maxElements}
		value, err := machine.Run(l.run, env)
		if err != nil {
			continue // not looked at, or not there
		}
		part := l.text + " == " + show(value)
		if size += len(part) + 2; size > maxDetail {
			break
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// show writes a value in a few characters.
func show(value any) string {
	const most = 80
	switch v := value.(type) {
	case nil:
		return "nil"
	case string:
		return cut(strconv.Quote(cut(v, most)), 2*most) // what is not printable grows when it is quoted
	case float64:
		return strconv.FormatFloat(v, 'g', 6, 64)
	case interface{ Format(string) string }: // a time
		if z, ok := value.(interface{ IsZero() bool }); ok && z.IsZero() {
			return "never"
		}
		return v.Format("2006-01-02T15:04:05Z07:00")
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	case map[string]any:
		return fmt.Sprintf("a map of %d", len(v))
	default:
		return cut(fmt.Sprint(v), most)
	}
}
