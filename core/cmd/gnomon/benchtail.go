package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func (s *session) benchTail() *cobra.Command {
	var lines, rate, readers int
	cmd := &cobra.Command{
		Use: "tail", Short: "Delay of a live log, with and without slow readers", Args: cobra.NoArgs,
		Long: "A run says lines at a steady rate, and a reader follows it: how long is each line on its way from the plugin to the\n" +
			"reader, and does the reader miss any? Then again while other readers of the same log take one byte a second: they must\n" +
			"slow neither the run nor the reader.",
		RunE: func(cmd *cobra.Command, _ []string) error { return s.tailed(cmd.Context(), lines, rate, readers) },
	}
	cmd.Flags().IntVar(&lines, "lines", 1_000_000, "lines the run says")
	cmd.Flags().IntVar(&rate, "rate", 50_000, "lines a second; 0: as many as are taken, which is more than a reader of JSON keeps up with")
	cmd.Flags().IntVar(&readers, "readers", 200, "readers of one byte a second in the second round")
	return cmd
}

// tailRound is what one run showed.
type tailRound struct {
	lines    int
	delays   []time.Duration
	run      time.Duration // that the run took
	holes    int           // lines that came out of order or not at all
	slowRead int64         // bytes that the slow readers have taken
}

func (s *session) tailed(ctx context.Context, lines, rate, readers int) error {
	b, err := newBench(ctx, s.err, "@every 8760h", 24*time.Hour, time.Now().Add(time.Hour), load{"Bench.NoOp", 1})
	if err != nil {
		return err
	}
	defer b.stop()
	if _, err := b.start(ctx); err != nil {
		return err
	}
	var rounds [2]tailRound
	for i := range rounds {
		slow := 0
		if i == 1 {
			slow = readers
		}
		if rounds[i], err = b.tail(ctx, lines, rate, slow); err != nil {
			return err
		}
		r := &rounds[i]
		slices.Sort(r.delays)
		at := func(share float64) time.Duration { return r.delays[int(share*float64(len(r.delays)-1))] }
		fmt.Fprintf(s.out, "tail: a run of %d lines in %s (%.0f lines/s), followed live, %d other readers of one byte a second\n", lines, r.run.Round(time.Millisecond), float64(lines)/r.run.Seconds(), slow)
		fmt.Fprintf(s.out, "  from the plugin to the reader  p50 %s, p99 %s, highest %s\n", at(0.5).Round(100*time.Microsecond), at(0.99).Round(100*time.Microsecond), at(1).Round(100*time.Microsecond))
		fmt.Fprintf(s.out, "  the reader had                 %d lines, %d out of order or missing\n", r.lines, r.holes)
		if slow > 0 {
			fmt.Fprintf(s.out, "  the slow readers took          %d bytes each; the run took %.2f times as long as without them\n", r.slowRead/int64(slow), r.run.Seconds()/rounds[0].run.Seconds())
		}
		if r.lines != lines || r.holes > 0 {
			return fmt.Errorf("the reader had %d of %d lines, %d out of order or missing", r.lines, lines, r.holes)
		}
	}
	return nil
}

// tail starts a run and follows it to its end.
func (b *bench) tail(ctx context.Context, lines, rate, slow int) (tailRound, error) {
	var r tailRound
	var tasks struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	if err := b.call(ctx, http.MethodGet, "/v1/tasks", nil, &tasks); err != nil || len(tasks.Items) != 1 {
		return r, fmt.Errorf("find the task: %d tasks, %w", len(tasks.Items), err)
	}
	var run struct {
		ID        string     `json:"id"`
		StartedAt *time.Time `json:"started_at"`
		EndedAt   *time.Time `json:"ended_at"`
	}
	// It waits at its end, so that the readers are there before it says anything worth measuring and stay for a while.
	if err := b.call(ctx, http.MethodPost, "/v1/tasks/"+tasks.Items[0].ID+"/run", map[string]any{"params": map[string]any{"lines": lines, "line_rate": rate, "sleep_ms": 1000}}, &run); err != nil {
		return r, err
	}
	path := "/v1/runs/" + run.ID + "/logs/live"
	group, working := errgroup.WithContext(ctx)
	slowly, enough := context.WithCancel(working)
	defer enough()
	var taken atomic.Int64
	for range slow {
		group.Go(func() error { return b.readSlowly(slowly, path, &taken) })
	}
	group.Go(func() error {
		defer enough() // the others need not go on
		return b.follow(working, path, &r)
	})
	if err := group.Wait(); err != nil {
		return r, err
	}
	r.slowRead = taken.Load()
	if err := b.call(ctx, http.MethodGet, "/v1/runs/"+run.ID, nil, &run); err != nil {
		return r, err
	}
	if run.StartedAt == nil || run.EndedAt == nil || len(r.delays) == 0 {
		return r, errors.New("the run has no beginning, no end, or no lines")
	}
	r.run = run.EndedAt.Sub(*run.StartedAt) - time.Second
	return r, nil
}

// follow reads a live log to its end. Only the time of a line is decoded: the reader shall not be what is measured.
func (b *bench) follow(ctx context.Context, path string, r *tailRound) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+b.token.Reveal())
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	events := bufio.NewReaderSize(answer.Body, 1<<20)
	began := time.Now()
	for next := 1; ; {
		text, err := events.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("the live log broke off after %d lines: %w", r.lines, err)
		}
		switch {
		case bytes.HasPrefix(text, []byte("id: ")):
			if !bytes.Equal(bytes.TrimSpace(text[4:]), fmt.Appendf(nil, "1-%d", next)) {
				r.holes++
			}
			next++
		case bytes.HasPrefix(text, []byte("data: ")) && bytes.Contains(text, []byte(`"at":"`)):
			_, rest, _ := bytes.Cut(text, []byte(`"at":"`))
			stamp, _, _ := bytes.Cut(rest, []byte{'"'})
			at, err := time.Parse(time.RFC3339Nano, string(stamp))
			if err != nil {
				return err
			}
			r.delays = append(r.delays, time.Since(at))
			if r.lines++; r.lines%10_000 == 0 {
				progress(b.out, "  %d lines in %.1f s", r.lines, time.Since(began).Seconds())
			}
		case bytes.HasPrefix(text, []byte("event: end")):
			progress(b.out, "")
			return nil
		}
	}
}

// readSlowly takes one byte a second of a live log, with as little room on the way as there can be, until ctx ends. That
// the server cuts off who reads so slowly is allowed; it comes back then.
func (b *bench) readSlowly(ctx context.Context, path string, taken *atomic.Int64) error {
	address, err := url.Parse(b.url)
	if err != nil {
		return err
	}
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		controlled := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		return errors.Join(err, controlled)
	}}
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for ctx.Err() == nil {
		conn, err := dialer.DialContext(ctx, "tcp", address.Host)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, address.Host, b.token.Reveal())
		one := make([]byte, 1)
		for err == nil {
			select {
			case <-ctx.Done():
				err = ctx.Err()
			case <-every.C:
				_, err = conn.Read(one)
				taken.Add(1)
			}
		}
		_ = conn.Close()
		select { // as the live log asks browsers to
		case <-ctx.Done():
		case <-time.After(2*time.Second + rand.N(2*time.Second)):
		}
	}
	return nil
}

// call puts a question to the measured server.
func (b *bench) call(ctx context.Context, method, path string, body, into any) error {
	var reader io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, b.url+path, reader)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+b.token.Reveal())
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode >= 300 {
		err = fmt.Errorf("%s %s answered %s: %.300s", method, path, answer.Status, text)
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	return err
}
