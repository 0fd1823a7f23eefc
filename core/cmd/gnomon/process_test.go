//go:build linux

package main_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// The tests of this package that are marked so use the real program: its server, its children and its command line are
// processes of their own, and what is known of them comes from outside.

// built is the program and the plugins, built once by the first test that needs them.
var built struct {
	once    sync.Once
	dir     string
	libchdb string
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// program gives the folder that holds gnomon and plugins/, as `make build` leaves them.
func program(t *testing.T) string {
	t.Helper()
	built.once.Do(func() { built.err = build() })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir
}

func build() (err error) {
	if built.libchdb = os.Getenv("GNOMON_LIBCHDB"); built.libchdb == "" {
		found, _ := filepath.Glob(filepath.Join(repository(), "core/engine/libchdb/node_modules/@chdb/lib-*/libchdb.so"))
		if len(found) == 0 {
			return errors.New("there is no libchdb: `make test` fetches it, or name one with GNOMON_LIBCHDB")
		}
		built.libchdb = found[0]
	}
	if built.dir, err = os.MkdirTemp("", "gn-bin-"); err != nil {
		return err
	}
	if err := compile("core/cmd/gnomon", filepath.Join(built.dir, "gnomon")); err != nil {
		return err
	}
	for _, name := range []string{"noop", "monitor"} {
		dir := filepath.Join(built.dir, "plugins", name)
		if err := compile("plugins/"+name, filepath.Join(dir, name)); err != nil {
			return err
		}
		if err := seal(dir, name, nil); err != nil {
			return err
		}
	}
	return nil
}

func repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../..")
}

func compile(source, to string) error {
	cmd := exec.Command("go", "build", "-o", to, "./"+source)
	cmd.Dir = repository()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", source, err, out)
	}
	return nil
}

// seal writes a plugin's plugin.yaml with the sum of its executable, as the Makefile does; change may alter its text.
func seal(dir, name string, change func(string) string) error {
	text, err := os.ReadFile(filepath.Join(repository(), "plugins", name, "plugin.yaml"))
	if err != nil {
		return err
	}
	executable, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	manifest := fmt.Sprintf("%sexecutables:\n  %s/%s:\n    path: %s\n    sha256: %x\n", text, runtime.GOOS, runtime.GOARCH, name, sha256.Sum256(executable))
	if change != nil {
		manifest = change(manifest)
	}
	return os.WriteFile(filepath.Join(dir, "plugin.yaml"), []byte(manifest), 0o600)
}

// world is a data folder, plugins and scripts, and the server that uses them, if it runs.
type world struct {
	t       *testing.T
	dir     string // short: a unix socket's path has few bytes
	data    string
	scripts string
	plugins string
	url     string
	token   string
	server  *exec.Cmd
	ended   chan struct{} // closed when the server has ended
	log     *os.File
	env     []string // what its server gets besides
	wrap    []string // command that begins its server; nil: the server itself
	keep    bool     // its folder stays if the test fails
}

func newWorld(t *testing.T) *world {
	t.Helper()
	bin := program(t)
	dir, err := os.MkdirTemp("", "gn-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, data: filepath.Join(dir, "d"), scripts: filepath.Join(dir, "scripts"), plugins: filepath.Join(bin, "plugins")}
	w.script("Bench/LuaNoOp", read(t, filepath.Join(repository(), "scripts/Bench/LuaNoOp.lua")))
	if w.log, err = os.Create(filepath.Join(dir, "server.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.kill()
		if t.Failed() {
			text, _ := os.ReadFile(w.log.Name())
			t.Logf("the server's log ends with\n%s", text[max(0, len(text)-6000):])
		}
		for _, p := range w.processes() {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		_ = w.log.Close()
		if t.Failed() && w.keep {
			t.Logf("the world is kept in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return w
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// script puts a script into the world: name is Namespace/Type.
func (w *world) script(name, text string) { write(w.t, filepath.Join(w.scripts, name+".lua"), text) }

// environment is all a process of this world gets.
func (w *world) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "TMPDIR=" + os.TempDir(), "GNOMON_LIBCHDB=" + built.libchdb,
		"GNOMON_CONTEXT=" + filepath.Join(w.dir, "context.json"), "LANG=C",
	}
}

// spawn starts the server and does not wait for it.
func (w *world) spawn(args ...string) {
	w.t.Helper()
	address := reserve(w.t)
	w.url = "http://" + address
	command := append(append(slices.Clone(w.wrap), filepath.Join(program(w.t), "gnomon"),
		"server", "--data", w.data, "--listen", address, "--plugins", w.plugins, "--scripts", w.scripts), args...)
	w.server = exec.Command(command[0], command[1:]...)
	w.server.Env, w.server.Stderr = append(w.environment(), w.env...), w.log
	w.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := w.server.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.ended = make(chan struct{})
	go func(server *exec.Cmd, ended chan struct{}) { // ends with the server
		_ = server.Wait() // how it ended is in ProcessState
		close(ended)
	}(w.server, w.ended)
}

// reserve gives an address of this machine for somebody else to listen on. Until the test ends it is given to nobody who does
// not name it: who asks for any free port, as tests beside this one do all the time, gets another.
func reserve(t *testing.T) string {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(socket) })
	// It is bound and never listens, which is no hindrance to one that sets SO_REUSEADDR too, as Go does.
	if err := errors.Join(unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
}

// start starts the server and returns once it schedules, with how long that took.
func (w *world) start(args ...string) time.Duration {
	w.t.Helper()
	began := time.Now()
	w.spawn(args...)
	w.until(time.Minute, "the server is ready", func() bool {
		select {
		case <-w.ended:
			w.t.Fatalf("the server ended: %s", w.server.ProcessState)
		default:
		}
		answer, err := http.Get(w.url + "/readyz")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	took := time.Since(began)
	w.token = strings.TrimSpace(read(w.t, filepath.Join(w.data, "bootstrap-token")))
	return took
}

// kill is kill -9 of the server alone, and gives its children of that moment.
func (w *world) kill() []process {
	if w.server == nil {
		return nil
	}
	children := descendants(w.server.Process.Pid)
	_ = w.server.Process.Kill() // it may have ended
	<-w.ended
	w.server = nil
	return children
}

// interrupt is Ctrl-C; it gives how long the server took to end.
func (w *world) interrupt() time.Duration {
	w.t.Helper()
	began := time.Now()
	if err := w.server.Process.Signal(os.Interrupt); err != nil {
		w.t.Fatal(err)
	}
	select {
	case <-w.ended:
	case <-time.After(time.Minute):
		w.t.Fatal("the server goes on for a minute after its interrupt")
	}
	took := time.Since(began)
	if code := w.server.ProcessState.ExitCode(); code != 0 {
		w.t.Errorf("the server ended with %d after its interrupt", code)
	}
	w.server = nil
	return took
}

// until waits for something to become true.
func (w *world) until(limit time.Duration, what string, holds func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !holds(); <-tick.C {
		if time.Now().After(end) {
			w.t.Fatalf("after %s it is still not so: %s", limit, what)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// ask puts a question to the server; the answer's status is given, and its body is read into into unless that is nil.
func (w *world) ask(method, path string, body, into any) (status int, err error) {
	var reader io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		reader = bytes.NewReader(raw)
	}
	request, err := http.NewRequest(method, w.url+path, reader)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+w.token)
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 20 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(answer.Body)
	if err == nil && into != nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return answer.StatusCode, fmt.Errorf("%s %s answered %s: %w: %.300s", method, path, answer.Status, err, raw)
	}
	return answer.StatusCode, nil
}

// must is ask for what has to succeed.
func (w *world) must(method, path string, body, into any) {
	w.t.Helper()
	var raw json.RawMessage
	status, err := w.ask(method, path, body, &raw)
	if method == http.MethodDelete && status == http.StatusNoContent {
		return
	}
	if err == nil && into != nil && status < 300 {
		err = json.Unmarshal(raw, into)
	}
	if err != nil || status >= 300 {
		w.t.Fatalf("%s %s answered %d: %v %.500s", method, path, status, err, raw)
	}
}

func (w *world) namespace(name string) { w.must("PUT", "/v1/namespaces/"+name, map[string]any{}, nil) }

// task creates a task and gives it as the server stored it.
func (w *world) task(namespace, name string, input api.TaskInput) api.Task {
	w.t.Helper()
	var task api.Task
	w.must("POST", "/v1/namespaces/"+namespace+"/tasks", api.NewTask{Name: name, TaskInput: input}, &task)
	return task
}

// params makes parameters.
func params(fields map[string]any) api.Object {
	raw, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return raw
}

// query asks history; each row is read into a T, a struct whose JSON names are the columns.
func query[T any](w *world, sql string) ([]T, error) {
	raw, err := json.Marshal(api.QueryRequest{SQL: sql, MaxRows: 1_000_000})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodPost, w.url+"/v1/query", bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+w.token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/x-ndjson")
	client := http.Client{Timeout: 20 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		return nil, fmt.Errorf("query answered %s: %.500s", answer.Status, text)
	}
	var rows []T
	for decoder := json.NewDecoder(answer.Body); ; {
		var row T
		switch err := decoder.Decode(&row); {
		case errors.Is(err, io.EOF):
			return rows, nil
		case err != nil:
			return nil, err
		}
		rows = append(rows, row)
	}
}

func mustQuery[T any](w *world, sql string) []T {
	w.t.Helper()
	rows, err := query[T](w, sql)
	if err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// line is the command line of this world.
func (w *world) line(args ...string) (out, errOut string, code int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(program(w.t), "gnomon"), args...)
	var o, e bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = w.environment(), &o, &e, w.dir
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// process is one process, as /proc shows it.
type process struct {
	pid     int
	parent  int
	ticks   string // when it started: tells it from a later one with its pid
	command string
	state   byte
}

func (p process) String() string { return fmt.Sprintf("%d %c %.120s", p.pid, p.state, p.command) }

// alive says whether this very process still runs.
func (p process) alive() bool {
	now, ok := look(p.pid)
	return ok && now.ticks == p.ticks && now.state != 'Z' && now.state != 'X'
}

func look(pid int) (process, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // proc(5): state is field 3, start time field 22
	command, _ := os.ReadFile(dir + "/cmdline")
	p := process{pid: pid, ticks: fields[19], state: fields[0][0], command: string(bytes.ReplaceAll(command, []byte{0}, []byte{' '}))}
	p.parent, _ = strconv.Atoi(fields[1])
	return p, true
}

func everything() []process {
	entries, _ := os.ReadDir("/proc")
	var all []process
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if p, ok := look(pid); ok {
				all = append(all, p)
			}
		}
	}
	return all
}

// descendants gives the process tree below a process.
func descendants(pid int) []process {
	all := everything()
	family := map[int]bool{pid: true}
	var found []process
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if family[p.parent] && !family[p.pid] {
				family[p.pid], grown = true, true
				found = append(found, p)
			}
		}
	}
	return found
}

// processes gives every living process that has to do with this world, whoever its parent is: it names the world's folder
// in its command line, its environment, or as the place of its executable.
func (w *world) processes() []process {
	var found []process
	for _, p := range everything() {
		if p.pid == os.Getpid() || p.state == 'Z' || p.state == 'X' {
			continue
		}
		dir := "/proc/" + strconv.Itoa(p.pid)
		environment, _ := os.ReadFile(dir + "/environ")
		executable, _ := os.Readlink(dir + "/exe")
		if strings.Contains(p.command, w.dir+"/") || strings.Contains(executable, w.dir+"/") || bytes.Contains(environment, []byte(w.dir+"/")) {
			found = append(found, p)
		}
	}
	return found
}

// nothingRuns fails if a process of the world is there after a while.
func (w *world) nothingRuns(limit time.Duration, children []process) {
	w.t.Helper()
	var left []process
	for end := time.Now().Add(limit); ; pause(w.t.Context(), 20*time.Millisecond) {
		left = w.processes()
		for _, p := range children {
			if p.alive() {
				left = append(left, p)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			break
		}
	}
	for _, p := range left {
		w.t.Errorf("process %s is left behind after %s", p, limit)
	}
}

// children gives the server's engine, Lua workers and plugins. A kind is a part of the command line.
func (w *world) children(kind string) []process {
	return slices.DeleteFunc(descendants(w.server.Process.Pid), func(p process) bool {
		return p.state == 'Z' || !strings.Contains(p.command, kind)
	})
}
