package statement_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/statement"
)

var guard = statement.New([]string{"url", "merge", "numbers", "file"}, []string{"polygonsUnionCartesian", "ST_AsMVT"}, []string{"name", "total_rows", "data_compressed_bytes"})

func TestAskersOfSomeNamespaces(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"SELECT * FROM runs", "SELECT count(*), `a b`, a.b FROM runs AS a, numbers(3)", "SELECT name, engine FROM system.tables",
		"SELECT count(*) FROM system.columns WHERE `table` = 'runs'", "SHOW TABLES", "SHOW TABLES FROM gnomon NOT LIKE '%where%' LIMIT 3", "SHOW TABLES ILIKE 'r%'", "SHOW COLUMNS FROM runs", "SHOW CREATE TABLE runs",
		"EXPLAIN SYNTAX SELECT 1", "DESCRIBE runs", "SELECT '_part, system.parts, EXPLAIN ESTIMATE'", "SELECT arrayMap(_ -> 1, [1])",
		"SELECT total_rows FROM (SELECT count() AS total_rows FROM runs)", "SELECT name FROM system.settings", "SELECT 1 AS `settings`", "SELECT ' SETTINGS a = 1'", "SELECT {name:String}", "SELECT 1 -- system.parts",
	} {
		if err := guard.Asker(sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{
		"SELECT * FROM system.parts", "SELECT * FROM `system`.`parts`", "SELECT * FROM \"syst\\x65m\" . parts", "SELECT * FROM system\u2003.\u2003parts",
		"SELECT * FROM system/**/./**/parts", "SELECT * FROM SYSTEM.parts", "SELECT * FROM system.tables", "SELECT t.* FROM system.tables t",
		"SELECT COLUMNS('x') FROM system.columns", "SELECT Total_Rows FROM system.tables", "SELECT `total_ro\\x77s` FROM system.tables",
		"SELECT _part_offset FROM runs", "SELECT `\\x5fpart` FROM runs", "EXPLAIN SELECT 1", "SELECT * FROM (EXPLAIN ESTIMATE SELECT 1)",
		"SHOW PROCESSLIST", "SHOW TABLES WHERE total_rows >= 900", "show full tables from gnomon where 1", "SHOW DICTIONARIES WHERE 1", "SHOW COLUMNS FROM runs WHERE 1", "SHOW INDEX FROM runs", "SELECT lowCardinalityKeys(task) FROM runs", "SELECT * APPLY dumpColumnStructure FROM runs",
		"SELECT 1 FORMAT JSONEachRowWithProgress", "SELECT {name:Identifier} FROM runs", "SELECT 1 FROM information_schema.tables",
		"SELECT * FROM (SELECT 1 SETTINGS a = 1)", "SELECT 1 settings a", "SELECT 1 AS as SETTINGS a = 1", "SELECT 1.SETTINGS a = 1", "SELECT x./**/SETTINGS a = 1",
		"SELECT `fi\\Nle`('x')", "SELECT * FROM `sys\\Ntem`.parts", "SELECT `\\N_part` FROM runs", "SELECT \"a\\b\" FROM runs", "SELECT `a\\`b` FROM runs",
		"SELECT filesystemAvailable()", "SELECT arrayLevenshteinDistance([1], [2])",
		"SELECT * FROM merge('x')", "SELECT * FROM url\u00a0('x')", "SELECT file('x')", "SELECT * FROM `system.parts`",
	} {
		if guard.Asker(sql) == nil {
			t.Errorf("%s is let through", sql)
		}
	}
}

func TestReadersOfEverything(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"SELECT {name:String}, {n:Array(UInt8)}", "SELECT a ? b : Identifiers, `Identifier` FROM t", "SELECT ':Identifier', polygon FROM t", "SHOW TABLES WHERE total_rows > 1",
		"SELECT * FROM system.processes", "SELECT models FROM t",
	} {
		if err := guard.Reader(sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{
		"SELECT arrayMap({f:Identifier}, ['/etc/passwd'])", "SELECT * FROM system.{t:Identifier}", "SELECT {f : Identifier }", "SELECT {f/**/:--\n\tIdentifier/**/}", "SELECT {f:IDENTIFIER}",
		"SELECT {f:\u2003Identifier}", "SELECT POLYGONSunionCartesian(a, b)", "SELECT arrayMap(`st_asMVT`, [1])",
	} {
		if guard.Reader(sql) == nil {
			t.Errorf("%s is let through", sql)
		}
	}
	var refusal *statement.Refusal
	if err := guard.Reader("SELECT {f:Identifier}"); !errors.As(err, &refusal) || !strings.Contains(refusal.What.En, "{f:String}") || !strings.Contains(refusal.What.Zh, "{f:String}") {
		t.Errorf("%v does not say what to write instead", err)
	}
}

// FuzzAsker checks that nothing ClickHouse takes for nothing, and no text before it, hides a table of its own.
func FuzzAsker(f *testing.F) {
	for _, seed := range []string{"", "'", "/* */", "$a$ x $a$", "“", "`", "\\", "--", "\u2003", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		comment := "/* " + strings.NewReplacer("/", " ", "*", " ").Replace(text) + " */"
		quoted := "'" + strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(text) + "'"
		if guard.Asker("SELECT "+quoted+", a FROM system"+comment+"."+comment+"parts") == nil {
			t.Errorf("%q hides a table", text)
		}
		if statement.OutputFormat("SELECT "+quoted+" FORMAT"+comment+" JSON") != "JSON" {
			t.Errorf("%q hides a format", text)
		}
	})
}

func TestOnlyAClauseAtTheEndNamesTheFormat(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"SELECT 1 FORMAT JSON": "JSON", "SELECT 1 format `CSV`\n;": "CSV", "SELECT 1 FORMAT Native -- x": "Native", "SELECT 1/**/FORMAT/**/TSV": "TSV",
		"SELECT 1 FORMAT JSON SETTINGS max_threads = 1": "JSON", "SELECT format FROM t": "", "SELECT 1 AS format": "", "SELECT (SELECT 1 FORMAT JSON)": "",
		"SELECT 'FORMAT JSON'": "", "SELECT format, JSON": "", "SELECT a format WHERE b": "", "": "",
	} {
		if got := statement.OutputFormat(sql); got != want {
			t.Errorf("%q: %q, want %q", sql, got, want)
		}
	}
}
