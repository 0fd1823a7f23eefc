package sampler_test

import (
	"log/slog"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/sampler"
)

// handClock is moved by hand.
type handClock struct {
	core.SystemClock
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestHostSampleIsNeverOlderThanFiveSeconds(t *testing.T) {
	t.Parallel()
	clock := &handClock{now: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)}
	var k sink
	s := build(t, sampler.Options{Sink: &k, Targets: func() []sampler.Target { return nil }, Clock: clock})
	read := func() core.HostSample {
		t.Helper()
		h, ok := s.HostSample()
		if !ok || h.Cores < 1 || h.MemTotalBytes == 0 || h.DataTotalBytes == 0 || h.Host == "" {
			t.Fatalf("%+v %v", h, ok)
		}
		return h
	}
	first := read() // nothing was sampled yet
	if !first.At.Equal(clock.Now()) {
		t.Errorf("read at %v", first.At)
	}
	clock.move(5 * time.Second)
	if again := read(); !reflect.DeepEqual(again, first) {
		t.Errorf("read anew after 5 s: %v", again.At)
	}
	clock.move(time.Millisecond)
	if fresh := read(); !fresh.At.Equal(clock.Now()) {
		t.Errorf("a reading of %v was given at %v", fresh.At, clock.Now())
	}
	clock.move(time.Second)
	if err := s.Sample(t.Context()); err != nil { // what the loop takes is given too
		t.Fatal(err)
	}
	if latest := read(); !reflect.DeepEqual(latest, k.hosts[0]) {
		t.Errorf("gave %v, sampled %v", latest.At, k.hosts[0].At)
	}
	clock.move(-time.Hour)
	if back := read(); !back.At.Equal(clock.Now()) {
		t.Errorf("after the clock was set back: %v", back.At)
	}
	if len(k.hosts) != 1 {
		t.Errorf("%d readings were recorded", len(k.hosts))
	}
	var many sync.WaitGroup
	for range 8 {
		many.Go(func() {
			clock.move(3 * time.Second)
			s.HostSample()
			_ = s.Sample(t.Context())
		})
	}
	many.Wait()
}

// BenchmarkHostSample takes a fresh reading each time.
func BenchmarkHostSample(b *testing.B) {
	clock := &handClock{now: time.Now()}
	s, err := sampler.New(sampler.Options{Log: slog.New(slog.DiscardHandler), Sink: nothing{}, Targets: func() []sampler.Target { return nil }, DataDir: b.TempDir(), Clock: clock})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		clock.move(time.Minute)
		if _, ok := s.HostSample(); !ok {
			b.Fatal("not read")
		}
	}
}
