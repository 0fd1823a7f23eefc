package pluginhost

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What a host notes in its run folder, so that the next one can end what it left behind when it was killed:
//
//	host          the host's id, then the folders of its control groups, one per line
//	p/<pid>       "<pid> <start ticks> <boot id>" of each child, which leads the process group <pid>
//
// Notes are not synced: after a power loss there is nothing to kill.

const hostNote = "host"

// markName is the variable that marks the environment of every child: "<host id>.<serial>". What a child starts inherits
// it, so it also finds those that left the process group.
const markName = "GNOMON_PLUGIN_PROCESS"

func noteHost(runDir, id string, groups *cgroups) error {
	lines := []string{id}
	if groups != nil {
		for _, top := range groups.tops {
			lines = append(lines, top.dir)
		}
	}
	return os.WriteFile(filepath.Join(runDir, hostNote), []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

func noteProcess(runDir string, pid int, ticks uint64) error {
	return os.WriteFile(noteFile(runDir, pid), fmt.Appendf(nil, "%d %d %s\n", pid, ticks, bootID()), 0o600)
}

func noteFile(runDir string, pid int) string {
	return filepath.Join(runDir, "p", strconv.Itoa(pid))
}

// clearLeftovers kills what an earlier host in the folder left running, and gives how many processes that were.
func clearLeftovers(runDir string) (killed int) {
	lines := strings.Split(strings.TrimSpace(readString(filepath.Join(runDir, hostNote))), "\n")
	entries, _ := os.ReadDir(filepath.Join(runDir, "p"))
	for _, e := range entries {
		var pid int
		var ticks uint64
		var boot string
		text := readString(filepath.Join(runDir, "p", e.Name()))
		if n, _ := fmt.Sscan(text, &pid, &ticks, &boot); n != 3 || pid <= 1 || boot != bootID() {
			continue
		}
		// The leader's PID cannot be another's while its group lives; if the leader itself is gone, only its mark and
		// its control group are trusted.
		if now, err := startTicks(pid); err == nil && now == ticks {
			if unix.Kill(-pid, unix.SIGKILL) == nil {
				killed++
			}
		}
	}
	if lines[0] == "" {
		return killed
	}
	killed += killMarked(lines[0] + ".")
	for _, dir := range lines[1:] {
		if !filepath.IsAbs(dir) || !strings.HasPrefix(filepath.Base(dir), "gnomon-") {
			continue
		}
		children, _ := os.ReadDir(dir)
		for _, c := range children {
			if c.IsDir() {
				group := filepath.Join(dir, c.Name())
				killed += len(strings.Fields(readString(filepath.Join(group, "cgroup.procs"))))
				killCgroup(group)
				removeCgroup(group)
			}
		}
		removeCgroup(dir)
	}
	return killed
}

// killMarked kills every process whose initial environment carries a mark that begins so.
func killMarked(mark string) (killed int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	needle := []byte(markName + "=" + mark)
	self := os.Getpid()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid <= 1 || pid == self {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil || !bytes.HasPrefix(env, needle) && !bytes.Contains(env, append([]byte{0}, needle...)) {
			continue
		}
		if unix.Kill(pid, unix.SIGKILL) == nil {
			killed++
		}
	}
	return killed
}

// startTicks gives when a process started, in clock ticks since boot: field 22 of /proc/<pid>/stat, proc(5).
func startTicks(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b[max(0, bytes.LastIndexByte(b, ')')):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, errors.New("unreadable stat line")
	}
	if fields[0] == "Z" {
		return 0, errors.New("it has ended, and its parent has not taken note")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// residentBytes gives the resident memory of one process: field 2 of /proc/<pid>/statm; 0 if unreadable.
func residentBytes(pid int) uint64 {
	fields := strings.Fields(readString("/proc/" + strconv.Itoa(pid) + "/statm"))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}

func bootID() string { return strings.TrimSpace(readString("/proc/sys/kernel/random/boot_id")) }
