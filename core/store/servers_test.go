package store_test

import (
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

func TestAServerIDIsUsedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		ok(t, s.Register(t.Context(), "me", "host", at(30)))
		wantKind(t, s.Register(t.Context(), "other", "host", at(30)), core.KindConflict)
		ok(t, s.Renew(t.Context(), "me", at(60)))
		wantKind(t, s.Renew(t.Context(), "other", at(60)), core.KindStale)
		a := created(t, s, "a")
		claimed(t, s, &a, at(10), at(20))
		wantSound(t, s)
		ok(t, s.Unregister(t.Context(), "me"))
		ok(t, s.Unregister(t.Context(), "me"))
		wantKind(t, s.Renew(t.Context(), "me", at(60)), core.KindStale)
		wantKind(t, s.Register(t.Context(), "me", "host", at(30)), core.KindConflict, "new id")
		ok(t, s.Register(t.Context(), "you", "host", at(30)))
		orphans, err := s.Orphans(t.Context(), at(0), 10)
		ok(t, err)
		if len(orphans) != 1 || orphans[0].Owner != "me" {
			t.Errorf("orphans %+v", orphans)
		}
	})
}

func TestOnlyRunsThatCertainlyDidNotStartAreAdopted(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := w.open(t)
		ok(t, s.Register(t.Context(), "you", "host", at(3000)))
		a, b := created(t, s, "a"), created(t, s, "b")
		a.Policies.Overlap = core.OverlapAllow
		past, _ := claimed(t, s, &a, at(10), at(20))
		future, _ := claimed(t, s, &a, at(20), at(30))
		first, _ := claimed(t, s, &b, at(10), at(20))
		queued, _ := claimed(t, s, &b, at(20), at(30))
		f := finishOf(&first, core.Failed)
		f.RetryAt = at(60)
		first.Token = finish(t, s, f).Token
		orphans, err := s.Orphans(t.Context(), at(15), 10)
		ok(t, err)
		if len(orphans) != 4 {
			t.Fatalf("%d orphans", len(orphans))
		}
		for _, c := range []struct {
			name string
			run  core.Run
			want bool
		}{{"past", past, false}, {"future", future, false}, {"retrying", first, true}, {"queued", queued, true}} {
			got, err := s.Adopt(t.Context(), c.run.ID, c.run.Token, "you", false)
			ok(t, err)
			if got.Won != c.want || got.Won && got.Token <= c.run.Token || got.Queued != (c.name == "queued") {
				t.Errorf("%s: %+v", c.name, got)
			}
			row := runByID(t, s, c.run.ID)
			if (row.Owner == "you") != c.want || c.want && row.Token != got.Token {
				t.Errorf("%s: row %+v", c.name, row)
			}
			if again, err := s.Adopt(t.Context(), c.run.ID, c.run.Token, "you", false); err != nil || again.Won {
				t.Errorf("%s was adopted twice: %+v, %v", c.name, again, err)
			}
			if c.want && !finish(t, s, finishOf(&c.run, core.Succeeded)).Stale {
				t.Errorf("%s: the dead owner's token is still good", c.name)
			}
		}
		if got, err := s.Adopt(t.Context(), newID(), 1, "you", true); err != nil || got.Won {
			t.Errorf("an unknown run: %+v, %v", got, err)
		}
		wantSound(t, s, "owner")
	})
}

// Promise 6 and 10: a server whose lease was taken away cannot write, and notices.
func TestAFencedServerCannotWrite(t *testing.T) {
	t.Parallel()
	w := &world{dialect: "postgres", dsn: database(t, postgres(t))}
	slow, quick := w.open(t), w.open(t)
	ok(t, slow.Register(t.Context(), "slow", "host", at(30)))
	ok(t, quick.Register(t.Context(), "quick", "host", at(1000)))
	a := created(t, quick, "a")
	claim := claimOf(&a, at(10), at(20))
	claim.Runs[0].Owner = "slow"
	got, err := slow.Claim(t.Context(), []core.Claim{claim})
	ok(t, err)
	run := claim.Runs[0]
	run.Token = got[0].Token
	if orphans, err := quick.Orphans(t.Context(), at(29), 10); err != nil || len(orphans) != 0 {
		t.Errorf("orphans of a living server: %+v, %v", orphans, err)
	}
	orphans, err := quick.Orphans(t.Context(), at(31), 10)
	ok(t, err)
	if len(orphans) != 1 || orphans[0].ID != run.ID {
		t.Fatalf("orphans: %+v", orphans)
	}
	wantKind(t, slow.Renew(t.Context(), "slow", at(100)), core.KindStale)
	_, err = slow.Finish(t.Context(), []core.Finish{finishOf(&run, core.Succeeded)})
	wantKind(t, err, core.KindStale, "lost its lease")
	_, err = slow.Claim(t.Context(), []core.Claim{claimOf(&a, at(20), at(30))})
	wantKind(t, err, core.KindStale)
	if got := finish(t, quick, finishOf(&run, core.Lost)); got.Stale {
		t.Error("the living server could not end the orphan")
	}
	wantSound(t, quick)
	ok(t, slow.Unregister(t.Context(), "slow")) // it knows by now
}

// A look at all live runs is spared while no server has gone: one that was seen is missed at once, one that came and went
// between two looks after half a minute.
func TestRunsOfAServerThatGoesAreFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		seen bool
		at   int
	}{{"seen", true, 1}, {"unseen", false, 30}} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{dialect: "postgres", dsn: database(t, postgres(t))}
			brief, lasting := w.open(t), w.open(t)
			orphans := func(sec int) []core.Run {
				got, err := lasting.Orphans(t.Context(), at(sec), 10)
				ok(t, err)
				return got
			}
			ok(t, lasting.Register(t.Context(), "lasting", "host", at(1000)))
			a := created(t, lasting, "a")
			orphans(0)
			ok(t, brief.Register(t.Context(), "brief", "host", at(1000)))
			claim := claimOf(&a, at(10), at(20))
			claim.Runs[0].Owner = "brief"
			_, err := brief.Claim(t.Context(), []core.Claim{claim})
			ok(t, err)
			if c.seen {
				orphans(0)
			}
			ok(t, brief.Unregister(t.Context(), "brief"))
			if got := orphans(c.at); len(got) != 1 || got[0].ID != claim.Runs[0].ID {
				t.Errorf("orphans %+v", got)
			}
		})
	}
}

func TestOnSQLiteEveryEarlierServerIsDead(t *testing.T) {
	t.Parallel()
	w := &world{dialect: "sqlite", dir: t.TempDir()}
	s := w.open(t)
	ok(t, s.Register(t.Context(), "me", "host", time.Now().Add(time.Hour)))
	a := created(t, s, "a")
	run, _ := claimed(t, s, &a, at(10), at(20))
	ok(t, s.Close())
	s = w.open(t)
	ok(t, s.Register(t.Context(), "you", "host", time.Now().Add(time.Hour)))
	orphans, err := s.Orphans(t.Context(), time.Now(), 10)
	ok(t, err)
	if len(orphans) != 1 || orphans[0].ID != run.ID {
		t.Errorf("orphans %+v", orphans)
	}
}
