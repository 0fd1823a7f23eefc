package main

import (
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/gnomon-scheduler/gnomon/core"
)

// faultClock is the machine's clock with its wall time set forward or back by what a file says ("-1h30m"), as an
// administrator or a bad time server would: the monotonic time goes on undisturbed. It is for tests that inject clock
// steps into a real server (GNOMON_FAULT_CLOCK names the file), and is said loudly in the log.
type faultClock struct {
	core.SystemClock
	offset *atomic.Int64 // whole seconds
}

// newFaultClock follows the file for as long as the process lives.
func newFaultClock(path string, log *slog.Logger) faultClock {
	c := faultClock{offset: new(atomic.Int64)}
	log.Warn("clock steps are injected; this is for tests only", "path", path)
	read := func() {
		text, err := os.ReadFile(path)
		if err != nil {
			return
		}
		if d, err := time.ParseDuration(strings.TrimSpace(string(text))); err == nil {
			c.offset.Store(int64(d / time.Second))
		}
	}
	read()
	go func() { // ends with the process
		for range time.Tick(50 * time.Millisecond) {
			read()
		}
	}()
	return c
}

// Now gives the wall time moved by the offset, with the true monotonic reading. Time.Add would move both, and no API of
// package time moves only one; so this changes the seconds since 1885 that a Time with a monotonic reading keeps in the
// bits 30 to 62 of its first word (src/time/time.go, type Time, Go 1.9 to 1.26).
func (c faultClock) Now() time.Time {
	now := time.Now()
	*(*uint64)(unsafe.Pointer(&now)) += uint64(c.offset.Load()) << 30
	return now
}

// faultLease is how long this server's lease is, if GNOMON_FAULT_LEASE says so ("3s"); 0: as long as it should be. It is for
// tests that wait for leases to run out.
func faultLease(log *slog.Logger) time.Duration {
	length, err := time.ParseDuration(os.Getenv("GNOMON_FAULT_LEASE"))
	if err != nil {
		return 0
	}
	log.Warn("the length of the lease is injected; this is for tests only", "lease_ms", length.Milliseconds())
	return length
}
