package sampler

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
	"github.com/prometheus/procfs/blockdevice"

	"github.com/gnomon-scheduler/gnomon/core"
)

const sectorBytes = 512 // of /proc/diskstats, whatever the disk's own sectors are

// host reads what the whole machine uses. A figure that cannot be read stays zero.
type host struct {
	name    string
	dataDir string
	proc    procfs.FS
	block   blockdevice.FS

	mounts   []string // of the file systems that are read
	mountsAt time.Time
}

func newHost(dataDir string) (*host, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return nil, err
	}
	h := &host{dataDir: dataDir, proc: proc}
	if h.name, err = os.Hostname(); err != nil {
		return nil, err
	}
	if h.block, err = blockdevice.NewDefaultFS(); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *host) sample(at time.Time) core.HostSample {
	s := core.HostSample{At: at.UTC(), Host: h.name}
	d := &core.HostDetail{Pressure: pressure()}
	s.Detail = d
	if b, err := os.ReadFile("/proc/stat"); err == nil {
		s.CPU, s.CPUIdle, s.Cores = cpuTimes(b, d)
		d.ContextSwitches, _ = number(b, "\nctxt ")
		d.Forks, _ = number(b, "\nprocesses ")
		blocked, _ := number(b, "\nprocs_blocked ")
		d.Blocked = int(blocked)
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil { // "0.50 0.40 0.30 2/150 4711"
		_, _ = fmt.Sscanf(string(b), "%f %f %f %d/%d", &s.Load1, &d.Load5, &d.Load15, &d.Runnable, &d.Threads)
	}
	if b, err := os.ReadFile("/proc/sys/fs/file-nr"); err == nil { // open, unused, most
		var unused uint64
		_, _ = fmt.Sscan(string(b), &d.OpenFiles, &unused, &d.OpenFilesMax)
	}
	if m, err := h.proc.Meminfo(); err == nil {
		s.MemTotalBytes = deref(m.MemTotalBytes)
		s.MemUsedBytes = s.MemTotalBytes - min(deref(m.MemAvailableBytes), s.MemTotalBytes)
		d.SwapTotalBytes = deref(m.SwapTotalBytes)
		s.SwapUsedBytes = deref(m.SwapTotalBytes) - min(deref(m.SwapFreeBytes), deref(m.SwapTotalBytes))
	}
	s.DiskReadBytes, s.DiskWriteBytes = h.disks()
	if n, err := h.proc.NetDev(); err == nil {
		for name, l := range n {
			if name != "lo" {
				s.NetRecvBytes += l.RxBytes
				s.NetSentBytes += l.TxBytes
			}
		}
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(h.dataDir, &fs); err == nil {
		s.DataTotalBytes = fs.Blocks * uint64(fs.Bsize)
		s.DataFreeBytes = fs.Bavail * uint64(fs.Bsize)
	}
	d.FileSystems = h.fileSystems(at)
	return s
}

func deref(v *uint64) uint64 {
	if v == nil {
		return 0
	}
	return *v
}

// cpuTimes reads the first line of /proc/stat and counts the cores; guest time is part of user time already.
func cpuTimes(b []byte, d *core.HostDetail) (busy, idle time.Duration, cores int) {
	for n := 0; len(b) > 0; n++ {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		if !bytes.HasPrefix(line, []byte("cpu")) {
			break
		}
		if n > 0 {
			cores++
			continue
		}
		for i, f := range bytes.Fields(line)[1:] {
			v, _ := number(f, "")
			switch i {
			case 4:
				d.IOWait = time.Duration(v) * tick
			case 7:
				d.Steal = time.Duration(v) * tick
			}
			switch i {
			case 0, 1, 2, 5, 6, 7: // user, nice, system, irq, softirq, steal
				busy += time.Duration(v) * tick
			case 3, 4: // idle, iowait
				idle += time.Duration(v) * tick
			}
		}
	}
	return busy, idle, cores
}

// disks adds up the whole disks. What is stacked on others would count twice and is left out.
func (h *host) disks() (read, written uint64) {
	whole, err := h.block.SysBlockDevices()
	if err != nil {
		return 0, 0
	}
	disks := make(map[string]bool, len(whole))
	for _, name := range whole {
		stacked := false
		for _, prefix := range [...]string{"loop", "ram", "zram", "dm-", "md", "sr", "fd"} {
			stacked = stacked || strings.HasPrefix(name, prefix)
		}
		if !stacked {
			disks[name] = true
		}
	}
	all, err := h.block.ProcDiskstats()
	if err != nil {
		return 0, 0
	}
	for i := range all {
		if disks[all[i].DeviceName] {
			read += all[i].ReadSectors * sectorBytes
			written += all[i].WriteSectors * sectorBytes
		}
	}
	return read, written
}

// pressure reads the totals of pressure stall information; nil: this kernel keeps none. CPU has no "full" for a machine.
func pressure() *core.Pressure {
	var p core.Pressure
	for _, of := range [...]struct {
		file       string
		some, full *time.Duration
	}{
		{"/proc/pressure/cpu", &p.CPUSome, nil},
		{"/proc/pressure/memory", &p.MemorySome, &p.MemoryFull},
		{"/proc/pressure/io", &p.IOSome, &p.IOFull},
	} {
		b, err := os.ReadFile(of.file)
		if err != nil {
			return nil
		}
		some, full, _ := bytes.Cut(b, []byte("\n"))
		v, ok := number(some, "total=")
		if !ok {
			return nil
		}
		*of.some = time.Duration(v) * time.Microsecond
		if of.full == nil {
			continue
		}
		if v, ok = number(full, "total="); !ok {
			return nil
		}
		*of.full = time.Duration(v) * time.Microsecond
	}
	return &p
}

const (
	mountsFor      = time.Minute // how long the list of mounts serves
	maxFileSystems = 16
)

// fileSystems reads the room of the file systems on block devices, each once, and of the data folder's. A network's are
// left out: a dead server would hold the sampler.
func (h *host) fileSystems(at time.Time) []core.FileSystem {
	if age := at.Sub(h.mountsAt); h.mounts == nil || age < 0 || age > mountsFor {
		h.mounts, h.mountsAt = mounts(h.dataDir), at
	}
	all := make([]core.FileSystem, 0, len(h.mounts))
	for _, mount := range h.mounts {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(mount, &fs); err == nil && fs.Blocks > 0 {
			all = append(all, core.FileSystem{Mount: mount, TotalBytes: fs.Blocks * uint64(fs.Bsize), FreeBytes: fs.Bavail * uint64(fs.Bsize)})
		}
	}
	return all
}

// mounts lists the mount points to read, in order of their names. Of several mounts of one device the shortest counts.
func mounts(dataDir string) []string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	byDevice, holds, holder := map[string]string{}, "", ""
	for line := range strings.Lines(string(b)) { // proc_pid_mountinfo(5)
		left, right, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields, source := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(source) < 2 {
			continue
		}
		device, point := fields[2], unescape.Replace(fields[4])
		if dataDir == point || point == "/" || strings.HasPrefix(dataDir, point+"/") {
			if len(point) >= len(holds) {
				holds, holder = point, device
			}
		}
		if !strings.HasPrefix(source[1], "/dev/") || strings.HasPrefix(source[1], "/dev/loop") {
			continue
		}
		if known, again := byDevice[device]; !again || len(point) < len(known) {
			byDevice[device] = point
		}
	}
	all := make([]string, 0, len(byDevice)+1)
	if _, listed := byDevice[holder]; holds != "" && !listed {
		all = append(all, holds)
	}
	for _, point := range byDevice {
		all = append(all, point)
	}
	slices.Sort(all)
	return all[:min(len(all), maxFileSystems)]
}

// unescape undoes what mountinfo does to blanks in names.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
