package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/spf13/cobra"
)

const defaultServer = "http://127.0.0.1:8080"

// session is what all commands that talk to a server have in common.
type session struct {
	server    string // --server
	tokenFile string // --token-file
	lang      string // --lang
	output    string // -o

	in  io.Reader
	out io.Writer
	err io.Writer

	transport http.RoundTripper // nil: the network
}

// language gives "zh" or "en": --lang, else what the environment says.
func (s *session) language() string {
	for _, text := range []string{s.lang, os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG")} {
		if text == "" {
			continue
		}
		if strings.HasPrefix(strings.ToLower(text), "zh") {
			return "zh"
		}
		return "en"
	}
	return "en"
}

func (s *session) say(zh, en string) string { return core.Text{Zh: zh, En: en}.In(s.language()) }

// target is a server and what opens it.
type target struct {
	server string
	token  core.Secret
}

// find says which server is meant: flags go before environment variables, and those before the context file.
func (s *session) find() (target, error) {
	var t target
	path, err := ContextPath()
	if err != nil {
		return t, err
	}
	known, ok, err := ReadContext(path)
	if err != nil {
		return t, err
	}
	for _, text := range []string{s.server, os.Getenv("GNOMON_SERVER"), known.Server, defaultServer} {
		if text != "" {
			t.server = strings.TrimSuffix(text, "/")
			break
		}
	}
	if u, err := url.Parse(t.server); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return t, &usageError{fmt.Errorf(s.say("--server %q 不是像 %s 这样的地址", "--server %q is not a URL like %s"), t.server, defaultServer)}
	}
	switch {
	case s.tokenFile != "":
		t.token, err = access.ReadToken(s.tokenFile)
	case os.Getenv("GNOMON_TOKEN") != "":
		t.token = core.NewSecret(strings.TrimSpace(os.Getenv("GNOMON_TOKEN")))
	case ok && t.server == strings.TrimSuffix(known.Server, "/"):
		t.token, err = access.ReadToken(known.TokenFile)
	case !ok:
		return t, &unreachableError{server: t.server, why: s.say(
			"本机还没有服务器的上下文文件；请先启动服务器：gnomon server，或用 --server 和 --token-file 指明服务器和令牌文件",
			"no server has left its context file here yet; start one with `gnomon server`, or name one with --server and --token-file")}
	default: // a token is never shown to a server it was not made by
		return t, &usageError{errors.New(s.say("请用 --token-file 或 GNOMON_TOKEN 给出 "+t.server+" 的令牌",
			"give the token of "+t.server+" with --token-file or GNOMON_TOKEN"))}
	}
	return t, err
}

// usageError is a mistake in the command line itself.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// unreachableError says that no server answered.
type unreachableError struct{ server, why string }

func (e *unreachableError) Error() string { return e.why }

// remoteError is a problem the server answered with.
type remoteError struct{ problem api.Problem }

func (e *remoteError) Error() string { return e.problem.Error() }

// placedError says where in the user's files, or in an answer, the cause of an error stands.
type placedError struct {
	place string
	err   error
}

func (e *placedError) Error() string { return e.place + ": " + e.err.Error() }
func (e *placedError) Unwrap() error { return e.err }

// request is one question to the server.
type request struct {
	method, path string
	query        url.Values
	body         any
	header       map[string]string
}

// ask sends a request and gives the answer, whose body the caller closes. Answers that are not a success are errors.
func (s *session) ask(ctx context.Context, r request) (*http.Response, error) {
	t, err := s.find()
	if err != nil {
		return nil, err
	}
	var body io.Reader
	if r.body != nil {
		raw, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
	}
	address := t.server + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, body)
	if err != nil {
		return nil, &usageError{err}
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+t.token.Reveal())
	req.Header.Set("Accept-Language", s.language())
	req.Header.Set("User-Agent", "gnomon/"+version)
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	client := http.Client{Transport: s.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var cause *url.Error
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, &unreachableError{server: t.server, why: fmt.Sprintf(s.say(
			"连不上服务器 %s（%v）；它在运行吗？用 gnomon server 启动，或用 --server 指明另一个",
			"cannot reach the server at %s (%v); is it running? Start it with `gnomon server`, or name another with --server"), t.server, err)}
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	var e remoteError
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || json.Unmarshal(raw, &e.problem) != nil || e.problem.Status == 0 {
		return nil, fmt.Errorf("%s answered %s, which is not how a gnomon server answers", t.server, resp.Status)
	}
	return nil, &e
}

// call sends a request, reads the whole answer into into (if that is not nil) and gives it as it came.
func (s *session) call(ctx context.Context, r request, into any) (json.RawMessage, error) {
	resp, err := s.ask(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
	}
	return raw, nil
}

// page is one page of a list.
type page struct {
	Items      []json.RawMessage `json:"items"`
	NextCursor json.RawMessage   `json:"next_cursor"`
	Partial    string            `json:"partial"`
}

// list asks page by page until the end, or until there are limit items (0: all).
func (s *session) list(ctx context.Context, path string, query url.Values, limit int) ([]json.RawMessage, error) {
	var items []json.RawMessage
	if query == nil {
		query = url.Values{}
	}
	for {
		var p page
		if _, err := s.call(ctx, request{method: http.MethodGet, path: path, query: query}, &p); err != nil {
			return nil, err
		}
		if p.Partial != "" {
			_, _ = fmt.Fprintln(s.err, s.say("注意：历史库没有应答，只列出了尚未入库的内容", "note: "+p.Partial+"; the list is not complete"))
		}
		items = append(items, p.Items...)
		if limit > 0 && len(items) >= limit {
			return items[:limit], nil
		}
		cursor := strings.Trim(string(p.NextCursor), `"`)
		if cursor == "" || cursor == "null" {
			return items, nil
		}
		query.Set("cursor", cursor)
	}
}

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitUnreachable = 5
	exitInterrupted = 130 // as shells have it: 128 and SIGINT
)

// report writes an error as a person reads it, one line each, and gives the exit code.
func (s *session) report(command string, err error) int {
	lines := []string{err.Error()}
	code := exitFailed
	kind := core.KindInternal
	var usage *usageError
	var away *unreachableError
	var remote *remoteError
	var own *core.Error
	var many *refusals
	switch {
	case errors.As(err, &many):
		code, lines = many.code, many.lines
	case errors.As(err, &usage):
		code = exitUsage
	case errors.Is(err, context.Canceled):
		code, lines = exitInterrupted, []string{s.say("已中断", "interrupted")}
	case errors.As(err, &away):
		code = exitUnreachable
	case errors.As(err, &remote):
		kind = core.Kind(remote.problem.Kind)
		lines = s.remoteLines(remote.problem)
	case errors.As(err, &own):
		kind = own.Kind
		if len(own.Findings) > 0 {
			lines = s.findings(own)
		}
	}
	switch kind {
	case core.KindNotFound:
		code = exitNotFound
	case core.KindInvalid, core.KindConflict, core.KindStale:
		code = exitRefused
	}
	prefix := "gnomon: "
	if command != "" {
		prefix += command + ": "
	}
	var placed *placedError
	if errors.As(err, &placed) && (remote != nil || own != nil) {
		prefix += placed.place + ": "
	}
	for _, line := range lines {
		line = strings.TrimPrefix(line, command+": ") // the field sql is all that gnomon sql has: said once
		_, _ = fmt.Fprintln(s.err, prefix+strings.ReplaceAll(harmless.Replace(strings.TrimSpace(line)), "\n", " "))
	}
	var statement *statementError
	if errors.As(err, &statement) {
		statement.excerpt(s.err)
	}
	return code
}

// findings says each thing that is wrong in a line.
func (s *session) findings(e *core.Error) []string {
	var lines []string
	for _, f := range e.Findings {
		lines = append(lines, strings.TrimPrefix(f.Path+": "+f.Message.In(s.language()), ": "))
	}
	return lines
}

func (s *session) remoteLines(p api.Problem) []string {
	if len(p.Errors) == 0 {
		line := p.Title
		if p.Detail != "" {
			line += ": " + p.Detail
		}
		return []string{line}
	}
	var lines []string
	for _, e := range p.Errors {
		place := e.Location
		for _, part := range []string{"body.", "path.", "query.", "header."} {
			place = strings.TrimPrefix(place, part)
		}
		lines = append(lines, place+": "+core.Text{Zh: e.MessageZh, En: e.MessageEn}.In(s.language()))
	}
	return lines
}

// flags adds what every command that talks to a server understands.
func (s *session) flags(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&s.server, "server", "", "URL of the server (GNOMON_SERVER; else the one running on this machine)")
	cmd.PersistentFlags().StringVar(&s.tokenFile, "token-file", "", "file that holds the token (else GNOMON_TOKEN, else the server's own)")
}

// waitFor is the time between two looks at a run that is waited for.
const waitFor = 300 * time.Millisecond
