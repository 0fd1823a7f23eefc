package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// createdMark in the lock file says that the folder has had a store: a missing one is then a loss, not a beginning.
const createdMark = "store created"

// errHeld says that another process has the lock.
var errHeld = errors.New("held by another process")

// lockPatience is how long a lock that is held is asked for: a process that starts another has its files twice until the
// new one is on its way, so that a store just closed, or whose owner was just killed, may seem held for a moment.
const lockPatience = 500 * time.Millisecond

// takeLock gives the open lock file; closing it gives the lock back, and so does the end of the process, however it ends.
func takeLock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, "open store", "%w", err)
	}
	lockErr := lock(f)
	for giveUp := time.Now().Add(lockPatience); errors.Is(lockErr, errHeld) && ctx.Err() == nil && time.Now().Before(giveUp); lockErr = lock(f) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	switch {
	case errors.Is(lockErr, errHeld):
		_ = f.Close()
		return nil, core.Errorf(core.KindConflict, "open store",
			"another process has this data folder (%s); stop it first, or give this one another folder (lock: %s)", holder(string(text)), path)
	case lockErr == nil && err == nil:
		mark := ""
		if strings.Contains(string(text), createdMark) {
			mark = createdMark
		}
		err = writeMark(f, mark)
	}
	if err := errors.Join(lockErr, err); err != nil {
		_ = f.Close()
		return nil, core.Errorf(core.KindUnavailable, "open store", "lock %s: %w", path, err)
	}
	return f, nil
}

// holder gives the line of the lock file that names its owner.
func holder(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(line, "pid ") {
		return "which one is not known"
	}
	return line
}

// writeMark writes who has the lock, and the mark. The mark never goes away again, so it is written before the rest is
// cut off.
func writeMark(f *os.File, mark string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	text := fmt.Sprintf("pid %d on %s\n%s\n", os.Getpid(), host, mark)
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(text))); err != nil {
		return err
	}
	return f.Sync()
}
