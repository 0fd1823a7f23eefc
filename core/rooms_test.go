package core_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/gnomon-scheduler/gnomon/"

// edges says which packages of this module each room may import, test files apart. A room that is not here must not exist.
// "core" is allowed to every room of core. An entry ending in "/..." allows everything below it.
var edges = map[string][]string{
	"core":              {},
	"core/access":       {},
	"core/api":          {},
	"core/calendar":     {},
	"core/catalog":      {},
	"core/clickhouse":   {"core/statement"},
	"core/cmd/gnomon":   {"core/...", "openapi"},
	"core/coretest":     {},
	"core/definition":   {"core/calendar", "core/jsonpath", "core/schedule", "core/workflow", "sdk"},
	"core/engine":       {"core/statement"},
	"core/gateway":      {"core/statement"},
	"core/forecast":     {"core/schedule"},
	"core/jsonpath":     {},
	"core/ledger":       {"core/schedule"},
	"core/luavm":        {"sdk/..."},
	"core/metrics":      {},
	"core/pluginhost":   {"sdk/protocol", "sdk/proto/..."},
	"core/precondition": {"sdk/..."},
	"core/recorder":     {},
	"core/runner":       {},
	"core/sampler":      {},
	"core/schedule":     {},
	"core/scheduler":    {"core/schedule"},
	"core/simulation":   {"core/schedule", "core/scheduler", "core/runner"},
	"core/statement":    {},
	"core/store":        {"core/store/..."},
	"core/trace":        {},
	"core/workflow":     {"core/jsonpath"},
	"openapi":           {},
	"sdk":               {"sdk/..."},
	"plugins":           {"sdk/...", "plugins/..."},
	"scripts":           {},
	"deploy":            {"deploy/..."},
}

// roots are the folders the root of the repository holds; everything else there is a single file or hidden.
var roots = []string{"core", "deploy", "openapi", "plugins", "scripts", "sdk"}

// banned are names that say nothing about what is inside.
var banned = []string{"util", "utils", "common", "helper", "helpers", "lib", "misc", "base", "shared", "types", "models", "manager", "managers"}

// TestRooms holds the map of the house: which folders there are, and who may import whom.
func TestRooms(t *testing.T) {
	t.Parallel()
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(top)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() && !strings.HasPrefix(name, ".") && name != "bin" && name != "data" && !slices.Contains(roots, name) {
			t.Errorf("%s: the root holds no such folder", name)
		}
	}
	for _, root := range roots {
		if _, err := os.Stat(filepath.Join(top, root, "README.md")); err != nil {
			t.Errorf("%s has no README.md that says what belongs there", root)
		}
		walk(t, top, root)
	}
}

func walk(t *testing.T, top, root string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(top, root), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, path)
		rel = filepath.ToSlash(rel)
		name := strings.TrimSuffix(d.Name(), filepath.Ext(d.Name()))
		if d.IsDir() {
			if d.Name() == "node_modules" || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			if slices.Contains(banned, d.Name()) && !strings.HasPrefix(rel, "plugins/") {
				t.Errorf("%s: the name says nothing about what is inside", rel)
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		if slices.Contains(banned, name) {
			t.Errorf("%s: the name says nothing about what is inside", rel)
		}
		if !strings.HasSuffix(rel, "_test.go") {
			checkImports(t, path, rel)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func checkImports(t *testing.T, path, rel string) {
	t.Helper()
	room, allowed, known := roomOf(rel)
	if !known {
		t.Errorf("%s lies in a folder that is not a room; rooms are listed in core/rooms_test.go", rel)
		return
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	for _, spec := range file.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		target, ours := strings.CutPrefix(imported, module)
		if !ours {
			if room == "core" && strings.Contains(imported, ".") {
				t.Errorf("%s imports %s; package core uses the standard library only", rel, imported)
			}
			continue
		}
		own := target == room || strings.HasPrefix(target, room+"/")
		nouns := target == "core" && strings.HasPrefix(room, "core/")
		if !own && !nouns && !slices.ContainsFunc(allowed, func(edge string) bool { return matches(edge, target) }) {
			t.Errorf("%s: %s must not import %s", rel, room, target)
		}
	}
}

// roomOf gives the longest room that holds the file.
func roomOf(rel string) (room string, allowed []string, known bool) {
	folder := filepath.ToSlash(filepath.Dir(rel))
	for dir := folder; dir != "."; dir = filepath.ToSlash(filepath.Dir(dir)) {
		if dir == "core" && folder != "core" {
			return "", nil, false
		}
		if list, ok := edges[dir]; ok {
			return dir, list, true
		}
	}
	return "", nil, false
}

func matches(edge, target string) bool {
	if below, ok := strings.CutSuffix(edge, "/..."); ok {
		return target == below || strings.HasPrefix(target, below+"/")
	}
	return edge == target
}
