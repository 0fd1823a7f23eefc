package catalog_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/catalog"
)

// workers describe a script by its first line: "ok" compiles, "hang" kills the worker, anything else does not compile.
type workers struct {
	provider
	dir   string
	mu    sync.Mutex
	asked []string
}

func (w *workers) Describe(_ context.Context, typeName string) ([]core.TaskType, error) {
	w.mu.Lock()
	w.asked = append(w.asked, typeName)
	w.mu.Unlock()
	namespace, name, _ := strings.Cut(typeName, ".")
	source, err := os.ReadFile(filepath.Join(w.dir, namespace, name+".lua"))
	if err != nil {
		return nil, err
	}
	first, rest, _ := strings.Cut(string(source), "\n")
	described := types(typeName)
	switch described[0].Version = rest; first {
	case "ok":
		return described, nil
	case "hang":
		return nil, errors.New("the worker was killed")
	}
	described[0].Problem = "does not compile"
	return described, nil
}

func (w *workers) descriptions() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked)
}

type folder struct {
	*catalog.Catalog
	dir     string
	workers *workers
}

func write(t *testing.T, dir, rel, source string) {
	t.Helper()
	path := filepath.Join(dir, rel)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
}

// watch begins to watch dir.
func watch(t *testing.T, dir string) *folder {
	t.Helper()
	f := &folder{catalog.New(), dir, &workers{dir: dir}}
	scripts := catalog.NewScripts(f.Catalog, catalog.ScriptsOptions{
		Dir: dir, Every: 10 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Workers: func(string) (catalog.Workers, error) { return f.workers, nil },
	})
	if err := scripts.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := scripts.Stop(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}
	})
	return f
}

// await waits for the types to be those named; a problem is marked by "!", and the version follows after ":".
func (f *folder) await(t *testing.T, want string) {
	t.Helper()
	got := ""
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		var said []string
		for _, found := range f.Types(nil) {
			text := found.Name
			if found.Problem != "" {
				text += "!"
			} else if found.Version != "" {
				text += ":" + found.Version
			}
			said = append(said, text)
		}
		if got = strings.Join(said, " "); got == want {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatalf("types %q; want %q", got, want)
}

func TestScriptsFollowTheFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "Lab/Count.lua", "ok\n1")
	write(t, dir, "Lab/Count_test.lua", "ok\n")
	write(t, dir, "Lab/module.lua", "ok\n")
	write(t, dir, "Lab/deep/Deep.lua", "ok\n")
	write(t, dir, "Lab/Notes.txt", "ok\n")
	write(t, dir, "Top.lua", "ok\n")
	write(t, dir, ".git/Hidden.lua", "ok\n")
	f := watch(t, dir)
	f.await(t, "Lab.Count:1") // all of it at once: Start describes what there is
	if _, found, err := f.Lookup("Lab", "Lab.Count"); err != nil || found.Provider != "lua:Lab/Count.lua" {
		t.Errorf("looked up %+v, %v", found, err)
	}
	write(t, dir, "Imaging/Sweep.lua", "ok\n7")
	f.await(t, "Imaging.Sweep:7 Lab.Count:1")
	write(t, dir, "Lab/Count.lua", "ok\nsecond")
	f.await(t, "Imaging.Sweep:7 Lab.Count:second")
	if err := os.Remove(filepath.Join(dir, "Imaging/Sweep.lua")); err != nil {
		t.Fatal(err)
	}
	f.await(t, "Lab.Count:second")
	if err := os.RemoveAll(filepath.Join(dir, "Lab")); err != nil {
		t.Fatal(err)
	}
	f.await(t, "")
}

// TestABrokenScriptHarmsOnlyItself: it is shown with its problem, others go on, and mending it brings it back.
func TestABrokenScriptHarmsOnlyItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "Lab/Broken.lua", "oops\n")
	write(t, dir, "Lab/Good.lua", "ok\n1")
	write(t, dir, "Lab/Hangs.lua", "hang\n")
	if err := os.Symlink("nowhere.lua", filepath.Join(dir, "Lab/Dangling.lua")); err != nil {
		t.Fatal(err)
	}
	f := watch(t, dir)
	f.await(t, "Lab.Broken! Lab.Good:1 Lab.Hangs!")
	write(t, dir, "Lab/Broken.lua", "ok\nmended")
	f.await(t, "Lab.Broken:mended Lab.Good:1 Lab.Hangs!")
	if n := f.workers.descriptions(); n != 4 {
		t.Errorf("scripts were described %d times; want 4: once for each content", n)
	}
}

// TestAScriptThatIsWrittenTwiceAtOnceIsReadAgain: the second writing may leave its size and its time as they were.
func TestAScriptThatIsWrittenTwiceAtOnceIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "Lab/Count.lua")
	for _, before := range []time.Duration{-time.Hour, time.Minute} { // just now, for as long as this takes; and old, as what copies files keeps times
		write(t, dir, "Lab/Count.lua", "ok\n1")
		written := time.Now().Add(-before)
		if err := os.Chtimes(path, time.Time{}, written); err != nil {
			t.Fatal(err)
		}
		f := watch(t, dir)
		f.await(t, "Lab.Count:1")
		if before > 0 { // in place of the one that was read
			if err := os.Rename(path, filepath.Join(dir, "Lab/old.txt")); err != nil {
				t.Fatal(err)
			}
		}
		write(t, dir, "Lab/Count.lua", "ok\n2")
		if err := os.Chtimes(path, time.Time{}, written); err != nil {
			t.Fatal(err)
		}
		f.await(t, "Lab.Count:2")
	}
}

// TestLinkedScriptsAreFollowed: the folder, a namespace and a script may each be a link, and what changes behind it is seen.
func TestLinkedScriptsAreFollowed(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	write(t, top, "v1/Lab/Count.lua", "ok\n1")
	write(t, top, "v2/Lab/Count.lua", "ok\n2")
	write(t, top, "v1/elsewhere/Sweep.lua", "ok\n5")
	write(t, top, "v1/Lab/shared.txt", "ok\n9")
	for link, target := range map[string]string{"v1/Imaging": "elsewhere", "v1/Lab/Linked.lua": "shared.txt", "scripts": "v1"} {
		if err := os.Symlink(target, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	f := watch(t, filepath.Join(top, "scripts"))
	f.await(t, "Imaging.Sweep:5 Lab.Count:1 Lab.Linked:9")
	write(t, top, "v1/Lab/shared.txt", "ok\nchanged")
	f.await(t, "Imaging.Sweep:5 Lab.Count:1 Lab.Linked:changed")
	was, err := os.Stat(filepath.Join(top, "v1/Lab/Count.lua"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(top, "v2/Lab/Count.lua"), time.Time{}, was.ModTime()); err != nil { // as an archive unpacks them
		t.Fatal(err)
	}
	if err := os.Symlink("v2", filepath.Join(top, "next")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(top, "next"), filepath.Join(top, "scripts")); err != nil { // as a deployment switches versions
		t.Fatal(err)
	}
	f.await(t, "Lab.Count:2")
}

func TestAFolderThatCannotBeReadFailsTheStart(t *testing.T) {
	t.Parallel()
	scripts := catalog.NewScripts(catalog.New(), catalog.ScriptsOptions{Dir: filepath.Join(t.TempDir(), "none"), Log: slog.New(slog.DiscardHandler)})
	if err := scripts.Start(t.Context()); core.KindOf(err) != core.KindInvalid || !strings.Contains(err.Error(), "none") {
		t.Errorf("start gave %v", err)
	}
	if err := scripts.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
