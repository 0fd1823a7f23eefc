package store

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
)

// maxMessageBytes is the limit of core.Run.Message.
const maxMessageBytes = 4 << 10

// micros gives a time as the store keeps it: unix microseconds, 0 for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// instant is the inverse of micros.
func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// clean gives text that both databases keep: PostgreSQL refuses NUL and what is not UTF-8, and one such byte would fail
// a whole transaction.
func clean[T ~string | ~[]byte](text T) string {
	s := string(text)
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// cut gives at most maxMessageBytes of a message, never half a character.
func cut(message string) string {
	message = clean(message)
	if len(message) <= maxMessageBytes {
		return message
	}
	end := maxMessageBytes
	for end > 0 && !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end]
}

func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// usageText gives what json.Marshal gives, without reflection; "" if nothing is known.
func usageText(u *core.Usage) string {
	if *u == (core.Usage{}) {
		return ""
	}
	b := make([]byte, 0, 192)
	number := func(name string, v uint64) {
		b = append(b, name...)
		b = strconv.AppendUint(b, v, 10)
	}
	source := func(name string, s core.Source) {
		b = append(b, name...)
		switch s {
		case core.SourceMeasured, core.SourceShared, core.SourceUnknown, "":
			b = append(b, s...)
		default:
			b = append(b, core.SourceUnknown...)
		}
	}
	b = append(b, `{"cpu":`...)
	b = strconv.AppendInt(b, int64(u.CPU), 10)
	source(`,"cpu_source":"`, u.CPUSource)
	number(`","peak_rss_bytes":`, u.PeakRSSBytes)
	source(`,"rss_source":"`, u.RSSSource)
	number(`","read_bytes":`, u.ReadBytes)
	number(`,"write_bytes":`, u.WriteBytes)
	source(`,"io_source":"`, u.IOSource)
	return string(append(b, `"}`...))
}

// usageOf reads what usageText has written, without reflection too; and, slower, what another version may have written.
func usageOf(text string) (u core.Usage) {
	rest, ok := text, true
	until := func(name string, end byte) (value string) {
		after, found := strings.CutPrefix(rest, name)
		at := strings.IndexByte(after, end)
		if ok = ok && found && at >= 0; !ok {
			return ""
		}
		value, rest = after[:at], after[at:]
		return value
	}
	number := func(name string, end byte) uint64 {
		n, err := strconv.ParseUint(until(name, end), 10, 64)
		ok = ok && err == nil
		return n
	}
	source := func(name string) core.Source { return core.Source(until(name, '"')) }
	u.CPU = time.Duration(number(`{"cpu":`, ','))
	u.CPUSource = source(`,"cpu_source":"`)
	u.PeakRSSBytes = number(`","peak_rss_bytes":`, ',')
	u.RSSSource = source(`,"rss_source":"`)
	u.ReadBytes = number(`","read_bytes":`, ',')
	u.WriteBytes = number(`,"write_bytes":`, ',')
	u.IOSource = source(`,"io_source":"`)
	if ok && u.CPU >= 0 && rest == `"}` && !strings.ContainsRune(text, '\\') {
		return u
	}
	u = core.Usage{}
	if err := json.Unmarshal([]byte(text), &u); err != nil {
		return core.Usage{CPUSource: core.SourceUnknown, RSSSource: core.SourceUnknown, IOSource: core.SourceUnknown}
	}
	return u
}

// document gives stored JSON. What is no JSON comes back as a JSON string, so that one bad row cannot spoil an answer
// that it is part of.
func document(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	raw := json.RawMessage(text)
	if json.Valid(raw) {
		return raw
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		return nil
	}
	return quoted
}

func runOf(r *sqlcgen.Run) core.Run {
	run := core.Run{
		ID: r.ID, TaskID: r.TaskID, TaskVersion: r.TaskVersion, Namespace: r.Namespace, TaskName: r.TaskName,
		TaskType: r.TaskType, Trigger: core.Trigger(r.TriggerKind),
		FireAt: instant(r.FireAt), FireThrough: instant(r.FireThrough), FireCount: int(r.FireCount), Params: document(r.Params),
		State: core.RunState(r.State), Owner: r.Owner, StartAt: instant(r.StartAt), Attempt: int(r.Attempt), Token: r.Token,
		DecidedAt: instant(r.DecidedAt), Reason: core.Reason(r.Reason), Facts: document(r.Facts),
		StartedAt: instant(r.StartedAt), EndedAt: instant(r.EndedAt), Verdict: core.Verdict(r.Verdict), Message: r.Message,
		Output: document(r.Output), CreatedBy: r.CreatedBy,
		Series: r.Series, MovedFrom: instant(r.MovedFrom), Priority: int(r.Priority), Gate: core.Gate(r.Gate), GateKey: r.GateKey,
		WaitSince: instant(r.WaitSince), WaitUntil: instant(max(r.WaitUntil, 0)), Stop: core.Stop(r.Stop),
		StopBy: r.StopBy, WorkflowID: r.WorkflowID, Step: r.Step, CausedBy: r.CausedBy, Breaches: breachesOf(r.Breaches),
	}
	run.Overlap, run.OverlapLimit, _ = core.ParseOverlap(r.Overlap) // a newer server's word that is not known here: the task's holds
	if len(r.Checkpoint) > 0 {
		run.Checkpoint = r.Checkpoint
	}
	if r.Usage != "" {
		run.Usage = usageOf(r.Usage)
	}
	return run
}
