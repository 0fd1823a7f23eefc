package clickhouse_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
)

// TestAWrongDSNIsRefusedAtTheStart: however patient, because waiting does not mend it; in both languages and without its password.
func TestAWrongDSNIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"mysql://u:geheim@h:3306/db":                      `the protocol "mysql" is none of`,
		"h:9000":                                          "it names no protocol",
		"clickhouse://u:geheim@h/db":                      `the address "h" has no port`,
		"clickhouse://u:geheim@h:9000,i/db":               `the address "i" has no port`,
		"clickhouse://u:geheim@:9000/db":                  `the address ":9000" has no host`,
		"http://u:geheim@:8123/db":                        `the address ":8123" has no host`,
		"http://u:geheim@h:99999/db":                      `the port of the address "h:99999"`,
		"http://u:geheim@h:0/db":                          `the port of the address "h:0"`,
		"http://u:geheim@h:8123/a/b":                      `"a/b" is not the name of a database`,
		"clickhouse://u:geheim@h:9000/db?dial_timeout=ab": "it cannot be read",
		"https:///db":                                     "it cannot be read",
	} {
		_, err := clickhouse.Open(t.Context(), clickhouse.Options{DSN: dsn, Log: slog.New(slog.DiscardHandler), Patient: true})
		own, ok := errors.AsType[*core.Error](err)
		if !ok || own.Kind != core.KindInvalid || !strings.Contains(err.Error(), want) || !strings.Contains(own.Findings[0].Message.Zh, "正确的形式如") {
			t.Errorf("%s: %v", dsn, err)
		} else if strings.Contains(err.Error()+own.Findings[0].Message.Zh, "geheim") {
			t.Errorf("%s: the password is in %v", dsn, err)
		}
	}
	nobody := nobody(t)
	for _, dsn := range []string{"clickhouse://" + nobody + "/db?secure=true", "clickhouse://" + nobody + "," + nobody, "http://" + nobody, "https://u:p@" + nobody + "/db", "http://localhost.invalid/db"} {
		c, err := clickhouse.Open(t.Context(), clickhouse.Options{DSN: dsn, Log: slog.New(slog.DiscardHandler), Patient: true})
		if err != nil {
			t.Errorf("%s: %v", dsn, err)
			continue
		}
		_ = c.Close()
	}
}

// TestWhatIsNoClickHouseIsSaidToBeNone: where, what it says, and what to look at; none of its own words.
func TestWhatIsNoClickHouseIsSaidToBeNone(t *testing.T) {
	t.Parallel()
	says := func(status int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"errors":["nothing \"here\""]}`+strings.Repeat("\n<html>", 100))
		}))
		t.Cleanup(server.Close)
		return strings.TrimPrefix(server.URL, "http://")
	}
	lost, good, away, other := says(404), says(200), says(502), says(501)
	talker := listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	for dsn, want := range map[string]struct {
		kind core.Kind
		says string
	}{
		"http://" + lost + "/db":         {core.KindInvalid, "what answers at " + lost + " is not a ClickHouse (it says HTTP 404 Not Found)"},
		"http://" + good + "/db":         {core.KindInvalid, "what answers at " + good + " is not a ClickHouse (its answer makes no sense)"},
		"http://" + other + "/db":        {core.KindInvalid, "what answers at " + other + " is not a ClickHouse (it says HTTP 501 Not Implemented)"},
		"http://" + away + "/db":         {core.KindUnavailable, "what answers at " + away + " is not a ClickHouse (it says HTTP 502 Bad Gateway)"},
		"clickhouse://" + talker + "/db": {core.KindInvalid, "what answers at " + talker + " is not a ClickHouse (its answer makes no sense)"},
	} {
		_, err := clickhouse.Open(t.Context(), clickhouse.Options{DSN: dsn, Log: slog.New(slog.DiscardHandler)})
		if core.KindOf(err) != want.kind || !strings.Contains(err.Error(), want.says+"; look at the protocol, host and port") {
			t.Errorf("%s: %v", dsn, err)
		} else if len(err.Error()) > 200 {
			t.Errorf("%d letters: %v", len(err.Error()), err)
		}
	}
}
