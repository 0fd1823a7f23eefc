package gateway

import (
	"context"
	"sync"
	"time"
)

// abandoned are the places of statements that nobody waits for any more, each with a goroutine that watches for the statement's end.
// There are no more than Limits.Overall.
type abandoned struct {
	mu      sync.Mutex
	stopped bool
	next    int
	kept    map[int]kept
	all     sync.WaitGroup
}

type kept struct {
	since  time.Time
	cancel context.CancelFunc
}

// keep calls watch and then release, in a goroutine that ends with watch, whose context Stop ends.
func (a *abandoned) keep(ctx context.Context, watch func(ctx context.Context), release func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		release()
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	if a.kept == nil {
		a.kept = make(map[int]kept)
	}
	a.next++
	n := a.next
	a.kept[n] = kept{time.Now(), cancel}
	a.all.Go(func() {
		watch(ctx)
		cancel()
		release()
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.kept, n)
	})
}

// Abandoned gives how many statements work on in ClickHouse that nobody waits for, and for how long the first of them has.
func (g *Gateway) Abandoned() (n int, longest time.Duration) {
	g.held.mu.Lock()
	defer g.held.mu.Unlock()
	for _, k := range g.held.kept {
		longest = max(longest, time.Since(k.since))
	}
	return len(g.held.kept), longest
}

// Stop ends the watch over statements that nobody waits for any more. Call it when no request is being answered.
func (g *Gateway) Stop(context.Context) error {
	g.held.mu.Lock()
	g.held.stopped = true
	for _, k := range g.held.kept {
		k.cancel()
	}
	g.held.mu.Unlock()
	g.held.all.Wait()
	return nil
}

// The engine kills a statement at once and looks for it again every second; it is gone a little later, or not for long.
const (
	firstLook = 20 * time.Millisecond
	lastLook  = 2 * time.Second
)

// outlast returns when ClickHouse has the statement no more, or when ctx ends. While ClickHouse does not say, it may have it.
func (g *Gateway) outlast(ctx context.Context, who, id string) {
	began, told, overdue := time.Now(), false, false
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		works, err := g.o.Works(ctx, id)
		switch {
		case err != nil:
			g.o.Log.Debug("end of a statement not seen", "query_id", id, "err", err)
		case !works:
			return
		case !overdue && time.Since(began) > g.o.Limits.EndTime:
			overdue = true
			g.o.Log.Error("statement does not end", "query_id", id, "principal", who, "waited_ms", time.Since(began).Milliseconds())
			if g.o.Overdue != nil {
				g.o.Overdue(id)
			}
		case !told && time.Since(began) > g.o.Limits.Patience:
			told = true
			g.o.Log.Warn("statement does not end, its place is kept", "query_id", id, "principal", who, "waited_ms", time.Since(began).Milliseconds())
		}
	}
}
