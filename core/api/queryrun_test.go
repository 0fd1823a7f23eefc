package api_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

const (
	xlsx    = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	parquet = "application/vnd.apache.parquet"
)

func TestAWorkbookKeepsTypesAndHoldsNoFormulas(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.must(200, w.do(w.admin, "POST", "/v1/query", `{"sql":"cells","file":"../月报 \"1\".xlsx"}`, "Accept", xlsx))
	if got := a.header.Get("Content-Disposition"); got != "attachment; filename*=utf-8''%E6%9C%88%E6%8A%A5%20%221%22.xlsx" || a.header.Get("Content-Type") != xlsx {
		t.Errorf("%q", got)
	}
	book, err := excelize.OpenReader(bytes.NewReader([]byte(a.raw)))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	for cell, want := range map[string]struct {
		text string
		kind excelize.CellType
	}{
		"A1": {"'=n", excelize.CellTypeInlineString}, "B1": {"at", excelize.CellTypeInlineString},
		"A2": {"7", excelize.CellTypeUnset}, "C2": {"2026-12-01", excelize.CellTypeUnset},
		"D2": {"'=HYPERLINK(\"http://evil\")", excelize.CellTypeInlineString}, "E2": {"[1]", excelize.CellTypeInlineString},
		"F2": {"1.25", excelize.CellTypeUnset}, "G2": {"TRUE", excelize.CellTypeBool},
		"A3": {"9007199254740993", excelize.CellTypeInlineString}, "B3": {"", excelize.CellTypeUnset}, "C3": {"1899-01-01", excelize.CellTypeInlineString},
		"D3": {"中文 +1", excelize.CellTypeInlineString}, "F3": {"-3", excelize.CellTypeUnset}, "G3": {"FALSE", excelize.CellTypeBool},
	} {
		text, err := book.GetCellValue("Sheet1", cell)
		kind, err2 := book.GetCellType("Sheet1", cell)
		if err != nil || err2 != nil || text != want.text || kind != want.kind {
			t.Errorf("%s is %q of type %d, want %q of type %d (%v %v)", cell, text, kind, want.text, want.kind, err, err2)
		}
		if formula, err := book.GetCellFormula("Sheet1", cell); err != nil || formula != "" {
			t.Errorf("%s is the formula %q %v", cell, formula, err)
		}
	}
}

// A time is the number of days that Excel's clock shows, to the millisecond.
// What is no number is not nothing, and no formula either.
func TestInfinitiesAreInEveryForm(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for accept, want := range map[string]string{"application/json": `[["-inf","nan"]]`, "application/x-ndjson": `{"a":"-inf","b":"nan"}`, "text/csv": "a,b\n-inf,nan\n"} {
		if a := w.must(200, w.do(w.admin, "POST", "/v1/query", `{"sql":"infinite"}`, "Accept", accept)); !strings.Contains(a.raw, want) {
			t.Errorf("%s: %s", accept, a.raw)
		}
	}
	a := w.must(200, w.do(w.admin, "POST", "/v1/query", `{"sql":"infinite"}`, "Accept", xlsx))
	book, err := excelize.OpenReader(bytes.NewReader([]byte(a.raw)))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	if got, err := book.GetCellValue("Sheet1", "A2"); err != nil || got != "-inf" {
		t.Errorf("%q %v", got, err)
	}
}

func TestATimeInAWorkbookIsThatOfItsZone(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.must(200, w.do(w.admin, "POST", "/v1/query", `{"sql":"cells"}`, "Accept", xlsx))
	book, err := excelize.OpenReader(bytes.NewReader([]byte(a.raw)))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	raw, err := book.GetCellValue("Sheet1", "B2", excelize.Options{RawCellValue: true})
	if err != nil {
		t.Fatal(err)
	}
	days, err := strconv.ParseFloat(raw, 64)
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(int64(math.Round((days - 25569) * 86_400_000))).UTC() // Excel's day 25569 is 1970-01-01
	if want := time.Date(2026, 12, 1, 8, 0, 0, 250_000_000, time.UTC); !at.Equal(want) {
		t.Errorf("%s is %s, want %s", raw, at, want)
	}
}

func TestParquetComesAsClickHouseMadeIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	a := w.must(200, w.do(w.admin, "POST", "/v1/query", `{"sql":"file","file":"runs.parquet"}`, "Accept", parquet))
	if a.raw != "Parquet" || a.header.Get("Content-Type") != parquet || a.header.Get("Content-Disposition") != "attachment; filename=runs.parquet" {
		t.Errorf("%q %v", a.raw, a.header)
	}
}

// TestQueriesOfClickHousesClientsAreSeenAndCancelledAlike: those asked at /clickhouse/, by the same rules.
func TestQueriesOfClickHousesClientsAreSeenAndCancelledAlike(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const id = "notebook:1.a"
	owner, stranger := w.named("li", access.Analyst, "Common"), w.named("wang", access.Analyst, access.Everywhere)
	running, end, err := w.api.BeginQuery(t.Context(), api.AskedQuery{ID: id, SQL: "SELECT 1", Principal: "li"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.api.BeginQuery(t.Context(), api.AskedQuery{ID: id, Principal: "wang"}); core.KindOf(err) != core.KindConflict {
		t.Errorf("the same id again: %v", err)
	}
	for token, seen := range map[string]bool{owner: true, stranger: false, w.admin: true} {
		got := fmt.Sprint(w.must(200, w.do(token, "GET", "/v1/queries", "")).body["items"])
		if !seen && got != "[]" || seen && (!strings.Contains(got, id) || !strings.Contains(got, "door:clickhouse") || !strings.Contains(got, "principal:li") || !strings.Contains(got, "SELECT 1")) {
			t.Errorf("seen: %s, want %v", got, seen)
		}
	}
	for _, c := range []struct {
		token     string
		cancelled bool
	}{{stranger, false}, {owner, true}} {
		if a := w.must(200, w.do(c.token, "DELETE", "/v1/queries/"+id, "")); a.body["cancelled"] != c.cancelled || (running.Err() != nil) != c.cancelled {
			t.Errorf("%s %v", a.raw, running.Err())
		}
	}
	by, ok := context.Cause(running).(interface{ StoppedBy() string })
	if !ok || by.StoppedBy() != "li" {
		t.Errorf("cancelled by %v", context.Cause(running))
	}
	end()
	if got := fmt.Sprint(w.must(200, w.do(w.admin, "GET", "/v1/queries", "")).body["items"]); got != "[]" {
		t.Errorf("still there: %s", got)
	}
	if a := w.must(200, w.do(w.admin, "DELETE", "/v1/queries/"+id, "")); a.body["cancelled"] != false {
		t.Error(a.raw)
	}
	w.must(422, w.do(w.admin, "DELETE", "/v1/queries/a%20b", ""))
}

func TestRunningQueriesAreSeenAndCancelledByTheirOwners(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const id = "01942f00-0000-7000-8000-0000000000aa"
	analyst := w.token(access.Analyst, access.Everywhere)
	other := w.token(access.Analyst, "Common")
	asked := make(chan answer, 1)
	ask := func() { asked <- w.do(analyst, "POST", "/v1/query", `{"sql":"endless","id":"`+id+`"}`) }
	go ask()
	list := func(token string) string {
		return fmt.Sprint(w.must(200, w.do(token, "GET", "/v1/queries", "")).body["items"])
	}
	for begun := time.Now(); !strings.Contains(list(analyst), "read_rows:12"); {
		if time.Since(begun) > time.Minute {
			t.Fatal("the query is not listed: ", list(analyst))
		}
	}
	for _, want := range []string{id, "endless", "principal:analyst", "memory_bytes:56"} {
		if got := list(w.admin); !strings.Contains(got, want) {
			t.Errorf("%s is missing in what the administrator sees: %s", want, got)
		}
	}
	// The other one has the same name and may see some namespaces only: rows read are others' too.
	if got := list(other); !strings.Contains(got, "read_rows:0") || !strings.Contains(got, "read_bytes:0") || strings.Contains(got, "_rows:12") || strings.Contains(got, "_bytes:34") {
		t.Errorf("an analyst of one namespace sees %s", got)
	}
	w.must(409, w.do(analyst, "POST", "/v1/query", `{"sql":"endless","id":"`+id+`"}`))
	// Principals are told apart by name; the other one here has another.
	stranger := w.named("stranger", access.Analyst, "Common")
	if got := list(stranger); got != "[]" {
		t.Errorf("a stranger sees %s", got)
	}
	if a := w.must(200, w.do(stranger, "DELETE", "/v1/queries/"+id, "")); a.body["cancelled"] != false {
		t.Error(a.raw)
	}
	if a := w.must(200, w.do(other, "DELETE", "/v1/queries/"+id, "")); a.body["cancelled"] != true {
		t.Error(a.raw)
	}
	if a := <-asked; a.status != 499 || !strings.Contains(a.raw, "cancelled by analyst") {
		t.Errorf("%d %s", a.status, a.raw)
	}
	if got := w.history.abandoned.Load(); got != id {
		t.Errorf("the place is free before history has ended %v", got)
	}
	if got := list(w.admin); got != "[]" {
		t.Errorf("still there: %s", got)
	}
	go ask()
	for begun := time.Now(); list(analyst) == "[]" && time.Since(begun) < time.Minute; {
	}
	if a := w.must(200, w.do(w.admin, "DELETE", "/v1/queries/"+id, "")); a.body["cancelled"] != true {
		t.Error(a.raw)
	}
	if a := <-asked; a.status != 499 || !strings.Contains(a.raw, "cancelled by admin") {
		t.Errorf("%d %s", a.status, a.raw)
	}
}
