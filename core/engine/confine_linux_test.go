package engine_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTheEngineHasNoFilesButItsOwn: not even for the server, whom nothing else refuses them.
func TestTheEngineHasNoFilesButItsOwn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 {
		t.Logf("this kernel has no Landlock (%v): the engine only says so, and works", errno)
		w.must(t, "SELECT 1")
		return
	}
	token := filepath.Join(t.TempDir(), "bootstrap-token")
	if err := os.WriteFile(token, []byte("41976"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{token, fmt.Sprintf("/proc/%d/environ", os.Getpid()), fmt.Sprintf("/proc/%d/root%s", os.Getpid(), token)} {
		for _, sql := range []string{"SELECT file('%s')", "SELECT * FROM file('%s', 'LineAsString')", "SELECT * FROM default.`%s`"} {
			if status, body, _ := w.ask(t, fmt.Sprintf(sql, path)); status == http.StatusOK || strings.Contains(body, "41976") {
				t.Errorf("%s of %s: %s", sql, path, body)
			}
		}
	}
	written := token + ".written"
	_, _, _ = w.ask(t, "INSERT INTO FUNCTION file('"+written+"', 'CSV', 'a Int8') VALUES (1)") // however it is answered
	if text, _ := os.ReadFile(written); len(text) > 0 {
		t.Errorf("the engine has written %q", text)
	}
	if got := w.must(t, "SELECT file('/proc/meminfo') LIKE 'MemTotal%', length(file('"+filepath.Join(w.dir, "gnomon-access.xml")+"')) > 0"); got != "1\t1" {
		t.Errorf("its own files: %s", got)
	}
}
