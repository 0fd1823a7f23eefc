package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
)

// KeepAliveParams are the parameters of Common.KeepAlive.
type KeepAliveParams struct {
	URLs           []string `json:"urls,omitempty" doc:"addresses to call; an item may itself be a comma-separated list" example:"[\"http://10.0.0.5/Portal/keepalive\"]"`
	URLText        string   `json:"url_text,omitempty" doc:"the same as one comma-separated text, as older configurations have it"`
	Expect         string   `json:"expect,omitempty" doc:"what the answer must be, compared without case and surrounding space; a WCF answer may carry it inside an XML element" default:"ok"`
	Concurrency    int      `json:"concurrency,omitempty" doc:"calls at once" default:"8" minimum:"1" maximum:"64"`
	TimeoutSeconds int      `json:"timeout_seconds,omitempty" doc:"limit of one call, seconds" default:"10" minimum:"1" maximum:"300"`
	MaxFailures    int      `json:"max_failures,omitempty" doc:"the attempt fails when more addresses than this do not answer as expected" default:"0" minimum:"0"`
}

// addresses gives all addresses, in order, each once.
func (p KeepAliveParams) addresses() []string {
	var list []string
	seen := make(map[string]bool)
	for _, text := range append(append([]string{}, p.URLs...), p.URLText) {
		for one := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '，' || r == '\n' || r == ';' }) {
			if one = strings.TrimSpace(one); one != "" && !seen[one] {
				seen[one] = true
				list = append(list, one)
			}
		}
	}
	return list
}

// Validate finds addresses that are none.
func (p KeepAliveParams) Validate() []sdk.Finding {
	addresses := p.addresses()
	if len(addresses) == 0 {
		return []sdk.Finding{{Path: "urls", Message: sdk.Text{Zh: "至少要有一个地址，写在 urls 或 url_text 里", En: "give at least one address, in urls or url_text"}}}
	}
	var found []sdk.Finding
	for _, one := range addresses {
		u, err := url.Parse(one)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			found = append(found, sdk.Finding{Path: "urls", Message: sdk.Text{
				Zh: fmt.Sprintf("“%s”不是 http:// 或 https:// 地址", one), En: fmt.Sprintf("%q is not an http:// or https:// address", one),
			}})
		}
	}
	return found
}

// KeepAliveOutput is what a run of Common.KeepAlive found.
type KeepAliveOutput struct {
	Checked int          `json:"checked" doc:"addresses called"`
	Failed  int          `json:"failed" doc:"addresses that did not answer as expected"`
	Results []CallResult `json:"results" doc:"one per address, in order"`
}

// CallResult is what one address answered.
type CallResult struct {
	URL       string `json:"url"`
	OK        bool   `json:"ok"`
	Status    int    `json:"status" doc:"HTTP status; 0: no answer"`
	LatencyMS int64  `json:"latency_ms" doc:"until the whole answer was read, milliseconds"`
	Problem   string `json:"problem,omitempty"`
}

var keepAlive = sdk.Define(sdk.Definition{
	Name:        "Common.KeepAlive",
	Title:       sdk.Text{Zh: "保持所有WCF和Web网站活跃", En: "Keep all WCF and web sites alive"},
	Description: sdk.Text{Zh: "并发访问一组地址，要求每个都回答 ok，记录各自的耗时。", En: "Calls a list of addresses at once, wants ok from each and records how long each took."},
	Needs:       []string{"http"},
	Timeout:     2 * time.Minute,
	Example:     KeepAliveParams{URLs: []string{"http://portal.hospital.example/keepalive"}},
}, callAll)

func callAll(ctx context.Context, run *sdk.Run, p KeepAliveParams) (KeepAliveOutput, error) {
	client := run.HTTPClient()
	addresses := p.addresses()
	out := KeepAliveOutput{Checked: len(addresses), Results: make([]CallResult, len(addresses))}
	limit := make(chan struct{}, p.Concurrency)
	var wait sync.WaitGroup
	for i, address := range addresses {
		limit <- struct{}{}
		wait.Go(func() { // ends with the call, which ends with ctx or its own limit
			defer func() { <-limit }()
			out.Results[i] = call(ctx, client, address, p)
		})
	}
	wait.Wait()
	for i, r := range out.Results {
		attrs := []any{"url", r.URL, "status", r.Status, "latency_ms", r.LatencyMS}
		if r.OK {
			run.Log.Info("alive", attrs...)
		} else {
			out.Failed++
			run.Log.Error("not alive", append(attrs, "problem", r.Problem)...)
		}
		run.Progress(int64(i+1), int64(len(addresses)), r.URL)
	}
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	if out.Failed > p.MaxFailures {
		return out, fmt.Errorf("%d of %d addresses did not answer %q", out.Failed, out.Checked, p.Expect)
	}
	return out, nil
}

func call(ctx context.Context, client *http.Client, address string, p KeepAliveParams) CallResult {
	result := CallResult{URL: address}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.TimeoutSeconds)*time.Second)
	defer cancel()
	began := time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		result.Problem = err.Error()
		return result
	}
	answer, err := client.Do(request)
	if err != nil {
		result.LatencyMS, result.Problem = time.Since(began).Milliseconds(), err.Error()
		return result
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	result.Status, result.LatencyMS = answer.StatusCode, time.Since(began).Milliseconds()
	switch {
	case err != nil:
		result.Problem = err.Error()
	case answer.StatusCode != http.StatusOK:
		result.Problem = "status " + answer.Status
	case !says(string(body), p.Expect):
		result.Problem = fmt.Sprintf("answered %.80q", body)
	default:
		result.OK = true
	}
	return result
}

// says tells whether an answer is the word expected: bare, as a JSON string, or as the text of a WCF operation's one
// XML element.
func says(body, expect string) bool {
	body = strings.TrimSpace(body)
	if strings.HasPrefix(body, "<") {
		if open := strings.LastIndex(body, "</"); open > 0 {
			body = body[strings.LastIndex(body[:open], ">")+1 : open]
		}
	}
	return strings.EqualFold(strings.Trim(strings.TrimSpace(body), `"`), strings.TrimSpace(expect))
}
