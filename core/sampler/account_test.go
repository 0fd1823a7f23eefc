package sampler_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/sampler"
)

func rusage(t *testing.T, who int) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestAccount(t *testing.T) {
	t.Parallel()

	t.Run("WhatWasSpentAddsUpWhateverTheSinkLost", func(t *testing.T) {
		t.Parallel()
		clock := &handClock{now: time.Now()}
		pid := spawn(t, self(t), "burn,alloc")
		start, err := sampler.StartTicks(pid)
		if err != nil {
			t.Fatal(err)
		}
		var k sink
		target := sampler.Target{PID: pid, StartTicks: start, Plugin: "common", Version: "1", Attempts: 3}
		s := build(t, sampler.Options{Sink: &k, Clock: clock, Server: "srv", Targets: func() []sampler.Target { return []sampler.Target{target} }})
		sample := func(want error) {
			t.Helper()
			clock.move(time.Second)
			if err := s.Sample(t.Context()); !errors.Is(err, want) {
				t.Fatal(err)
			}
		}
		sample(nil)
		k.err = errors.New("full")
		sample(k.err)
		k.err = nil
		target.Attempts = 4
		sample(nil)
		sample(nil)
		all := k.plugins[len(k.plugins)-1].CPU + 70*time.Millisecond
		s.Ended(t.Context(), target, sampler.Ended{CPU: all, CPUFrom: "rusage", WriteBytes: 1 << 30})
		if err := s.Sample(t.Context()); err != nil { // it is listed still, as it is for a moment
			t.Fatal(err)
		}
		var cpu time.Duration
		var written, rss uint64
		for _, p := range k.plugins[:4] {
			cpu, written, rss = cpu+p.Tree.SpentCPU, written+p.Tree.SpentWriteBytes, rss+p.Tree.SpentRSS
		}
		last := k.plugins[3]
		if cpu != all || written != 1<<30 || last.CPU != all || rss != last.Tree.TotalRSS || !last.Tree.Final || last.Tree.CPUFrom != "rusage" {
			t.Errorf("spent %s of %s, %d bytes, %d byte-seconds; last %+v %+v", cpu, all, written, rss, last, last.Tree)
		}
		if first := k.plugins[0].Tree; first.Server != "srv" || first.Kind != core.TreePlugin || first.Span <= 0 || first.Span > time.Minute || !first.Busy || first.Host == "" {
			t.Errorf("first: %+v", first)
		}
		second, third := k.plugins[1].Tree, k.plugins[2].Tree
		if second.Span != 2*time.Second || !second.Busy || second.SpentRSS < 2*64<<20 { // two seconds, one of them lost, of 64 MiB at least
			t.Errorf("second: %+v", second)
		}
		if third.Busy || third.BusyRSS != second.BusyRSS || third.TotalRSS <= second.TotalRSS {
			t.Errorf("nothing ran in the third: %+v", third)
		}
	})

	t.Run("ALifeThatNoTickSawIsCounted", func(t *testing.T) {
		t.Parallel()
		var k sink
		s := build(t, sampler.Options{Sink: &k, Targets: func() []sampler.Target { return nil }})
		s.Ended(t.Context(), sampler.Target{Kind: core.TreeLuaWorker, PID: 4711, Plugin: "lua-worker", Namespace: "Common", Attempts: 1},
			sampler.Ended{CPU: 40 * time.Millisecond, CPUFrom: "cgroup", PeakRSSBytes: 1 << 20})
		if len(k.plugins) != 1 || k.plugins[0].Tree.SpentCPU != 40*time.Millisecond || k.plugins[0].Tree.Kind != core.TreeLuaWorker || !k.plugins[0].Tree.Busy {
			t.Errorf("%+v", k.plugins)
		}
	})

	t.Run("TheServerIsCountedWithoutItsChildren", func(t *testing.T) {
		t.Parallel()
		_ = again("burn,exit", nil).Run() // waited for: in the children's time of this process, and in its /proc/PID/io
		var k sink
		s := build(t, sampler.Options{Sink: &k, Targets: func() []sampler.Target {
			return []sampler.Target{{Kind: core.TreeServer, PID: os.Getpid(), Plugin: "server"}}
		}})
		before := rusage(t, syscall.RUSAGE_SELF)
		if err := s.Sample(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := rusage(t, syscall.RUSAGE_SELF)
		got := k.plugins[0]
		if got.CPU < before || got.CPU > after || got.Processes != 1 || got.RSSBytes == 0 || got.Threads < 2 || got.Tree.Kind != core.TreeServer {
			t.Errorf("%s is not between %s and %s: %+v", got.CPU, before, after, got)
		}
		if children := rusage(t, syscall.RUSAGE_CHILDREN); children < 250*time.Millisecond {
			t.Errorf("the children have used %s only", children)
		}
	})

	t.Run("AControlGroupCountsWhatNobodyWaitedFor", func(t *testing.T) {
		t.Parallel()
		pid := spawn(t, self(t), "idle")
		for file, text := range map[string]string{
			"cpu.stat": "usage_usec 7000000\nuser_usec 1\n", "cpuacct.usage": "7000000000\n",
		} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var k sink
			s := build(t, sampler.Options{Sink: &k, Targets: func() []sampler.Target { return []sampler.Target{{PID: pid, Group: dir}} }})
			if err := s.Sample(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := k.plugins[0]; got.CPU != 7*time.Second || got.Tree.CPUFrom != "cgroup" {
				t.Errorf("%s: %s from %s", file, got.CPU, got.Tree.CPUFrom)
			}
		}
	})

	t.Run("AttemptsBetweenTwoTicksKeepItAwake", func(t *testing.T) {
		t.Parallel()
		var k sink
		var attempts uint64
		s := build(t, sampler.Options{Sink: &k, Every: 5 * time.Millisecond, IdleEvery: time.Hour, Targets: func() []sampler.Target {
			attempts++ // asked by one goroutine
			return []sampler.Target{{PID: os.Getpid(), Plugin: "common", Attempts: attempts}}
		}})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "samples", func() bool { p, _, _ := k.counts(); return p >= 5 })
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestHostDetail(t *testing.T) {
	t.Parallel()
	var k sink
	s := build(t, sampler.Options{Sink: &k, Targets: func() []sampler.Target { return nil }})
	if err := s.Sample(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := k.hosts[0].Detail
	if d == nil || d.Threads < 2 || d.Runnable < 1 || d.OpenFiles == 0 || d.OpenFilesMax < d.OpenFiles || d.ContextSwitches == 0 || d.Forks == 0 {
		t.Fatalf("%+v", d)
	}
	if len(d.FileSystems) == 0 || d.FileSystems[0].TotalBytes == 0 || d.FileSystems[0].FreeBytes > d.FileSystems[0].TotalBytes {
		t.Errorf("file systems: %+v", d.FileSystems)
	}
	if _, err := os.Stat("/proc/pressure/cpu"); (err == nil) != (d.Pressure != nil) {
		t.Errorf("this kernel's pressure: %v, read: %+v", err, d.Pressure)
	}
}

func TestConfined(t *testing.T) {
	t.Parallel()
	write := func(dir, file, text string) {
		t.Helper()
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	two, one := t.TempDir(), t.TempDir()
	write(two, "cpu.max", "max 100000\n")
	write(filepath.Join(two, "a"), "cpu.max", "150000 100000\n")
	write(filepath.Join(two, "a"), "memory.max", "1073741824\n")
	write(filepath.Join(two, "a", "b"), "cpu.max", "max 100000\n")
	write(filepath.Join(two, "a", "b"), "memory.max", "max\n")
	write(filepath.Join(one, "x"), "memory.limit_in_bytes", "9223372036854771712\n")
	write(one, "memory.limit_in_bytes", "536870912\n")
	info := func(root, dir, fs, options string) string {
		return "31 23 0:28 " + root + " " + dir + " rw,relatime - " + fs + " cgroup rw," + options + "\n"
	}
	for _, c := range []struct {
		name, own, info string
		want            sampler.Confinement
	}{
		{"version 2, limited above", "0::/a/b\n", info("/", two, "cgroup2", "nsdelegate"), sampler.Confinement{Cores: 1.5, MemoryBytes: 1 << 30}},
		{"version 1, no limit of its own", "4:memory:/x\n", info("/", one, "cgroup", "memory"), sampler.Confinement{MemoryBytes: 512 << 20}},
		{"in a name space", "0::/\n", info("/..", filepath.Join(two, "a"), "cgroup2", ""), sampler.Confinement{Cores: 1.5, MemoryBytes: 1 << 30}},
		{"none", "0::/\n", "", sampler.Confinement{}},
	} {
		if got := sampler.ConfinedBy(c.own, c.info); got != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}
