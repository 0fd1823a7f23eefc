package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/engine"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

func TestInsertWithDataIsRecognised(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string][3]string{
		"INSERT INTO t (a, b) FORMAT CSV\n1,2":                            {"INSERT INTO t (a, b)", "CSV", "1,2"},
		"insert into t values (1)":                                        {"insert into t", "Values", " (1)"},
		"/* c */ INSERT INTO `format` SETTINGS x='FORMAT' FORMAT Native ": {"/* c */ INSERT INTO `format` SETTINGS x='FORMAT'", "Native", ""},
		"INSERT INTO t (`values`) FORMAT\tTSV \r\n\nx":                    {"INSERT INTO t (`values`)", "TSV", "\nx"},
	} {
		head, format, data, ok := engine.InsertHead(sql)
		if !ok || head != want[0] || format != want[1] || sql[data:] != want[2] {
			t.Errorf("%q: %q %q %q %v", sql, head, format, sql[data:], ok)
		}
	}
	for _, sql := range []string{"", "SELECT 1 FORMAT CSV", "INSERT INTO t SELECT 1 FORMAT CSV", "INSERT INTO t", "INSERT INTO t FORMAT", "-- INSERT INTO t VALUES\nSELECT 1", "INSERT INTO t FROM INFILE 'x' FORMAT CSV"} {
		if _, _, _, ok := engine.InsertHead(sql); ok {
			t.Errorf("%q", sql)
		}
	}
}

// FuzzSQL checks that cutting any text into tokens ends, stays inside it, and cannot be talked out of a refusal by
// what ClickHouse takes for nothing: comments, white space, other statements before it.
func FuzzSQL(f *testing.F) {
	for _, seed := range []string{"SELECT 1", "INSERT INTO t FORMAT CSV\n1", "/* /* */ */ SELECT 'a''b\\'c' FORMAT JSON", "$a$ x $a$", "“file”", "'", "`", "/*", "\\", "$", "--"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		if head, _, data, ok := engine.InsertHead(sql); ok && (len(head) > len(sql) || data > len(sql)) {
			t.Errorf("head %d, data %d of %d", len(head), data, len(sql))
		}
		engine.OutputFormat(sql)
		if !engine.RefusedToReaders("SELECT url /* "+strings.NewReplacer("/", " ", "*", " ").Replace(sql)+" */ ('x')", "url") {
			t.Errorf("a comment hides a table function: %q", sql)
		}
		quoted := "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(sql) + "'"
		if engine.RefusedToReaders("SELECT "+quoted, "url") {
			t.Errorf("a text is taken for code: %q", sql)
		}
		if !engine.RefusedToReaders("SELECT "+quoted+", file('x')", "url") {
			t.Errorf("a text hides a function: %q", sql)
		}
	})
}

// TestEscapesAreReadAsClickHouseReadsThem: a name that the guard reads otherwise is not guarded.
func TestEscapesAreReadAsClickHouseReadsThem(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for c := 1; c < 256; c++ {
		for _, text := range []string{"a\\" + string([]byte{byte(c)}) + "41z", "\\\\\\" + string([]byte{byte(c)}) + "41"} {
			token, _ := statement.Scan("'" + text + "'").Next()
			if got, want := fmt.Sprintf("%X", token.Text), w.must(t, "SELECT hex('"+text+"')"); got != want {
				t.Errorf("%q: read as %s, ClickHouse reads %s", text, got, want)
			}
		}
	}
}
