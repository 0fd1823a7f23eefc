package luavm_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gnomon-scheduler/gnomon/core/luavm"
)

// FuzzValues: what a JSON text means survives the way through Lua, but for integers beyond 2^53, which become texts.
func FuzzValues(f *testing.F) {
	for _, s := range []string{`null`, `{"a":[1,2.5,null,true,"x"]}`, `[[],{},[[]]]`, `9007199254740993`, `-0`, `1e400`, `"\ud800"`, `{"a":1,"a":2}`, "[" + strings.Repeat("[", 120)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := luavm.Roundtrip(text)
		if err != nil {
			return
		}
		if !json.Valid(text) || !json.Valid(out) || !utf8.Valid(out) {
			t.Fatalf("%q became %q", text, out)
		}
		again, err := luavm.Roundtrip(out)
		if err != nil || !bytes.Equal(out, again) {
			t.Fatalf("%q became %q, then %q %v", text, out, again, err)
		}
		if got, want := meaning(t, out), meaning(t, text); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q became %q: %v is not %v", text, out, got, want)
		}
	})
}

// meaning decodes a text as encoding/json does, with numbers as float64 and integers beyond 2^53 as texts.
func meaning(t *testing.T, text []byte) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case map[string]any:
			for k := range v {
				v[k] = walk(v[k])
			}
		case json.Number:
			f, err := v.Float64()
			isInteger := !strings.ContainsAny(string(v), ".eE")
			if err != nil || isInteger && (f > 1<<53 || f < -1<<53 || f == 1<<53 && string(v) != "9007199254740992" || f == -1<<53 && string(v) != "-9007199254740992") {
				return string(v)
			}
			return f + 0 // -0 is 0
		}
		return v
	}
	return walk(v)
}

// FuzzCompile: no source ends the process, and none takes long.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{full, "x = 1 .. 2 .. 3", "return (", "[[", "--[==[", "goto x ::x::", "for i=1,2 do end", "\x00", "a.b:c{...}", "x='\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		began := time.Now()
		err := luavm.Compile(source)
		if took := time.Since(began); took > 5*time.Second {
			t.Fatalf("%d bytes took %v", len(source), took)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "Ns/Type.lua:") {
			t.Fatalf("the error does not say where: %v", err)
		}
	})
}

// FuzzPattern: no pattern crashes the matcher or outruns its steps, and a match lies within the text.
func FuzzPattern(f *testing.F) {
	for _, p := range []string{"", "^a$", "(a*)%1", "%b()", "[^]]", "[%a-]", "[a-", "%", "(()", "%f[%w]", ".-.-.-b", "[]]", "[%", "%bx"} {
		f.Add("aaab(c)", p)
	}
	f.Fuzz(func(t *testing.T, text, pattern string) {
		start, end, err := luavm.Match(text, pattern, 1_000_000)
		if err == nil && end >= 0 && (start < 0 || start > end || end > len(text)) {
			t.Fatalf("match %d to %d in %d bytes", start, end, len(text))
		}
	})
}
