package main

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/sdk/egress"
)

// TestTasksNeverReachTheServerItself is promise S7: whatever an http grant lists, Gnomon's own port is not in it.
func TestTasksNeverReachTheServerItself(t *testing.T) {
	t.Parallel()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{"127.0.0.1:8080", "[::1]:8080", "127.0.0.2:8080", "0.0.0.0:8080", "[::]:8080", "10.1.2.3:8080"} {
		exclusions, err := excluding(listen)
		if err != nil {
			t.Fatalf("%s: %v", listen, err)
		}
		c := Config{notItself: exclusions, Grants: []GrantConfig{{
			Namespaces: []string{"*"}, Needs: map[string]string{"http": "127.0.0.0/8,[::1]:8080,0.0.0.0/0,10.0.0.0/8"},
		}}}
		granted, err := c.grants("Common", "Common.KeepAlive", []string{"http"})
		if err != nil {
			t.Fatal(err)
		}
		policy, err := egress.Parse(granted["http"])
		if err != nil {
			t.Fatalf("%s: the grant cannot be read: %v", listen, err)
		}
		itself := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("[::1]:8080")}
		if at := netip.MustParseAddrPort(listen); at.Addr().IsUnspecified() {
			for _, a := range addresses {
				if prefix, err := netip.ParsePrefix(a.String()); err == nil {
					itself = append(itself, netip.AddrPortFrom(prefix.Addr().WithZone(""), 8080))
				}
			}
		} else {
			itself = append(itself, at)
		}
		for _, at := range itself {
			if policy.Check(at.Addr().String(), at) == nil {
				t.Errorf("listening on %s: a task may reach %s", listen, at)
			}
		}
		if err := policy.Check("10.9.9.9", netip.MustParseAddrPort("10.9.9.9:8080")); err != nil {
			t.Errorf("listening on %s: another machine's port 8080 is kept from tasks: %v", listen, err)
		}
		if err := policy.Check("127.0.0.1", netip.MustParseAddrPort("127.0.0.1:9000")); err != nil {
			t.Errorf("listening on %s: another port of this machine, listed, is kept from tasks: %v", listen, err)
		}
	}
}

func TestWhatWasNotGrantedIsDeniedAndSaysWhere(t *testing.T) {
	t.Parallel()
	c := Config{Grants: []GrantConfig{{Namespaces: []string{"Telemedicine"}, Needs: map[string]string{"sql:business": "sqlite:/x"}}}}
	if _, err := c.grants("ImageArchive", "ImageArchive.T", []string{"sql:business"}); core.KindOf(err) != core.KindDenied {
		t.Errorf("a foreign namespace's grant: %v", err)
	}
	if granted, err := c.grants("Telemedicine", "Telemedicine.T", []string{"sql:business"}); err != nil || granted["sql:business"] != "sqlite:/x" {
		t.Errorf("its own grant: %v %v", granted, err)
	}
}

func TestTheShareOfTracedRunsIsJudgedWithoutACollectorToo(t *testing.T) {
	for text, want := range map[string]float64{"": 1, "1": 1, "0.25": 0.25, "7": -1, "-1": -1, "0": -1, "NaN": -1, "half": -1} {
		t.Setenv("GNOMON_TRACE_RATIO", text)
		var c Config
		if err := c.complete(); (err != nil) != (want < 0) || err == nil && c.TraceRatio != want {
			t.Errorf("%q: %v, %v", text, c.TraceRatio, err)
		}
	}
	t.Setenv("GNOMON_TRACE_RATIO", "")
	if err := (&Config{TraceRatio: 7}).complete(); err == nil {
		t.Error("trace_ratio 7 of a file is taken")
	}
}

// Statements that are just being cancelled are nobody's business.
func TestTheDoctorTellsOfStatementsThatDoNotEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n        int
		longest  time.Duration
		embedded bool
		ok       bool
		zh, en   string
	}{
		{0, 0, true, true, "没有", "no statement"},
		{2, time.Second, true, true, "没有", "no statement"},
		{2, time.Minute, true, false, "2 条查询取消后仍在执行，最久的已 60 秒", "2 statements work on after they were cancelled, the first for 60 s"},
		{1, time.Minute, false, false, "is_cancelled", "system.processes of that ClickHouse"},
	} {
		examineAbandoned(c.n, c.longest, c.embedded, func(name, _ string, ok bool, _ any, zh, en string) {
			if name != "unending_statements" || ok != c.ok || !strings.Contains(zh, c.zh) || !strings.Contains(en, c.en) {
				t.Errorf("%+v: %t %s %s", c, ok, zh, en)
			}
		})
	}
}

// What is the matter with an engine is said in both languages, and what will come of it.
func TestTheDoctorTellsAnEngineThatEndedFromOneThatHangs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pid    int
		silent time.Duration
		zh, en string
	}{
		{0, 0, "引擎已退出，正在自动重启", "it has ended and is started again"},
		{4711, 15 * time.Second, "引擎进程 4711 仍在，但已有约 15s 没有应答", "its process 4711 is there and has not answered for about 15s"},
		{4711, 0, "正在启动或繁忙", "starting or busy"},
	} {
		if said := engineTrouble(c.pid, c.silent); !strings.Contains(said[0], c.zh) || !strings.Contains(said[1], c.en) {
			t.Errorf("%d, %s: %q", c.pid, c.silent, said)
		}
	}
}
