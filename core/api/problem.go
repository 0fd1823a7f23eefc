package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Problem is every answer that is not a success: RFC 9457, with what is wrong in both languages. It never repeats what
// was sent, as that may hold a secret.
type Problem struct {
	Type      string         `json:"type" doc:"urn:gnomon:problem: and the kind" example:"urn:gnomon:problem:invalid"`
	Title     string         `json:"title" doc:"What kind of problem it is, in the language of Accept-Language"`
	Status    int            `json:"status" doc:"The HTTP status"`
	Detail    string         `json:"detail,omitempty" doc:"What happened here"`
	Kind      string         `json:"kind" enum:"internal,invalid,not_found,conflict,stale,denied,unauthenticated,unavailable,exhausted,damaged" doc:"What a caller can do about it"`
	RequestID string         `json:"request_id,omitempty" doc:"Also in the X-Request-Id header and in the server's log"`
	Errors    []ProblemError `json:"errors,omitempty" doc:"Each thing that is wrong, with its place"`
}

// ProblemError is one thing that is wrong with a request.
type ProblemError struct {
	Location  string `json:"location" doc:"Where: body, path, query or header, and the field" example:"body.schedule.spec"`
	Message   string `json:"message" doc:"What is wrong and how to mend it, in the language of Accept-Language"`
	MessageZh string `json:"message_zh" doc:"The same in Chinese"`
	MessageEn string `json:"message_en" doc:"The same in English"`
}

// Error gives the problem in one line.
func (p *Problem) Error() string {
	parts := []string{p.Detail}
	if p.Detail == "" {
		parts[0] = p.Title
	}
	for _, e := range p.Errors {
		parts = append(parts, e.Location+": "+e.Message)
	}
	return strings.Join(parts, "; ")
}

// GetStatus gives the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType gives the media type of a problem.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// statuses is the only place where a kind becomes an HTTP status.
var statuses = map[core.Kind]int{
	core.KindInternal:        http.StatusInternalServerError,
	core.KindInvalid:         http.StatusUnprocessableEntity,
	core.KindNotFound:        http.StatusNotFound,
	core.KindConflict:        http.StatusConflict,
	core.KindStale:           http.StatusPreconditionFailed,
	core.KindDenied:          http.StatusForbidden,
	core.KindUnauthenticated: http.StatusUnauthorized,
	core.KindUnavailable:     http.StatusServiceUnavailable,
	core.KindExhausted:       http.StatusTooManyRequests,
	core.KindDamaged:         http.StatusInternalServerError,
}

var titles = map[core.Kind]core.Text{
	core.KindInternal:        {Zh: "内部错误", En: "internal error"},
	core.KindInvalid:         {Zh: "输入有误", En: "the input is wrong"},
	core.KindNotFound:        {Zh: "找不到", En: "not found"},
	core.KindConflict:        {Zh: "与现状冲突", En: "in conflict with what is there"},
	core.KindStale:           {Zh: "版本已过时，请重新读取后再改", En: "changed meanwhile: read it again, then change it"},
	core.KindDenied:          {Zh: "没有权限", En: "not allowed"},
	core.KindUnauthenticated: {Zh: "需要有效的令牌", En: "a valid token is needed"},
	core.KindUnavailable:     {Zh: "暂时不可用，请稍后再试", En: "not available at present; try again later"},
	core.KindExhausted:       {Zh: "已达上限", En: "a limit is reached"},
	core.KindDamaged:         {Zh: "内部错误", En: "internal error"},
}

// problem turns any error into what a caller may see of it. What is ours to mend is logged and only named by its request.
func problem(ctx context.Context, err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	req := requestOf(ctx)
	kind := core.KindOf(err)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return req.refuse(http.StatusRequestEntityTooLarge, core.KindInvalid, tooLargeText(tooLarge.Limit))
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return req.refuse(499, core.KindUnavailable, core.Text{Zh: "请求已被调用方取消", En: "the caller went away"})
	case errors.Is(err, context.DeadlineExceeded) && kind == core.KindInternal:
		kind = core.KindUnavailable
	}
	p := req.refuse(statuses[kind], kind, core.Text{})
	e, _ := errors.AsType[*core.Error](err)
	switch {
	case kind == core.KindInternal || kind == core.KindDamaged || p.Status == 0:
		req.log.Error("request failed", "request_id", req.id, "operation", req.operation, "err", err)
		p.Status = http.StatusInternalServerError
		p.Detail = req.say(core.Text{
			Zh: "服务器出错；日志中可按请求号 " + req.id + " 查找", En: "the server's log has the cause under request " + req.id,
		})
	case e != nil && len(e.Findings) > 0:
		p.Detail = e.Op
		for _, f := range e.Findings {
			p.Errors = append(p.Errors, req.located(req.location(f.Path), f.Message))
		}
	default:
		p.Detail = req.say(core.Text{Zh: core.ChineseOf(err), En: err.Error()})
	}
	return p
}

func tooLargeText(limit int64) core.Text {
	return core.Text{
		Zh: fmt.Sprintf("请求正文超过 %d 字节", limit), En: fmt.Sprintf("the request body is larger than %d bytes", limit),
	}
}

func (r *request) refuse(status int, kind core.Kind, detail core.Text) *Problem {
	return &Problem{
		Type: "urn:gnomon:problem:" + string(kind), Title: r.say(titles[kind]), Status: status, Detail: r.say(detail),
		Kind: string(kind), RequestID: r.id,
	}
}

func (r *request) say(t core.Text) string { return t.In(r.lang) }

func (r *request) located(location string, message core.Text) ProblemError {
	return ProblemError{Location: location, Message: r.say(message), MessageZh: message.Zh, MessageEn: message.En}
}

// location puts a finding's path under the part of the request it came from.
func (r *request) location(path string) string {
	first, _, _ := strings.Cut(path, ".")
	switch {
	case path == "":
		return "body"
	case path[0] == '[':
		return "body" + path
	case slices.Contains(r.pathFields, first):
		return "path." + path
	}
	return "body." + path
}

// fromHuma replaces huma's own errors: validation of parameters and bodies, and whatever a handler returned.
func fromHuma(hctx huma.Context, status int, message string, errs ...error) huma.StatusError {
	req := &request{} // while the document is built there is no request
	kind := core.KindInvalid
	if hctx != nil {
		req = requestOf(hctx.Context())
		for _, err := range errs {
			if _, ok := err.(huma.ErrorDetailer); !ok && err != nil {
				return problem(hctx.Context(), err)
			}
		}
	}
	switch status {
	case http.StatusUnsupportedMediaType:
		return req.refuse(status, kind, core.Text{Zh: "正文必须是 application/json", En: "the body must be application/json"})
	case http.StatusRequestEntityTooLarge:
		return req.refuse(status, kind, core.Text{Zh: "请求正文太大", En: message})
	case http.StatusRequestTimeout:
		kind = core.KindUnavailable
	case 0, http.StatusInternalServerError:
		if len(errs) == 0 {
			kind = core.KindInternal
		}
	}
	p := req.refuse(status, kind, core.Text{Zh: "请求有误，详见 errors", En: "see errors"})
	for _, err := range errs {
		d, ok := err.(huma.ErrorDetailer)
		if !ok {
			continue
		}
		detail := d.ErrorDetail()
		location := cmp.Or(detail.Location, "body")
		if m := missing.FindStringSubmatch(detail.Message); m != nil { // huma names only the object it is missing from
			location += "." + m[1]
		}
		said := bilingual(detail.Message)
		if detail.Message == "expected string" {
			switch detail.Value.(type) {
			case float64, int, int64, json.Number: // huma tells only the type; most who write a number mean a duration
				said = core.Text{Zh: `类型应为 string，要加引号（时长要有单位："30s"）`, En: `must be of type string, in quotes (a duration with its unit: "30s")`}
			}
		}
		p.Errors = append(p.Errors, req.located(location, said))
	}
	if len(p.Errors) == 0 && kind == core.KindInvalid {
		p.Detail = req.say(bilingual(message))
	}
	return p
}

var missing = regexp.MustCompile(`^expected required property (\S+) to be present$`)

// phrases gives huma's validation messages in both languages, with how to mend where huma says only what.
var phrases = []struct {
	form   *regexp.Regexp
	zh, en string
}{
	{regexp.MustCompile(`^unexpected property$`), "没有这个字段；请检查拼写", "there is no such field; check its spelling"},
	{regexp.MustCompile(`^unknown query parameter`), "没有这个查询参数；请检查拼写", "there is no such query parameter; check its spelling"},
	{regexp.MustCompile(`^expected required property (\S+) to be present$`), "缺少必填字段 $1", "the required field $1 is missing"},
	{regexp.MustCompile(`^required (\S+) parameter is missing$`), "缺少必填参数", "this required parameter is missing"},
	{regexp.MustCompile(`^expected (boolean|number|integer|string|array|object)$`), "类型应为 $1", "must be of type $1"},
	{regexp.MustCompile(`^expected value to be one of "(.*)"$`), "只能是以下之一：$1", "must be one of: $1"},
	{regexp.MustCompile(`^expected (?:number|length|array length) (>=|<=|>|<) (\S+)$`), "长度或数值须 $1 $2", "length or value must be $1 $2"},
	{regexp.MustCompile(`^expected string to be (a time of day: .*)$`), "须是一天中的时间（00:00 至 23:59）：06:00", "must be $1"},
	{regexp.MustCompile(`^expected string to be (a time of day or .*)$`), "须是一天中的时间（00:00 至 23:59，也可写秒），或表示一天结束的 24:00", "must be $1"},
	{regexp.MustCompile(`^expected string to be (a day: .*)$`), "须是日期：2026-10-01；或每年的这一天：--10-01", "must be $1"},
	{regexp.MustCompile(`^expected string to be (days: .*)$`), "须是天数或 forever：90d", "must be $1"},
	{regexp.MustCompile(`^expected string to match pattern (.*)$`), "须匹配 $1", "must match $1"},
	{regexp.MustCompile(`^expected string to be RFC 3339 date-time$`), "须为 RFC 3339 时间，例如 2026-12-01T08:00:00+08:00", "must be an RFC 3339 time: 2026-12-01T08:00:00+08:00"},
	{regexp.MustCompile(`^request body is required$`), "缺少请求正文", "a request body is needed"},
	{regexp.MustCompile(`^invalid character .* (?:looking for|in|after) .*$`), "正文不是合法的 JSON", "the body is not valid JSON"},
	{regexp.MustCompile(`^unexpected end of JSON input$`), "JSON 正文不完整", "the JSON body ends too early"},
	{regexp.MustCompile(`^invalid (boolean|date/time|duration|integer|float)\b.*$`), "值无法读取，应为 $1", "cannot be read as $1"},
}

func bilingual(message string) core.Text {
	for _, p := range phrases {
		if m := p.form.FindStringSubmatchIndex(message); m != nil {
			return core.Text{
				Zh: string(p.form.ExpandString(nil, p.zh, message, m)), En: string(p.form.ExpandString(nil, p.en, message, m)),
			}
		}
	}
	return core.Text{Zh: message, En: message}
}

// language gives "zh" or "en" from an Accept-Language header (RFC 9110 section 12.5.4); English if it names neither.
func language(header string) string {
	best, bestQ := "en", 0.0
	for part := range strings.SplitSeq(header, ",") {
		tag, param, _ := strings.Cut(strings.TrimSpace(part), ";")
		tag, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(tag)), "-")
		q := 1.0
		if v, ok := strings.CutPrefix(strings.TrimSpace(param), "q="); ok {
			q, _ = strconv.ParseFloat(v, 64)
		}
		if (tag == "zh" || tag == "en") && q > bestQ {
			best, bestQ = tag, q
		}
	}
	return best
}

// init sets what huma takes as package variables only.
func init() {
	huma.NewErrorWithContext = fromHuma
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return fromHuma(nil, status, message, errs...)
	}
	huma.DefaultArrayNullable = false
	huma.ValidateStrictCasing = true
}

// wrong refuses a part of the request that is not in its body: "query.from".
func wrong(ctx context.Context, location string, message core.Text) *Problem {
	req := requestOf(ctx)
	p := req.refuse(http.StatusUnprocessableEntity, core.KindInvalid, core.Text{Zh: "请求有误，详见 errors", En: "see errors"})
	p.Errors = []ProblemError{req.located(location, message)}
	return p
}
