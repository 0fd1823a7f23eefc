package pluginhost

import "time"

// How a crashing process is started again.
const (
	backoffFirst  = 100 * time.Millisecond
	backoffLast   = 30 * time.Second
	breakerWindow = time.Minute
	breakerLimit  = 5 // crashes within the window that open the breaker
	breakerOpen   = 30 * time.Second
)

// breaker decides when a process that crashed is started again: after a wait that doubles with each crash in a row, and
// after breakerLimit crashes within breakerWindow not for breakerOpen. Then it is tried once; a crash before it has lived
// for breakerWindow opens the breaker again. It is a pure function of the times it is told.
type breaker struct {
	crashes []time.Time // of the last window, oldest first
	inARow  int         // crashes since the process last lived for a whole window
	until   time.Time   // when the process is started again
	open    bool        // the breaker was open last
}

// crashed takes a crash at now of a process that had lived for that long, and gives the wait until the next start.
func (b *breaker) crashed(now time.Time, lived time.Duration) time.Duration {
	for len(b.crashes) > 0 && now.Sub(b.crashes[0]) >= breakerWindow {
		b.crashes = b.crashes[1:]
	}
	b.crashes = append(b.crashes, now)
	if lived >= breakerWindow {
		b.inARow, b.open = 0, false
	}
	b.inARow++
	wait := backoffLast
	if shift := b.inARow - 1; shift < 9 {
		wait = min(backoffFirst<<shift, backoffLast)
	}
	if b.open || len(b.crashes) >= breakerLimit {
		b.open, b.crashes = true, b.crashes[:0]
		wait = breakerOpen
	}
	b.until = now.Add(wait)
	return wait
}
