package sdk

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk/internal/wire"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
)

// logHandler turns slog records into lines of the attempt. Groups become dotted keys.
type logHandler struct {
	stream *wire.Stream
	attrs  []logAttr
	prefix string
}

type logAttr struct{ key, value string }

var _ slog.Handler = (*logHandler)(nil)

func levelOf(level slog.Level) pluginv1.Level {
	switch {
	case level < slog.LevelInfo:
		return pluginv1.Level_LEVEL_DEBUG
	case level < slog.LevelWarn:
		return pluginv1.Level_LEVEL_INFO
	case level < slog.LevelError:
		return pluginv1.Level_LEVEL_WARN
	}
	return pluginv1.Level_LEVEL_ERROR
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.stream.Wants(levelOf(level))
}

func (h *logHandler) Handle(_ context.Context, record slog.Record) error {
	var attrs []*pluginv1.Attr
	if n := len(h.attrs) + record.NumAttrs(); n > 0 {
		attrs = make([]*pluginv1.Attr, 0, n)
		for _, a := range h.attrs {
			attrs = append(attrs, &pluginv1.Attr{Key: a.key, Value: a.value})
		}
		record.Attrs(func(a slog.Attr) bool {
			eachAttr(h.prefix, a, func(key, value string) {
				attrs = append(attrs, &pluginv1.Attr{Key: key, Value: value})
			})
			return true
		})
	}
	at := record.Time
	if at.IsZero() {
		at = time.Now()
	}
	h.stream.Line(at, levelOf(record.Level), pluginv1.Stream_STREAM_LOG, record.Message, attrs, 0)
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := &logHandler{stream: h.stream, prefix: h.prefix, attrs: append([]logAttr(nil), h.attrs...)}
	for _, a := range attrs {
		eachAttr(h.prefix, a, func(key, value string) { next.attrs = append(next.attrs, logAttr{key, value}) })
	}
	return next
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &logHandler{stream: h.stream, attrs: h.attrs, prefix: h.prefix + name + "."}
}

func eachAttr(prefix string, a slog.Attr, say func(key, value string)) {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range value.Group() {
			eachAttr(prefix, inner, say)
		}
		return
	}
	if a.Key == "" && value.Kind() == slog.KindAny && value.Any() == nil {
		return // slog: an empty attribute is ignored
	}
	say(prefix+a.Key, textOf(value))
}

func textOf(value slog.Value) string {
	switch value.Kind() {
	case slog.KindTime:
		return value.Time().Format(time.RFC3339Nano)
	case slog.KindAny:
		return textOfAny(value.Any())
	default:
		return value.String()
	}
}

// textOfAny prints a value as its author meant it to be read; JSON where it says nothing about that. A value whose
// methods panic (a nil pointer behind an interface) must not end the attempt.
func textOfAny(value any) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprintf("!panic: %v", p)
		}
	}()
	switch v := value.(type) {
	case nil:
		return "null"
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	case encoding.TextMarshaler:
		if t, err := v.MarshalText(); err == nil {
			return string(t)
		}
	case []byte:
		return string(v)
	}
	if t, err := json.Marshal(value); err == nil {
		return string(t)
	}
	return fmt.Sprintf("%+v", value)
}
