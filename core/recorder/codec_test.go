package recorder_test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/recorder"
)

// olderRecords is what format 1 wrote: an origin, a sample of a plugin, one of the host, and an attempt.
const olderRecords = "0104027231017406436f6d6d6f6e016e08436f6d6d6f6e2e58354f57f65e47060004354f57f65e4706000a06070812010406636f6d6d6f6e05312e322e33" +
	"0158a4420605354f57f65e47060001680204060000000000001240060708090a0b0c0d0e060011354f57f65e4706000040d400014023ff759166f65e470600" +
	"35f3eacc5f4706000974696d65645f6f7574016d02020202030403"

func TestRecordsOfAnOlderVersionAreRead(t *testing.T) {
	t.Parallel()
	payload, err := hex.DecodeString(olderRecords)
	if err != nil {
		t.Fatal(err)
	}
	got, err := recorder.Decoded(string(payload))
	if err != nil || len(got.PluginSamples) != 1 || len(got.HostSamples) != 1 || len(got.Attempts) != 1 {
		t.Fatalf("%+v %v", got, err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	if p := got.PluginSamples[0]; p.Plugin != "common" || p.PID != 4242 || p.FDs != -1 || p.CPU != 5 || !p.At.Equal(at) || p.Tree != nil {
		t.Errorf("%+v", p)
	}
	if h := got.HostSamples[0]; h.Host != "h" || h.Load1 != 4.5 || h.DataFreeBytes != 14 || h.Detail != nil {
		t.Errorf("%+v", h)
	}
	if a := got.Attempts[0]; a.RunID != "r1" || a.Attempt != 2 || a.Verdict != core.TimedOut || a.Usage.IOSource != core.SourceShared || a.Place != (core.Place{}) {
		t.Errorf("%+v", a)
	}
}

func TestASpoolOfAnOlderVersionIsShipped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, recorder.Options{Dir: dir, Shipper: &history{down: errDown}})
	if err := r.RecordHost(t.Context(), core.HostSample{At: time.UnixMicro(1).UTC(), Host: "old"}); err != nil {
		t.Fatal(err)
	}
	if err := r.FlushAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		recorder.SetFormat(data, 1)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := newHistory()
	again := open(t, recorder.Options{Dir: dir, Shipper: h})
	eventually(t, "shipped", func() bool { return again.Stats().Unshipped == 0 })
	for _, s := range h.all() {
		if len(s.HostSamples) == 1 && s.HostSamples[0].Host == "old" {
			return
		}
	}
	t.Errorf("%+v", h.all())
}
