package precondition

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/sdk/egress"
)

func checkHTTP(h core.HTTPCheck) []core.Finding {
	var found []core.Finding
	u, err := url.Parse(h.URL)
	switch {
	case len(h.URL) > maxURL:
		found = append(found, finding("http.url", "地址超过 2 KiB", "the URL is longer than 2 KiB"))
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		found = append(found, finding("http.url", "请写完整的 http 或 https 地址，例如 https://example.com/ready",
			"give a whole http or https address: https://example.com/ready"))
	case u.User != nil:
		found = append(found, finding("http.url", "地址里不能写用户名和密码，它们会出现在日志和账本里", "a URL must not hold a user and a password: they would show in logs and in the ledger"))
	}
	if h.Status != 0 && (h.Status < 100 || h.Status > 599) {
		found = append(found, finding("http.status", "状态码在 100 到 599 之间；不写表示 200 到 299 都可以", "a status is between 100 and 599; without one any of 200 to 299 will do"))
	}
	if len(h.Contains) > maxContains {
		found = append(found, finding("http.contains", "文字超过 1 KiB", "the text is longer than 1 KiB"))
	}
	return found
}

// checkHost says whether the grant lets anybody ask the host at all, which a name server is not needed for.
func (c *Preconditions) checkHost(facts Facts, address string) []core.Finding {
	allow, err := c.grant("http", facts)
	if core.KindOf(err) == core.KindDenied {
		return []core.Finding{finding("http.url", "命名空间 "+facts.Namespace+" 没有获得 http 授权；请在服务器配置的 grants 里加上 http 和要访问的主机",
			"namespace "+facts.Namespace+" has not been granted http; add it with the host under grants in the server's configuration")}
	}
	policy, err2 := egress.Cached(allow)
	u, err3 := url.Parse(address)
	if errors.Join(err, err2, err3) != nil {
		return nil
	}
	port := uint64(443)
	if u.Scheme == "http" {
		port = 80
	}
	if u.Port() != "" {
		if port, err = strconv.ParseUint(u.Port(), 10, 16); err != nil {
			return nil
		}
	}
	if refused, ok := errors.AsType[*egress.Refused](policy.CheckName(u.Hostname(), uint16(port))); ok {
		return []core.Finding{finding("http.url", "命名空间 "+facts.Namespace+" 的 http 授权不允许访问 "+refused.Host+"："+reasonZh(refused.Reason),
			"the http grant of namespace "+facts.Namespace+" does not let it ask "+refused.Host+": "+refused.Reason)}
	}
	return nil
}

// reasons are those of egress for not allowing a host, with how each is said in Chinese.
var reasons = []struct {
	form *regexp.Regexp
	zh   string
}{
	{regexp.MustCompile(`^it is not on the allow-list$`), "允许列表中没有它"},
	{regexp.MustCompile(`^the allow-list excludes it$`), "允许列表排除了它"},
	{regexp.MustCompile(`^the allow-list is empty$`), "允许列表为空"},
	{regexp.MustCompile(`^\S+ is .*; it is reached only if it is listed by address: (\S+)$`), "它是本机、链路本地、元数据之类的地址，须在允许列表中按地址写明：$1"},
	{regexp.MustCompile(`^\S+ is .*; list the address or its network too$`), "它是内网之类的地址，须在允许列表中也写明该地址或其网段"},
}

func reasonZh(reason string) string {
	for _, r := range reasons {
		if r.form.MatchString(reason) {
			return r.form.ReplaceAllString(reason, r.zh)
		}
	}
	return reason
}

// request judges an HTTP check: a GET, with the namespace's grant "http", on redirects too.
func (c *Preconditions) request(ctx context.Context, h core.HTTPCheck, facts Facts) (Result, error) {
	const op = "ask over HTTP"
	if findings := checkHTTP(h); len(findings) > 0 {
		return Result{}, core.Invalid(op, findings...)
	}
	allow, err := c.grant("http", facts)
	if err != nil {
		return Result{}, err
	}
	policy, err := egress.Cached(allow)
	if err != nil {
		return Result{}, core.Errorf(core.KindInvalid, op, "grant http: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, checkTime, fmt.Errorf("no answer within %v", checkTime))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL, nil)
	if err != nil {
		return Result{}, core.Errorf(core.KindInvalid, op, "%w", err)
	}
	request.Close = true // the next look is half a minute away
	request.Header.Set("User-Agent", "gnomon-precondition")
	failed := func(err error) (Result, error) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if refused, ok := errors.AsType[*egress.Refused](err); ok {
			return Result{}, core.Errorf(core.KindDenied, "GET "+h.URL, "%w", refused)
		}
		return Result{}, core.Errorf(core.KindUnavailable, "GET "+h.URL, "%w", err)
	}
	answer, err := policy.Client().Do(request)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // it names the URL again
		}
		return failed(err)
	}
	defer answer.Body.Close()
	detail := "GET " + cut(h.URL, maxDetail/2) + " answered " + strconv.Itoa(answer.StatusCode)
	switch {
	case h.Status == 0 && (answer.StatusCode < 200 || answer.StatusCode > 299):
		return Result{Detail: detail + ", wanted 200 to 299"}, nil
	case h.Status != 0 && answer.StatusCode != h.Status:
		return Result{Detail: detail + ", wanted " + strconv.Itoa(h.Status)}, nil
	case h.Contains == "":
		return Result{True: true, Detail: detail}, nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxBody))
	if err != nil {
		return failed(err)
	}
	if !strings.Contains(string(body), h.Contains) {
		return Result{Detail: detail + " without " + show(h.Contains)}, nil
	}
	return Result{True: true, Detail: detail + " with " + show(h.Contains)}, nil
}
