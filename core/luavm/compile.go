package luavm

import (
	"errors"
	"fmt"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// concatName is the global behind the ".." operator. The compiler's own OP_CONCAT joins strings of any size, so that 30
// doublings take 2 GiB before anything can look; every ".." is rewritten to a call of a function that counts first. No
// script can write this name.
const concatName = "(..)"

const (
	maxASTDepth  = 1000 // the compiler recurses over the tree
	maxConcatRow = 50   // operands of one rewritten call: the VM has about 200 registers a function
)

// compile turns source into a function prototype, which may be shared between states and goroutines. chunk is the name
// that stands in error messages: "Telemedicine/ECGTimeoutFallbackTask.lua". A failure says where, what and how to mend it.
func compile(src, chunk string) (proto *lua.FunctionProto, err error) {
	if p := prescan(src); p != nil {
		return nil, fmt.Errorf("%s:%d: %s", chunk, p.line, p.message)
	}
	defer func() {
		if r := recover(); r != nil { // the compiler panics on what it did not foresee
			proto, err = nil, fmt.Errorf("%s: the Lua compiler gave up: %v", chunk, r)
		}
	}()
	tree, err := parse.Parse(strings.NewReader(src), chunk)
	if err != nil {
		return nil, syntaxError(chunk, src, err)
	}
	w := &walker{}
	w.stmts(tree, 0)
	if w.tooDeep > 0 {
		return nil, fmt.Errorf("%s:%d: an expression or a chain of elseif is more than %d levels deep; build it in steps", chunk, w.tooDeep, maxASTDepth)
	}
	proto, err = lua.Compile(tree, chunk)
	if err != nil {
		if ce, ok := errors.AsType[*lua.CompileError](err); ok {
			return nil, fmt.Errorf("%s:%d: %s", chunk, max(ce.Line, 1), ce.Message)
		}
		return nil, fmt.Errorf("%s: %w", chunk, err)
	}
	untail(proto)
	return proto, nil
}

// untail makes tail calls plain calls. gopher-lua counts the tail calls of a frame and writes a line of traceback for each
// when an error passes a pcall: `local function f() return f() end`, stopped after a second, took gigabytes. A RETURN
// that takes all results follows each tail call, as in Lua's own compiler, so a plain call is all it takes.
func untail(proto *lua.FunctionProto) {
	for i, instruction := range proto.Code {
		if instruction>>26 == uint32(lua.OP_TAILCALL) {
			proto.Code[i] = instruction&(1<<26-1) | uint32(lua.OP_CALL)<<26
		}
	}
	for _, inner := range proto.FunctionPrototypes {
		untail(inner)
	}
}

// syntaxError says a parser's error with file, line and the usual way to mend it.
func syntaxError(chunk, src string, err error) error {
	pe, ok := errors.AsType[*parse.Error](err)
	if !ok {
		return fmt.Errorf("%s: %w", chunk, err)
	}
	if pe.Pos.Line == parse.EOF {
		line := strings.Count(strings.TrimRight(src, "\n"), "\n") + 1
		return fmt.Errorf("%s:%d: %s at the end of the file: an `end`, a closing bracket or a closing quote is missing", chunk, line, pe.Message)
	}
	hint := ""
	text := lineOf(src, pe.Pos.Line)
	switch {
	case strings.Contains(text, "!="):
		hint = ": write ~= for \"not equal\""
	case strings.Contains(text, "+=") || strings.Contains(text, "-=") || strings.Contains(text, "++"):
		hint = ": Lua has no += or ++; write n = n + 1"
	case strings.Contains(text, "&&") || strings.Contains(text, "||"):
		hint = ": write and, or"
	case strings.Contains(text, "else if"):
		hint = ": `else if` needs an `end` of its own; write elseif"
	case strings.Contains(text, "//") || strings.Contains(text, "/*"):
		hint = ": a comment begins with --"
	case pe.Message == "syntax error":
		hint = ": look for a missing `end`, `then`, `do`, comma or bracket here or on the line before"
	}
	near := strings.TrimSpace(pe.Token)
	if len(near) > 40 {
		near = near[:40] + "…"
	}
	return fmt.Errorf("%s:%d: %s near %q (column %d)%s", chunk, pe.Pos.Line, pe.Message, near, pe.Pos.Column, hint)
}

func lineOf(src string, n int) string {
	for range n - 1 {
		_, rest, ok := strings.Cut(src, "\n")
		if !ok {
			return ""
		}
		src = rest
	}
	line, _, _ := strings.Cut(src, "\n")
	return line
}

// walker rewrites ".." and measures the depth of the tree.
type walker struct{ tooDeep int }

func (w *walker) stmts(list []ast.Stmt, d int) {
	for _, s := range list {
		w.stmt(s, d+1)
	}
}

func (w *walker) stmt(s ast.Stmt, d int) {
	if d > maxASTDepth {
		w.tooDeep = max(s.Line(), 1)
		return
	}
	switch s := s.(type) {
	case *ast.AssignStmt:
		w.exprs(s.Lhs, d)
		w.exprs(s.Rhs, d)
	case *ast.LocalAssignStmt:
		w.exprs(s.Exprs, d)
	case *ast.FuncCallStmt:
		w.expr(&s.Expr, d)
	case *ast.DoBlockStmt:
		w.stmts(s.Stmts, d)
	case *ast.WhileStmt:
		w.expr(&s.Condition, d)
		w.stmts(s.Stmts, d)
	case *ast.RepeatStmt:
		w.expr(&s.Condition, d)
		w.stmts(s.Stmts, d)
	case *ast.IfStmt:
		w.expr(&s.Condition, d)
		w.stmts(s.Then, d)
		w.stmts(s.Else, d)
	case *ast.NumberForStmt:
		w.expr(&s.Init, d)
		w.expr(&s.Limit, d)
		w.expr(&s.Step, d)
		w.stmts(s.Stmts, d)
	case *ast.GenericForStmt:
		w.exprs(s.Exprs, d)
		w.stmts(s.Stmts, d)
	case *ast.FuncDefStmt:
		w.expr(&s.Name.Func, d)
		w.expr(&s.Name.Receiver, d)
		w.stmts(s.Func.Stmts, d)
	case *ast.ReturnStmt:
		w.exprs(s.Exprs, d)
	}
}

func (w *walker) exprs(list []ast.Expr, d int) {
	for i := range list {
		w.expr(&list[i], d)
	}
}

func (w *walker) expr(at *ast.Expr, d int) {
	if *at == nil {
		return
	}
	d++
	if d > maxASTDepth {
		w.tooDeep = max((*at).Line(), 1)
		return
	}
	switch e := (*at).(type) {
	case *ast.AttrGetExpr:
		w.expr(&e.Object, d)
		w.expr(&e.Key, d)
	case *ast.TableExpr:
		for _, f := range e.Fields {
			w.expr(&f.Key, d)
			w.expr(&f.Value, d)
		}
	case *ast.FuncCallExpr:
		w.expr(&e.Func, d)
		w.expr(&e.Receiver, d)
		w.exprs(e.Args, d)
	case *ast.LogicalOpExpr:
		w.expr(&e.Lhs, d)
		w.expr(&e.Rhs, d)
	case *ast.RelationalOpExpr:
		w.expr(&e.Lhs, d)
		w.expr(&e.Rhs, d)
	case *ast.ArithmeticOpExpr:
		w.expr(&e.Lhs, d)
		w.expr(&e.Rhs, d)
	case *ast.UnaryMinusOpExpr:
		w.expr(&e.Expr, d)
	case *ast.UnaryNotOpExpr:
		w.expr(&e.Expr, d)
	case *ast.UnaryLenOpExpr:
		w.expr(&e.Expr, d)
	case *ast.FunctionExpr:
		w.stmts(e.Stmts, d)
	case *ast.StringConcatOpExpr:
		var operands []ast.Expr
		for rest := ast.Expr(e); ; {
			c, ok := rest.(*ast.StringConcatOpExpr)
			if !ok {
				operands = append(operands, rest)
				break
			}
			operands = append(operands, c.Lhs)
			rest = c.Rhs
		}
		w.exprs(operands, d)
		*at = concatCall(e, operands)
	}
}

// concatCall is the call that stands for operands joined by "..". Of a longer chain the beginning is joined first.
func concatCall(at ast.Expr, operands []ast.Expr) ast.Expr {
	for len(operands) > maxConcatRow {
		row := concatCall(at, operands[:maxConcatRow:maxConcatRow])
		operands = append([]ast.Expr{row}, operands[maxConcatRow:]...)
	}
	switch last := operands[len(operands)-1].(type) { // an operand is one value
	case *ast.FuncCallExpr:
		last.AdjustRet = true
	case *ast.Comma3Expr:
		last.AdjustRet = true
	}
	name := &ast.IdentExpr{Value: concatName}
	call := &ast.FuncCallExpr{Func: name, Args: operands, AdjustRet: true}
	for _, n := range []ast.PositionHolder{name, call} {
		n.SetLine(at.Line())
		n.SetLastLine(at.LastLine())
	}
	return call
}
