package pluginhost

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What is kept and passed on of what a process writes to its stdout and stderr.
const (
	tailBytes        = 64 << 10 // kept
	tailShown        = 2 << 10  // shown when the process crashed
	shownPerSecond   = 20       // lines a second to the log
	shownLineBytes   = 500
	floodBytesPerSec = 16 << 20 // read a second; then the pipe is left full, which slows the writer only
)

// tail keeps the end of what a process wrote. It takes any flood in bounded memory.
type tail struct {
	log    *slog.Logger // says at debug level what was written, 20 lines a second; nil: nothing
	redact func(string) string

	mu     sync.Mutex
	ring   []byte // the newest bytes, in order, up to twice tailBytes
	second time.Time
	lines  int // passed on in this second
	hidden int // not passed on since the last that was
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := b
	if len(kept) > tailBytes {
		kept = kept[len(kept)-tailBytes:]
	}
	t.ring = append(t.ring, kept...)
	if len(t.ring) > 2*tailBytes {
		t.ring = append(t.ring[:0], t.ring[len(t.ring)-tailBytes:]...)
	}
	if t.log != nil {
		t.show(b)
	}
	return len(b), nil
}

func (t *tail) show(b []byte) {
	now := time.Now()
	if now.Sub(t.second) >= time.Second {
		t.second, t.lines = now, 0
	}
	for line := range bytes.Lines(b) {
		if t.lines >= shownPerSecond {
			t.hidden += 1 + bytes.Count(b, []byte{'\n'})
			return
		}
		t.lines++
		text := line[:min(len(line), shownLineBytes)]
		t.log.Debug("a plugin process wrote", "text", t.redact(strings.ToValidUTF8(string(bytes.TrimRight(text, "\r\n")), "\uFFFD")), "hidden_lines", t.hidden)
		t.hidden = 0
	}
}

// text gives the end of what was written, at most about 2 KiB, from the beginning of a Go panic if there is one.
func (t *tail) text() string {
	t.mu.Lock()
	b := bytes.Clone(t.ring)
	t.mu.Unlock()
	at := -1
	for _, start := range []string{"panic: ", "fatal error: ", "runtime: out of memory"} {
		if i := bytes.Index(b, []byte(start)); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at >= 0 {
		b = b[at:min(len(b), at+tailShown)]
	} else if len(b) > tailShown {
		b = b[len(b)-tailShown:]
	}
	return strings.TrimSpace(t.redact(strings.ToValidUTF8(string(bytes.ReplaceAll(b, []byte{0}, nil)), "\uFFFD")))
}

// drain reads a pipe into the tail until it ends. A flood is read at a bounded speed.
func (t *tail) drain(from io.Reader) {
	buf := make([]byte, 32<<10)
	var window time.Time
	var read int
	for {
		n, err := from.Read(buf)
		if n > 0 {
			_, _ = t.Write(buf[:n])
			if now := time.Now(); now.Sub(window) >= time.Second {
				window, read = now, 0
			}
			if read += n; read > floodBytesPerSec {
				pause(time.Until(window.Add(time.Second)))
			}
		}
		if err != nil {
			return
		}
	}
}

// maxHandshakeLine is longer than any line go-plugin writes without TLS.
const maxHandshakeLine = 4 << 10

// splitHandshake passes the first line of a process's stdout on to go-plugin and everything after it to the tail. It
// returns at the end of stdout.
func splitHandshake(stdout *os.File, handshake *io.PipeWriter, said *atomic.Pointer[string], rest *tail) {
	var line []byte
	one := make([]byte, 1)
	for len(line) < maxHandshakeLine {
		n, err := stdout.Read(one)
		if n == 1 && one[0] == '\n' {
			break
		}
		if n == 1 {
			line = append(line, one[0])
		}
		if err != nil {
			handshake.CloseWithError(io.EOF)
			_, _ = rest.Write(line)
			return
		}
	}
	text := string(line)
	said.Store(&text)
	_, _ = handshake.Write(append(line, '\n'))
	_ = handshake.Close()
	rest.drain(stdout)
}
