// Package coretest exercises the implementations of core's seams: every executor passes ExerciseExecutor.
package coretest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Case is a task type and parameters that make it do what an exercise needs.
type Case struct {
	Type   string
	Params json.RawMessage // empty: {}
}

// Subject is an executor to exercise, and what to have it run. All cases are needed.
type Subject struct {
	Executor core.Executor
	Grace    time.Duration // after which an attempt that does not stop is killed

	// Talks logs "one" (info), "two" (warn, with the attribute k=v) and "three" (error), reports the progress 1 of 2,
	// leaves the checkpoint "here", and succeeds with the output {"ok":true}.
	Talks Case
	// Echoes succeeds with the output {"run_id":…,"attempt":…,"checkpoint":…} of its attempt.
	Echoes    Case
	Fails     Case // with the message "no luck"; may be tried again
	Permanent Case // fails, and trying again cannot help
	Later     Case // fails, and asks for a wait of 90 s
	Waits     Case // logs "waiting" (info) and waits until it is asked to stop; then it logs "stopping" (info) and stops
	Stubborn  Case // logs a line and never ends, and does not stop when asked to
	Crashes   Case // its process ends
	Unknown   Case // a type that nobody offers
}

// Sink records what an attempt said. It implements core.Sink and is safe for concurrent use.
type Sink struct {
	mu       sync.Mutex
	lines    []core.LogLine
	samples  []core.RunSample
	done     int64
	total    int64
	progress int
	Hold     func(ctx context.Context) error // if set, called by Log before a line is taken
}

// Log keeps the line.
func (s *Sink) Log(ctx context.Context, line core.LogLine) error {
	if s.Hold != nil {
		if err := s.Hold(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
	return nil
}

// Progress keeps the newest.
func (s *Sink) Progress(done, total int64, _ string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done, s.total = done, total
	s.progress++
}

// Sample keeps the sample.
func (s *Sink) Sample(_ context.Context, sample core.RunSample) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, sample)
	return nil
}

// Lines gives the lines of a stream so far; 0: of all.
func (s *Sink) Lines(stream core.Stream) []core.LogLine {
	s.mu.Lock()
	defer s.mu.Unlock()
	var some []core.LogLine
	for _, l := range s.lines {
		if stream == 0 || l.Stream == stream {
			some = append(some, l)
		}
	}
	return some
}

// Samples gives the samples so far.
func (s *Sink) Samples() []core.RunSample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.samples)
}

// Attempt makes a first attempt of a run of its own.
func (c Case) Attempt(runID string) core.Attempt {
	params := c.Params
	if len(params) == 0 {
		params = json.RawMessage("{}")
	}
	return core.Attempt{
		RunID: runID, TaskID: "task-" + runID, Namespace: core.NamespaceOf(c.Type), TaskName: "exercise", TaskType: c.Type,
		Number: 1, Token: 1, FireAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Params: params, Zone: "UTC",
		Trigger: core.TriggerManual,
	}
}

// ExerciseExecutor checks that an executor keeps the promises of core.Executor.
func ExerciseExecutor(t *testing.T, s Subject) {
	serial := 0
	execute := func(t *testing.T, ctx context.Context, c Case, change ...func(*core.Attempt, *Sink)) (core.Outcome, *Sink) {
		t.Helper()
		serial++
		sink, attempt := &Sink{}, c.Attempt(fmt.Sprintf("exercise-%d", serial))
		for _, f := range change {
			f(&attempt, sink)
		}
		out, err := s.Executor.Execute(ctx, attempt, sink)
		if err != nil {
			t.Fatalf("Execute(%s): %v", c.Type, err)
		}
		return out, sink
	}

	t.Run("HandsOnLinesProgressCheckpointAndOutput", func(t *testing.T) {
		out, sink := execute(t, t.Context(), s.Talks)
		if out.Verdict != core.Succeeded || !sameJSON(out.Output, `{"ok":true}`) || string(out.Checkpoint) != "here" {
			t.Fatalf("outcome %+v", out)
		}
		lines := sink.Lines(core.StreamLog)
		if len(lines) != 3 {
			t.Fatalf("lines %+v", lines)
		}
		for i, want := range []core.LogLine{{Message: "one", Level: core.LevelInfo}, {Message: "two", Level: core.LevelWarn}, {Message: "three", Level: core.LevelError}} {
			if lines[i].Message != want.Message || lines[i].Level != want.Level || lines[i].At.IsZero() {
				t.Errorf("line %d is %+v", i, lines[i])
			}
		}
		if !slices.Contains(lines[1].Attrs, core.Attr{Key: "k", Value: "v"}) {
			t.Errorf("attributes of the second line: %v", lines[1].Attrs)
		}
		if sink.progress == 0 || sink.done != 1 || sink.total != 2 {
			t.Errorf("progress %d of %d", sink.done, sink.total)
		}
		if out.Began.IsZero() {
			t.Error("it does not say when the handler began")
		}
	})
	t.Run("EndsWithOneFinalSample", func(t *testing.T) {
		_, sink := execute(t, t.Context(), s.Talks)
		samples := sink.Samples()
		if len(samples) == 0 || !samples[len(samples)-1].Final || samples[len(samples)-1].RunID == "" {
			t.Fatalf("samples %+v", samples)
		}
		for _, one := range samples[:len(samples)-1] {
			if one.Final {
				t.Error("more than one final sample")
			}
		}
	})
	t.Run("KeepsLinesBelowTheLevelOut", func(t *testing.T) {
		attempt := s.Talks.Attempt("exercise-level")
		attempt.LogLevel = core.LevelWarn
		sink := &Sink{}
		if _, err := s.Executor.Execute(t.Context(), attempt, sink); err != nil || len(sink.Lines(core.StreamLog)) != 2 {
			t.Fatalf("lines %+v, err %v", sink.Lines(core.StreamLog), err)
		}
	})
	t.Run("TellsTheTaskWhichAttemptItIs", func(t *testing.T) {
		attempt := s.Echoes.Attempt("exercise-echo")
		attempt.Number, attempt.Checkpoint = 3, []byte("was here")
		out, err := s.Executor.Execute(t.Context(), attempt, &Sink{})
		if err != nil || !sameJSON(out.Output, `{"run_id":"exercise-echo","attempt":3,"checkpoint":"was here"}`) {
			t.Fatalf("outcome %+v, err %v", out, err)
		}
	})
	t.Run("TakesOverTypedFailures", func(t *testing.T) {
		out, _ := execute(t, t.Context(), s.Fails)
		if out.Verdict != core.Failed || !strings.Contains(out.Message, "no luck") || out.Permanent || out.RetryAfter != 0 {
			t.Errorf("a failure is %+v", out)
		}
		if out, _ := execute(t, t.Context(), s.Permanent); out.Verdict != core.Failed || !out.Permanent || out.Message == "" {
			t.Errorf("a permanent failure is %+v", out)
		}
		if out, _ := execute(t, t.Context(), s.Later); out.Verdict != core.Failed || out.RetryAfter != 90*time.Second {
			t.Errorf("a failure with a wait is %+v", out)
		}
	})
	t.Run("UnknownTypeIsAnError", func(t *testing.T) {
		_, err := s.Executor.Execute(t.Context(), s.Unknown.Attempt("exercise-unknown"), &Sink{})
		if core.KindOf(err) != core.KindNotFound || err == nil {
			t.Fatalf("err %v", err)
		}
	})
	// ends runs a case whose context is cancelled with cause a moment after it has said something, and checks that it does not end
	// before least is over, and soon thereafter, as the slowest machine takes it. grace is the attempt's own; 0: it has none.
	ends := func(t *testing.T, c Case, cause error, grace, least time.Duration) (core.Outcome, *Sink) {
		t.Helper()
		execute(t, t.Context(), s.Talks) // warms it up
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		asked := make(chan time.Time, 1)
		begun := sync.OnceFunc(func() {
			time.AfterFunc(150*time.Millisecond, func() { asked <- time.Now(); cancel(cause) })
		})
		out, sink := execute(t, ctx, c, func(a *core.Attempt, s *Sink) {
			a.Grace, s.Hold = grace, func(context.Context) error { begun(); return nil }
		})
		select {
		case at := <-asked:
			if took := time.Since(at); took < least || took > least+30*time.Second {
				t.Errorf("it ended %v after it was asked to; it was to end soon after %v", took, least)
			}
		default:
			t.Error("it ended before it was asked to")
		}
		return out, sink
	}
	t.Run("CancelStopsIt", func(t *testing.T) {
		out, sink := ends(t, s.Waits, core.ErrRunCancelled, time.Hour, 0)
		if out.Verdict != core.Cancelled {
			t.Errorf("outcome %+v", out)
		}
		if lines := sink.Lines(core.StreamLog); len(lines) != 2 || lines[0].Message != "waiting" || lines[1].Message != "stopping" {
			t.Errorf("what it said as it stopped: %+v", lines)
		}
	})
	t.Run("TimeoutStopsIt", func(t *testing.T) {
		if out, _ := ends(t, s.Waits, core.ErrRunTimeout, time.Hour, 0); out.Verdict != core.TimedOut {
			t.Errorf("outcome %+v", out)
		}
	})
	t.Run("WhatDoesNotStopIsKilled", func(t *testing.T) {
		if out, _ := ends(t, s.Stubborn, core.ErrRunTimeout, 0, s.Grace); out.Verdict != core.TimedOut || !strings.Contains(out.Message, "killed") {
			t.Errorf("outcome %+v", out)
		}
		if out, _ := execute(t, t.Context(), s.Talks); out.Verdict != core.Succeeded {
			t.Errorf("afterwards: %+v", out)
		}
	})
	t.Run("TerminateKillsItAtOnce", func(t *testing.T) {
		if out, _ := ends(t, s.Stubborn, core.ErrRunTerminated, time.Hour, 0); out.Verdict != core.Cancelled || !strings.HasPrefix(out.Message, core.ErrRunTerminated.Error()) {
			t.Errorf("outcome %+v", out)
		}
		if out, _ := execute(t, t.Context(), s.Talks); out.Verdict != core.Succeeded {
			t.Errorf("afterwards: %+v", out)
		}
	})
	t.Run("CrashIsAnOutcome", func(t *testing.T) {
		out, sink := execute(t, t.Context(), s.Crashes)
		if out.Verdict != core.Crashed || out.Message == "" {
			t.Fatalf("outcome %+v", out)
		}
		if len(sink.Lines(core.StreamSystem)) == 0 {
			t.Error("no system line says so")
		}
		if len(sink.Samples()) != 1 || sink.Samples()[0].CPUSource != core.SourceUnknown {
			t.Errorf("samples %+v", sink.Samples())
		}
		if out, _ := execute(t, t.Context(), s.Talks); out.Verdict != core.Succeeded {
			t.Errorf("afterwards: %+v", out)
		}
	})
	t.Run("CancelledBeforeItBeganIsAnOutcomeOrAnError", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(core.ErrRunCancelled)
		out, err := s.Executor.Execute(ctx, s.Talks.Attempt("exercise-late"), &Sink{})
		if err == nil && out.Verdict != core.Cancelled {
			t.Fatalf("outcome %+v", out)
		}
	})
	t.Run("RunsManyAtOnce", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				id := fmt.Sprintf("exercise-many-%d", i)
				out, err := s.Executor.Execute(t.Context(), s.Echoes.Attempt(id), &Sink{})
				if err != nil || !strings.Contains(string(out.Output), id) {
					t.Errorf("%s: %+v, %v", id, out, err)
				}
			})
		}
		all.Wait()
	})
}

func sameJSON(got json.RawMessage, want string) bool {
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil {
		return false
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}
