package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// terminal tells whether somebody looks at a stream, or types into it.
func terminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	_, err = unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// terminalWidth gives how many letters a line of a terminal takes; 0: it is none.
func terminalWidth(stream any) int {
	if !terminal(stream) {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(stream.(*os.File).Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80
	}
	return int(size.Col)
}

// each500ms has how far something is said on a terminal, each half second, until the function it gives is called.
func (s *session) each500ms(ctx context.Context, report func(context.Context)) (end func()) {
	if !terminal(s.err) {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with cancel
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				progress(s.err, "")
				return
			case <-time.After(500 * time.Millisecond):
				report(ctx)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// counter counts what is read through it.
type counter struct {
	from  io.Reader
	bytes atomic.Int64
	lines atomic.Int64
}

// Read reads on.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.bytes.Add(int64(n))
	c.lines.Add(int64(bytes.Count(p[:n], []byte{'\n'})))
	return n, err
}

// sizeText gives a number of bytes as a person reads it.
func sizeText(bytes int64) string {
	const kilo = 1 << 10
	if bytes < kilo {
		return strconv.FormatInt(bytes, 10) + " B"
	}
	size, unit := float64(bytes)/kilo, 0
	for size >= 1000 && unit < 4 {
		size, unit = size/kilo, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", size, "KMGTP"[unit])
}

// thousands groups the digits of a number.
func thousands(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
