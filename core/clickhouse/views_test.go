package clickhouse_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
)

var update = flag.Bool("update", false, "write the list of views of core/docs/history.md anew")

const (
	guide = "../docs/history.md"
	made  = "<!-- From here on made of the views' files: go test ./core/clickhouse -run TestGuide -update -->\n"
)

// sections of the header of a view's file, each at the beginning of a line and in this order.
var header = regexp.MustCompile(`^(.+\.)\n(\P{Han}*\p{Han}.*。)\nRead by: ((?s:.+))\nFrom: ((?s:.+))\nFresh: ((?s:.+))\nExample:\n`)

func TestViews(t *testing.T) {
	t.Parallel()
	w := setup(t)
	all := clickhouse.Views(t)

	t.Run("HeaderSaysWhatWhoFromAndHowFresh", func(t *testing.T) {
		for _, v := range all {
			if !header.MatchString(v.Header) {
				t.Errorf("%s: the header is not: a line of English, a line of Chinese, Read by:, From:, Fresh:, Example:\n%s", v.Name, v.Header)
			}
			if !strings.Contains(v.Example, v.Name) {
				t.Errorf("%s: the example does not read it", v.Name)
			}
		}
	})
	t.Run("EveryColumnIsExplained", func(t *testing.T) {
		if got := w.ask(t, "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND table LIKE 'v\\\\_%' AND comment = ''"); len(got) > 0 {
			t.Errorf("no comment: %v", got)
		}
		if got := w.one(t, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"); got != fmt.Sprint(len(all)) {
			t.Errorf("%s views of %d", got, len(all))
		}
	})
	t.Run("EveryExampleRuns", func(t *testing.T) {
		for _, v := range all {
			w.ask(t, v.Example)
		}
	})
	t.Run("OnlyAChangedTextIsReplaced", func(t *testing.T) {
		const when = "SELECT name, metadata_modification_time, uuid FROM system.tables WHERE database = currentDatabase() AND engine = 'View' ORDER BY name"
		before := fmt.Sprint(w.ask(t, when))
		second := open(t, w.engine.Socket())
		defer second.Close()
		if after := fmt.Sprint(w.ask(t, when)); after != before {
			t.Errorf("made again:\n%s\n%s", before, after)
		}
		v := all[len(all)-1]
		post(t, w.engine.Socket(), "CREATE OR REPLACE VIEW gnomon."+v.Name+" (x UInt8 COMMENT 'x') AS SELECT 1 AS x COMMENT 'of another version'")
		third := open(t, w.engine.Socket())
		defer third.Close()
		w.ask(t, v.Example)
	})
}

// TestGuide holds that the guide tells of every table and view, and that what it says to try works.
func TestGuide(t *testing.T) {
	t.Parallel()
	w := setup(t)
	was, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	head, tail, ok := strings.Cut(string(was), made)
	if !ok {
		t.Fatalf("%s has no line %q", filepath.Base(guide), made)
	}
	var b strings.Builder
	for _, v := range clickhouse.Views(t) {
		part := header.FindStringSubmatch(v.Header)
		if part == nil {
			t.Fatalf("%s: see TestViews", v.Name)
		}
		flat := func(s string) string { return strings.Join(strings.Fields(s), " ") }
		fmt.Fprintf(&b, "\n### %s\n\n%s\n%s\n\n- Read by: %s\n- From: %s\n- Fresh: %s\n\n```sql\n%s\n```\n\n| Column | Type | Meaning |\n|---|---|---|\n", v.Name, part[1], part[2], flat(part[3]), flat(part[4]), flat(part[5]), v.Example)
		for _, row := range w.ask(t, "SELECT name, type, comment FROM system.columns WHERE database = currentDatabase() AND table = '"+v.Name+"' ORDER BY position") {
			fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", row[0], row[1], strings.ReplaceAll(fmt.Sprint(row[2]), "|", "\\|"))
		}
	}
	switch {
	case *update && tail != b.String():
		if err := os.WriteFile(guide, []byte(head+made+b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	case tail != b.String():
		t.Errorf("%s does not tell of the views as they are; write it anew with -update", filepath.Base(guide))
	}
	text := head + made + b.String()
	for _, row := range w.ask(t, "SELECT name FROM system.tables WHERE database = currentDatabase() AND name != 'schema_migrations' ORDER BY name") {
		if n := strings.Count(text, fmt.Sprintf("\n### %s\n", row[0])); n != 1 {
			t.Errorf("%d sections about %s", n, row[0])
		}
	}
	for _, example := range regexp.MustCompile("(?s)```sql\n(.+?)\n```").FindAllStringSubmatch(text, -1) {
		w.ask(t, example[1])
	}
}
