package core

import "time"

// Clock is the time the scheduler and the runner live by. The real one is SystemClock; tests and simulations inject
// their own. Implementations are safe for concurrent use.
type Clock interface {
	// Now gives the current wall time.
	Now() time.Time
	// AfterFunc calls f in its own goroutine once d has passed. stop prevents the call and reports whether it did.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// SystemClock is the clock of the machine (inside a testing/synctest bubble: the bubble's).
type SystemClock struct{}

// Now gives time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// AfterFunc is time.AfterFunc.
func (SystemClock) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
