package precondition_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func get(url string, status int, contains string) core.Precondition {
	return core.Precondition{HTTP: &core.HTTPCheck{URL: url, Status: status, Contains: contains}}
}

func serve(t *testing.T) (address, other string, asked chan string) {
	t.Helper()
	asked = make(chan string, 100)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.Path
		switch r.URL.Path {
		case "/ready":
			fmt.Fprint(w, `{"state": "ready"}`)
		case "/down":
			http.Error(w, "down", http.StatusServiceUnavailable)
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		case "/there":
			http.Redirect(w, r, "/ready", http.StatusFound)
		case "/away":
			http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
		case "/large":
			fmt.Fprint(w, strings.Repeat("x", 64<<10-1)+"END"+strings.Repeat("y", 1<<20))
		case "/endless":
			for r.Context().Err() == nil {
				fmt.Fprint(w, strings.Repeat("z", 1<<10))
				if f, ok := w.(http.Flusher); ok {
					f.Flush()
				}
			}
		case "/slow":
			<-r.Context().Done()
		}
	})
	one, two := httptest.NewServer(handler), httptest.NewServer(handler)
	t.Cleanup(one.Close)
	t.Cleanup(two.Close)
	return one.URL, two.URL, asked
}

func TestHTTPChecksLookAtStatusAndBody(t *testing.T) {
	t.Parallel()
	url, _, asked := serve(t)
	c := setup(&world{grants: map[string]string{"http": strings.TrimPrefix(url, "http://")}})
	for _, test := range []struct {
		path     string
		status   int
		contains string
		want     bool
		detail   string
	}{
		{"/ready", 0, "", true, "answered 200"},
		{"/ready", 200, `"ready"`, true, `answered 200 with "\"ready\""`},
		{"/ready", 0, "asleep", false, `answered 200 without "asleep"`},
		{"/ready", 204, "", false, "answered 200, wanted 204"},
		{"/empty", 0, "", true, "answered 204"},
		{"/down", 0, "", false, "answered 503, wanted 200 to 299"},
		{"/down", 503, "down", true, "answered 503"},
		{"/there", 0, "ready", true, "answered 200"},
		{"/large", 0, "x", true, "answered 200"},
		{"/large", 0, "END", false, "without"},
		{"/endless", 0, "a", false, "without"},
	} {
		p := get(url+test.path, test.status, test.contains)
		mustCheck(t, c, p)
		got, err := c.Evaluate(t.Context(), p, facts(``))
		if err != nil || got.True != test.want || !strings.Contains(got.Detail, "GET "+url+test.path+" ") || !strings.Contains(got.Detail, test.detail) {
			t.Errorf("%+v: %+v %v", test, got, err)
		}
	}
	close(asked)
	for what := range asked {
		if !strings.HasPrefix(what, "GET ") {
			t.Errorf("asked %s", what)
		}
	}
}

func TestHTTPChecksReachOnlyWhatIsGranted(t *testing.T) {
	t.Parallel()
	url, other, _ := serve(t)
	address := strings.TrimPrefix(url, "http://")
	granted := setup(&world{grants: map[string]string{"http": address}})
	_, err := granted.Evaluate(t.Context(), get(other+"/ready", 0, ""), facts(``))
	is(t, err, core.KindDenied, "refused")
	_, err = granted.Evaluate(t.Context(), get(url+"/away?to="+other+"/ready", 0, ""), facts(``))
	is(t, err, core.KindDenied, "refused", strings.TrimPrefix(other, "http://"))
	_, err = granted.Evaluate(t.Context(), get(url+"/away?to=http://169.254.169.254/latest", 0, ""), facts(``))
	is(t, err, core.KindDenied, "refused")
	if _, err = granted.Evaluate(t.Context(), get(url+"/away?to=file:///etc/passwd", 0, ""), facts(``)); err == nil {
		t.Error("a file was read")
	}
	for _, allow := range []string{"*", "0.0.0.0/0", "", address + ",!" + address} {
		c := setup(&world{grants: map[string]string{"http": allow}})
		_, err := c.Evaluate(t.Context(), get(url+"/ready", 0, ""), facts(``))
		is(t, err, core.KindDenied, "refused")
	}
	_, err = setup(&world{grants: map[string]string{"http": "://"}}).Evaluate(t.Context(), get(url, 0, ""), facts(``))
	is(t, err, core.KindInvalid, "allow-list")
}

func TestASlowAnswerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	url, _, _ := serve(t)
	c := setup(&world{grants: map[string]string{"http": strings.TrimPrefix(url, "http://")}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := c.Evaluate(ctx, get(url+"/slow", 0, ""), facts(``))
	is(t, err, core.KindUnavailable)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	_, err = c.Evaluate(t.Context(), get("http://127.0.0.1:1/", 0, ""), facts(``))
	is(t, err, core.KindDenied)
	_, err = setup(&world{grants: map[string]string{"http": "127.0.0.1:1"}}).Evaluate(t.Context(), get("http://127.0.0.1:1/", 0, ""), facts(``))
	is(t, err, core.KindUnavailable, "connection refused")
}

func TestCheckRefusesRequestsThatCannotBeMade(t *testing.T) {
	t.Parallel()
	c := setup(&world{})
	for _, url := range []string{"", "/ready", "example.com/ready", "ftp://example.com", "http://", "http://:80/", "http://%zz", "https://user:secret@example.com/", "file:///etc/passwd", "http://a/" + strings.Repeat("x", 3000)} {
		found := c.Check(get(url, 0, ""))
		if len(found) != 1 || found[0].Path != "http.url" || found[0].Message.Zh == "" || strings.Contains(found[0].Message.En, "secret") {
			t.Errorf("%q: %+v", url, found)
		}
		_, err := c.Evaluate(t.Context(), get(url, 0, ""), facts(``))
		is(t, err, core.KindInvalid)
	}
	for path, p := range map[string]core.Precondition{
		"http.status": get("http://example.com", 99, ""), "http.contains": get("http://example.com", 200, strings.Repeat("x", 2000)),
		"": {HTTP: &core.HTTPCheck{URL: "http://example.com"}, Expression: "true"},
	} {
		if found := c.Check(p); len(found) != 1 || found[0].Path != path {
			t.Errorf("%q: %+v", path, found)
		}
	}
	mustCheck(t, c, get("https://[::1]:8443/a?b=c#d", 0, ""))
}
