package main

import (
	"context"
	"os"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/pluginhost"
	"github.com/gnomon-scheduler/gnomon/core/sampler"
)

// startSampler watches what is used. It starts before the processes it watches and stops after them, so that their
// beginning and their end are seen.
func (a *app) startSampler(_, live context.Context, started func(part)) (err error) {
	if a.hostname, err = os.Hostname(); err != nil {
		return err
	}
	watch := &watch{app: a}
	if watch.ticks, err = sampler.StartTicks(os.Getpid()); err != nil {
		return err
	}
	a.sampler, err = sampler.New(sampler.Options{Log: a.log, Sink: a.spool, Targets: watch.targets, Server: a.id, DataDir: a.config.Data, Clock: a.clock})
	if err != nil {
		return err
	}
	if err := a.recordServer(live, time.Time{}); err != nil {
		return err
	}
	if err := a.sampler.Start(live); err != nil {
		return err
	}
	started(part{"sampler", time.Second, func(ctx context.Context) error {
		if err := a.sampler.Stop(ctx); err != nil {
			return err
		}
		return a.recordServer(ctx, a.clock.Now())
	}})
	return nil
}

// recordServer tells history what this server's id stands for.
func (a *app) recordServer(ctx context.Context, ended time.Time) error {
	confined := sampler.Confined()
	record := core.ServerRecord{ID: a.id, Host: a.hostname, Version: version, PID: os.Getpid(), StartedAt: a.began.UTC(), EndedAt: ended,
		CPULimit: confined.Cores, MemLimit: confined.MemoryBytes, RecordedAt: a.clock.Now().UTC()}
	if host, ok := a.sampler.HostSample(); ok {
		record.Cores, record.MemBytes = host.Cores, host.MemTotalBytes
	}
	return a.spool.RecordServer(ctx, record)
}

// watch lists the process trees of this server for its sampler, from one goroutine.
type watch struct {
	app    *app
	ticks  uint64 // of this process
	engine struct {
		pid   int
		ticks uint64
	}
}

// targets are this process, the engine and the children that run attempts: all that Gnomon is on this machine.
func (w *watch) targets() []sampler.Target {
	list := []sampler.Target{{Kind: core.TreeServer, PID: os.Getpid(), StartTicks: w.ticks, Plugin: string(core.TreeServer), Version: version}}
	if w.app.engine != nil {
		if pid := w.app.engine.PID(); pid != w.engine.pid {
			w.engine.pid, w.engine.ticks = pid, 0
			if ticks, err := sampler.StartTicks(pid); err == nil {
				w.engine.ticks = ticks
			}
		}
		if w.engine.ticks != 0 {
			list = append(list, sampler.Target{Kind: core.TreeEngine, PID: w.engine.pid, StartTicks: w.engine.ticks, Plugin: string(core.TreeEngine), Version: w.app.history.Version()})
		}
	}
	host := w.app.watched.Load()
	if host == nil {
		return list
	}
	for _, p := range host.Processes() {
		list = append(list, targetOf(p))
	}
	return list
}

func targetOf(p pluginhost.Process) sampler.Target {
	kind := core.TreePlugin
	if p.Worker {
		kind = core.TreeLuaWorker
	}
	return sampler.Target{Kind: kind, PID: p.PID, StartTicks: p.StartTicks, Plugin: p.Plugin, Version: p.Version, Namespace: p.Namespace,
		Group: p.Group, Running: p.Running, Attempts: p.Attempts, Alone: p.Alone}
}

// processEnded records what a child has used in all.
func (a *app) processEnded(e pluginhost.Ended) {
	a.sampler.Ended(context.Background(), targetOf(e.Process), sampler.Ended{
		CPU: e.CPU, CPUFrom: e.CPUFrom, ReadBytes: e.ReadBytes, WriteBytes: e.WriteBytes, PeakRSSBytes: e.PeakRSSBytes,
	})
}
