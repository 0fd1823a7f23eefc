package sdk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Why the context of a handler ended: errors.Is(context.Cause(ctx), …). Neither, if the host ended the whole call.
var (
	// ErrCancelled says that the attempt was asked to stop.
	ErrCancelled = errors.New("cancelled on request")
	// ErrTimeLimit says that the attempt's hard timeout was reached. It is also a context.DeadlineExceeded.
	ErrTimeLimit error = timeLimitError{}
)

type timeLimitError struct{}

func (timeLimitError) Error() string { return "hard timeout reached" }
func (timeLimitError) Unwrap() error { return context.DeadlineExceeded }

type retryAfterError struct {
	wait time.Duration
	err  error
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// RetryAfter makes a failure that asks for at least this wait before the next attempt: a service said when to come back.
func RetryAfter(wait time.Duration, err error) error {
	return &retryAfterError{wait: max(wait, 0), err: reason(err, "not now")}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Permanent makes a failure that trying again cannot help: the thing is gone, the login is refused.
func Permanent(err error) error { return &permanentError{err: reason(err, "cannot succeed")} }

type invalidError struct{ findings []Finding }

func (e *invalidError) Error() string {
	said := make([]string, 0, len(e.findings))
	for _, f := range e.findings {
		text := f.Message.En
		if text == "" {
			text = f.Message.Zh
		}
		if f.Path != "" {
			text = f.Path + ": " + text
		}
		said = append(said, text)
	}
	return "invalid parameters: " + strings.Join(said, "; ")
}

// InvalidParameters makes a permanent failure that says which parameters are wrong.
func InvalidParameters(findings ...Finding) error {
	if len(findings) == 0 {
		findings = []Finding{{Message: Text{Zh: "参数有误", En: "the parameters are wrong"}}}
	}
	return &invalidError{findings: findings}
}

func reason(err error, otherwise string) error {
	if err == nil {
		return errors.New(otherwise)
	}
	return err
}

type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }
