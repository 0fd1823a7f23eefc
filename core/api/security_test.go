package api_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

func TestOnlyOurOwnNamesAreAnswered(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for host, status := range map[string]int{
		"localhost:8080": 200, "127.0.0.1": 200, "[::1]:8080": 200, "127.8.9.1:1": 200, "gnomon.hospital.example:443": 200,
		"GNOMON.hospital.example": 200, "localhost.": 200,
		"evil.example": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421, "10.0.0.5:8080": 421, "169.254.169.254": 421,
	} {
		if a := w.do(w.admin, "GET", "/v1/tasks", "", "Host", host); a.status != status {
			t.Errorf("%s: %d instead of %d", host, a.status, status)
		}
	}
}

func TestOtherSitesCannotChangeAnything(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const path = "/v1/namespaces/Common/tasks/x"
	w.must(403, w.do(w.admin, "PUT", path, echo, "Origin", "https://evil.example"))
	w.must(403, w.do(w.admin, "PUT", path, echo, "Sec-Fetch-Site", "cross-site"))
	w.must(403, w.do(w.admin, "PUT", path, echo, "Sec-Fetch-Site", "same-site"))
	w.must(404, w.do(w.admin, "GET", path, ""))
	w.must(201, w.do(w.admin, "PUT", path, echo, "Sec-Fetch-Site", "same-origin"))
}

func TestBodiesAreLimited(t *testing.T) {
	t.Parallel()
	w := setup(t)
	big := strings.Repeat("x", 1<<20)
	a := w.must(413, w.do(w.admin, "PUT", "/v1/namespaces/Common", `{"description":"`+big+`"}`))
	if a.header.Get("Content-Type") != "application/problem+json" {
		t.Error(a.header.Get("Content-Type"))
	}
	w.must(413, w.do(w.admin, "POST", "/v1/query", `{"sql":"SELECT '`+big[:300<<10]+`'"}`))
}

func TestEveryAnswerCarriesTheHeaders(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, path := range []string{"/v1/tasks", "/healthz", "/nope", "/v1/tasks/none"} {
		a := w.do(w.admin, "GET", path, "")
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		} {
			if a.header.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, a.header.Get(name))
			}
		}
		if a.header.Get("X-Request-Id") == "" || a.status >= 400 && a.body["kind"] == nil {
			t.Errorf("%s: %s", path, a.raw)
		}
	}
	if a := w.do("", "GET", "/v1/tasks", ""); a.header.Get("WWW-Authenticate") == "" {
		t.Error("401 does not say how")
	}
	for _, path := range []string{"/docs", "/openapi.yaml", "/openapi.json", "/schemas/Task.json", "/"} {
		w.must(404, w.do("", "GET", path, ""))
	}
}

type panics struct{ api.Definitions }

func (panics) Namespaces(context.Context) ([]core.Namespace, error) { panic("dsn postgres://u:pa55@h") }

type fails struct{ api.Definitions }

func (fails) Namespaces(context.Context) ([]core.Namespace, error) {
	return nil, core.Errorf(core.KindInternal, "read namespaces", "dial postgres://u:pa55@h: refused")
}

func TestWhatIsOursToMendIsNotShown(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(api.Definitions) api.Definitions{
		"panic": func(d api.Definitions) api.Definitions { return panics{d} },
		"error": func(d api.Definitions) api.Definitions { return fails{d} },
	} {
		w := setup(t)
		w.opts.Definitions = broken(w.opts.Definitions)
		w.serve()
		a := w.must(500, w.do(w.admin, "GET", "/v1/namespaces", ""))
		if strings.Contains(a.raw, "pa55") || !strings.Contains(a.raw, a.header.Get("X-Request-Id")) {
			t.Errorf("%s: %s", name, a.raw)
		}
		w.api.Stop()
		if !bytes.Contains(w.log.Bytes(), []byte(a.header.Get("X-Request-Id"))) || !bytes.Contains(w.log.Bytes(), []byte("pa55")) {
			t.Errorf("%s: the log does not say why: %s", name, w.log)
		}
		if strings.Contains(w.log.String(), w.admin) {
			t.Error("a token is in the log")
		}
	}
}

type unready struct{ healthy }

func (unready) Ready(context.Context) error {
	return core.Errorf(core.KindUnavailable, "", "secret place is not mounted")
}

func TestReadyOnlyOnceTasksAreScheduled(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if a := w.must(200, w.do("", "GET", "/readyz", "")); a.raw != "ready\n" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		t.Error(a.raw, a.header)
	}
	w.opts.Health = unready{}
	w.serve()
	if a := w.must(503, w.do("", "GET", "/readyz", "")); strings.Contains(a.raw, "secret") {
		t.Error(a.raw)
	}
	w.must(200, w.do("", "GET", "/healthz", ""))
}

func TestLanguageFollowsTheCaller(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for header, title := range map[string]string{
		"": "not found", "zh": "找不到", "zh-Hans-CN,en;q=0.5": "找不到", "en-GB,zh;q=0.9": "not found", "de,zh;q=0.1": "找不到", "fr": "not found",
		"zh;q=0,en;q=0.1": "not found",
	} {
		if a := w.do(w.admin, "GET", "/v1/tasks/none", "", "Accept-Language", header); a.body["title"] != title {
			t.Errorf("%q: %v", header, a.body["title"])
		}
	}
}

// TestRefusalsAreInChinese: whoever asks in Chinese reads why in Chinese, whatever room refuses.
func TestRefusalsAreInChinese(t *testing.T) {
	t.Parallel()
	w := setup(t)
	viewer := w.token(access.Viewer, "Common")
	const task, pool = "/v1/namespaces/Common/tasks/told", "/v1/pools/told"
	w.must(201, w.do(w.admin, "PUT", task, `{"type":"Common.Echo","schedule":{"spec":"@manual"}}`))
	w.must(201, w.do(w.admin, "PUT", pool, `{"slots":2}`))
	for _, c := range []struct {
		token, method, path, body string
		header                    []string
		status                    int
		detail                    string
	}{
		{w.admin, "GET", "/v1/tasks/none", "", nil, 404, "没有任务 none，或您无权查看"},
		{w.admin, "POST", "/v1/runs/none/cancel", "", nil, 404, "没有运行 none，或您无权查看"},
		{viewer, "GET", "/v1/namespaces/Foreign/tasks/a", "", nil, 404, "没有任务 Foreign/a，或您无权查看"},
		{w.admin, "GET", "/v1/task-types/None.Such", "", nil, 404, "没有插件或脚本提供任务类型 None.Such"},
		{w.admin, "DELETE", "/v1/calendars/cn-holidays", "", nil, 409, "日历 cn-holidays 由系统提供，不能删除"},
		{w.admin, "PUT", task, `{"type":"Common.Echo","schedule":{"spec":"@manual"}}`, []string{"If-Match", `"7"`}, 412, "它现在是版本 1，不是 \"7\"；请重新读取后再改"},
		{w.admin, "PUT", task, `{"type":"Common.Echo","schedule":{"spec":"@manual"}}`, []string{"If-None-Match", "*"}, 412, "任务 Common/told 已存在，版本 1"},
		{w.admin, "PUT", pool, `{"slots":3}`, []string{"If-None-Match", "*"}, 412, "told 已存在，版本 1"},
		{viewer, "PUT", task, "{}", nil, 403, " 在命名空间 Common 中没有权限 task:write"},
		{"", "GET", "/v1/tasks", "", nil, 401, "请随请求发送令牌：Authorization: Bearer …"},
		{"nobody's", "GET", "/v1/tasks", "", nil, 401, "此处没有这个令牌，或它已过期"},
	} {
		a := w.do(c.token, c.method, c.path, c.body, append([]string{"Accept-Language", "zh"}, c.header...)...)
		if said, _ := a.body["detail"].(string); a.status != c.status || !strings.Contains(said, c.detail) {
			t.Errorf("%s %s: %d %q; want %d %q", c.method, c.path, a.status, said, c.status, c.detail)
		}
	}
}
