package core

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what a caller can do about an error. package api turns it into an HTTP status, and nothing else does.
type Kind string

// The kinds of error.
const (
	KindInternal        Kind = "internal"        // a fault of ours; retrying may or may not help
	KindInvalid         Kind = "invalid"         // the input is wrong; Findings say where and how to mend it
	KindNotFound        Kind = "not_found"       // no such thing, or none the caller may see
	KindConflict        Kind = "conflict"        // the thing exists already, or is in a state that forbids this
	KindStale           Kind = "stale"           // the version or fencing token given is not the current one
	KindDenied          Kind = "denied"          // the caller is known but has no right to this
	KindUnauthenticated Kind = "unauthenticated" // the caller is not known
	KindUnavailable     Kind = "unavailable"     // a part we need does not answer; try again later
	KindExhausted       Kind = "exhausted"       // a limit or quota is reached
	KindDamaged         Kind = "damaged"         // a file of ours is damaged or foreign; the message says what to do
)

// Finding is one thing wrong with what a user gave, with the place and the way to mend it.
type Finding struct {
	Path    string `json:"path"`    // the field, dotted from the top of the document: "schedule.spec", "params.urls[2]"
	Message Text   `json:"message"` // what is wrong and how to mend it
}

// Error is the one structured error of Gnomon.
type Error struct {
	Kind     Kind
	Op       string // what was being done and to which thing: `create task "Common.KeepAlive/web"`
	Err      error  // why; nil if Findings say it all
	Findings []Finding
}

// Error gives op, cause and findings in one readable English line.
func (e *Error) Error() string {
	var parts []string
	if e.Op != "" {
		parts = append(parts, e.Op)
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	if len(e.Findings) > 0 {
		said := make([]string, 0, len(e.Findings))
		for _, f := range e.Findings {
			if f.Path == "" {
				said = append(said, f.Message.En)
				continue
			}
			said = append(said, f.Path+": "+f.Message.En)
		}
		parts = append(parts, strings.Join(said, "; "))
	}
	return strings.Join(parts, ": ")
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of a kind; format and args are those of fmt.Errorf, so %w keeps the chain.
func Errorf(kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Err: fmt.Errorf(format, args...)}
}

// Refuse makes an Error of a kind whose cause a person reads: in both languages. The Chinese one is a sentence by itself, which names the
// thing; the English one follows op.
func Refuse(kind Kind, op string, why Text) *Error {
	return &Error{Kind: kind, Op: op, Err: cause(why)}
}

// cause is a Text as an error.
type cause Text

func (c cause) Error() string { return c.En }

// ChineseOf gives the cause of an error in Chinese; empty if nobody wrote it.
func ChineseOf(err error) string {
	c, _ := errors.AsType[cause](err)
	return c.Zh
}

// Invalid makes a KindInvalid error out of findings.
func Invalid(op string, findings ...Finding) *Error {
	return &Error{Kind: KindInvalid, Op: op, Findings: findings}
}

// KindOf gives the kind of the first Error in err's chain, or KindInternal if there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindInternal
}

// Causes a context is cancelled with; read them with context.Cause.
var (
	ErrRunTimeout     = errors.New("hard timeout reached")            // the attempt's own time limit
	ErrRunSoftTimeout = Worded(ErrRunTimeout, "soft timeout reached") // a case of it: asked to stop, with the rest of the limit to do so
	ErrRunCancelled   = errors.New("cancelled on request")            // a person or an API call asked for it
	ErrRunTerminated  = errors.New("terminated on request")           // likewise, without any grace
	ErrShuttingDown   = errors.New("the server is shutting down")     // drain time is over
)

// Worded gives a case of a cause in words of its own: who asked, or which limit it was. errors.Is finds the cause in it,
// and its message is the words alone.
func Worded(cause error, words string) error { return &worded{cause, words} }

type worded struct {
	cause error
	words string
}

func (w *worded) Error() string { return w.words }
func (w *worded) Unwrap() error { return w.cause }
