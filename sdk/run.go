package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk/egress"
	"github.com/gnomon-scheduler/gnomon/sdk/internal/wire"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
)

// Trigger is why a run exists.
type Trigger string

// The triggers.
const (
	TriggerSchedule Trigger = "schedule" // its instant came
	TriggerManual   Trigger = "manual"   // somebody asked for it
	TriggerCatchUp  Trigger = "catch_up" // its instant passed while no server ran
)

// Run is one attempt, as its handler sees it. Its methods may be called at once from several goroutines, until the
// handler returns; what is said later is lost.
type Run struct {
	ID              string    // UUIDv7; the same for every attempt of the run: the idempotency key
	Attempt         int       // from 1
	Token           int64     // fencing token; rises with every attempt of the task
	TaskID          string    // UUIDv7
	Namespace       string    // the task's
	TaskName        string    // unique in its namespace
	TaskType        string    // full name
	FireAt          time.Time // nominal instant, UTC
	PreviousSuccess time.Time // end of the previous success, UTC; zero: none yet
	Zone            string    // IANA name of the schedule's zone; empty: UTC
	Trigger         Trigger
	Traceparent     string // W3C trace context of the attempt; empty: none. The handler's ctx carries it for OpenTelemetry

	// Log says lines of the attempt. It batches them, and waits when nobody takes them; what is below the task's log
	// level costs nothing. Values of secrets the attempt was granted are replaced by [redacted].
	Log *slog.Logger

	grants     map[string]string
	checkpoint []byte
	stream     wire.Stream
	out, err   lazyWriter
}

type lazyWriter struct {
	once   sync.Once
	writer *wire.LineWriter
}

func newRun(req *pluginv1.RunRequest, send func(*pluginv1.RunResponse) error) *Run {
	r := &Run{
		ID: req.GetRunId(), Attempt: int(req.GetAttempt()), Token: req.GetToken(),
		TaskID: req.GetTaskId(), Namespace: req.GetNamespace(), TaskName: req.GetTaskName(), TaskType: req.GetTaskType(),
		Zone: req.GetZone(), Trigger: Trigger(req.GetTrigger()), Traceparent: req.GetTraceparent(),
		grants: req.GetGrants(), checkpoint: req.GetCheckpoint(),
	}
	if req.GetFireAt() != nil {
		r.FireAt = req.GetFireAt().AsTime()
	}
	if req.GetPreviousSuccessAt() != nil {
		r.PreviousSuccess = req.GetPreviousSuccessAt().AsTime()
	}
	r.stream.Init(send, req.GetLogLevel(), secretsOf(r.grants))
	r.Log = slog.New(&logHandler{stream: &r.stream})
	return r
}

// Location gives the schedule's zone; UTC where it is unknown to this machine.
func (r *Run) Location() *time.Location {
	if zone, err := time.LoadLocation(r.Zone); err == nil {
		return zone
	}
	return time.UTC
}

// Progress says how far the attempt is: done of total items, total 0 meaning unknown. It may be called for every item.
func (r *Run) Progress(done, total int64, note string) { r.stream.Progress(done, total, note) }

// Checkpoint leaves state for the next attempt: it is what LoadCheckpoint gives there. It is encoded as JSON, at most
// 1 MiB, and replaces the one before.
func (r *Run) Checkpoint(state any) error {
	data, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode checkpoint: %w", err)
	}
	return r.stream.Checkpoint(data)
}

// LoadCheckpoint decodes what the last attempt left into state, a pointer; false if it left nothing.
func (r *Run) LoadCheckpoint(state any) (bool, error) {
	if len(r.checkpoint) == 0 {
		return false, nil
	}
	if err := json.Unmarshal(r.checkpoint, state); err != nil {
		return false, fmt.Errorf("decode checkpoint: %w", err)
	}
	return true, nil
}

// Grant gives what was granted for a need: a data source name for "sql:business", an allow-list for "http".
// False if nothing was. The value is a secret: do not log or return it.
func (r *Run) Grant(need string) (value string, granted bool) {
	value, granted = r.grants[need]
	return value, granted
}

// Stdout takes what a child process writes; each line becomes a log line at level info.
func (r *Run) Stdout() io.Writer {
	return r.out.get(&r.stream, pluginv1.Stream_STREAM_STDOUT, pluginv1.Level_LEVEL_INFO)
}

// Stderr takes what a child process writes to its standard error; each line becomes a log line at level warn.
func (r *Run) Stderr() io.Writer {
	return r.err.get(&r.stream, pluginv1.Stream_STREAM_STDERR, pluginv1.Level_LEVEL_WARN)
}

// HTTPClient gives a client that reaches only what the grant "http" lists (package egress); without that grant it
// refuses every request. It has no time limit but the request's context. Connections are kept between attempts.
func (r *Run) HTTPClient() *http.Client { return r.Egress().Client() }

// Egress gives the grant "http" for connections that are not HTTP; without that grant it refuses every address.
func (r *Run) Egress() *egress.Policy {
	allow, granted := r.grants["http"]
	if !granted {
		return egress.Nothing(`the task was not granted "http"`)
	}
	policy, err := egress.Cached(allow)
	if err != nil {
		return egress.Nothing(fmt.Sprintf(`the grant "http" cannot be read: %v`, err))
	}
	return policy
}

// finish says the unfinished lines of child processes, and then the outcome.
func (r *Run) finish(outcome *pluginv1.Outcome) error {
	r.out.flush()
	r.err.flush()
	return r.stream.Finish(outcome)
}

func (w *lazyWriter) get(out *wire.Stream, stream pluginv1.Stream, level pluginv1.Level) io.Writer {
	w.once.Do(func() { w.writer = wire.NewLineWriter(out, stream, level) })
	return w.writer
}

func (w *lazyWriter) flush() {
	w.once.Do(func() {})
	if w.writer != nil {
		w.writer.Flush()
	}
}

// minSecretBytes keeps a short word that happens to be a password from blanking half of every line.
const minSecretBytes = 6

// secretsOf gives what must not be shown: every grant but allow-lists and folders, and the password within a URL or a
// MySQL DSN.
func secretsOf(grants map[string]string) []string {
	var secrets []string
	add := func(text string) {
		if len(text) >= minSecretBytes {
			secrets = append(secrets, text)
		}
	}
	for need, value := range grants {
		if need == "http" || strings.HasPrefix(need, "files:") {
			continue
		}
		add(value)
		if u, err := url.Parse(value); err == nil && u.User != nil {
			password, _ := u.User.Password()
			add(password)
			if _, escaped, _ := strings.Cut(u.User.String(), ":"); escaped != password {
				add(escaped)
			}
			continue
		}
		// user:password@tcp(host:3306)/db, as go-sql-driver writes it
		if at := strings.LastIndexByte(value, '@'); at > 0 {
			_, password, _ := strings.Cut(value[:at], ":")
			add(password)
		}
	}
	return secrets
}

// causeOf gives why ctx ended, for a person.
func causeOf(ctx context.Context) string {
	if cause := context.Cause(ctx); cause != nil {
		return cause.Error()
	}
	return "cancelled"
}
