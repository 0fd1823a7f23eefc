package pluginhost_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/pluginhost"
)

func replace(old, by string) func(string) string {
	return func(text string) string { return strings.Replace(text, old, by, 1) }
}

func TestLoadRefusesWhatIsNotAsItShouldBe(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for name, c := range map[string]struct {
		edit func(string) string
		path string
		says string
	}{
		"AnotherChecksum": {func(s string) string {
			return s[:strings.Index(s, "sha256: ")] + "sha256: " + strings.Repeat("ab", 32) + " }\n"
		}, "sha256", "was changed"},
		"AnotherProtocol":      {replace("protocol: 1", "protocol: 9"), "protocol", "version 9"},
		"MissingExecutable":    {replace("path: run", "path: walk"), "path", "walk"},
		"PathOutside":          {replace("path: run", "path: ../run"), "path", "not inside"},
		"NoSuchPlatform":       {replace("linux/", "plan9/"), "executables", "platform"},
		"UnknownKey":           {replace("version:", "verison:"), "plugin.yaml", "verison"},
		"NotYAML":              {func(string) string { return "name: [" }, "plugin.yaml", "1:"},
		"Empty":                {func(string) string { return "" }, "name", "not a plugin's name"},
		"TypesElsewhere":       {replace("[Test]", "[Telemedicine]"), "task_types.Test.Do", "namespace Test"},
		"AnotherName":          {replace("name: wild", "name: tame"), "name", "calls itself"},
		"AnotherVersion":       {replace("1.0.0", "1.0.1"), "version", "1.0.0"},
		"NoNamespace":          {replace("[Test]", "[]"), "namespaces", "at least one"},
		"BadVersion":           {replace("1.0.0", "newest"), "version", "semantic"},
		"ChecksumLeftOut":      {func(s string) string { return s[:strings.Index(s, ", sha256: ")] + " }\n" }, "sha256", "sha256sum"},
		"NamespaceNotPossible": {replace("[Test]", "[test]"), "namespaces[0]", "upper-case"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := h.Load(t.Context(), pluginDir(t, c.edit))
			e, ok := errors.AsType[*core.Error](err)
			if !ok || e.Kind != core.KindInvalid || len(e.Findings) == 0 {
				t.Fatalf("err %v", err)
			}
			for _, f := range e.Findings {
				if f.Message.Zh == "" || f.Message.En == "" {
					t.Errorf("finding %+v is not in both languages", f)
				}
				if strings.HasSuffix(f.Path, c.path) && strings.Contains(f.Message.En, c.says) {
					return
				}
			}
			t.Errorf("no finding at %q says %q: %v", c.path, c.says, err)
		})
	}
}

func TestLoadSaysTheLineThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := setup(t).Load(t.Context(), pluginDir(t, replace("protocol: 1", "protocol: 1\ncolour: red")))
	if err == nil || !strings.Contains(err.Error(), "4:") || !strings.Contains(err.Error(), "colour") {
		t.Fatalf("err %v", err)
	}
}

func TestLoadDoesNotFollowALinkOutOfTheFolder(t *testing.T) {
	t.Parallel()
	dir := pluginDir(t)
	run := filepath.Join(dir, "run")
	if err := errors.Join(os.Remove(run), os.Symlink(program(t), run)); err != nil {
		t.Fatal(err)
	}
	if _, err := setup(t).Load(t.Context(), dir); core.KindOf(err) != core.KindInvalid || err == nil {
		t.Fatalf("err %v", err)
	}
}

func TestTheBytesHashedAreTheBytesExecutedAlsoAfterACrash(t *testing.T) {
	t.Parallel()
	dir := pluginDir(t)
	p, err := setup(t).Load(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	evil := filepath.Join(t.TempDir(), "evil")
	script := fmt.Sprintf("#!/bin/sh\ntouch %s\n", evil)
	if err := errors.Join(os.Remove(filepath.Join(dir, "run")), os.WriteFile(filepath.Join(dir, "run"), []byte(script), 0o700)); err != nil {
		t.Fatal(err)
	}
	run(t, t.Context(), p, do("exit"), "exit")
	if out, _ := run(t, t.Context(), p, do("talk"), "after"); out.Verdict != core.Succeeded {
		t.Errorf("after the crash: %+v", out)
	}
	if _, err := os.Stat(evil); err == nil {
		t.Error("the changed file was executed")
	}
}

func TestLoadOfAProgramThatDoesNotBecomeAPlugin(t *testing.T) {
	t.Parallel()
	h := setup(t, func(o *pluginhost.Options) { o.StartTimeout = 10 * patience }) // none waits for that
	for name, c := range map[string]struct {
		script string
		kind   core.Kind
		says   string
	}{
		"EndsAtOnce":            {"echo out of luck >&2; exit 3", core.KindUnavailable, "exit status 3; it wrote: out of luck"},
		"SpeaksAnotherProtocol": {"echo '1|77|unix|/tmp/x|grpc|'; exec sleep 600", core.KindInvalid, "version 77"},
		"SaysHello":             {"echo hello; exec sleep 600", core.KindUnavailable, `"hello"`},
		"NeverEndsALine":        {"yes | tr -d '\\n'", core.KindUnavailable, "handshake"},
		"ListensElsewhere":      {"echo '1|1|unix|/run/docker.sock|grpc|'; exec sleep 600", core.KindUnavailable, "folder it was given"},
		"OffersAForeignType":    {"exec " + program(t) + " foreign-type", core.KindInvalid, "namespace Other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := h.Load(t.Context(), scriptDir(t, c.script))
			if core.KindOf(err) != c.kind || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("err %v", err)
			}
			if took := time.Since(began); took > patience {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestLoadOfAProgramThatHangsIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	pid := filepath.Join(t.TempDir(), "pid")
	for name, c := range map[string]struct{ script, says string }{
		"NeverFinishesTheHandshake": {"echo $$ > " + pid + "; echo here I am >&2; exec sleep 600", "here I am"},
		"HangsAtDescribe":           {"exec " + program(t) + " hang-at-describe", "thinking about it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			enough(t, name, func(limit time.Duration) bool {
				h := setup(t, func(o *pluginhost.Options) { o.StartTimeout = limit })
				began := time.Now()
				_, err := h.Load(t.Context(), scriptDir(t, c.script))
				if took := time.Since(began); core.KindOf(err) != core.KindUnavailable || err == nil || !strings.Contains(err.Error(), "did not describe itself") || took < limit || took > limit+patience {
					t.Fatalf("after %v %v", took, err)
				}
				return strings.Contains(err.Error(), c.says)
			})
			if name == "NeverFinishesTheHandshake" && alive(pidIn(t, pid)) {
				t.Error("it still runs")
			}
		})
	}
}

func TestTypesAndValidateComeFromThePlugin(t *testing.T) {
	t.Parallel()
	p := load(t, setup(t))
	types := p.Types()
	if p.Name() != "wild" || p.Version() != "1.0.0" || len(types) != 2 {
		t.Fatalf("%s %s %+v", p.Name(), p.Version(), types)
	}
	if got := types[0]; got.Name != "Test.Do" || got.Provider != "plugin:wild" || got.Version != "1.0.0" || got.Timeout != time.Minute ||
		got.Title.Zh != "做" || string(got.ParamsSchema) != `{"type":"object"}` {
		t.Errorf("type %+v", got)
	}
	if found, err := p.Validate(t.Context(), "Test.Do", []byte(`{}`)); err != nil || len(found) != 1 || found[0].Path != "do" || found[0].Message.Zh == "" {
		t.Errorf("findings %+v, err %v", found, err)
	}
	if _, err := p.Validate(t.Context(), "Test.Nobody", nil); core.KindOf(err) != core.KindNotFound {
		t.Errorf("err %v", err)
	}
}

func TestNewRefusesARunFolderTooLongForSockets(t *testing.T) {
	t.Parallel()
	_, err := pluginhost.New(pluginhost.Options{Log: quiet(), RunDir: "/" + strings.Repeat("x", 70)})
	if core.KindOf(err) != core.KindInvalid || err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Fatalf("err %v", err)
	}
}
