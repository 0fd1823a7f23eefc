package gateway

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"

	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// pass gives ClickHouse's answer on as it comes. The client's pace is the query's pace; one that takes nothing for WriteTime is
// cut off, so that it holds no query open.
func (g *Gateway) pass(w http.ResponseWriter, r *http.Request, q *question, scope statement.Scope, resp *http.Response) {
	head := w.Header()
	for name, values := range resp.Header {
		switch {
		case name == "X-Clickhouse-Summary" || name == "X-Clickhouse-Progress":
			if scope.All { // else the rows read are others' too
				head[name] = values
			}
		case strings.HasPrefix(name, "X-Clickhouse-"), name == "Content-Type":
			head[name] = values
		}
	}
	out := &paced{w: w, control: http.NewResponseController(w), time: g.o.Limits.WriteTime}
	body := form(r, resp, out, head)
	w.WriteHeader(resp.StatusCode)
	buffer := make([]byte, 128<<10)
	for {
		n, err := resp.Body.Read(buffer)
		if n > 0 {
			if _, failed := body.Write(buffer[:n]); failed != nil {
				panic(http.ErrAbortHandler) // the client is gone or takes nothing; the upstream connection breaks with the return
			}
			if failed := body.Flush(); failed != nil {
				panic(http.ErrAbortHandler)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if r.Context().Err() == nil {
				g.o.Log.Warn("answer cut off", "query_id", q.id, "err", err)
			}
			panic(http.ErrAbortHandler) // the caller must not take half an answer for a whole one
		}
	}
	if err := body.Close(); err != nil {
		panic(http.ErrAbortHandler)
	}
	if err := out.Flush(); err != nil {
		panic(http.ErrAbortHandler)
	}
	_ = out.control.SetWriteDeadline(time.Time{}) // the connection may carry another request, that takes its time
}

// body is the answer in the form the client can read.
type body interface {
	io.WriteCloser
	Flush() error
}

// form chooses ClickHouse's own compression (compress=1), gzip where the client takes it and asks for it, or none. Errors are
// never in ClickHouse's own compression: clients read them as text.
func form(r *http.Request, resp *http.Response, out *paced, head http.Header) body {
	values := r.URL.Query()
	switch {
	case isOn(values.Get("compress")) && resp.StatusCode == http.StatusOK:
		return &frames{out: out, w: compress.NewWriter(compress.LevelZero, compress.LZ4)}
	case isOn(values.Get("enable_http_compression")) && takesGzip(r.Header.Get("Accept-Encoding")):
		head.Set("Content-Encoding", "gzip")
		head.Add("Vary", "Accept-Encoding")
		zipped, _ := gzip.NewWriterLevel(out, gzip.BestSpeed) // the level exists
		return &zip{Writer: zipped, out: out}
	}
	return out
}

func takesGzip(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") && strings.ReplaceAll(weight, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

// paced writes to the client with a deadline for each piece.
type paced struct {
	w       http.ResponseWriter
	control *http.ResponseController
	time    time.Duration
}

func (p *paced) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(p.time)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.w.Write(b)
}

// Flush sends what was written.
func (p *paced) Flush() error { return p.control.Flush() }

// Close leaves the connection to the server.
func (p *paced) Close() error { return nil }

// zip is gzip over paced.
type zip struct {
	*gzip.Writer
	out *paced
}

// Flush sends what was written.
func (z *zip) Flush() error {
	if err := z.Writer.Flush(); err != nil {
		return err
	}
	return z.out.Flush()
}

// frames is ClickHouse's own compression: blocks of LZ4, each with its checksum (ch-go/compress).
type frames struct {
	out *paced
	w   *compress.Writer
}

func (f *frames) Write(b []byte) (int, error) {
	if err := f.w.Compress(b); err != nil {
		return 0, err
	}
	return f.out.Write(f.w.Data)
}

// Flush sends what was written.
func (f *frames) Flush() error { return f.out.Flush() }

// Close has nothing to add: frames have no end mark.
func (f *frames) Close() error { return nil }
