package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
)

// sealedSpool makes a spool of n sealed, unshipped segments with one attempt of ten lines each.
func sealedSpool(t *testing.T, n int) (dir string, files []string) {
	t.Helper()
	dir = t.TempDir()
	for i := range n {
		r := open(t, recorder.Options{Dir: dir, Shipper: &history{down: errDown}, SegmentAge: time.Hour}) // one segment, however long it takes
		a := r.Attempt(origin(fmt.Sprint("r", i)), 0, recorder.Wait)
		for j := range 10 {
			say(t, a, fmt.Sprint("line ", j+1))
			if j == 4 {
				flush(t, a)
			}
		}
		stop(t, r)
	}
	return dir, segmentFiles(t, dir)
}

func flip(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()

	t.Run("ABitFlipCostsOneBlockAndIsCounted", func(t *testing.T) {
		t.Parallel()
		for at := int64(recorder.HeadSize); ; at += 13 {
			dir, files := sealedSpool(t, 3)
			if info, err := os.Stat(files[1]); err != nil || at >= info.Size() {
				return
			}
			flip(t, files[1], at)
			h := newHistory()
			r := open(t, recorder.Options{Dir: dir, Shipper: h})
			eventually(t, "shipped", func() bool { return r.Stats().Unshipped == 0 && r.Stats().Quarantined == 1 })
			got := map[string]int{}
			for _, s := range h.all() {
				for _, l := range s.Logs {
					got[l.Origin.RunID]++
					if l.Message != fmt.Sprint("line ", l.Seq) {
						t.Fatalf("flip at %d: %+v", at, l)
					}
				}
			}
			if got["r0"] != 10 || got["r2"] != 10 || got["r1"] == 0 {
				t.Errorf("flip at %d: %v", at, got)
			}
			st := r.Stats()
			kept, _ := os.ReadDir(filepath.Join(dir, "quarantine"))
			if st.DamagedSegments != 1 || st.DamagedPlaces == 0 && st.DamagedBytes == 0 || len(kept) != 1 {
				t.Errorf("flip at %d: %+v, %d files in quarantine", at, st, len(kept))
			}
			stop(t, r)
		}
	})

	t.Run("ATruncatedSealedSegmentIsShippedAsFarAsItGoes", func(t *testing.T) {
		t.Parallel()
		dir, files := sealedSpool(t, 2)
		info, err := os.Stat(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(files[0], info.Size()-40); err != nil {
			t.Fatal(err)
		}
		h := newHistory()
		r := open(t, recorder.Options{Dir: dir, Shipper: h})
		eventually(t, "shipped", func() bool { return h.count() == 20 && r.Stats().Quarantined == 1 })
	})

	t.Run("AFileThatCannotBeUsedIsRefusedByNameAndLeftAlone", func(t *testing.T) {
		t.Parallel()
		for name, spoil := range map[string]func(dir string, file string) string{
			"foreign name":    func(dir, _ string) string { return filepath.Join(dir, "holiday.jpg") },
			"foreign content": func(dir, _ string) string { return filepath.Join(dir, "000000000007.seg") },
			"damaged head":    func(_, file string) string { flip(t, file, 20); return "" },
			"renamed": func(dir, file string) string {
				if err := os.Rename(file, filepath.Join(dir, "000000000009.seg")); err != nil {
					t.Fatal(err)
				}
				return ""
			},
			"open but foreign": func(dir, _ string) string { return filepath.Join(dir, "000000000008.open") },
		} {
			dir, files := sealedSpool(t, 1)
			bad := spoil(dir, files[0])
			if bad != "" {
				if err := os.WriteFile(bad, []byte(strings.Repeat("not a segment ", 20)), 0o600); err != nil {
					t.Fatal(err)
				}
			} else {
				bad = segmentFiles(t, dir)[0]
			}
			before, _ := os.ReadFile(bad)
			err := build(t, recorder.Options{Dir: dir}).Start(t.Context())
			if core.KindOf(err) != core.KindDamaged || !strings.Contains(err.Error(), bad) || !strings.Contains(err.Error(), "Move this file") {
				t.Errorf("%s: %v", name, err)
			}
			if after, _ := os.ReadFile(bad); string(after) != string(before) {
				t.Errorf("%s: the file was changed", name)
			}
			if err := os.Remove(bad); err != nil { // the remedy
				t.Fatal(err)
			}
			stop(t, open(t, recorder.Options{Dir: dir}))
		}
	})
}

// disk fails on order.
type disk struct {
	mu               sync.Mutex
	writeErr, sync   error
	room             int // bytes before writeErr shows; torn writes
	failed, attempts atomic.Int64
}

func (d *disk) set(writeErr, syncErr error, room int) {
	d.mu.Lock()
	d.writeErr, d.sync, d.room = writeErr, syncErr, room
	d.mu.Unlock()
}

func (d *disk) create(path string) (recorder.SegmentFile, error) {
	f, err := recorder.CreateFile(path)
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, d: d}, nil
}

type diskFile struct {
	*os.File
	d *disk
}

func (f *diskFile) Write(b []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.attempts.Add(1)
	if f.d.writeErr != nil {
		f.d.failed.Add(1)
		n, _ := f.File.Write(b[:min(len(b), f.d.room)])
		return n, f.d.writeErr
	}
	return f.File.Write(b)
}

func (f *diskFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.sync != nil {
		f.d.failed.Add(1)
		return f.d.sync
	}
	return f.File.Sync()
}

func TestFullOrFailingDisk(t *testing.T) {
	t.Parallel()

	for name, fail := range map[string]func(d *disk){
		"NoSpace":         func(d *disk) { d.set(syscall.ENOSPC, nil, 0) },
		"NoSpaceTornHalf": func(d *disk) { d.set(syscall.ENOSPC, nil, 37) },
		"WriteError":      func(d *disk) { d.set(syscall.EIO, nil, 100) },
		"FailedSync":      func(d *disk) { d.set(nil, syscall.EIO, 0) },
	} {
		t.Run(name+"AcknowledgesNothingAndResumes", func(t *testing.T) {
			t.Parallel()
			d, h, dir := &disk{}, newHistory(), t.TempDir()
			h.setDown(errDown)
			r := build(t, recorder.Options{Dir: dir, Shipper: h, SegmentAge: time.Hour})
			r.CreateWith(d.create)
			if err := r.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			a := r.Attempt(origin("r1"), 0, recorder.Wait)
			say(t, a, "one")
			flush(t, a)
			fail(d)
			say(t, a, "two")
			short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := a.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("acknowledged on a failing disk: %v", err)
			}
			eventually(t, "the error shows", func() bool { return r.Stats().WriteError != nil })
			if st := r.Stats(); st.LinesAcked != 1 {
				t.Errorf("%+v", st)
			}
			if got := lines(t, r, "r1"); !slices.Equal(got, []string{"one"}) {
				t.Errorf("%q", got)
			}
			crashed := copySpool(t, dir)
			d.set(nil, nil, 0)
			flush(t, a)
			say(t, a, "three")
			flush(t, a)
			if got := lines(t, r, "r1"); !slices.Equal(got, []string{"one", "two", "three"}) {
				t.Errorf("%q", got)
			}
			if st := r.Stats(); st.WriteError != nil || st.LinesAcked != 3 {
				t.Errorf("%+v", st)
			}
			h.setDown(nil)
			eventually(t, "what came before is shipped", func() bool { return h.count() >= 1 })
			again := open(t, recorder.Options{Dir: crashed})
			if got := lines(t, again, "r1"); len(got) < 1 || got[0] != "one" {
				t.Errorf("after a crash while the disk failed: %q", got)
			}
			stop(t, r)
			final := newHistory()
			last := open(t, recorder.Options{Dir: dir, Shipper: final})
			if got := lines(t, last, "r1"); !slices.Equal(got, []string{"one", "two", "three"}) {
				t.Errorf("after a restart: %q", got)
			}
		})
	}

	t.Run("ARealFullDiskIsSurvived", func(t *testing.T) {
		t.Parallel()
		dir, d := t.TempDir(), &disk{}
		tmpfs := os.Geteuid() == 0 && syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k") == nil
		ballast := filepath.Join(dir, "quarantine", "ballast")
		if tmpfs {
			t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
			if err := os.MkdirAll(filepath.Dir(ballast), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(ballast, make([]byte, 128<<10), 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			d.set(syscall.ENOSPC, nil, 0)
		}
		h := newHistory()
		h.setDown(errDown)
		r := build(t, recorder.Options{Dir: dir, Shipper: h, SegmentBytes: 16 << 10})
		if !tmpfs {
			r.CreateWith(d.create)
		}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		done := make(chan error, 1)
		const total = 2000 // about 230 kB with what the file system adds
		go func() {
			for i := range total {
				if err := a.Log(context.WithoutCancel(t.Context()), core.LogLine{Level: core.LevelInfo, Message: fmt.Sprintf("%06d %060d", i, i)}); err != nil {
					done <- err
					return
				}
			}
			done <- a.Flush(context.WithoutCancel(t.Context()))
		}()
		eventually(t, "the disk is full", func() bool { return r.Stats().WriteError != nil })
		select {
		case err := <-done:
			t.Fatalf("ended on a full disk: %v", err)
		default:
		}
		h.setDown(nil) // shipped segments make room, though the disk was full to the brim
		if tmpfs {
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		}
		d.set(nil, nil, 0)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		stop(t, r)
		again := open(t, recorder.Options{Dir: dir, Shipper: h})
		eventually(t, "shipped", func() bool { return again.Stats().Unshipped == 0 })
		stop(t, again)
		if h.count() != total {
			t.Errorf("%d lines in history", h.count())
		}
	})

	t.Run("StopOnADeadDiskSaysWhatIsLost", func(t *testing.T) {
		t.Parallel()
		d := &disk{}
		d.set(syscall.EIO, nil, 0)
		r, err := recorder.New(recorder.Options{Dir: t.TempDir(), Log: discard(), Shipper: newHistory()})
		if err != nil {
			t.Fatal(err)
		}
		r.CreateWith(d.create)
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "one")
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := r.Stop(ctx); core.KindOf(err) != core.KindUnavailable {
			t.Errorf("%v", err)
		}
		if err := a.Flush(t.Context()); core.KindOf(err) != core.KindUnavailable {
			t.Errorf("%v", err)
		}
	})
}

func TestFullSpool(t *testing.T) {
	t.Parallel()
	small := recorder.Options{SegmentBytes: 4 << 10, MaxBytes: 32 << 10}
	fill := func(t *testing.T, r *recorder.Recorder) {
		t.Helper()
		a := r.Attempt(origin("filler"), 0, recorder.Wait)
		for i := 0; !r.Stats().Full; i++ {
			say(t, a, strings.Repeat("x", 1000))
			if i%4 == 0 {
				flush(t, a)
			}
		}
		flush(t, a)
	}

	t.Run("AWaitingTaskWaitsAndGoesOn", func(t *testing.T) {
		t.Parallel()
		opts, h := small, newHistory()
		h.setDown(errDown)
		opts.Shipper = h
		r := open(t, opts)
		fill(t, r)
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		short, cancel := context.WithTimeoutCause(t.Context(), 30*time.Millisecond, core.ErrRunTimeout)
		defer cancel()
		if err := a.Log(short, core.LogLine{Message: "patient"}); !errors.Is(err, core.ErrRunTimeout) {
			t.Fatalf("%v", err)
		}
		done := make(chan error, 1)
		go func() { done <- a.Log(context.WithoutCancel(t.Context()), core.LogLine{Message: "patient"}) }()
		eventually(t, "a writer waits", func() bool { return r.Stats().Waiting == 1 })
		h.setDown(nil)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		flush(t, a)
		if got := r.Stats(); got.LinesDropped != 0 || got.SpoolBytes > opts.MaxBytes {
			t.Errorf("%+v", got)
		}
	})

	t.Run("WhatEndedAndWhatWasDroppedFindsRoomInTheReserve", func(t *testing.T) {
		t.Parallel()
		opts, h := small, newHistory()
		h.setDown(errDown)
		opts.Shipper = h
		r := open(t, opts)
		a := r.Attempt(origin("r1"), 0, recorder.Drop)
		say(t, a, "before")
		fill(t, r)
		say(t, a, "lost", "lost")
		within, cancel := context.WithTimeout(t.Context(), time.Minute) // waiting for room has no end
		defer cancel()
		if err := a.Flush(within); err != nil {
			t.Fatalf("the gap marker waits for room: %v", err)
		}
		if err := r.RecordAttempt(within, core.AttemptRecord{Origin: origin("r1"), Verdict: core.Succeeded}); err != nil {
			t.Fatalf("the end of an attempt waits for room: %v", err)
		}
		if err := r.FlushAll(within); err != nil {
			t.Fatal(err)
		}
		if got := lines(t, r, "r1"); len(got) != 2 || !strings.HasPrefix(got[1], "2 lines were dropped") {
			t.Errorf("%q", got)
		}
		// The reserve has an end, too.
		short, over := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer over()
		var err error
		for n := 0; err == nil; n++ {
			if n > 10_000 {
				t.Fatal("the spool takes ends of attempts without end")
			}
			if err = r.RecordAttempt(short, core.AttemptRecord{Origin: origin("r1"), Message: strings.Repeat("x", 500)}); err == nil {
				err = r.FlushAll(short)
			}
		}
		if st := r.Stats(); st.SpoolBytes > opts.MaxBytes+opts.MaxBytes/16+4<<10 {
			t.Errorf("%d bytes of %d and a sixteenth", st.SpoolBytes, opts.MaxBytes)
		}
		h.setDown(nil)
		eventually(t, "shipped", func() bool { return r.Stats().Waiting == 0 && r.Stats().Unshipped <= 1 })
	})

	t.Run("ADroppingTaskCountsWhatItDrops", func(t *testing.T) {
		t.Parallel()
		opts, h := small, newHistory()
		h.setDown(errDown)
		opts.Shipper = h
		r := open(t, opts)
		a := r.Attempt(origin("r1"), 0, recorder.Drop)
		b := r.Attempt(origin("r2"), 0, recorder.Drop)
		say(t, a, "before")
		fill(t, r)
		say(t, a, "lost", "lost", "lost")
		say(t, b, "lost")
		b.Close()
		if st := r.Stats(); st.LinesDropped != 4 {
			t.Errorf("%+v", st)
		}
		eventually(t, "a closed attempt's gap is said, though the spool is full", func() bool { return r.Stats().PendingGaps == 0 })
		h.setDown(nil)
		eventually(t, "room", func() bool { return !r.Stats().Full })
		say(t, a, "after")
		flush(t, a)
		eventually(t, "all said", func() bool { return r.Stats().PendingGaps == 0 })
		stop(t, r)
		again := open(t, recorder.Options{Dir: r.Dir(), Shipper: h})
		eventually(t, "shipped", func() bool { return again.Stats().Unshipped == 0 })
		h.mu.Lock()
		defer h.mu.Unlock()
		for k, want := range map[string]string{"r1/1/1": "before", "r1/1/2": "3 lines", "r1/1/3": "after", "r2/1/1": "1 lines"} {
			l := h.lines[k]
			if !strings.HasPrefix(l.Message, want) {
				t.Errorf("%s: %+v", k, l)
			}
			if strings.Contains(want, "lines") && (l.Stream != core.StreamSystem || l.Attrs[0].Key != recorder.AttrDropped || l.Attrs[0].Value != want[:1]) {
				t.Errorf("%s is no gap marker: %+v", k, l)
			}
		}
	})
}
