package main

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

func TestPluginKeepsTheContract(t *testing.T) { sdktest.Exercise(t, plugin()) }

func TestKeepAliveCallsEveryAddress(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"/plain": "ok", "/shout": " OK\n", "/json": `"ok"`, "/wrong": "maintenance",
		"/wcf.svc": `<?xml version="1.0"?><string xmlns="http://schemas.microsoft.com/2003/10/Serialization/">ok</string>`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.URL.Path]
		if !known {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	host := sdktest.Start(t, plugin())
	grants := map[string]string{"http": server.Listener.Addr().String()}
	good := host.Run(t.Context(), sdktest.Attempt{Type: "Common.KeepAlive", Grants: grants, Params: map[string]any{
		"urls": []string{server.URL + "/plain", server.URL + "/wcf.svc," + server.URL + "/json"}, "url_text": server.URL + "/shout , " + server.URL + "/plain",
	}})
	var out KeepAliveOutput
	if err := json.Unmarshal(good.Output, &out); err != nil || good.Verdict != sdktest.Succeeded {
		t.Fatalf("%s %s %v", good.Verdict, good.Message, err)
	}
	if out.Checked != 4 || out.Failed != 0 || len(good.Lines) != 4 {
		t.Errorf("four different addresses answer ok: %+v", out)
	}
	bad := host.Run(t.Context(), sdktest.Attempt{Type: "Common.KeepAlive", Grants: grants, Params: map[string]any{
		"urls": []string{server.URL + "/plain", server.URL + "/wrong", server.URL + "/gone"},
	}})
	if bad.Verdict != sdktest.Failed || !strings.Contains(bad.Message, "2 of 3") {
		t.Errorf("two of three do not answer ok: %s %q", bad.Verdict, bad.Message)
	}
	tolerated := host.Run(t.Context(), sdktest.Attempt{Type: "Common.KeepAlive", Grants: grants, Params: map[string]any{
		"urls": []string{server.URL + "/plain", server.URL + "/wrong"}, "max_failures": 1,
	}})
	if tolerated.Verdict != sdktest.Succeeded {
		t.Errorf("one failure was allowed: %s %q", tolerated.Verdict, tolerated.Message)
	}
}

func TestKeepAliveReachesOnlyWhatIsListed(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(server.Close)
	result := sdktest.Start(t, plugin()).Run(t.Context(), sdktest.Attempt{
		Type: "Common.KeepAlive", Params: map[string]any{"urls": []string{server.URL}}, Grants: map[string]string{"http": "portal.example.com"},
	})
	if result.Verdict != sdktest.Failed {
		t.Errorf("an address that is not listed was reached: %s", result.Output)
	}
}

func TestKeepAliveRefusesWhatIsNoAddress(t *testing.T) {
	t.Parallel()
	host := sdktest.Start(t, plugin())
	for _, params := range []string{`{}`, `{"urls":["ftp://a"]}`, `{"url_text":"http://a,nonsense"}`} {
		if found := host.Validate(t.Context(), "Common.KeepAlive", params); len(found) == 0 || found[0].Path == "" || found[0].Message.Zh == "" {
			t.Errorf("%s: %+v", params, found)
		}
	}
}

// mailServer is a real SMTP server that refuses recipients without a host.
type mailServer struct {
	mu       sync.Mutex
	received []string
}

func (m *mailServer) NewSession(*smtp.Conn) (smtp.Session, error) {
	return &mailSession{server: m}, nil
}

type mailSession struct{ server *mailServer }

func (s *mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasSuffix(to, "@gone.example") {
		return &smtp.SMTPError{Code: 550, Message: "no such mailbox"}
	}
	return nil
}
func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.received = append(s.server.received, string(text))
	return err
}
func (s *mailSession) Reset()        {}
func (s *mailSession) Logout() error { return nil }

func TestEmailSendsTheQueueAndKeepsWhatFailed(t *testing.T) {
	t.Parallel()
	box := &mailServer{}
	server := smtp.NewServer(box)
	server.Domain = "test"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })

	path := filepath.Join(t.TempDir(), "business.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	schema, err := os.ReadFile("../../deploy/demo/hospital/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(string(schema)); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UnixMilli()
	for i, row := range []struct {
		to       string
		attempts int
		next     any
	}{{"a@hospital.example", 0, nil}, {"b@gone.example", 0, nil}, {"c@gone.example", 4, nil}, {"d@hospital.example", 1, now + 3_600_000}, {"e@hospital.example", 1, now - 1}} {
		_, err := db.Exec(`INSERT INTO mail_outbox (id, recipient, subject, body, attempts, state, next_try_at, created_at, updated_at) VALUES ($1, $2, '订阅报告', '报告已生成', $3, $4, $5, $6, $6)`,
			i+1, row.to, row.attempts, map[bool]string{true: "pending", false: "failed"}[row.attempts == 0], row.next, now)
		if err != nil {
			t.Fatal(err)
		}
	}
	result := sdktest.Start(t, plugin()).Run(t.Context(), sdktest.Attempt{
		Type: "Common.Email", Grants: map[string]string{"sql:business": "sqlite:" + path, "smtp": "smtp://" + listener.Addr().String()},
	})
	var out EmailOutput
	if err := json.Unmarshal(result.Output, &out); err != nil {
		t.Fatalf("%s %s %v", result.Verdict, result.Message, err)
	}
	if out != (EmailOutput{Sent: 2, Failed: 1, Dead: 1}) {
		t.Errorf("got %+v", out)
	}
	box.mu.Lock()
	if len(box.received) != 2 || !strings.Contains(box.received[0], "Subject:") {
		t.Errorf("the server received %d messages", len(box.received))
	}
	box.mu.Unlock()
	var states string
	rows, err := db.Query(`SELECT state FROM mail_outbox ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var state string
		if err := rows.Scan(&state); err != nil {
			t.Fatal(err)
		}
		states += fmt.Sprint(state, " ")
	}
	if states != "sent failed dead failed sent " {
		t.Errorf("states are %s", states)
	}
}

func TestEmailFailsWhenTheServerIsAway(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "business.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE mail_outbox (id INTEGER PRIMARY KEY, recipient TEXT, subject TEXT, body TEXT, attempts INTEGER DEFAULT 0, state TEXT DEFAULT 'pending', next_try_at BIGINT);
		INSERT INTO mail_outbox (id, recipient, subject, body) VALUES (1, 'a@hospital.example', 's', 'b')`); err != nil {
		t.Fatal(err)
	}
	result := sdktest.Start(t, plugin()).Run(t.Context(), sdktest.Attempt{
		Type: "Common.Email", Grants: map[string]string{"sql:business": "sqlite:" + path, "smtp": "smtp://127.0.0.1:1"},
	})
	if result.Verdict != sdktest.Failed || result.Permanent {
		t.Errorf("got %s permanent=%t %q", result.Verdict, result.Permanent, result.Message)
	}
}
