package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confinedEnv marks the process that confine has begun.
const confinedEnv = "GNOMON_ENGINE_CONFINED"

// What the engine may read besides its own: the system's libraries, time zones, devices, and what the kernel tells. Not what it
// tells of other processes.
var systemFiles = []string{
	"/usr", "/lib", "/lib64", "/lib32", "/etc", "/sys", "/dev", "/proc/self", "/proc/sys", "/proc/cpuinfo", "/proc/filesystems", "/proc/loadavg",
	"/proc/meminfo", "/proc/stat", "/proc/uptime", "/proc/version", "/proc/vmstat", "/proc/diskstats", "/proc/mdstat", "/proc/interrupts", "/proc/softirqs",
}

// confine keeps the engine from other files than its own, in case that an analyst's statement gets past all that refuses it: the token
// and the store lie beside its folder. It is Linux's Landlock (man 7 landlock), which holds a thread and what comes of it: so the
// process begins anew. It returns if that was done before, or is not possible.
func confine(o Options, library string) error {
	if os.Getenv(confinedEnv) != "" {
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	// Files are moved and linked from folder to folder only where that is asked for, which the first version could not.
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("this kernel has no Landlock: %w", errno)
	}
	if version < 2 {
		return errors.New("this kernel's Landlock is too old: it needs Linux 5.19")
	}
	const read, write = unix.LANDLOCK_ACCESS_FS_READ_FILE, unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REFER
	attr := struct{ handled uint64 }{read | write}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return errno
	}
	ruleset := int(fd)
	defer func() { _ = unix.Close(ruleset) }()
	allowed := map[string]uint64{exe: read, o.Dir: read | write, filepath.Dir(o.Socket): read | write, "/dev": read | write, "/proc/self": read | write}
	if o.Backups != "" {
		allowed[o.Backups] = read | write
	}
	for _, path := range append(mapped(), systemFiles...) {
		allowed[path] |= read
	}
	if library, err = filepath.EvalSymlinks(library); err != nil {
		return err
	}
	allowed[library] |= read
	for path, access := range allowed {
		if err := allow(ruleset, path, access); err != nil {
			return fmt.Errorf("allow %s: %w", path, err)
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); errno != 0 {
		return errno
	}
	return syscall.Exec(exe, os.Args, append(os.Environ(), confinedEnv+"=1"))
}

// allow lets what is below a path be used; a path that is not there is nothing to be used.
func allow(ruleset int, path string, access uint64) error {
	at, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(at) }()
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(at)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// mapped gives the folders of the libraries that this program has loaded: libchdb needs the same.
func mapped() []string {
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil
	}
	var folders []string
	for line := range strings.Lines(string(text)) {
		if i := strings.IndexByte(line, '/'); i >= 0 && strings.Contains(line[i:], ".so") {
			folders = append(folders, filepath.Dir(strings.TrimSpace(line[i:])))
		}
	}
	return folders
}
