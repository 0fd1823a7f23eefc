package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store"
	"github.com/gnomon-scheduler/gnomon/core/store/storetest"
)

// severing is a proxy before PostgreSQL that can cut a connection around a COMMIT.
type severing struct {
	listener net.Listener
	cut      atomic.Int32
	cuts     atomic.Int32
	letGo    chan struct{} // closed when the COMMIT that is held may go on
	wg       sync.WaitGroup
}

const (
	cutNot          int32 = iota
	cutBeforeCommit       // the server never sees the COMMIT
	cutAfterCommit        // the server commits, and its answer is lost
	cutAfterAndSlow       // the same, but the server gets the COMMIT only after the client has lost its connection
	holdCommit            // nothing is cut: the COMMIT comes when it is let go
)

func sever(t *testing.T, pg *storetest.Postgres, dsn string) (*severing, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	p := &severing{listener: l, letGo: make(chan struct{})}
	p.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.carry(client, pg.Socket()) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); p.wg.Wait() })
	database := dsn[strings.LastIndex(dsn, "@/")+2 : strings.Index(dsn, "?")]
	return p, fmt.Sprintf("postgres://gnomon@%s/%s?sslmode=disable", l.Addr(), database)
}

func (p *severing) carry(client net.Conn, socket string) {
	defer client.Close()
	server, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer server.Close()
	p.wg.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
	buf := make([]byte, 1<<16)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("COMMIT\x00")) {
			switch how := p.cut.Swap(cutNot); how {
			case cutBeforeCommit:
				p.cuts.Add(1)
				return
			case holdCommit:
				p.cuts.Add(1)
				<-p.letGo
			case cutAfterCommit, cutAfterAndSlow:
				p.cuts.Add(1)
				_ = client.Close()
				if how == cutAfterAndSlow {
					<-time.After(300 * time.Millisecond)
				}
				_, _ = server.Write(buf[:n])
				return
			}
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// Promise 12: an unknown commit result changes nothing but latency.
func TestACommitWithoutAnswerIsLookedUp(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]int32{"lost before": cutBeforeCommit, "answer lost": cutAfterCommit, "commit delayed": cutAfterAndSlow} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := database(t, postgres(t))
			proxy, through := sever(t, postgres(t), dsn)
			s := opened(t, store.Options{DSN: through})
			ok(t, s.Register(t.Context(), "me", "host", time.Now().Add(time.Hour)))
			a := created(t, s, "a")
			proxy.cut.Store(how)
			run, got := claimed(t, s, &a, at(10), at(20))
			if !got.Won || got.Token != 1 || got.Live != 0 {
				t.Errorf("claimed %+v", got)
			}
			proxy.cut.Store(how)
			if finish(t, s, finishOf(&run, core.Succeeded)).Stale {
				t.Error("the end was made twice, or not at all")
			}
			if proxy.cuts.Load() != 2 {
				t.Fatalf("%d cuts", proxy.cuts.Load())
			}
			wantSound(t, s)
			if state := task(t, s, a.ID).State; state.Live != 0 || state.LastOutcome != core.Succeeded {
				t.Errorf("state %+v", state)
			}
		})
	}
}

// TestAServerStoppedInTheMiddleHoldsNobodyUp: its transaction is ended for it after seconds, and is made again when it goes on.
func TestAServerStoppedInTheMiddleHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	dsn := database(t, postgres(t))
	proxy, through := sever(t, postgres(t), dsn)
	slow, quick := opened(t, store.Options{DSN: through}), opened(t, store.Options{DSN: dsn})
	ok(t, slow.Register(t.Context(), "slow", "host", time.Now().Add(time.Hour)))
	ok(t, quick.Register(t.Context(), "quick", "host", time.Now().Add(time.Hour)))
	a := created(t, quick, "a")
	proxy.cut.Store(holdCommit)
	var stopped sync.WaitGroup
	stopped.Go(func() {
		got, err := slow.Claim(t.Context(), []core.Claim{claimOf(&a, at(10), at(20))})
		if err != nil || got[0].Won {
			t.Errorf("the one that was stopped: %+v %v", got, err)
		}
	})
	for proxy.cuts.Load() == 0 {
		<-time.After(10 * time.Millisecond)
	}
	// While that one is stopped, which it is until this one is through.
	bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := quick.Claim(bounded, []core.Claim{claimOf(&a, at(10), at(20))})
	close(proxy.letGo)
	stopped.Wait()
	ok(t, err)
	if !got[0].Won {
		t.Errorf("the other one: %+v", got)
	}
	wantSound(t, quick, "owner")
}

func TestAnUnregisteredStoreSaysThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	proxy, through := sever(t, postgres(t), database(t, postgres(t)))
	s := opened(t, store.Options{DSN: through})
	proxy.cut.Store(cutAfterCommit)
	wantKind(t, s.PutSetting(t.Context(), "a", "1"), core.KindUnavailable, "may have been made or not")
	ok(t, s.PutSetting(t.Context(), "b", "1"))
}

func TestALostConnectionChangesNothingButLatency(t *testing.T) {
	t.Parallel()
	w := &world{dialect: "postgres", dsn: database(t, postgres(t))}
	s := w.open(t)
	ok(t, s.Register(t.Context(), "me", "host", time.Now().Add(time.Hour)))
	a := created(t, s, "a")
	raw := w.raw(t)
	for i := range 10 {
		_, err := raw.ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		ok(t, err)
		run, got := claimed(t, s, &a, at(10+i), at(11+i))
		if !got.Won {
			t.Fatal("not claimed")
		}
		finish(t, s, finishOf(&run, core.Succeeded))
		if state := task(t, s, a.ID).State; state.Live != 0 {
			t.Errorf("state %+v", state)
		}
	}
	wantSound(t, s)
}

func TestARestartOfPostgresChangesNothingButLatency(t *testing.T) {
	t.Parallel()
	pg, err := storetest.Start(t.Context())
	ok(t, err)
	t.Cleanup(func() { ok(t, pg.Stop()) })
	w := &world{dialect: "postgres", dsn: pg.DSN("postgres")}
	s := w.open(t)
	ok(t, s.Register(t.Context(), "me", "host", time.Now().Add(time.Hour)))
	var wg sync.WaitGroup
	var rounds atomic.Int64
	went := make(chan struct{})
	stop := make(chan struct{})
	var tasks []core.Task
	for g := range 4 {
		tasks = append(tasks, created(t, s, fmt.Sprint("task", g)))
	}
	for _, a := range tasks {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				claim := claimOf(&a, at(10+i), at(11+i))
				got, err := s.Claim(t.Context(), []core.Claim{claim})
				if err != nil || !got[0].Won || got[0].Live != 0 {
					t.Errorf("claim %d: %+v, %v", i, got, err)
					return
				}
				run := claim.Runs[0]
				run.Token = got[0].Token
				ended, err := s.Finish(t.Context(), []core.Finish{finishOf(&run, core.Succeeded)})
				if err != nil || ended[0].Stale {
					t.Errorf("finish %d: %+v, %v", i, ended, err)
					return
				}
				rounds.Add(1)
				select {
				case went <- struct{}{}:
				case <-stop:
				}
			}
		})
	}
	go func() { wg.Wait(); close(went) }()
	for range 3 {
		for range 20 { // a closed channel, after an error, ends this at once
			<-went
		}
		ok(t, pg.Down())
		down, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := s.Task(down, tasks[0].ID)
		wantKind(t, err, core.KindUnavailable)
		cancel()
		ok(t, pg.Up(t.Context()))
	}
	<-went
	close(stop)
	for range went { // until all have ended
	}
	for _, a := range tasks {
		task(t, s, a.ID)
	}
	for _, v := range must2(s.CheckInvariants(t.Context())) {
		t.Errorf("invariant broken: %+v", v)
	}
	t.Logf("%d rounds, %+v", rounds.Load(), s.Stats())
}

func must2[T any](v T, err error) T {
	must(err)
	return v
}

func TestAPoisonedRequestFailsAlone(t *testing.T) {
	t.Parallel()
	w := &world{dialect: "postgres", dsn: database(t, postgres(t))}
	opts := w.options()
	opts.GroupWait = 50 * time.Millisecond
	s := opened(t, opts)
	a, b := created(t, s, "a"), created(t, s, "b")
	poison := claimOf(&b, at(10), at(20))
	poison.Runs[0].Owner = "not UTF-8: \xff"
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := s.Claim(t.Context(), []core.Claim{poison})
		wantKind(t, err, core.KindInternal)
	})
	wg.Go(func() {
		if _, got := claimed(t, s, &a, at(10), at(20)); !got.Won {
			t.Error("the neighbour of a poisoned claim lost")
		}
	})
	wg.Wait()
	if state := task(t, s, b.ID).State; state.Live != 0 || !state.NextFire.Equal(at(10)) {
		t.Errorf("the poisoned claim wrote: %+v", state)
	}
	wantSound(t, s, "owner")
}

func TestADatabaseThatIsNotThereIsSaid(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{postgres(t).DSN("nosuchdatabase"), "postgres://gnomon@127.0.0.1:1/x?sslmode=disable"} {
		_, err := store.Open(t.Context(), store.Options{DSN: dsn})
		wantKind(t, err, core.KindUnavailable)
	}
	_, err := store.Open(t.Context(), store.Options{DSN: "mysql://x"})
	wantKind(t, err, core.KindInvalid, "postgres://")
	_, err = store.Open(t.Context(), store.Options{})
	wantKind(t, err, core.KindInvalid)
	_, err = store.Open(t.Context(), store.Options{DSN: "postgres://u:secretword@h:bad/x"})
	wantKind(t, err, core.KindInvalid)
	if strings.Contains(err.Error(), "secretword") {
		t.Errorf("the error shows the password: %v", err)
	}
}
