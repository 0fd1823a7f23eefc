//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// question is one of the ten that every client asks.
type question struct {
	SQL    string         `json:"sql"`
	Params map[string]any `json:"params,omitempty"`
	Big    bool           `json:"big,omitempty"` // the client counts the rows and sums the first column as they come
}

var questions = []question{
	{SQL: "SELECT toUInt64(18446744073709551615) AS u, toInt64(-5) AS i, toFloat64(1.5) AS f, true AS b, '中文 ''é''\\t' AS s, toInt8(-1) AS t"},
	{SQL: "SELECT namespace, task, outcome, attempts, message FROM runs ORDER BY namespace, task, run_id"},
	{SQL: "SELECT namespace, count() AS n, countIf(outcome = 'succeeded') AS ok FROM runs GROUP BY namespace ORDER BY namespace"},
	{SQL: "SELECT namespace, message, level, stream, seq FROM run_logs WHERE message LIKE '%心电图%' ORDER BY namespace, task, run_id, seq"},
	{SQL: "SELECT fire_at, started_at, if(attempts = 1, NULL, message) AS m, toNullable(token) AS t FROM runs ORDER BY run_id"},
	{SQL: "SELECT attrs, mapKeys(attrs) AS k, [1, 2]::Array(UInt16) AS a, [toNullable('x'), NULL] AS n FROM run_logs WHERE attrs['patient'] != '' ORDER BY namespace, run_id, seq"},
	{SQL: "SELECT {n:UInt8} + 1 AS n, {s:String} AS s, count() AS c FROM runs WHERE namespace = {ns:String}", Params: map[string]any{"n": 41, "s": "O'Neill 中文", "ns": "Common"}},
	{SQL: "SELECT r.namespace AS ns, count() AS n FROM runs AS r INNER JOIN run_logs AS l ON l.run_id = r.run_id GROUP BY ns ORDER BY ns"},
	{SQL: "SELECT number AS n, toString(number) AS s FROM numbers(300000)", Big: true},
	{SQL: "SELECT nothing FROM runs"},
}

// TestOfficialClientsAskTheSameAndAreAnsweredTheSame runs a real server with real runs in two namespaces, makes tokens as an
// administrator does, and lets clickhouse-go, @clickhouse/client, clickhouse-connect and curl ask, unmodified.
func TestOfficialClientsAskTheSameAndAreAnsweredTheSame(t *testing.T) {
	t.Parallel()
	clients := map[string]func(*testing.T, *world, string) []string{
		"clickhouse-go": askByGo, "@clickhouse/client": askByJavaScript, "clickhouse-connect": askByPython, "curl": askByCurl,
	}
	w := newWorld(t)
	for _, namespace := range []string{"Common", "Foreign"} {
		w.script(namespace+"/Say", `return task { title = { zh = "说", en = "Say" }, params = { word = { type = "string" } },
  run = function(ctx) log.info("心电图 " .. ctx.params.word, { patient = "张三", n = "7" }) if ctx.params.word == "bad" then error("坏了") end end }`)
	}
	w.start()
	for _, namespace := range []string{"Common", "Foreign"} {
		w.namespace(namespace)
		for _, word := range []string{"good", "bad", namespace + "的秘密"} {
			task := w.task(namespace, "say-"+strconv.Itoa(len(word)), api.TaskInput{Type: namespace + ".Say", Params: params(map[string]any{"word": word}), Schedule: api.Schedule{Spec: "@manual"}})
			w.over(w.now(task, nil))
		}
	}
	w.until(60*time.Second, "six runs and their lines are in history", func() bool {
		type counts struct{ R, L int }
		rows, err := query[counts](w, "SELECT toInt32((SELECT count() FROM runs)) AS R, toInt32((SELECT countIf(message LIKE '心电图%') FROM run_logs)) AS L")
		return err == nil && len(rows) == 1 && rows[0].R == 6 && rows[0].L == 6
	})
	all := strings.TrimSpace(w.says("token", "create", "chief", "--grant", "*=analyst", "--expires", "1h"))
	some := strings.TrimSpace(w.says("token", "create", "li", "--grant", "Common=analyst", "--purpose", "notebook"))
	if listed := w.says("token", "list"); !strings.Contains(listed, "Common=analyst") || strings.Contains(listed, some) {
		t.Error(listed)
	}
	for holder, token := range map[string]string{"all": all, "some": some} {
		var first []string
		var by string
		for name, ask := range clients {
			got := ask(t, w.on(t), token)
			if len(got) != len(questions) {
				t.Fatalf("%s with %s: %d answers: %s", name, holder, len(got), got)
			}
			if first == nil {
				first, by = got, name
				t.Logf("%s: %s", holder, strings.Join(got, "\n"))
			}
			for i := range got {
				if got[i] != first[i] {
					t.Errorf("%s, %s\n%s says %s\n%s says %s", holder, questions[i].SQL, name, got[i], by, first[i])
				}
			}
		}
		text := strings.Join(first, "\n")
		for i, want := range map[int]string{
			0: `[["18446744073709551615","-5","1.5","true","中文 'é'\t","-1"]]`,
			2: map[string]string{"all": `[["Common","3","2"],["Foreign","3","2"]]`, "some": `[["Common","3","2"]]`}[holder],
			6: `[["42","O'Neill 中文","3"]]`,
			8: `[["300000","44999850000"]]`,
			9: `[["error","true"]]`,
		} {
			if first[i] != want && first[i] != strings.ReplaceAll(want, "\t", `\t`) {
				t.Errorf("%s: %s instead of %s", holder, first[i], want)
			}
		}
		if strings.Contains(text, "Foreign") != (holder == "all") || !strings.Contains(text, "张三") || !strings.Contains(text, "Common的秘密") {
			t.Errorf("%s: %s", holder, text)
		}
	}
	// The audit says who asked, not what.
	audit := read(t, filepath.Join(w.data, "audit.log"))
	if !strings.Contains(audit, `"clickhouse-query"`) || !strings.Contains(audit, `"li"`) || strings.Contains(audit, "SELECT") || strings.Contains(audit, some) {
		t.Error("the audit is not as it should be")
	}
	// gnomon sql has the same sight.
	file := filepath.Join(w.dir, "li")
	write(t, file, some)
	if out := w.says("sql", "--token-file", file, "-o", "csv", "SELECT DISTINCT namespace FROM runs"); out != "namespace\nCommon\n" {
		t.Errorf("%q", out)
	}
	if out, errOut, code := w.line("sql", "--token-file", file, "SELECT * FROM system.parts"); code == 0 {
		t.Error(out, errOut)
	}
}

// plainOf gives a value in the one form that all clients of the test print.
func plainOf(v reflect.Value) any {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if at, ok := v.Interface().(time.Time); ok {
		return at.UTC().Format("2006-01-02 15:04:05.000000")
	}
	switch v.Kind() {
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plainOf(v.Index(i))
		}
		return list
	case reflect.Map:
		object := make(map[string]any)
		for it := v.MapRange(); it.Next(); {
			object[fmt.Sprint(it.Key())] = plainOf(it.Value())
		}
		return object
	}
	return fmt.Sprint(v.Interface())
}

func lineOf(t *testing.T, rows [][]any) string {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if rows == nil {
		rows = [][]any{}
	}
	if err := encoder.Encode(rows); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func askByGo(t *testing.T, w *world, token string) (answers []string) {
	conn, err := clickhouse.Open(&clickhouse.Options{
		Protocol: clickhouse.HTTP, Addr: []string{strings.TrimPrefix(w.url, "http://")}, HttpUrlPath: "/clickhouse/",
		Auth: clickhouse.Auth{Username: "analyst", Password: token}, Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, q := range questions {
		texts := clickhouse.Parameters{}
		for name, value := range q.Params {
			texts[name] = fmt.Sprint(value)
		}
		ctx := clickhouse.Context(t.Context(), clickhouse.WithParameters(texts))
		rows, err := conn.Query(ctx, q.SQL)
		if err != nil {
			said, ok := errors.AsType[*clickhouse.Exception](err)
			answers = append(answers, lineOf(t, [][]any{{"error", strconv.FormatBool(ok && said.Code == 47)}}))
			continue
		}
		var all [][]any
		var count, sum uint64
		for rows.Next() {
			var cells []any
			for _, kind := range rows.ColumnTypes() {
				cells = append(cells, reflect.New(kind.ScanType()).Interface())
			}
			if err := rows.Scan(cells...); err != nil {
				t.Fatalf("%s: %v", q.SQL, err)
			}
			if q.Big {
				count, sum = count+1, sum+*cells[0].(*uint64)
				continue
			}
			row := make([]any, len(cells))
			for i := range cells {
				row[i] = plainOf(reflect.ValueOf(cells[i]))
			}
			all = append(all, row)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatalf("%s: %v", q.SQL, err)
		}
		if q.Big {
			all = [][]any{{strconv.FormatUint(count, 10), strconv.FormatUint(sum, 10)}}
		}
		answers = append(answers, lineOf(t, all))
	}
	return answers
}

// askByScript runs a client in another language.
func askByScript(t *testing.T, w *world, token string, command ...string) (answers []string) {
	t.Helper()
	if _, err := os.Stat(command[0]); strings.Contains(command[0], "/") && err != nil {
		t.Fatalf("%v: `make test` installs it, or run `make clients`", err)
	}
	at, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	port, _ := strconv.Atoi(at.Port())
	input, err := json.Marshal(map[string]any{"host": at.Hostname(), "port": port, "token": token, "questions": questions})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s\n%s", command, err, out.String(), errOut.String())
	}
	lines := bufio.NewScanner(&out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var rows [][]any // written anew, so that only what is said counts and not how
		if err := json.Unmarshal(lines.Bytes(), &rows); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		answers = append(answers, lineOf(t, rows))
	}
	return answers
}

func askByJavaScript(t *testing.T, w *world, token string) []string {
	folder := filepath.Join(repository(), "core/gateway/testdata/javascript")
	if _, err := os.Stat(filepath.Join(folder, "node_modules/@clickhouse/client")); err != nil {
		t.Fatalf("%v: `make test` installs it, or run `make clients`", err)
	}
	return askByScript(t, w, token, "node", filepath.Join(folder, "ask.mjs"))
}

func askByPython(t *testing.T, w *world, token string) []string {
	return askByScript(t, w, token, filepath.Join(repository(), ".cache/python/bin/python"), filepath.Join(repository(), "core/gateway/testdata/python/ask.py"))
}

func askByCurl(t *testing.T, w *world, token string) (answers []string) {
	for _, q := range questions {
		values := url.Values{"default_format": {"JSONCompactEachRow"}, "output_format_json_quote_64bit_integers": {"1"}}
		for name, value := range q.Params {
			values.Set("param_"+name, fmt.Sprint(value))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, "curl", "--silent", "--show-error", "--compressed", "--user", "analyst:"+token, "--data-binary", "@-", w.url+"/clickhouse/?enable_http_compression=1&"+values.Encode())
		cmd.Stdin = strings.NewReader(q.SQL)
		out, err := cmd.Output()
		cancel()
		if err != nil {
			t.Fatalf("curl: %v", err)
		}
		if bytes.HasPrefix(out, []byte("Code: ")) {
			answers = append(answers, lineOf(t, [][]any{{"error", strconv.FormatBool(bytes.HasPrefix(out, []byte("Code: 47. ")))}}))
			continue
		}
		decoder := json.NewDecoder(bytes.NewReader(out))
		decoder.UseNumber()
		var all [][]any
		var count, sum uint64
		for {
			var row []any
			err := decoder.Decode(&row)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", q.SQL, err)
			}
			if q.Big {
				n, _ := strconv.ParseUint(fmt.Sprint(row[0]), 10, 64)
				count, sum = count+1, sum+n
				continue
			}
			for i := range row {
				row[i] = plainOf(reflect.ValueOf(&row[i]))
			}
			all = append(all, row)
		}
		if q.Big {
			all = [][]any{{strconv.FormatUint(count, 10), strconv.FormatUint(sum, 10)}}
		}
		answers = append(answers, lineOf(t, all))
	}
	return answers
}

// Beside the gateway's own checks stand those of the whole server.
func TestTheGatewayAnswersUnderTheServersNameOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := reserve(t)
	w.env = append(w.env, "GNOMON_CLICKHOUSE_LISTEN="+own)
	w.start()
	// A port of its own, and a prefix without its last slash, answer too.
	for _, place := range []string{"http://" + own, w.url + "/clickhouse"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, place, strings.NewReader("SELECT 6 * 7"))
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth("x", w.token)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || string(text) != "42\n" {
			t.Errorf("%s: %s %v", place, text, err)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/clickhouse/ping", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{"": 200, "evil.example": 421} {
		request.Host = host
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%q: %d", host, answer.StatusCode)
		}
	}
}
