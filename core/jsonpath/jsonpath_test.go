package jsonpath_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/jsonpath"
)

const document = `{"total": 7, "none": null, "rows": [{"id": "a"}, [1, 2.50]], "a b": {"人": true}, "q\"x": 1, "2026-11": 3}`

func TestAPathFindsWhatStandsThere(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"$": document, "$.total": "7", "$.none": "null", `$["total"]`: "7", "$.rows[0].id": `"a"`, "$.rows[1][1]": "2.50",
		`$["a b"].人`: "true", `$["q\"x"]`: "1", "$.2026-11": "3",
		"$.gone": "", "$.rows[2]": "", "$.total.x": "", "$.none.x": "", "$[0]": "", "$.rows.id": "",
	} {
		p, sound := jsonpath.Parse(text)
		value, err := p.In(json.RawMessage(document))
		if !sound || (err == nil) != (want != "") || string(value) != want {
			t.Errorf("%s gave %q, %v, %v; want %q", text, value, err, sound, want)
		}
	}
	for _, text := range []string{"$", "$.total"} {
		p, _ := jsonpath.Parse(text)
		if value, err := p.In(nil); err == nil {
			t.Errorf("%s: %q was found where there is no document", text, value)
		}
	}
}

func TestAPathThatLeadsNowhereSaysHowFarItGot(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"$.gone.x.y": "nothing at $.gone", "$.rows[2].id": "nothing at $.rows[2]", `$["a b"]["c d"][0]`: `nothing at $["a b"]["c d"]`,
	} {
		p, _ := jsonpath.Parse(text)
		if _, err := p.In(json.RawMessage(document)); err == nil || err.Error() != says {
			t.Errorf("%s: %v; want %s", text, err, says)
		}
	}
}

func TestABrokenPathIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "total", "$total", "$.", "$..a", "$[", "$[]", "$[-1]", "$[01]", `$["a]`, "$['a']", "$[*]", "$.a b", "$.a[1", "$" + strings.Repeat(".a", 65)} {
		if _, sound := jsonpath.Parse(text); sound {
			t.Errorf("%q was taken for a path", text)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, text := range []string{"$", "$.a.b[0]", `$["a b"]`, "$[99999999]", `$["\ud800"]`} {
		f.Add(text, document)
	}
	f.Fuzz(func(t *testing.T, text, doc string) {
		p, sound := jsonpath.Parse(text)
		if !sound {
			return
		}
		if again, sound := jsonpath.Parse(p.String()); !sound || !slices.Equal(again, p) {
			t.Errorf("%q became %s", text, p)
		}
		if value, err := p.In(json.RawMessage(doc)); err == nil && json.Valid([]byte(doc)) && !json.Valid(value) {
			t.Errorf("%q in %q gave %q", text, doc, value)
		}
	})
}
