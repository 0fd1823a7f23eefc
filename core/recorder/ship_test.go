package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
)

// movedClock is the machine's clock, moved by some time.
type movedClock struct {
	core.SystemClock
	by atomic.Int64
}

// Now gives the moved time.
func (c *movedClock) Now() time.Time { return time.Now().Add(time.Duration(c.by.Load())) }

func TestShip(t *testing.T) {
	t.Parallel()

	t.Run("NothingIsLostWhileHistoryIsDown", func(t *testing.T) {
		t.Parallel()
		h := newHistory()
		h.setDown(errDown)
		r := open(t, recorder.Options{Shipper: h, SegmentBytes: 4 << 10, SegmentAge: 5 * time.Millisecond})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		for i := range 500 {
			say(t, a, fmt.Sprint(i))
			if i%50 == 0 {
				flush(t, a)
			}
		}
		flush(t, a)
		eventually(t, "the error shows", func() bool { return errors.Is(r.Stats().ShipError, errDown) })
		if st := r.Stats(); st.Unshipped == 0 || st.OldestUnshipped <= 0 || st.OldestUnshippedAt.IsZero() || st.LinesShipped != 0 || h.count() != 0 {
			t.Errorf("%+v", st)
		}
		h.setDown(nil)
		eventually(t, "shipped", func() bool { return h.count() == 500 && r.Stats().Unshipped == 0 })
		if st := r.Stats(); st.ShipError != nil || st.OldestUnshipped != 0 || !st.OldestUnshippedAt.IsZero() || st.LinesShipped != 500 || st.ShipRate < 8 || st.ShipRate > 8.4 {
			t.Errorf("%+v", st)
		}
	})

	t.Run("SegmentsGoInOrderAndOnce", func(t *testing.T) {
		t.Parallel()
		h := newHistory()
		r := open(t, recorder.Options{Shipper: h, SegmentBytes: 4 << 10, SegmentAge: time.Millisecond})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		for range 30 {
			say(t, a, "x")
			flush(t, a)
		}
		eventually(t, "shipped", func() bool { return h.count() == 30 && r.Stats().Unshipped == 0 })
		var ids []string
		var seqs []uint64
		for _, s := range h.all() {
			ids = append(ids, s.ID)
			for _, l := range s.Logs {
				seqs = append(seqs, l.Seq)
			}
		}
		if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) || !slices.IsSorted(seqs) || len(seqs) != 30 {
			t.Errorf("%v %v", ids, seqs)
		}
	})

	t.Run("AShippedSegmentIsKeptAndThenDeleted", func(t *testing.T) {
		t.Parallel()
		dir, clock := t.TempDir(), &movedClock{}
		r := open(t, recorder.Options{Dir: dir, SegmentAge: time.Millisecond, KeepShipped: time.Hour, Clock: clock})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "x")
		flush(t, a)
		a.Close()
		eventually(t, "shipped", func() bool { return r.Stats().Unshipped == 0 })
		if got := lines(t, r, "r1"); len(got) != 1 {
			t.Errorf("a shipped segment is not kept: %q", got)
		}
		clock.by.Store(int64(time.Hour))
		eventually(t, "deleted", func() bool { return len(segmentFiles(t, dir)) == 0 && r.Stats().SpoolBytes == 0 })
		if got := lines(t, r, "r1"); len(got) != 0 {
			t.Errorf("%q", got)
		}
	})

	t.Run("ASegmentHistoryRefusesForEverIsSetAside", func(t *testing.T) {
		t.Parallel()
		h := newHistory()
		h.setDown(core.Errorf(core.KindInvalid, "insert", "no such day"))
		dir := t.TempDir()
		r := open(t, recorder.Options{Dir: dir, Shipper: h, SegmentAge: time.Millisecond})
		a := r.Attempt(origin("poison"), 0, recorder.Wait)
		say(t, a, "x")
		flush(t, a)
		eventually(t, "set aside", func() bool { return r.Stats().Quarantined == 1 })
		h.setDown(nil)
		b := r.Attempt(origin("fine"), 0, recorder.Wait)
		say(t, b, "y")
		flush(t, b)
		eventually(t, "the rest goes on", func() bool { return h.count() == 1 })
		if kept, _ := os.ReadDir(filepath.Join(dir, "quarantine")); len(kept) != 1 {
			t.Errorf("%v", kept)
		}
	})
}

func TestTail(t *testing.T) {
	t.Parallel()

	t.Run("GivesEveryLineOnceDurableAndSoon", func(t *testing.T) {
		t.Parallel()
		r := open(t, recorder.Options{SegmentAge: 20 * time.Millisecond})
		tail := r.Tail(t.Context(), "r1")
		defer tail.Close()
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		other := r.Attempt(origin("r2"), 0, recorder.Wait)
		const total = 300
		go func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for range total {
				<-tick.C
				_ = a.Log(context.WithoutCancel(t.Context()), core.LogLine{Message: "x"})
				_ = other.Log(context.WithoutCancel(t.Context()), core.LogLine{Message: "noise"})
			}
		}()
		var late []time.Duration
		for seq := uint64(0); seq < total; {
			got, err := tail.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range got {
				if seq++; l.Seq != seq || l.Origin.RunID != "r1" {
					t.Fatalf("%+v instead of %d", l, seq)
				}
				late = append(late, time.Since(l.At))
			}
			if acked := r.Stats().LinesAcked; acked < seq {
				t.Fatalf("line %d was seen before it was durable", seq)
			}
		}
		slices.Sort(late)
		t.Logf("p50 %s p99 %s", late[len(late)/2], late[len(late)*99/100])
	})

	t.Run("ASlowReaderIsToldAndCostsNothing", func(t *testing.T) {
		t.Parallel()
		r := open(t, recorder.Options{SegmentAge: time.Millisecond, KeepShipped: time.Millisecond})
		tail := r.Tail(t.Context(), "r1")
		defer tail.Close()
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "one")
		flush(t, a)
		eventually(t, "its segment is gone", func() bool { return len(lines(t, r, "r1")) == 0 })
		if _, err := tail.Next(t.Context()); !errors.Is(err, recorder.ErrBehind) {
			t.Fatalf("%v", err)
		}
		for {
			say(t, a, "next")
			got, err := tail.Next(t.Context())
			if errors.Is(err, recorder.ErrBehind) {
				continue
			}
			if err != nil || got[0].Message != "next" {
				t.Fatalf("%v %+v", err, got)
			}
			return
		}
	})

	t.Run("EndsWithItsContextItsCloseAndTheRecorder", func(t *testing.T) {
		t.Parallel()
		r := open(t, recorder.Options{})
		ctx, cancel := context.WithCancelCause(t.Context())
		tail := r.Tail(ctx, "r1")
		cancel(core.ErrShuttingDown)
		if _, err := tail.Next(ctx); !errors.Is(err, core.ErrShuttingDown) && core.KindOf(err) != core.KindUnavailable {
			t.Errorf("%v", err)
		}
		eventually(t, "unsubscribed", func() bool { return r.Stats().Tails == 0 })
		tail = r.Tail(t.Context(), "r1")
		tail.Close()
		tail.Close()
		if _, err := tail.Next(t.Context()); core.KindOf(err) != core.KindUnavailable {
			t.Errorf("%v", err)
		}
		tail = r.Tail(t.Context(), "r1")
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "last words")
		stop(t, r)
		got, err := tail.Next(t.Context())
		if err != nil || len(got) != 1 || got[0].Message != "last words" {
			t.Errorf("%v %+v", err, got)
		}
		if _, err := tail.Next(t.Context()); core.KindOf(err) != core.KindUnavailable {
			t.Errorf("%v", err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	dir := f.TempDir()
	r, err := recorder.New(recorder.Options{Dir: dir, Log: discard(), Shipper: &history{down: errDown}})
	if err != nil {
		f.Fatal(err)
	}
	if err := r.Start(f.Context()); err != nil {
		f.Fatal(err)
	}
	a := r.Attempt(origin("r1"), 0, recorder.Wait)
	_ = a.Log(f.Context(), core.LogLine{Message: "m", Attrs: []core.Attr{{Key: "k", Value: "v"}}})
	_ = a.Sample(f.Context(), core.RunSample{})
	_ = r.RecordHost(f.Context(), core.HostSample{})
	_ = r.RecordPlugin(f.Context(), core.PluginSample{})
	_ = r.RecordAttempt(f.Context(), core.AttemptRecord{})
	if err := r.Stop(f.Context()); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "000000000001.seg"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[recorder.HeadSize+24:])
	f.Add([]byte{2, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = recorder.DecodeRecords(string(b)) // must neither panic nor take memory beyond the input's measure
		one, damage, err := recorder.Decode(b)
		two, again, err2 := recorder.Decode(b)
		if (err == nil) != (err2 == nil) || damage != again || len(one.Logs) != len(two.Logs) || one.ID != two.ID {
			t.Error("the same bytes gave two segments")
		}
	})
}
