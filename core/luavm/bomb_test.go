package luavm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/luavm"
	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
)

// bombs are scripts that take all they can get (promise 21), with what their failure says. "" stands for the time limit.
var bombs = map[string]struct{ body, says string }{
	"EndlessLoop":       {`while true do end`, ""},
	"LoopInPcall":       {`while true do pcall(function() while true do end end) end`, ""},
	"LoopInCoroutine":   {`coroutine.wrap(function() while true do end end)()`, ""},
	"EmptyCalls":        {`local function f() return f() end f()`, "stack overflow"},
	"BadPattern":        {`return (("a"):rep(60000)):find(".-.-.-.-.-.-b")`, "pattern"},
	"BadPatternForever": {`while true do pcall(string.find, ("a"):rep(60000), ".-.-.-.-.-.-b") end`, ""},
	"BadGmatch":         {`for _ in (("a"):rep(60000)):gmatch("a*a*a*a*a*b") do end`, "pattern"},
	"BadGsub":           {`return (("a"):rep(60000)):gsub("(a*)(a*)(a*)b", "")`, "pattern"},
	"Rep2GiB":           {`return #string.rep("a", 2^31)`, "64 MiB"},
	"RepMany":           {`local t = {} for i = 1, 1000 do t[i] = ("a"):rep(60000000) end`, "memory"},
	"Doubling":          {`local s = "a" while true do s = s .. s end`, "64 MiB"},
	"DoublingKept":      {`local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1000000) .. i end`, "memory"},
	"ConcatTable":       {`local t = {} for i = 1, 2000 do t[i] = ("a"):rep(100000) end return #table.concat(t)`, "64 MiB"},
	"GsubGrows":         {`return #(("a"):rep(100000)):gsub("a", ("b"):rep(100000))`, "64 MiB"},
	"FormatGrows":       {`local s = ("a"):rep(30000000) return #string.format("%s%s%s%s", s, s, s, s)`, "64 MiB"},
	"Coroutines":        {`local t = {} for i = 1, 1e6 do t[i] = coroutine.create(function() coroutine.yield() end) coroutine.resume(t[i]) end`, "coroutines"},
	"CoroutineChain":    {`local function f() return coroutine.wrap(f)() end f()`, "coroutines"},
	"Tables":            {`local t = {} for i = 1, 1e9 do t[i] = {i} end`, "memory"},
	"Closures":          {`local f for i = 1, 1e9 do local g = f f = function() return g end end`, "memory"},
	"Recursion":         {`local function f(n) return 1 + f(n + 1) end return f(1)`, "stack overflow"},
	"PcallRecursion":    {`local function f() return pcall(f) and 1 end while true do f() end`, ""},
	"MetaLoop":          {`local t = setmetatable({}, {__index = function(t, k) return t[k] end}) return t.x`, "stack overflow"},
	"Unpack":            {`return select("#", unpack({}, 1, 1e8))`, "100000 values"},
	"SortLies":          {`local t = {} for i = 1, 1000000 do t[i] = i % 1000 end table.sort(t, function() return true end)`, ""},
	"InsertFirst":       {`local t = {} for i = 1, 1e9 do table.insert(t, 1, i) end`, ""},
	"JSONDecode":        {`return #json.decode("[" .. ("[],"):rep(20000000) .. "1]")`, "memory"},
	"JSONNested":        {`return json.decode(("["):rep(1000000))`, "inside each other"},
	"JSONSelf":          {`local t = {} t.t = t return json.encode(t)`, "contains itself"},
	"JSONWide":          {`local t = {1} for i = 1, 90 do t = {t, t} end return #json.encode(t)`, "longer than"},
	"Regexp":            {`return regexp.match(("x"):rep(8000000), "(x{900}){1}y")`, "too long for an expression"},
	"RegexpGrows":       {`return #regexp.replace(("x"):rep(1000000), ".*", ("$0"):rep(1000))`, "64 MiB"},
	"Sleep":             {`time.sleep("5m")`, ""},
	"SleepForever":      {`while true do pcall(time.sleep, 1) end`, ""},
	"LogFlood":          {`while true do log.info("x") end`, ""},
	"SQLForever":        {`return sql.query("business", "with recursive c(n) as (select 1 union all select n + 1 from c) select count(*) from c")`, ""},
	"SQLRows":           {`return #sql.query("business", "with recursive c(n) as (select 1 union all select n + 1 from c) select n from c")`, "100000 rows"},
	"SQLBlob":           {`return sql.query("business", "select hex(zeroblob(900000000))")`, "too big"},
}

// compileBombs are sources the parser must not see.
var compileBombs = map[string]struct{ source, says string }{
	"Brackets":   {strings.Repeat("(", 1_000_000), "nested"},
	"Braces":     {"return {" + strings.Repeat("{", 500_000) + strings.Repeat("}", 500_000), "nested"},
	"Indexes":    {"x = " + strings.Repeat("a[", 300_000), "nested"},
	"Blocks":     {strings.Repeat("do ", 300_000), "nested"},
	"Functions":  {"return {" + strings.Repeat("function()end,", 70_000) + "}", "5000 functions"},
	"Concats":    {"x = " + strings.Repeat("a..", 300_000) + "a", "operators"},
	"Powers":     {"x = " + strings.Repeat("a^", 300_000) + "a", "operators"},
	"Nots":       {"x = " + strings.Repeat("not ", 200_000) + "a", "operators"},
	"Sums":       {"x = 1" + strings.Repeat("+1", 400_000), "levels deep"},
	"Fields":     {"x = a" + strings.Repeat(".b", 400_000), "levels deep"},
	"Calls":      {"x = a" + strings.Repeat("()", 400_000), "levels deep"},
	"ElseIfs":    {"if a then " + strings.Repeat("elseif a then ", 70_000) + "end", "levels deep"},
	"Long":       {strings.Repeat("x = 1 ", 300_000), "1 MiB"},
	"LongString": {"x = [[" + strings.Repeat("a", 2_000_000) + "]]", "1 MiB"},
}

func TestBombs(t *testing.T) {
	t.Parallel()
	files := map[string]string{"Fine.lua": script("return {fine = true}")}
	for name, b := range bombs {
		files[name+".lua"] = script(b.body, "needs = {'sql:business'}")
	}
	for name, b := range compileBombs {
		files["Compile"+name+".lua"] = b.source
	}
	dir := scriptFolder(t, files)
	const limit = time.Second
	grants := map[string]string{"sql:business": "sqlite:" + filepath.Join(t.TempDir(), "b.db")}

	p := startProcess(t, dir, "")
	if _, err := p.run(t.Context(), "Ns.Fine", time.Minute, nil); err != nil { // the first run also reads what is slow to read
		t.Fatal(err)
	}
	for name, b := range bombs {
		t.Run(name, func(t *testing.T) {
			began, spent := time.Now(), cpuTime(t, p.cmd.Process.Pid)
			o, err := p.run(t.Context(), "Ns."+name, limit, grants)
			took := time.Since(began)
			if err != nil {
				t.Fatalf("the worker died: %v", err)
			}
			spent = cpuTime(t, p.cmd.Process.Pid) - spent
			t.Logf("%s %v, %v of the processor, %v", name, took.Round(time.Millisecond), spent, o.GetFailure().GetMessage())
			if cores := time.Duration(runtime.NumCPU()); spent > cores*(limit+time.Second) { // a busy machine gives it less in that time
				t.Errorf("used %v of the processor, more than there is to a second past its deadline", spent)
			}
			if took > limit+30*time.Second {
				t.Errorf("ended after %v, long past its deadline", took)
			}
			checkBomb(t, o, b.says)
			if o, err := p.run(t.Context(), "Ns.Fine", time.Minute, nil); err != nil || o.GetSuccess() == nil {
				t.Fatalf("the worker cannot run another script afterwards: %v %v", o, err)
			}
		})
	}
	t.Run("TheWorkerStaysSmall", func(t *testing.T) {
		if rss := rssBytes(t, p.cmd.Process.Pid); rss > 600<<20*luavm.Shadow {
			t.Errorf("%d MB resident after all bombs", rss>>20)
		}
	})
}

func checkBomb(t *testing.T, o *pluginv1.Outcome, says string) {
	t.Helper()
	f := o.GetFailure()
	switch {
	case f == nil:
		t.Errorf("the bomb succeeded: %s", o.GetSuccess().GetOutput())
	case says == "" && f.GetCancelled() == nil:
		t.Errorf("ended with %q, not by its time limit", f.GetMessage())
	case f.GetCancelled() == nil && !strings.Contains(f.GetMessage(), says): // on a busy machine the time limit may come first
		t.Errorf("ended with %q, which does not say %q", f.GetMessage(), says)
	}
}

func TestCompileBombs(t *testing.T) {
	t.Parallel()
	files := map[string]string{"Fine.lua": script("return {fine = true}")}
	for name, b := range compileBombs {
		files[name+".lua"] = b.source
	}
	p := startProcess(t, scriptFolder(t, files), "")
	began := time.Now()
	all, err := p.api.Describe(t.Context(), &pluginv1.DescribeRequest{})
	if err != nil {
		t.Fatalf("a source killed the worker: %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("describing took %v", took)
	}
	for _, d := range all.GetTaskTypes() {
		name := strings.TrimPrefix(d.GetName(), "Ns.")
		b, bomb := compileBombs[name]
		if !bomb {
			if d.GetProblem() != "" {
				t.Errorf("%s: %s", name, d.GetProblem())
			}
			continue
		}
		if !strings.HasPrefix(d.GetProblem(), "Ns/"+name+".lua:") || !strings.Contains(d.GetProblem(), b.says) {
			t.Errorf("%s: the problem %q does not give place and %q", name, d.GetProblem(), b.says)
		}
	}
	if o, err := p.run(t.Context(), "Ns.Brackets", time.Minute, nil); err != nil || o.GetFailure().GetPermanent() == nil {
		t.Errorf("a script that does not compile ended %v %v, not as a permanent failure", o, err)
	}
	if o, err := p.run(t.Context(), "Ns.Fine", time.Minute, nil); err != nil || o.GetSuccess() == nil {
		t.Errorf("the script beside them ended %v %v", o, err)
	}
}

// TestBombFasterThanTheChecks shows the last line of defence: what takes 64 MiB an instruction ends its own process.
func TestBombFasterThanTheChecks(t *testing.T) {
	t.Parallel()
	dir := scriptFolder(t, map[string]string{
		"Sparse.lua": script(`local t = {} for i = 1, 1000 do t[i] = {} t[i][4000000] = 1 end`), "Fine.lua": script(`return {fine = true}`),
	})
	a, b := startProcess(t, dir, "Sparse"), startProcess(t, dir, "Fine")
	began := time.Now()
	kill := time.AfterFunc(1500*time.Millisecond, a.kill) // the host's part: deadline plus grace
	defer kill.Stop()
	o, err := a.run(t.Context(), "Ns.Sparse", time.Second, nil)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("ended after %v", took)
	}
	if err == nil && o.GetFailure() == nil {
		t.Errorf("the bomb succeeded: %v", o)
	}
	if o, err := b.run(t.Context(), "Ns.Fine", time.Minute, nil); err != nil || o.GetSuccess() == nil {
		t.Errorf("the other worker: %v %v", o, err)
	}
}

// TestBombHarmsOnlyItsWorker shows that a worker can be killed at any moment without harm to another.
func TestBombHarmsOnlyItsWorker(t *testing.T) {
	t.Parallel()
	dir := scriptFolder(t, map[string]string{
		"Loop.lua": script(`while true do end`), "Fine.lua": script(`return {fine = true}`),
	})
	a, b := startProcess(t, dir, "Ns.Loop"), startProcess(t, dir, "Ns.Fine")
	done := make(chan error, 1)
	go func() { // ends when the worker is killed
		_, err := a.run(t.Context(), "Ns.Loop", time.Hour, nil)
		done <- err
	}()
	for range 20 {
		if o, err := b.run(t.Context(), "Ns.Fine", time.Minute, nil); err != nil || o.GetSuccess() == nil {
			t.Fatalf("the other worker: %v %v", o, err)
		}
	}
	a.kill()
	if err := <-done; err == nil {
		t.Error("the endless loop ended without being killed")
	}
	if o, err := b.run(t.Context(), "Ns.Fine", time.Minute, nil); err != nil || o.GetSuccess() == nil {
		t.Errorf("the other worker after the kill: %v %v", o, err)
	}
}

// cpuTime is the user and system time of a process so far.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var user, system int64 // the 14th and 15th of all, in hundredths of a second
	if fields := strings.Fields(rest); len(fields) > 12 {
		user, _ = strconv.ParseInt(fields[11], 10, 64)
		system, _ = strconv.ParseInt(fields[12], 10, 64)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

func rssBytes(t *testing.T, pid int) (rss uint64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscanf(rest, "%d kB", &rss); err != nil {
		t.Fatal(err)
	}
	return rss << 10
}
