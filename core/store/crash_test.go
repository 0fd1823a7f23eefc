package store_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store"
)

// child is what the crash tests start: a process that claims and finishes for ever, every other task through an admission
// with slots and a breaker, and prints each run id after the store acknowledged the claim, and again after it
// acknowledged the end.
func child(dir string) {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{Dir: dir})
	if err != nil {
		fmt.Println("refused", err)
		os.Exit(3)
	}
	fmt.Println("open")
	id := newID()
	must(s.Register(ctx, id, "here", time.Now().Add(time.Minute)))
	tasks, err := s.Tasks(ctx, core.TaskFilter{})
	must(err)
	for i := range tasks {
		go func() {
			t := tasks[i]
			for {
				fire := t.State.NextFire
				claim := claimOf(&t, fire, fire.Add(time.Second))
				claim.Runs[0].Owner, claim.Gated = id, i%2 == 1
				won, err := s.Claim(ctx, []core.Claim{claim})
				must(err)
				if !won[0].Won {
					panic("lost a claim that nobody else makes")
				}
				run := claim.Runs[0]
				run.Token = won[0].Token
				fmt.Printf("claimed %s %s %d\n", t.ID, run.ID, fire.UnixMicro())
				end := finishOf(&run, core.Succeeded)
				if claim.Gated {
					ask := askFor(&run, fire)
					ask.Owner, ask.Limits, ask.Breakers = id, []core.Limit{pool("p", 100)}, []core.BreakerRule{{Name: "downstream:x", Failures: 1 << 30}}
					got, err := s.Admit(ctx, []core.Admission{ask})
					must(err)
					if !got[0].Start {
						panic("not admitted")
					}
					end.Token, end.Breakers, end.Outcome.Verdict, end.Intervene = got[0].Token, ask.Breakers, core.Failed, true
				}
				_, err = s.Finish(ctx, []core.Finish{end})
				must(err)
				fmt.Printf("ended %s %s %d\n", t.ID, run.ID, fire.UnixMicro())
				t.State.NextFire = claim.Then
			}
		}()
	}
	select {}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func startChild(t *testing.T, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GNOMON_STORE_CHILD="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

// Promise 13: what was acknowledged survives kill -9 at any moment, and nothing is left half done.
func TestAcknowledgedChangesSurviveKill9(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, store.Options{Dir: dir})
	for i := range 8 {
		created(t, s, fmt.Sprintf("task-%d", i))
	}
	ok(t, s.Close())
	acknowledged := map[string]string{} // run id -> claimed or ended
	for range 6 {
		cmd, out := startChild(t, dir)
		if !out.Scan() || out.Text() != "open" {
			t.Fatalf("the child says %q", out.Text())
		}
		lines := 0
		for out.Scan() {
			if lines++; lines == 1 { // however slow the machine is, something was acknowledged
				time.AfterFunc(time.Duration(rand.IntN(250))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			word := strings.Fields(out.Text())
			if len(word) == 4 { // the last line may be torn
				acknowledged[word[2]] = word[0]
			}
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != -1 {
			t.Errorf("the child was not killed: it ended by itself with %d", code)
		}
		s := opened(t, store.Options{Dir: dir})
		wantSound(t, s, "owner")
		orphans, err := s.Orphans(t.Context(), time.Now(), 1000)
		ok(t, err)
		for _, run := range orphans {
			if got := finish(t, s, finishOf(&run, core.Lost)); got.Stale {
				t.Errorf("orphan %s could not be ended", run.ID)
			}
			if acknowledged[run.ID] == "ended" {
				t.Errorf("run %s was acknowledged as ended and is live", run.ID)
			}
			acknowledged[run.ID] = "ended"
		}
		wantSound(t, s)
		ok(t, s.Close())
	}
	s = opened(t, store.Options{Dir: dir})
	kept := map[string]bool{}
	fires := map[string]bool{}
	for after := ""; ; {
		runs, err := s.Ended(t.Context(), after, 1000)
		ok(t, err)
		if len(runs) == 0 {
			break
		}
		for _, run := range runs {
			kept[run.ID] = true
			fire := run.TaskID + run.FireAt.String()
			if fires[fire] {
				t.Errorf("fire %s has two runs", fire)
			}
			fires[fire] = true
		}
		after = runs[len(runs)-1].ID
	}
	for id, what := range acknowledged {
		if !kept[id] {
			t.Errorf("run %s was acknowledged as %s and is gone", id, what)
		}
	}
	t.Logf("%d runs acknowledged, %d kept", len(acknowledged), len(kept))
}

func TestASecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, store.Options{Dir: dir})
	cmd, out := startChild(t, dir)
	if !out.Scan() {
		t.Fatal("the child says nothing")
	}
	said := out.Text()
	_ = cmd.Wait()
	for _, want := range []string{"refused", "another process has this data folder", fmt.Sprintf("pid %d", os.Getpid()), "store.lock"} {
		if !strings.Contains(said, want) {
			t.Errorf("the second process says %q, not %q", said, want)
		}
	}
	_, err := store.Open(t.Context(), store.Options{Dir: dir})
	wantKind(t, err, core.KindConflict, "another process")
	ok(t, s.Close())
	opened(t, store.Options{Dir: dir}) // the lock is free again
}
