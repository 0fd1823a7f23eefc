//go:build linux || darwin

package engine

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

const lockName = "engine.lock"

// lockWait is how long lockDir waits for a predecessor that is ending: the engine of a killed server goes on for some
// moments, and the next server may be quicker than it.
const lockWait = 3 * time.Second

// lockDir takes the folder for this process; the kernel gives it back when the process ends, however it ends.
func lockDir(dir string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, "lock engine data", "%w", err)
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(20 * time.Millisecond) {
		if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		_ = file.Close()
		return nil, core.Errorf(core.KindConflict, "lock engine data", "another process uses %s; stop it first, or name another data folder", dir)
	}
	return func() { _ = file.Close() }, nil
}

// ownGroup puts the engine into a process group of its own, away from the terminal's Ctrl-C: the server ends it in
// order. The kernel's parent-death signal is not used: it is bound to the thread that forked, and Go ends threads. The
// pipe on standard input does the same for the process.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// niceness is how far the engine stands behind the server, which lives on the same cores: history may come some moments
// later, a fire may not. On busy cores a thread of the engine gets a third of what one of the server gets; on idle ones it
// makes no difference.
const niceness = 5

// standBack gives all threads of the engine's process group, and those they will start, their niceness.
func standBack(pid int) error {
	own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		return err
	}
	if runtime.GOOS == "linux" {
		own = 20 - own // the system call answers on a scale of its own
	}
	return syscall.Setpriority(syscall.PRIO_PGRP, pid, min(own+niceness, 19))
}

// spent is the processor time that a process has used; 0 where /proc does not say.
func spent(pid int) (all time.Duration) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// Behind the name in brackets, which may hold anything, utime and stime are the 12th and 13th (man proc_pid_stat), in
	// hundredths of a second.
	for i, field := range strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) {
		if i == 11 || i == 12 {
			n, _ := strconv.ParseInt(field, 10, 64) // the kernel writes numbers
			all += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return all
}
