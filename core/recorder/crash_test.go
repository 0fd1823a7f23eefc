package recorder_test

import (
	"bufio"
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
)

// crashChild writes until it is killed and reports on stdout what was acknowledged.
func crashChild(dir string) {
	ctx := context.Background()
	r, err := recorder.New(recorder.Options{Dir: dir, Log: discard(), Shipper: &history{down: errDown}, SegmentBytes: 32 << 10, SegmentAge: 20 * time.Millisecond})
	if err == nil {
		err = r.Start(ctx)
	}
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	for g := range 4 {
		go func() {
			for n := 0; ; n++ {
				run := fmt.Sprintf("pid%d-g%d-n%d", os.Getpid(), g, n)
				a := r.Attempt(origin(run), 0, recorder.Wait)
				for i := range 1 + n%30 {
					_ = a.Log(ctx, core.LogLine{Level: core.LevelInfo, Message: fmt.Sprint("line ", i+1)})
				}
				if a.Flush(ctx) == nil {
					fmt.Println("acked", run, a.Lines()) // one write call: whole or not at all
				}
				a.Close()
			}
		}()
	}
	select {}
}

func TestCrash(t *testing.T) {
	t.Parallel()

	t.Run("NoAcknowledgedLineIsLostOrDoubledByKillMinus9", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		acked := map[string]uint64{}
		for round := range 5 {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "GNOMON_TEST_SPOOL="+dir)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var kill *time.Timer
			in := bufio.NewScanner(out)
			for said := 0; in.Scan(); said++ {
				if said == 25 { // however long the start took
					kill = time.AfterFunc(time.Duration(37*round)*time.Millisecond, func() { _ = cmd.Process.Kill() })
				}
				var run string
				var n uint64
				if _, err := fmt.Sscanf(in.Text(), "acked %s %d", &run, &n); err != nil {
					if strings.HasPrefix(in.Text(), "failed") {
						t.Fatal(in.Text())
					}
					continue
				}
				acked[run] = n
			}
			_ = cmd.Wait()
			if kill == nil {
				t.Fatal("the child ended by itself")
			}
		}
		if len(acked) < 100 {
			t.Fatalf("only %d attempts were acknowledged: the test shows nothing", len(acked))
		}
		h := newHistory()
		r := open(t, recorder.Options{Dir: dir, Shipper: h})
		for run, n := range acked {
			if got := lines(t, r, run); uint64(len(got)) != n || got[n-1] != fmt.Sprint("line ", n) {
				t.Fatalf("%s: %d lines in the spool, %d acknowledged", run, len(got), n)
			}
		}
		eventually(t, "shipped", func() bool { return r.Stats().Unshipped == 0 })
		given := map[string]int{}
		for _, s := range h.all() {
			for _, l := range s.Logs {
				given[key(l)]++
			}
		}
		for run, n := range acked {
			for i := range n {
				if k := fmt.Sprintf("%s/1/%d", run, i+1); given[k] != 1 {
					t.Fatalf("%s was given to history %d times", k, given[k])
				}
			}
		}
	})

	t.Run("AResumedAttemptNumbersOn", func(t *testing.T) {
		t.Parallel()
		r := open(t, recorder.Options{})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "one", "two", "three")
		b, err := r.Resume(t.Context(), origin("r1"), 0, recorder.Wait)
		if err != nil {
			t.Fatal(err)
		}
		say(t, b, "the server died")
		flush(t, b)
		if got := lines(t, r, "r1"); !slices.Equal(got, []string{"one", "two", "three", "the server died"}) {
			t.Errorf("%q", got)
		}
		c, err := r.Resume(t.Context(), origin("silent"), 0, recorder.Wait)
		if err != nil || c.Lines() != 0 {
			t.Errorf("%v %d", err, c.Lines())
		}
	})

	t.Run("AResumedAttemptNumbersOnThoughItsSegmentsAreGone", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		r := open(t, recorder.Options{Dir: dir, SegmentAge: 5 * time.Millisecond, KeepShipped: time.Millisecond})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "one", "two", "three")
		flush(t, a)
		eventually(t, "first segment deleted", func() bool { // it may be gone already
			return !slices.ContainsFunc(segmentFiles(t, dir), func(f string) bool { return strings.HasPrefix(filepath.Base(f), "000000000001.") })
		})
		crashed := copySpool(t, dir)
		again := open(t, recorder.Options{Dir: crashed})
		if got := lines(t, again, "r1"); len(got) != 0 {
			t.Fatalf("the lines are still there: %q", got)
		}
		b, err := again.Resume(t.Context(), origin("r1"), 0, recorder.Wait)
		if err != nil || b.Lines() != 3 {
			t.Errorf("%v: numbers on after %d", err, b.Lines())
		}
	})

	t.Run("ATornTailIsCutWhereverItTore", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		r := open(t, recorder.Options{Dir: dir, Shipper: &history{down: errDown}, SegmentAge: time.Hour})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "one", "two")
		flush(t, a)
		file := segmentFiles(t, dir)[0]
		whole := func() []byte {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		safe := len(whole())
		say(t, a, "three")
		flush(t, a)
		data := whole()
		for n := safe; n <= len(data); n++ {
			for _, junk := range []string{"", "\x00\x00\x00\x00\x00\x00\x00\x00", "junk behind the end"} {
				if n < len(data) && junk != "" && junk[0] == data[n] {
					continue // not torn: the junk happens to complete it
				}
				torn := t.TempDir()
				if err := os.WriteFile(filepath.Join(torn, filepath.Base(file)), append(slices.Clone(data[:n]), junk...), 0o600); err != nil {
					t.Fatal(err)
				}
				again := open(t, recorder.Options{Dir: torn, Shipper: &history{down: errDown}})
				want, bytes := []string{"one", "two"}, int64(n-safe+len(junk))
				if n == len(data) {
					want, bytes = []string{"one", "two", "three"}, int64(len(junk))
				}
				if got := lines(t, again, "r1"); !slices.Equal(got, want) {
					t.Fatalf("cut at %d of %d: %q", n, len(data), got)
				}
				if got := again.Stats().TornBytes; got != bytes {
					t.Fatalf("cut at %d of %d: %d torn bytes counted, want %d", n, len(data), got, bytes)
				}
				stop(t, again)
			}
		}
	})

	t.Run("AHalfSegmentIsRemovedAndCounted", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		r := open(t, recorder.Options{Dir: dir, Shipper: &history{down: errDown}, SegmentAge: time.Hour})
		a := r.Attempt(origin("r1"), 0, recorder.Wait)
		say(t, a, "one")
		flush(t, a)
		data, err := os.ReadFile(segmentFiles(t, dir)[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, half := range [][]byte{nil, data[:3], data[:recorder.HeadSize-1], data[:recorder.HeadSize], data[:recorder.HeadSize+5], make([]byte, 4096)} {
			torn := t.TempDir()
			if err := os.WriteFile(filepath.Join(torn, "000000000001.open"), half, 0o600); err != nil {
				t.Fatal(err)
			}
			again := open(t, recorder.Options{Dir: torn})
			if st := again.Stats(); st.HalfSegments != 1 || st.Segments != 0 || len(segmentFiles(t, torn)) != 0 {
				t.Errorf("%d bytes: %+v", len(half), st)
			}
		}
	})

	t.Run("AStaleOrDamagedCheckpointShipsTheSameSegmentsAgain", func(t *testing.T) {
		t.Parallel()
		h := newHistory()
		dir := t.TempDir()
		r := open(t, recorder.Options{Dir: dir, Shipper: h, SegmentAge: time.Hour}) // one segment: the checkpoint says "shipped 1"
		for i := range 3 {
			a := r.Attempt(origin(fmt.Sprint("r", i)), 0, recorder.Wait)
			say(t, a, "one", "two")
		}
		stop(t, r)
		r = open(t, recorder.Options{Dir: dir, Shipper: h})
		eventually(t, "shipped", func() bool { return r.Stats().Unshipped == 0 })
		stop(t, r)
		first := fmt.Sprint(h.all())
		checkpoint := filepath.Join(dir, "checkpoint")
		good, err := os.ReadFile(checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		rebooted := strings.SplitAfter(string(good), " boot ")[0] + "another-boot"
		for name, bad := range map[string]string{"empty": "", "junk": "junk", "flipped": strings.Replace(string(good), "shipped 1", "shipped 9", 1),
			"rebooted": fmt.Sprintf("%s crc %08x\n", rebooted, crc32.Checksum([]byte(rebooted), crc32.MakeTable(crc32.Castagnoli)))} {
			if err := os.WriteFile(checkpoint, []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			h2 := newHistory()
			r := open(t, recorder.Options{Dir: dir, Shipper: h2})
			eventually(t, "shipped again", func() bool { return h2.count() == 6 })
			stop(t, r)
			if got := fmt.Sprint(stripped(h2.all())); got != fmt.Sprint(stripped(h.all())) {
				t.Errorf("%s: not the same segments:\n%s\n%s", name, got, first)
			}
		}
		h3 := newHistory()
		r = open(t, recorder.Options{Dir: dir, Shipper: h3})
		if st := r.Stats(); st.Unshipped != 0 {
			t.Errorf("a good checkpoint was not believed: %+v", st)
		}
	})

	t.Run("ATakenFolderIsRefused", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		first := open(t, recorder.Options{Dir: dir})
		second := build(t, recorder.Options{Dir: dir})
		err := second.Start(t.Context())
		if core.KindOf(err) != core.KindConflict || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			t.Errorf("%v", err)
		}
		stop(t, first)
		third := open(t, recorder.Options{Dir: dir})
		stop(t, third)
	})
}

// stripped makes segments comparable by what they say.
func stripped(segments []core.Segment) []string {
	var out []string
	for _, s := range segments {
		out = append(out, s.ID)
		for _, l := range s.Logs {
			out = append(out, key(l)+" "+l.Message+" "+l.At.String())
		}
	}
	return out
}

// copySpool is what a machine would find after the process was killed at this moment.
func copySpool(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() || e.Name() == "lock" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // renamed or deleted this moment
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}
