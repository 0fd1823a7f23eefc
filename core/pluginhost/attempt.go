package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gnomon-scheduler/gnomon/core"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// call is one attempt in progress on a process.
type call struct {
	attempt    *core.Attempt
	prev, next *call // ring of the process, under its mu; both nil: not in it
	asked      sync.WaitGroup

	// Of the goroutine that executes the attempt.
	outcome    *pluginv1.Outcome
	checkpoint []byte
	broken     string // what the plugin did against the contract; "": nothing

	overran bool // the process was killed because of this attempt; under the process's mu
	deaf    bool // the plugin does not know Cancel, so whether the attempt still runs is not known; likewise
}

// errLeaving says that a process takes no attempt any more: it was killed, or asked to exit, and is about to end.
var errLeaving = errors.New("its process is ending")

// run executes one attempt on the process. clean says that the process is done with it: it may take the next one. On
// errLeaving nothing of the attempt has begun.
func (p *process) run(ctx context.Context, a *core.Attempt, grants map[string]string, sink core.Sink, grace time.Duration) (out core.Outcome, clean bool, err error) {
	if ctx.Err() != nil {
		return neverBegan(ctx, ""), true, nil
	}
	p.remember(grants)
	if a.Grace > 0 {
		grace = a.Grace
	}
	// The stream outlives ctx: after a cancel its last lines and its outcome are still wanted, until grace is over.
	stream, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	c := &call{attempt: a}
	if !p.enter(c) {
		return core.Outcome{}, false, errLeaving
	}
	c.asked.Add(1)
	unasked := context.AfterFunc(ctx, func() { // ends when the attempt does, or after grace
		defer c.asked.Done()
		reason := context.Cause(ctx)
		if errors.Is(reason, core.ErrRunTerminated) {
			p.terminate(stream, end, c)
			return
		}
		p.stopCall(stream, end, c, grace, reason)
	})
	failure := p.converse(ctx, stream, end, c, grants, sink, grace)
	p.leave(c)
	end()
	if unasked() {
		c.asked.Done()
	}
	c.asked.Wait()

	if failure != nil && status.Code(failure) == codes.NotFound && c.outcome == nil && ctx.Err() == nil {
		return core.Outcome{}, true, core.Errorf(core.KindNotFound, fmt.Sprintf("run %q", a.TaskType), "%s %q does not offer it: %s",
			p.name, p.version, status.Convert(failure).Message())
	}
	dead := failure != nil && p.lost(failure)
	if dead {
		failure = errCrashed
	}
	out = c.verdict(ctx, p, failure)
	out.Place = core.Place{Plugin: p.name, Version: p.version, PID: p.pid}
	p.close(ctx, c, sink, out, dead)
	clean = !dead && failure == nil && c.broken == "" && !c.overran
	return out, clean, nil
}

// partingMoment is what an attempt that is terminated gets if its process carries others: one that listens ends within
// it even on a busy machine, and the others live on. A process of its own is killed at once.
const partingMoment = time.Second

// terminate kills the process at once if no other attempt is on it, else after the parting moment. It returns when the
// attempt has ended.
func (p *process) terminate(stream context.Context, end context.CancelFunc, c *call) {
	if p.overrun(c, terminated, false) {
		p.await(stream)
		end()
		return
	}
	p.stopCall(stream, end, c, partingMoment, core.ErrRunTerminated)
}

// enter puts the attempt among those in progress; false: the process takes no more.
func (p *process) enter(c *call) bool {
	p.mu.Lock()
	open := p.killed.Load() == nil // under mu, as overrun looks whom else it would end
	if open {
		head := &p.calls
		c.prev, c.next = head.prev, head
		head.prev.next, head.prev = c, c
		p.running++
		p.begun++
	}
	p.mu.Unlock()
	return open
}

// leave takes it out again; from now on the process is not killed because of it.
func (p *process) leave(c *call) {
	p.mu.Lock()
	c.prev.next, c.next.prev = c.next, c.prev
	c.prev, c.next = nil, nil
	p.running--
	if p.running == 0 && p.drained != nil {
		close(p.drained)
		p.drained = nil
	}
	p.mu.Unlock()
}

// stopCall asks the plugin to stop an attempt, waits for grace, and then kills the process. It returns when the attempt
// has ended, which ends stream.
func (p *process) stopCall(stream context.Context, end context.CancelFunc, c *call, grace time.Duration, reason error) {
	limited, cancel := context.WithTimeout(stream, grace) // a process that is stopped does not even answer
	defer cancel()
	// One that is terminated without having been asked before has its parting moment, however often that is said.
	if c.attempt.Terminate != nil && !errors.Is(reason, core.ErrRunTerminated) {
		c.asked.Go(func() { // ends with limited
			select {
			case <-c.attempt.Terminate:
				cancel()
			case <-limited.Done():
			}
		})
	}
	req := &pluginv1.CancelRequest{RunId: c.attempt.RunID, Attempt: int32(c.attempt.Number), Reason: reason.Error()}
	for limited.Err() == nil {
		answer, err := p.api.Cancel(limited, req)
		if status.Code(err) == codes.Unimplemented {
			p.mu.Lock()
			c.deaf = true
			p.mu.Unlock()
			if !p.alone {
				end() // cancels it the plain way; whether it stops is not heard of
				return
			}
			break
		}
		if err == nil && answer.GetRunning() {
			break
		}
		select { // it has ended, or the request to run it is still on its way
		case <-limited.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	<-limited.Done()
	if stream.Err() != nil {
		return
	}
	why := fmt.Sprintf("did not stop within %v (%s)", grace, reason)
	if grace == 0 || !errors.Is(limited.Err(), context.DeadlineExceeded) {
		why = terminated
	}
	p.overrun(c, why, true)
	p.await(stream)
	end()
}

// terminated is why a process was killed.
const terminated = "was terminated"

// await returns when the stream of a dead process has ended, which it does by itself unless the kernel takes too long.
func (p *process) await(stream context.Context) {
	select {
	case <-stream.Done():
	case <-p.exited:
	case <-time.After(time.Second):
	}
}

// overrun kills the process if it still holds the attempt and, unless others may end with it, nothing else.
func (p *process) overrun(c *call, why string, withOthers bool) bool {
	p.mu.Lock()
	others := p.running - 1
	holds := c.next != nil && (withOthers || others == 0)
	if holds { // from now on it takes no attempt
		c.overran = true
		because := fmt.Sprintf("killed because attempt %d of run %s of %s %s", c.attempt.Number, c.attempt.RunID, c.attempt.TaskType, why)
		p.killed.CompareAndSwap(nil, &because)
	}
	p.mu.Unlock()
	if !holds {
		return false
	}
	p.log.Warn("killed a plugin process because of an attempt", "pid", p.pid, "run_id", c.attempt.RunID,
		"attempt", c.attempt.Number, "task_type", c.attempt.TaskType, "why", why, "others_ended", others)
	p.killTree()
	return true
}

// errCrashed says that the process ended under the attempt.
var errCrashed = errors.New("its process ended")

// converse sends the request and takes events until the stream has ended. nil: it ended as a stream should.
func (p *process) converse(ctx, stream context.Context, end context.CancelFunc, c *call, grants map[string]string, sink core.Sink, grace time.Duration) error {
	req := newRequest(ctx, c.attempt, grants)
	events, err := p.api.Run(stream, &req.pb)
	req.release()
	if err != nil {
		return err
	}
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if c.broken != "" {
			continue // drained until it stops
		}
		if c.broken = p.take(stream, c, event, sink); c.broken != "" {
			// The handler is asked to stop like one that was cancelled.
			c.asked.Go(func() { p.stopCall(stream, end, c, grace, errors.New(c.broken)) })
		}
	}
}

// take takes one event. It gives what is wrong with it.
func (p *process) take(ctx context.Context, c *call, event *pluginv1.RunResponse, sink core.Sink) (broken string) {
	if c.outcome != nil {
		if _, again := event.GetEvent().(*pluginv1.RunResponse_Outcome); again {
			return "the plugin gave two outcomes"
		}
		return "the plugin sent an event after its outcome"
	}
	switch e := event.GetEvent().(type) {
	case *pluginv1.RunResponse_Logs:
		for _, said := range e.Logs.GetLines() {
			line, broken := logLine(said)
			if broken != "" {
				return broken
			}
			if line.Level < c.attempt.LogLevel {
				continue
			}
			if err := sink.Log(ctx, line); err != nil {
				return "its log lines could not be kept: " + err.Error()
			}
		}
	case *pluginv1.RunResponse_Progress:
		sink.Progress(e.Progress.GetDone(), e.Progress.GetTotal(), e.Progress.GetNote())
	case *pluginv1.RunResponse_Checkpoint:
		if len(e.Checkpoint) > protocol.MaxCheckpointBytes {
			return fmt.Sprintf("the plugin sent a checkpoint of %d bytes; the limit is %d", len(e.Checkpoint), protocol.MaxCheckpointBytes)
		}
		c.checkpoint = e.Checkpoint
	case *pluginv1.RunResponse_Outcome:
		if e.Outcome.GetResult() == nil {
			return "the plugin gave an outcome that is neither success nor failure"
		}
		output := e.Outcome.GetSuccess().GetOutput()
		if len(output) > protocol.MaxOutputBytes {
			return fmt.Sprintf("the plugin gave an output of %d bytes; the limit is %d", len(output), protocol.MaxOutputBytes)
		}
		if len(output) > 0 && !json.Valid(output) {
			return "the plugin gave an output that is not JSON"
		}
		c.outcome = e.Outcome
	default:
		return "the plugin sent an event of an unknown kind"
	}
	return ""
}

// lost reports whether the process has ended, after a stream has broken with err.
func (p *process) lost(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Internal, codes.Canceled, codes.Unknown:
	default:
		return p.dead()
	}
	if p.dead() {
		return true
	}
	if status.Code(err) != codes.Unavailable {
		return false
	}
	// The connection breaks a moment before the process is seen to have ended. If it goes on without its connection,
	// nobody can use it any more.
	select {
	case <-p.exited:
	case <-time.After(2 * time.Second):
		p.kill("killed because it closed its connection")
		<-p.exited
	}
	return true
}

// maxMessageBytes bounds an outcome's message.
const maxMessageBytes = protocol.MaxFailureBytes

// verdict makes an outcome of what came of the attempt. failure is how its stream broke; nil: it did not.
func (c *call) verdict(ctx context.Context, p *process, failure error) core.Outcome {
	out := core.Outcome{Verdict: core.Failed, Checkpoint: c.checkpoint, Usage: usage(c.outcome.GetUsage())}
	if began := c.outcome.GetBeganAt(); began.IsValid() {
		out.Began = began.AsTime()
	}
	switch {
	case c.broken != "":
		out.Message = c.broken
	case c.outcome != nil && failure == nil:
		result(&out, c.outcome)
	case errors.Is(failure, errCrashed):
		out.Verdict, out.Message = core.Crashed, strings.ReplaceAll(p.crash(), "\n", " | ")
	case failure == nil:
		out.Message = "the plugin ended the attempt without an outcome"
	default:
		out.Message = streamFailure(failure)
	}
	if ctx.Err() != nil && out.Verdict != core.Succeeded {
		said := out.Message
		out.Verdict, out.Message = stopped(ctx)
		out.Permanent, out.RetryAfter = false, 0
		switch {
		case c.overran && errors.Is(context.Cause(ctx), core.ErrRunTerminated):
			out.Message += "; its process was killed"
		case c.overran && errors.Is(context.Cause(ctx), core.ErrRunSoftTimeout):
			out.Message = core.ErrRunTimeout.Error() + "; it had not stopped since its soft timeout, so its process was killed"
		case c.overran:
			out.Message += "; it did not stop in time, so its process was killed"
		case c.deaf:
			out.Message += "; the plugin does not report whether it has stopped, something of it may still run"
		case c.outcome != nil && c.outcome.GetFailure().GetCancelled() == nil && said != "":
			out.Message += "; it said: " + said
		}
	}
	out.Message = shorten(strings.ToValidUTF8(out.Message, "\uFFFD"), maxMessageBytes-len("…"))
	return out
}

// stopped gives the verdict of an attempt whose ctx has ended, and why it did.
func stopped(ctx context.Context) (core.Verdict, string) {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, core.ErrRunTimeout):
		return core.TimedOut, cause.Error()
	case errors.Is(cause, context.DeadlineExceeded):
		return core.TimedOut, core.ErrRunTimeout.Error()
	}
	return core.Cancelled, cause.Error()
}

// neverBegan is the outcome of an attempt whose ctx ended before it was handed to a process.
func neverBegan(ctx context.Context, waited string) core.Outcome {
	out := core.Outcome{Usage: usage(nil)}
	out.Verdict, out.Message = stopped(ctx)
	if waited != "" {
		out.Message += "; it had not begun: " + waited
	}
	return out
}

// crash says how the process ended.
func (p *process) crash() string {
	if why := p.killedBy(); why != "" {
		return fmt.Sprintf("the process of %s was %s", p.name, why)
	}
	text := fmt.Sprintf("the process of %s ended: %s", p.name, p.exit)
	if said := p.tail.text(); said != "" {
		text += "; it wrote: " + said
	}
	return text
}

// streamFailure puts into words why a stream broke while the process lives on.
func streamFailure(err error) string {
	s := status.Convert(err)
	switch {
	case s.Code() == codes.ResourceExhausted && strings.Contains(s.Message(), "larger than max"):
		return fmt.Sprintf("the plugin sent a message that is too large; the limit is %d MiB (%s)", protocol.MaxMessageBytes>>20, s.Message())
	case s.Code() == codes.Internal && strings.Contains(s.Message(), "UTF-8"):
		return "the plugin sent text that is not UTF-8"
	case s.Code() == codes.Internal && strings.Contains(s.Message(), "unmarshal"):
		return "the plugin sent a message that cannot be read: " + s.Message()
	case s.Code() == codes.Unimplemented:
		return "the plugin cannot run tasks: " + s.Message()
	}
	return "the plugin broke off the attempt: " + s.Message()
}

// lastWords is how long a full recorder may hold up the end of an attempt that was asked to stop.
const lastWords = time.Second

// close writes the attempt's last lines and its final sample.
func (p *process) close(ctx context.Context, c *call, sink core.Sink, out core.Outcome, dead bool) {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		defer cancel()
	}
	if dead || c.broken != "" {
		text := c.broken
		if dead {
			text = p.crash()
		}
		// A recorder that has stopped takes no more; the outcome says the same.
		_ = sink.Log(ctx, core.LogLine{At: time.Now().UTC(), Level: core.LevelError, Stream: core.StreamSystem, Message: text,
			Attrs: []core.Attr{{Key: "plugin", Value: p.name}, {Key: "version", Value: p.version}, {Key: "pid", Value: fmt.Sprint(p.pid)}}})
	}
	_ = sink.Sample(ctx, core.RunSample{
		Origin: origin(c.attempt), At: time.Now().UTC(),
		CPU: out.Usage.CPU, CPUSource: out.Usage.CPUSource,
		RSSBytes: out.Usage.PeakRSSBytes, RSSSource: out.Usage.RSSSource,
		ReadBytes: out.Usage.ReadBytes, WriteBytes: out.Usage.WriteBytes, IOSource: out.Usage.IOSource,
		Final: true,
	})
}
