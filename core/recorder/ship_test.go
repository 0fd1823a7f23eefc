package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
)

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
		if st := r.Stats(); st.Unshipped == 0 || st.OldestUnshipped <= 0 || h.count() != 0 {
			t.Errorf("%+v", st)
		}
		h.setDown(nil)
		eventually(t, "shipped", func() bool { return h.count() == 500 && r.Stats().Unshipped == 0 })
		if st := r.Stats(); st.ShipError != nil || st.OldestUnshipped != 0 {
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
		dir := t.TempDir()
		r := open(t, recorder.Options{Dir: dir, SegmentAge: time.Millisecond, KeepShipped: 300 * time.Millisecond})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "x")
		flush(t, a)
		a.Close()
		eventually(t, "shipped", func() bool { return r.Stats().Unshipped == 0 })
		if got := lines(t, r, "r1"); len(got) != 1 {
			t.Errorf("a shipped segment is not kept: %q", got)
		}
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
			select {
			case <-tail.News():
			case <-t.Context().Done():
				t.Fatal(t.Context().Err())
			}
			got, err := r.Lines(t.Context(), core.LineFilter{RunID: "r1", AfterAttempt: 1, AfterSeq: seq, Limit: total})
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

	t.Run("EndsWithItsContextAndItsClose", func(t *testing.T) {
		t.Parallel()
		r := open(t, recorder.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		first, second := r.Tail(ctx, "r1"), r.Tail(t.Context(), "r1")
		if got := r.Stats().Tails; got != 2 {
			t.Errorf("%d tails", got)
		}
		cancel()
		eventually(t, "unsubscribed", func() bool { return r.Stats().Tails == 1 })
		second.Close()
		second.Close()
		first.Close()
		if got := r.Stats().Tails; got != 0 {
			t.Errorf("%d tails", got)
		}
		say(t, r.Attempt(origin("r1"), 0, recorder.Wait), "to nobody")
		stop(t, r)
		select {
		case <-second.News():
			t.Error("news after the end")
		default:
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
