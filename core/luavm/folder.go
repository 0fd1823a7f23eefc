package luavm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// Files of a namespace's folder: Type.lua is a task type, Type_test.lua its test, module.lua can be required.
var (
	typeFile   = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	moduleName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

const maxFiles = 1000 // task types of one namespace

// folder is one namespace's folder of scripts. Files are read again when their size or time of change differs; what they
// compile to is kept by content. Safe for concurrent use.
type folder struct {
	namespace string
	root      *os.Root // nothing outside the folder can be opened, not by a link either

	mu    sync.Mutex
	files map[string]*file
}

type file struct {
	size    int64
	changed time.Time
	version string
	source  string
	proto   *lua.FunctionProto
	problem error
	about   *definition // nil until described
}

func openFolder(dir, namespace string) (*folder, error) {
	if !typeFile.MatchString(namespace) {
		return nil, fmt.Errorf("namespace %q: an upper-case letter, then letters and digits", namespace)
	}
	top, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder of scripts: %w", err)
	}
	defer top.Close()
	root, err := top.OpenRoot(namespace)
	if err != nil {
		return nil, fmt.Errorf("open the scripts of namespace %q: %w", namespace, err)
	}
	return &folder{namespace: namespace, root: root, files: map[string]*file{}}, nil
}

func (f *folder) close() error { return f.root.Close() }

// types gives the names of the task types there are now, without the namespace, sorted.
func (f *folder) types() ([]string, error) {
	entries, err := fs.ReadDir(f.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("list the scripts of namespace %q: %w", f.namespace, err)
	}
	var names []string
	for _, e := range entries {
		name, isLua := strings.CutSuffix(e.Name(), ".lua")
		if isLua && typeFile.MatchString(name) && !e.IsDir() {
			names = append(names, name)
		}
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("namespace %q has %d scripts; at most %d are allowed", f.namespace, len(names), maxFiles)
	}
	slices.Sort(names)
	return names, nil
}

// load gives the file Namespace/name.lua as it is now, compiled. Its problem is set if it does not compile. The error is
// fs.ErrNotExist if there is no such file.
func (f *folder) load(name string) (*file, error) {
	path := name + ".lua"
	info, err := f.root.Stat(path)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.files[name]
	if old != nil && old.size == info.Size() && old.changed.Equal(info.ModTime()) {
		return old, nil
	}
	chunk := f.namespace + "/" + path
	now := &file{size: info.Size(), changed: info.ModTime()}
	if !info.Mode().IsRegular() || info.Size() > maxSource {
		now.problem = fmt.Errorf("%s:1: a script is a file of at most %d bytes (1 MiB); this one has %d", chunk, maxSource, info.Size())
		f.files[name] = now
		return now, nil
	}
	source, err := f.read(path)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(source)
	now.version = hex.EncodeToString(sum[:6])
	now.source = string(source)
	if old != nil && old.version == now.version && old.source == now.source { // touched, not changed
		old.size, old.changed = now.size, now.changed
		return old, nil
	}
	now.proto, now.problem = compile(now.source, chunk)
	f.files[name] = now
	return now, nil
}

func (f *folder) read(path string) ([]byte, error) {
	h, err := f.root.Open(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	source, err := io.ReadAll(io.LimitReader(h, maxSource+1))
	if err != nil {
		return nil, fmt.Errorf("read %s/%s: %w", f.namespace, path, err)
	}
	return source, nil
}

// module gives the compiled file of a name that require may load.
func (f *folder) module(name string) (*lua.FunctionProto, error) {
	loaded, err := f.load(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s/%s.lua", f.namespace, name)
	}
	if err != nil {
		return nil, err
	}
	return loaded.proto, loaded.problem
}
