package sampler

import (
	"bytes"
	"os"
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
	if b, err := os.ReadFile("/proc/stat"); err == nil {
		s.CPU, s.CPUIdle, s.Cores = cpuTimes(b)
	}
	if l, err := h.proc.LoadAvg(); err == nil {
		s.Load1 = l.Load1
	}
	if m, err := h.proc.Meminfo(); err == nil {
		s.MemTotalBytes = deref(m.MemTotalBytes)
		s.MemUsedBytes = s.MemTotalBytes - min(deref(m.MemAvailableBytes), s.MemTotalBytes)
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
	return s
}

func deref(v *uint64) uint64 {
	if v == nil {
		return 0
	}
	return *v
}

// cpuTimes reads the first line of /proc/stat and counts the cores; guest time is part of user time already.
func cpuTimes(b []byte) (busy, idle time.Duration, cores int) {
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
