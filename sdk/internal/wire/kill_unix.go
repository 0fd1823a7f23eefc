//go:build unix

package wire

import (
	"os"
	"syscall"
)

func closeOnExec(fd int) { syscall.CloseOnExec(fd) }

// killGroup ends this process and, if it leads its process group (the host starts it so), all it has started.
func killGroup() {
	pid := os.Getpid()
	if syscall.Getpgrp() == pid {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}
