package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

func (s *session) benchTail() *cobra.Command {
	var lines, rate, slow int
	cmd := &cobra.Command{
		Use: "tail", Short: "How long a line takes from the plugin to who looks on", Args: cobra.NoArgs,
		Long: "A plugin says lines at a steady rate; the live log of the run is followed, and each line's time from being said to being\n" +
			"read is measured. Then once more, with readers beside it that take one byte a second: they must slow nothing.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			b, err := newBench(ctx, s.err, "", 0, time.Now())
			if err != nil {
				return err
			}
			defer b.stop()
			if _, err := b.start(ctx); err != nil {
				return err
			}
			var task api.Task
			made := fmt.Sprintf(`{"name":"talker","type":"Bench.NoOp","schedule":{"spec":"@manual"},"params":{"lines":%d,"line_rate":%d},"policies":{"timeout":"1h"}}`, lines, rate)
			if err := b.call(ctx, http.MethodPost, "/v1/namespaces/Bench/tasks", made, &task); err != nil {
				return err
			}
			for _, readers := range []int{0, slow} {
				t, err := b.tail(ctx, task.ID, lines, readers)
				if err != nil {
					return err
				}
				t.print(s, readers)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&lines, "lines", 1_000_000, "lines of the run")
	f.IntVar(&rate, "rate", 20_000, "lines per second; 0: as fast as they are taken")
	f.IntVar(&slow, "slow-readers", 200, "readers of one byte per second the second time")
	return cmd
}

// tailing is what following one run gave.
type tailing struct {
	usage
	lines, holes int
	took         time.Duration   // of the attempt
	delays       []time.Duration // sorted
}

// tail runs the task, which says so many lines, once and follows it.
func (b *bench) tail(ctx context.Context, taskID string, lines, slow int) (t tailing, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var run api.Run
	if err := b.call(ctx, http.MethodPost, "/v1/tasks/"+taskID+"/run", "", &run); err != nil {
		return t, err
	}
	path := "/v1/runs/" + run.ID + "/logs/live"
	var readers sync.WaitGroup
	for range slow {
		readers.Go(func() { // ends with ctx
			for ctx.Err() == nil { // cut off, it comes again, as a browser does
				b.sip(ctx, path)
			}
		})
	}
	watched := make(chan error, 1)
	go func() { // ends when the run has, or with ctx
		var err error
		t.usage, err = b.watch(ctx, time.Hour)
		watched <- err
	}()
	t.delays = make([]time.Duration, 0, lines)
	end, err := b.follow(ctx, path, func(l api.Line, at time.Time) {
		t.lines++
		if l.Seq != uint64(t.lines) {
			t.holes++
			t.lines = int(l.Seq)
		}
		if l.Stream == "log" && l.At != nil {
			t.delays = append(t.delays, at.Sub(l.At.Time))
		}
	})
	if err == nil && end.Outcome != "succeeded" {
		err = fmt.Errorf("the run %s: %s", end.Outcome, end.Message)
	}
	cancel()
	readers.Wait()
	if werr := <-watched; err == nil && !errors.Is(werr, context.Canceled) {
		err = werr
	}
	if err != nil {
		return t, err
	}
	if len(t.delays) == 0 {
		return t, errors.New("the log had no lines")
	}
	slices.Sort(t.delays)
	var ended api.Run
	if err := b.call(context.WithoutCancel(ctx), http.MethodGet, "/v1/runs/"+run.ID, "", &ended); err != nil {
		return t, err
	}
	if ended.StartedAt != nil && ended.EndedAt != nil {
		t.took = ended.EndedAt.Sub(ended.StartedAt.Time)
	}
	return t, nil
}

func (t tailing) print(s *session, slow int) {
	at := func(q float64) float64 {
		return float64(t.delays[int(q*float64(len(t.delays)-1))].Microseconds()) / 1000
	}
	fmt.Fprintf(s.out, "tail: %d lines, %d slow readers\n  said in        %.1f s (%.0f lines/s), holes %d\n", len(t.delays), slow, t.took.Seconds(), float64(len(t.delays))/t.took.Seconds(), t.holes)
	fmt.Fprintf(s.out, "  plugin to eye  p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, max %.1f ms\n", at(.5), at(.99), at(.999), at(1))
	fmt.Fprintf(s.out, "  server         peak RSS %.0f MB\n", float64(t.peakRSS)/1e6)
}

// call asks the measured server's API.
func (b *bench) call(ctx context.Context, method, path, body string, into any) error {
	answer, err := b.open(ctx, http.DefaultClient, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("%s %s answered %s: %.300s", method, path, answer.Status, text)
	}
	return json.Unmarshal(text, into)
}

func (b *bench) open(ctx context.Context, client *http.Client, method, path, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, b.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+b.token.Reveal())
	request.Header.Set("Content-Type", "application/json")
	return client.Do(request)
}

// follow reads a live log to its end.
func (b *bench) follow(ctx context.Context, path string, each func(api.Line, time.Time)) (end api.End, err error) {
	answer, err := b.open(ctx, http.DefaultClient, http.MethodGet, path, "")
	if err != nil {
		return end, err
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewReaderSize(answer.Body, 1<<20)
	event := ""
	for {
		text, err := lines.ReadSlice('\n')
		if err != nil {
			return end, fmt.Errorf("the live log broke off: %w", err)
		}
		at := time.Now()
		if name, ok := bytes.CutPrefix(text, []byte("event: ")); ok {
			event = string(bytes.TrimSpace(name))
		}
		data, ok := bytes.CutPrefix(text, []byte("data: "))
		switch {
		case !ok:
		case event == "end":
			return end, json.Unmarshal(data, &end)
		default:
			var line api.Line
			if err := json.Unmarshal(data, &line); err != nil {
				return end, err
			}
			each(line, at)
		}
	}
}

// sip reads a live log byte by byte, one a second, through a socket that holds little, until it is cut off or ctx ends.
func (b *bench) sip(ctx context.Context, path string) {
	dialer := net.Dialer{}
	transport := &http.Transport{DisableKeepAlives: true, ReadBufferSize: 1, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(4096)
		}
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	answer, err := b.open(ctx, &http.Client{Transport: transport}, http.MethodGet, path, "")
	if err == nil {
		defer func() { _ = answer.Body.Close() }()
	}
	for one := make([]byte, 1); err == nil; {
		select {
		case <-second.C:
			_, err = answer.Body.Read(one)
		case <-ctx.Done():
			return
		}
	}
}
