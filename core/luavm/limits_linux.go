package luavm

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// headroom is what the process needs beside the Lua heap: SQLite and the gRPC server have their own. The Go runtime maps
// memory 64 MiB at a time and never unmaps it, so that large strings leave holes; therefore the heap is counted twice.
const headroom = 256 << 20

// limitProcess bounds what this process may map for data (RLIMIT_DATA, which since Linux 4.7 counts private writable
// mappings), so that a script that outruns every other check ends its own worker and nothing else. It makes no core files.
func limitProcess(heap uint64) error {
	now, err := dataBytes()
	if err != nil {
		return err
	}
	limit := now + (2*heap+headroom)*shadow
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_DATA, &old); err != nil {
		return fmt.Errorf("read the data limit: %w", err)
	}
	if old.Max != unix.RLIM_INFINITY && old.Max < limit { // the host has set a tighter one
		limit = old.Max
	}
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return fmt.Errorf("limit data to %d bytes: %w", limit, err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	return nil
}

// dataBytes is the VmData of /proc/self/status.
func dataBytes() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("read own memory: %w", err)
	}
	_, rest, ok := bytes.Cut(status, []byte("VmData:"))
	if fields := bytes.Fields(rest); ok && len(fields) > 0 {
		if kb, err := strconv.ParseUint(string(fields[0]), 10, 64); err == nil {
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("read own memory: no VmData in /proc/self/status")
}
