package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

// chronicle brings what tasks and task types are into history, version by version, behind those who change them. What could
// not be brought while history did not answer, or while no server ran, is found by comparing the store with history: at the
// start, and once history answers again. The store keeps every version, also of tasks that are gone, so nothing is lost.
type chronicle struct {
	store   chronicled
	types   func() []core.TaskType
	sums    map[string]string // SHA-256 of executables, by provider
	history annals
	clock   core.Clock
	log     *slog.Logger
	server  string

	changed chan string // ids of tasks
	compare atomic.Bool // something may be missing in history: look at everything
	said    map[string]core.TypeSnapshot
}

// chronicled is the store as the chronicle wants it.
type chronicled interface {
	Task(ctx context.Context, id string) (core.Task, error)
	Tasks(ctx context.Context, filter core.TaskFilter) ([]core.Task, error)
	TaskVersions(ctx context.Context, id string) ([]core.Task, error)
}

// annals is history as the chronicle wants it.
type annals interface {
	WriteTasks(ctx context.Context, batchID string, snapshots []core.TaskSnapshot) error
	WriteTaskTypes(ctx context.Context, batchID string, snapshots []core.TypeSnapshot) error
	KnownTasks(ctx context.Context, after, through string, limit int) ([]core.KnownTask, error)
	KnownTypes(ctx context.Context) (map[string]core.TypeSnapshot, error)
}

const (
	chroniclePage  = 2000             // tasks compared at once, a few KB each
	chronicleTypes = 10 * time.Second // how often types are looked at: plugins and scripts change behind our back
)

func newChronicle(c *chronicle) *chronicle {
	c.changed = make(chan string, 1000)
	c.compare.Store(true)
	return c
}

// note takes that a task has changed or is gone. It never blocks: of very many at once it only remembers that there were.
func (c *chronicle) note(taskID string) {
	if c == nil {
		return
	}
	select {
	case c.changed <- taskID:
	default:
		c.compare.Store(true)
	}
}

// run works until ctx ends.
func (c *chronicle) run(ctx context.Context) {
	every := time.NewTicker(chronicleTypes)
	defer every.Stop()
	wait := time.Second
	for {
		var err error
		if c.compare.Swap(false) {
			c.said = nil
			err = c.bringAll(ctx)
		}
		if err == nil {
			err = c.bringTypes(ctx)
		}
		if err == nil {
			wait = time.Second
			select {
			case <-ctx.Done():
				return
			case <-every.C:
			case id := <-c.changed:
				err = c.bring(ctx, c.gather(id))
			}
		}
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		c.compare.Store(true)
		c.log.Warn("versions of tasks and task types not in history yet", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Minute)
	}
}

// gather takes what else has changed by now.
func (c *chronicle) gather(first string) []string {
	ids := []string{first}
	for len(c.changed) > 0 && len(ids) < chroniclePage {
		ids = append(ids, <-c.changed)
	}
	return ids
}

// bring writes the versions of some tasks that history lacks.
func (c *chronicle) bring(ctx context.Context, ids []string) error {
	var missing []core.TaskSnapshot
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		known, err := c.known(ctx, id[:len(id)-1], id)
		if err != nil {
			return err
		}
		if err := c.missing(ctx, id, known[id], &missing); err != nil {
			return err
		}
	}
	return c.write(ctx, missing)
}

// known gives, by id, what history has of tasks: after < id <= through.
func (c *chronicle) known(ctx context.Context, after, through string) (map[string]core.KnownTask, error) {
	const most = 100_000
	all := make(map[string]core.KnownTask)
	for {
		some, err := c.history.KnownTasks(ctx, after, through, most)
		if err != nil {
			return nil, err
		}
		for _, k := range some {
			all[k.TaskID] = k
		}
		if len(some) < most {
			return all, nil
		}
		after = some[len(some)-1].TaskID
	}
}

// missing adds the versions of a task that history lacks, and that it is gone if history does not know. A task that the
// store has never had is another installation's.
func (c *chronicle) missing(ctx context.Context, id string, known core.KnownTask, into *[]core.TaskSnapshot) error {
	if known.Deleted {
		return nil
	}
	versions, err := c.store.TaskVersions(ctx, id) // the newest first
	if core.KindOf(err) == core.KindNotFound && err != nil {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = c.store.Task(ctx, id)
	gone := err != nil && core.KindOf(err) == core.KindNotFound
	if err != nil && !gone {
		return err
	}
	for i := len(versions) - 1; i >= 0; i-- {
		last := gone && i == 0
		if versions[i].Version > known.Version || last {
			*into = append(*into, snapshotOf(versions[i], last))
		}
	}
	return nil
}

func snapshotOf(t core.Task, deleted bool) core.TaskSnapshot {
	policies, err := json.Marshal(api.PoliciesOf(t.Policies))
	if err != nil || string(policies) == "{}" {
		policies = nil
	}
	return core.TaskSnapshot{Task: t, Policies: string(policies), Deleted: deleted}
}

// bringAll compares the store with history, both in the order of ids, and writes what history lacks.
func (c *chronicle) bringAll(ctx context.Context) error {
	after, brought := "", 0
	for {
		var page []core.Task
		for last := after; len(page) < chroniclePage; last = page[len(page)-1].ID {
			some, err := c.store.Tasks(ctx, core.TaskFilter{AfterID: last, Limit: 1000})
			if err != nil {
				return err
			}
			page = append(page, some...)
			if len(some) < 1000 {
				break
			}
		}
		through := ""
		if len(page) >= chroniclePage {
			through = page[len(page)-1].ID
		}
		known, err := c.known(ctx, after, through)
		if err != nil {
			return err
		}
		var missing []core.TaskSnapshot
		for _, t := range page {
			k := known[t.ID]
			delete(known, t.ID)
			switch {
			case k.Version >= t.Version:
			case t.Version == k.Version+1: // the usual case needs no look at earlier versions
				missing = append(missing, snapshotOf(t, false))
			default:
				if err := c.missing(ctx, t.ID, k, &missing); err != nil {
					return err
				}
			}
		}
		for id, k := range known {
			if err := c.missing(ctx, id, k, &missing); err != nil {
				return err
			}
		}
		if err := c.write(ctx, missing); err != nil {
			return err
		}
		brought += len(missing)
		if through == "" {
			if brought > 0 {
				c.log.Info("versions of tasks brought into history", "count", brought)
			}
			return nil
		}
		after = through
	}
}

func (c *chronicle) write(ctx context.Context, snapshots []core.TaskSnapshot) error {
	if len(snapshots) == 0 {
		return nil
	}
	var name strings.Builder
	for _, s := range snapshots {
		fmt.Fprintln(&name, s.Task.ID, s.Task.Version, s.Deleted)
	}
	return c.history.WriteTasks(ctx, "tasks-"+shortHash(name.String()), snapshots)
}

// bringTypes writes the task types that are not what history says.
func (c *chronicle) bringTypes(ctx context.Context) error {
	if c.said == nil {
		said, err := c.history.KnownTypes(ctx)
		if err != nil {
			return err
		}
		c.said = said
	}
	now := c.clock.Now().UTC()
	var changed []core.TypeSnapshot
	for _, t := range c.types() {
		was, ok := c.said[t.Name]
		is := core.TypeSnapshot{Type: t, ValidFrom: now, SHA256: c.sums[t.Provider], Server: c.server}
		if !ok || was.Type.Provider != t.Provider || was.Type.Version != t.Version || was.SHA256 != is.SHA256 {
			changed = append(changed, is)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if err := c.history.WriteTaskTypes(ctx, "types-"+c.server+"-"+now.Format(time.RFC3339Nano), changed); err != nil {
		return err
	}
	for _, t := range changed {
		c.said[t.Type.Name] = t
	}
	return nil
}
