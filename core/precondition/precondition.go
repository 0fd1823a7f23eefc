// Package precondition judges what must be true before a run starts: an expression over parameters, calendars, other
// tasks and the host, a query to a database, or an answer to an HTTP request. It is the sole owner of expr-lang/expr.
package precondition

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Calendars answers which days calendars hold. It is safe for concurrent use.
type Calendars interface {
	// Holds says whether a calendar holds an instant; zone is whose days are meant where the calendar has no zone of its
	// own. It fails with KindNotFound if there is no such calendar, and if it does not reach that far.
	Holds(ctx context.Context, calendar string, at time.Time, zone *time.Location) (bool, error)
}

// Tasks finds the tasks that expressions ask about. It is safe for concurrent use.
type Tasks interface {
	// TaskByName fails with KindNotFound if the namespace has no such task.
	TaskByName(ctx context.Context, namespace, name string) (core.Task, error)
}

// Host knows how the machine stands. It is safe for concurrent use.
type Host interface {
	// HostSample gives the last reading; ok is false as long as there is none.
	HostSample() (sample core.HostSample, ok bool)
}

// Options are what preconditions are judged with. Where one is nil, what needs it cannot be judged.
type Options struct {
	Calendars Calendars
	Tasks     Tasks
	Host      Host
	// Grants gives what a task type in a namespace may use, by need: "sql:business" -> DSN, "http" -> allow-list. It is
	// asked before each check, so that a changed grant holds at once.
	Grants func(namespace, taskType string, needs []string) (map[string]string, error)
	// Needs gives the names of all that a namespace was granted, in order, to be shown where one is not among them; nil: nothing is shown.
	Needs func(namespace string) []string
}

// WorkdayCalendar is the calendar that workday(t) asks.
const WorkdayCalendar = "cn-workdays"

// The limits of a check.
const (
	maxExpression  = 4 << 10          // bytes
	maxNodes       = 300              // of an expression's syntax tree
	maxSteps       = 100_000          // rounds of all loops of an evaluation together
	maxElements    = 100_000          // that an evaluation makes, of ranges and of what filter gives
	maxQuery       = 16 << 10         // bytes
	maxURL         = 2 << 10          // bytes
	maxContains    = 1 << 10          // bytes
	maxBody        = 64 << 10         // bytes of an answer that are looked at
	maxDetail      = 512              // bytes
	expressionTime = 3 * time.Second  // what an expression asks of the store included
	checkTime      = 10 * time.Second // of a query or a request
	staleHost      = 2 * time.Minute  // a reading of the host that is older says nothing about now
)

// Preconditions judges preconditions. It is safe for concurrent use and keeps nothing open between two judgements.
type Preconditions struct {
	opts Options

	mu       sync.Mutex
	compiled map[string]*program // by text; at most maxCompiled
}

const maxCompiled = 512

// New gives preconditions that are judged with opts.
func New(opts Options) *Preconditions {
	return &Preconditions{opts: opts, compiled: make(map[string]*program)}
}

// Facts are what a precondition is judged on.
type Facts struct {
	Namespace string
	TaskID    string // of the run that asks; it is among the live runs of this task
	TaskType  string // what grants are given to
	Params    json.RawMessage
	FireAt    time.Time
	Now       time.Time
	Zone      string // of the task's schedule; "" is UTC
}

// Result is a judgement.
type Result struct {
	True   bool
	Detail string // what was looked at and how it was, for the ledger: `task("stats").last_outcome == "failed"`; or the error
}

// Check gives what is wrong with a precondition's expression, query or request, with paths that begin below the
// precondition: "expression", "sql.query". It touches neither network nor database. When it is looked at is not its concern.
func (c *Preconditions) Check(p core.Precondition) []core.Finding {
	kinds := 0
	for _, given := range []bool{p.Expression != "", p.SQL != nil, p.HTTP != nil} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return []core.Finding{finding("", "expression、sql、http 必须恰好给出一个", "give exactly one of expression, sql and http")}
	case p.SQL != nil:
		return checkSQL(*p.SQL)
	case p.HTTP != nil:
		return checkHTTP(*p.HTTP)
	}
	program, findings := c.program(p.Expression)
	if program != nil {
		findings = program.never
	}
	return findings
}

// Mentions gives the names that stand written out in a precondition's expression, each once; none if Check refuses it.
func (c *Preconditions) Mentions(p core.Precondition) []core.Mention {
	if p.Expression == "" {
		return nil
	}
	if program, _ := c.program(p.Expression); program != nil {
		return program.mentions
	}
	return nil
}

// CheckGrants gives what a precondition that Check takes needs, and tasks of a type in a namespace were not granted; paths are as of
// Check. What can be judged only by asking a name server or a database is not.
func (c *Preconditions) CheckGrants(namespace, taskType string, p core.Precondition) []core.Finding {
	facts := Facts{Namespace: namespace, TaskType: taskType}
	switch {
	case len(c.Check(p)) > 0:
	case p.SQL != nil:
		if _, err := c.grant(sqlNeed+p.SQL.Connection, facts); core.KindOf(err) == core.KindDenied {
			return []core.Finding{c.noConnection(namespace, p.SQL.Connection)}
		}
	case p.HTTP != nil:
		return c.checkHost(facts, p.HTTP.URL)
	}
	return nil
}

// Evaluate judges a precondition. An error says that it could not be judged: a query failed, a task it names is not
// there. It counts as not true, and Detail has the error. It returns within ten seconds, or when ctx ends.
func (c *Preconditions) Evaluate(ctx context.Context, p core.Precondition, facts Facts) (Result, error) {
	var result Result
	var err error
	switch {
	case p.SQL != nil:
		result, err = c.query(ctx, *p.SQL, facts)
	case p.HTTP != nil:
		result, err = c.request(ctx, *p.HTTP, facts)
	default:
		result, err = c.expression(ctx, p.Expression, facts)
	}
	if err != nil {
		result = Result{Detail: err.Error()}
	}
	result.Detail = cut(result.Detail, maxDetail)
	return result, err
}

// grant gives what was granted for a need.
func (c *Preconditions) grant(need string, facts Facts) (string, error) {
	if c.opts.Grants == nil {
		return "", core.Errorf(core.KindUnavailable, "grant "+need, "no grants are given to preconditions")
	}
	granted, err := c.opts.Grants(facts.Namespace, facts.TaskType, []string{need})
	if err != nil {
		return "", err
	}
	value, ok := granted[need]
	if !ok {
		return "", core.Errorf(core.KindDenied, "grant "+need+" to "+facts.TaskType, "namespace %s has not been granted it", facts.Namespace)
	}
	return value, nil
}

func finding(path, zh, en string) core.Finding {
	return core.Finding{Path: path, Message: core.Text{Zh: zh, En: en}}
}

// cut shortens a text to so many bytes, at the end of a character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const mark = "…"
	end := most - len(mark)
	for end > 0 && text[end]&0xC0 == 0x80 {
		end--
	}
	return text[:end] + mark
}
