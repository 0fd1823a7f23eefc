package luavm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

const (
	maxBody        = 8 << 20 // bytes of a request's or an answer's body
	defaultTimeout = 30 * time.Second
	maxTimeout     = 10 * time.Minute
)

// http.get(url [, options]), http.post(url [, options]), http.request(options). Options: method, url, headers, body,
// json (a value sent as JSON), timeout (default 30 s). The answer has status, headers (names in lower case), body and
// json(), which decodes the body. An answer of any status is an answer; no answer at all is an error. A request of a run that is
// traced carries the attempt's trace context as header traceparent, unless the script gives another; "" sends none.
var httpFuncs = functions{
	"get":  func(L *lua.LState) int { return httpCall(L, "GET") },
	"post": func(L *lua.LState) int { return httpCall(L, "POST") },
	"request": func(L *lua.LState) int {
		options := L.CheckTable(1)
		return httpDo(L, lua.LVAsString(options.RawGetString("method")), lua.LVAsString(options.RawGetString("url")), options)
	},
}

func httpCall(L *lua.LState, method string) int {
	return httpDo(L, method, L.CheckString(1), L.OptTable(2, newTable(0, 0)))
}

func httpDo(L *lua.LState, method, url string, options *lua.LTable) int {
	s := sessionOf(L)
	for k, _ := options.Next(lua.LNil); k != lua.LNil; k, _ = options.Next(k) {
		switch k.String() {
		case "method", "url", "headers", "body", "json", "timeout":
		default:
			L.RaiseError("http: the option %q is none of method, url, headers, body, json, timeout", k.String())
		}
	}
	if method == "" {
		method = "GET"
	}
	timeout := defaultTimeout
	if v := options.RawGetString("timeout"); v != lua.LNil {
		L.Push(v)
		timeout = checkSpan(L, L.GetTop())
		L.Pop(1)
		if timeout <= 0 || timeout > maxTimeout {
			L.RaiseError("http: the timeout must be more than 0 and at most 10m")
		}
	}
	body := lua.LVAsString(options.RawGetString("body"))
	contentType := ""
	if v := options.RawGetString("json"); v != lua.LNil {
		text, err := toJSON(v, ticker(L, 10))
		if err != nil {
			L.RaiseError("http: json: %s", err.Error())
		}
		body, contentType = string(text), "application/json"
	}
	if len(body) > maxBody {
		L.RaiseError("http: the body has %d bytes; at most 8 MiB can be sent", len(body))
	}
	answer, err := exchange(ctxOf(L), s, timeout, strings.ToUpper(method), url, contentType, body, options.RawGetString("headers"))
	b := budgetOf(L)
	if err != nil {
		b.next = b.left // if the run's own deadline was the reason, say that
		b.charge(L, 1)
		L.RaiseError("http %s %s: %s", strings.ToUpper(method), url, err.Error())
	}
	b.give(L, len(answer.body))
	t := newTable(0, 0)
	t.RawSetString("status", lua.LNumber(answer.status))
	headers := newTable(0, 0)
	for name, values := range answer.header {
		headers.RawSetString(strings.ToLower(name), lua.LString(strings.Join(values, ", ")))
	}
	t.RawSetString("headers", headers)
	t.RawSetString("body", lua.LString(answer.body))
	t.RawSetString("json", L.NewFunction(func(L *lua.LState) int {
		v, err := fromJSON(answer.body, ticker(L, 50))
		if err != nil {
			L.RaiseError("the answer of %s is not JSON: %s", url, err.Error())
		}
		L.Push(v)
		return 1
	}))
	L.Push(t)
	return 1
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func exchange(ctx context.Context, s *session, timeout time.Duration, method, url, contentType, body string, headers lua.LValue) (*answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v", timeout))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	if t, ok := headers.(*lua.LTable); ok {
		for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
			if !lua.LVCanConvToString(v) {
				return nil, fmt.Errorf("the header %s is %s, not a string", k, typeName(v))
			}
			request.Header.Set(k.String(), lua.LVAsString(v))
		}
	}
	switch own, given := request.Header["Traceparent"]; {
	case given && own[0] == "":
		request.Header.Del("Traceparent")
	case !given && s.traceparent != "":
		request.Header.Set("Traceparent", s.traceparent)
	}
	if request.Header.Get("User-Agent") == "" {
		request.Header.Set("User-Agent", "gnomon-lua")
	}
	client, err := s.client(s.granted["http"])
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) {
			return nil, cause
		}
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxBody {
		return nil, errors.New("the answer's body is longer than 8 MiB")
	}
	return &answer{response.StatusCode, response.Header, text}, nil
}
