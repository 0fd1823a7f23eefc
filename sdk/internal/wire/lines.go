package wire

import (
	"bytes"
	"sync"
	"time"

	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// LineWriter turns the bytes a child process writes into lines of a stream. A line without end takes at most
// protocol.MaxLineBytes of memory; what is over that is counted.
type LineWriter struct {
	out    *Stream
	stream pluginv1.Stream
	level  pluginv1.Level

	mu   sync.Mutex
	part []byte // the unfinished line
	cut  int64  // bytes of it that were left out
}

// NewLineWriter makes a writer whose lines carry the given stream and level.
func NewLineWriter(out *Stream, stream pluginv1.Stream, level pluginv1.Level) *LineWriter {
	return &LineWriter{out: out, stream: stream, level: level}
}

// Write takes bytes; it never fails, and waits as Stream.Line does.
func (w *LineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	size := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			w.keep(p)
			break
		}
		w.keep(p[:end])
		w.say()
		p = p[end+1:]
	}
	return size, nil
}

// Flush says the unfinished line, if there is one.
func (w *LineWriter) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.part) > 0 || w.cut > 0 {
		w.say()
	}
}

func (w *LineWriter) keep(p []byte) {
	room := protocol.MaxLineBytes - len(w.part)
	if len(p) > room {
		w.cut += int64(len(p) - room)
		p = p[:room]
	}
	w.part = append(w.part, p...)
}

func (w *LineWriter) say() {
	text := w.part
	if w.cut == 0 {
		text = bytes.TrimSuffix(text, []byte{'\r'})
	}
	w.out.Line(time.Now(), w.level, w.stream, string(text), nil, w.cut)
	w.part, w.cut = w.part[:0], 0
	if cap(w.part) > batchBytes {
		w.part = nil
	}
}
