package definition_test

import (
	"encoding/json"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/definition"
)

const document = `{"total": 7, "none": null, "rows": [{"id": "a"}, [1, 2.50]], "a b": {"人": true}, "q\"x": 1}`

func TestAPathFindsWhatStandsThere(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"$": document, "$.total": "7", "$.none": "null", `$["total"]`: "7", "$.rows[0].id": `"a"`, "$.rows[1][1]": "2.50",
		`$["a b"].人`: "true", `$["q\"x"]`: "1",
		"$.gone": "", "$.rows[2]": "", "$.total.x": "", "$.none.x": "", "$[0]": "", "$.rows.id": "",
	} {
		value, there, sound := definition.At(text, json.RawMessage(document))
		if !sound || there != (want != "") || string(value) != want && there {
			t.Errorf("%s gave %q, %v, %v; want %q", text, value, there, sound, want)
		}
	}
	if _, there, _ := definition.At("$.total", nil); there {
		t.Error("something was found where there is no output")
	}
}

func TestABrokenPathIsRefused(t *testing.T) {
	t.Parallel()
	long := "$"
	for range 40 {
		long += ".a"
	}
	for _, text := range []string{"", "total", "$total", "$.", "$..a", "$[", "$[]", "$[-1]", "$[01]", `$["a]`, "$['a']", "$[*]", "$.a b", "$.a[1", long} {
		if _, _, sound := definition.At(text, json.RawMessage(document)); sound {
			t.Errorf("%q was taken for a path", text)
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, text := range []string{"$", "$.a.b[0]", `$["a b"]`, "$[99999999]"} {
		f.Add(text, document)
	}
	f.Fuzz(func(t *testing.T, text, doc string) {
		value, there, sound := definition.At(text, json.RawMessage(doc))
		if there && (!sound || json.Valid([]byte(doc)) && !json.Valid(value)) {
			t.Errorf("%q in %q gave %q", text, doc, value)
		}
	})
}
