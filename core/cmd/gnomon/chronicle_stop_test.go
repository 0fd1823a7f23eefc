package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// stopped is a history that is asked when the server stops.
type stopped struct {
	annals
	stop context.CancelFunc
}

func (s stopped) KnownTypes(ctx context.Context) (map[string]core.TypeSnapshot, error) {
	s.stop()
	return nil, ctx.Err()
}

func TestTheChronicleEndsWhereverItIsStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := newChronicle(&chronicle{history: stopped{stop: cancel}, log: slog.New(slog.DiscardHandler)})
	c.compare.Store(false)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.run(ctx)
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it works on after it was stopped")
	}
}
