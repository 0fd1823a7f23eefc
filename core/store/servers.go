package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store/sqlcgen"
)

// Register makes this server known, with a lease until the time given. From then on every write of this Store checks
// that the registration is still there, and fails with KindStale if another server has taken it away. A server has a new
// id after each start: Register fails with KindConflict if a server of that id is registered, or has runs that have not
// ended.
func (s *Store) Register(ctx context.Context, id, host string, until time.Time) error {
	op := fmt.Sprintf("register server %q", id)
	now := s.clock.Now()
	reg := &registration{id: id, epoch: now.UnixMicro()}
	if old := s.server.Load(); old != nil {
		return core.Errorf(core.KindConflict, op, "this store is server %q already", old.id)
	}
	lease, err := s.sharedTime(ctx, op, until)
	if err != nil {
		return err
	}
	err = s.change(ctx, op, nil, func(ctx context.Context, q *sqlcgen.Queries) error {
		owns, err := q.OwnsLiveRuns(ctx, id)
		if err != nil {
			return err
		}
		if owns {
			return core.Errorf(core.KindConflict, op, "an earlier server of this id has runs that have not ended; take a new id for each start")
		}
		made, err := q.InsertServer(ctx, sqlcgen.InsertServerParams{ID: id, Epoch: reg.epoch, Host: clean(host), StartedAt: reg.epoch, LeaseUntil: lease})
		if err == nil && made == 0 {
			return core.Errorf(core.KindConflict, op, "a server of this id is registered; take a new id for each start")
		}
		return err
	})
	if err != nil {
		return err
	}
	s.server.Store(reg)
	return nil
}

// Renew moves this server's lease. It fails with KindStale if the registration was taken away: the server must stop
// acting. On SQLite the folder's lock is the lease, and Renew writes nothing.
func (s *Store) Renew(ctx context.Context, id string, until time.Time) error {
	op := fmt.Sprintf("renew lease of server %q", id)
	reg := s.server.Load()
	if reg == nil || reg.id != id {
		return core.Errorf(core.KindStale, op, "this store is not registered as that server")
	}
	if s.dialect.alone() {
		return nil
	}
	lease, err := s.sharedTime(ctx, op, until)
	if err != nil {
		return err
	}
	// Not through the writer: a long transaction must not cost the lease. Written twice it is the same.
	var held int64
	err = s.look(ctx, op, func(ctx context.Context) (err error) {
		held, err = s.q.RenewServer(ctx, sqlcgen.RenewServerParams{ID: reg.id, Epoch: reg.epoch, LeaseUntil: lease})
		return err
	})
	if err == nil && held == 0 {
		return core.Errorf(core.KindStale, op, "its lease ran out and another server took it away")
	}
	return err
}

// sharedTime turns a time by this server's wall clock into one by the database's: whether a lease has run out must not hang
// on whose clock has been set, or when.
func (s *Store) sharedTime(ctx context.Context, op string, t time.Time) (int64, error) {
	if s.dialect.alone() {
		return micros(t), nil
	}
	var now time.Time
	err := s.look(ctx, op, func(ctx context.Context) (err error) {
		now, err = s.dialect.now(ctx)
		return err
	})
	return micros(now.Add(t.Sub(s.clock.Now()))), err
}

// Unregister gives the lease back. Runs of this server that have not ended are orphans from then on.
func (s *Store) Unregister(ctx context.Context, id string) error {
	reg := s.server.Load()
	if reg == nil || reg.id != id {
		return nil
	}
	// The registration must outlive its own transaction, which checks it.
	err := s.change(ctx, fmt.Sprintf("unregister server %q", id), nil, func(ctx context.Context, q *sqlcgen.Queries) error {
		_, err := q.DeleteServer(ctx, reg.id, reg.epoch)
		return err
	})
	if err != nil && core.KindOf(err) != core.KindStale {
		return err
	}
	s.server.CompareAndSwap(reg, nil)
	return nil
}

// Orphans gives runs that have not ended and whose owner is not alive, by id. It first takes the registration away from
// servers whose lease ran out before now (by the database's clock), so that none of them can write any more. On SQLite every other owner is dead.
func (s *Store) Orphans(ctx context.Context, now time.Time, limit int) ([]core.Run, error) {
	const op = "find orphaned runs"
	me := ""
	if reg := s.server.Load(); reg != nil {
		me = reg.id
	}
	before, err := s.sharedTime(ctx, op, now)
	if err != nil {
		return nil, err
	}
	var leases []sqlcgen.LeasesRow
	err = s.look(ctx, op, func(ctx context.Context) (err error) {
		leases, err = s.q.Leases(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	seen := census{at: now, servers: make(map[string]bool, len(leases))}
	expired := false
	for _, l := range leases {
		seen.servers[l.ID] = true
		expired = expired || l.LeaseUntil < before && l.ID != me
	}
	if last := s.noOrphans.Load(); last != nil && !expired && last.holds(seen) {
		seen.at = last.at
		s.noOrphans.Store(&seen) // who has come since is missed from now on
		return nil, nil
	}
	s.noOrphans.Store(nil)
	if expired {
		err := s.change(ctx, op, nil, func(ctx context.Context, q *sqlcgen.Queries) error {
			fenced, err := q.FenceServers(ctx, before, me)
			if err == nil && fenced > 0 {
				s.log.Warn("servers fenced", "count", fenced)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	runs, err := s.lookRuns(ctx, s.reads, op, sqlcgen.OrphanRuns, int32(limit))
	if err == nil && len(runs) == 0 && !expired {
		s.noOrphans.Store(&seen)
	}
	return runs, err
}

// A census is the servers that have been seen since no run was an orphan, which is when at was. A run is one only after its
// owner has gone, so that until then nobody needs to look through all live runs every second.
type census struct {
	at      time.Time
	servers map[string]bool
}

// censusHolds is how long a census is believed: a server may come and go between two of them.
const censusHolds = 30 * time.Second

// holds tells whether no server of c has gone since.
func (c *census) holds(now census) bool {
	for id := range c.servers {
		if !now.servers[id] {
			return false
		}
	}
	age := now.at.Sub(c.at)
	return age >= 0 && age < censusHolds
}

// Adopt gives an orphan that has certainly not started (it is queued, waiting or retrying) to a living server, with a new
// token. With resume, one that may have started (claimed or running) too: its attempt is due again, as retrying, and what
// it held is free. Won is false if the run is not of that kind, or its token is another.
func (s *Store) Adopt(ctx context.Context, runID string, token int64, newOwner string, resume bool) (core.Claimed, error) {
	op := "adopt run " + runID
	run, err := s.Run(ctx, runID)
	if core.KindOf(err) == core.KindNotFound {
		return core.Claimed{}, nil
	}
	if err != nil {
		return core.Claimed{}, err
	}
	var out core.Claimed
	err = s.alter(ctx, op, []string{run.TaskID}, func(ctx context.Context, t session) error {
		q := t.queries()
		out = core.Claimed{}
		count, err := q.TaskCounters(ctx, run.TaskID)
		if notFound(err) { // the task is deleted: nothing else gives tokens for it
			count = sqlcgen.TaskCountersRow{Token: token}
		} else if err != nil {
			return err
		}
		given := count.Token + 1
		held, err := q.AdoptRun(ctx, sqlcgen.AdoptRunParams{ID: runID, Token: token, NewOwner: newOwner, NewToken: given})
		if err != nil {
			return err
		}
		if held == 0 && resume {
			held, err = q.ResumeRun(ctx, sqlcgen.ResumeRunParams{ID: runID, Token: token, NewOwner: newOwner, NewToken: given})
			if err == nil && held > 0 {
				err = leave(ctx, t, []string{runID}, func(string) (core.Outcome, time.Time) { return core.Outcome{Verdict: core.Lost}, s.clock.Now() },
					func(string, []core.Breaker) {})
			}
			if err != nil {
				return err
			}
		}
		if held == 0 {
			return nil
		}
		out = core.Claimed{Won: true, Live: max(int(count.Live)-1, 0), Token: given, LastSuccess: instant(count.LastSuccess),
			Queued: run.State == core.RunQueued || run.State == core.RunWaiting}
		_, err = q.RaiseToken(ctx, run.TaskID, given)
		return err
	})
	return out, err
}

func tokenOf(hash, principal, grants, purpose string, created, expires int64) core.Token {
	t := core.Token{Hash: hash, Principal: principal, Purpose: purpose, CreatedAt: instant(created), ExpiresAt: instant(expires)}
	if err := json.Unmarshal([]byte(grants), &t.Grants); err != nil {
		t.Grants = nil // grants that cannot be read grant nothing
	}
	return t
}

// CreateToken keeps a token, or fails with KindConflict if its hash is there already.
func (s *Store) CreateToken(ctx context.Context, token core.Token) error {
	const op = "create token"
	grants, err := json.Marshal(token.Grants)
	if err != nil {
		return core.Errorf(core.KindInvalid, op, "%w", err)
	}
	return s.change(ctx, op, nil, func(ctx context.Context, q *sqlcgen.Queries) error {
		made, err := q.CreateToken(ctx, sqlcgen.CreateTokenParams{Hash: clean(token.Hash), Principal: clean(token.Principal), Grants: clean(grants),
			Purpose: clean(token.Purpose), CreatedAt: micros(token.CreatedAt), ExpiresAt: micros(token.ExpiresAt)})
		if err == nil && made == 0 {
			return core.Errorf(core.KindConflict, op, "the token is there already")
		}
		return err
	})
}

// TokenByHash gives a token that is not revoked, or KindNotFound. Whether it has expired is the caller's to judge.
func (s *Store) TokenByHash(ctx context.Context, hash string) (core.Token, error) {
	var r sqlcgen.TokenByHashRow
	err := s.look(ctx, "read token", func(ctx context.Context) (err error) {
		r, err = s.q.TokenByHash(ctx, hash)
		return err
	})
	if notFound(err) {
		return core.Token{}, core.Errorf(core.KindNotFound, "read token", "no such token")
	}
	if err != nil {
		return core.Token{}, err
	}
	return tokenOf(r.Hash, r.Principal, r.Grants, r.Purpose, r.CreatedAt, r.ExpiresAt), nil
}

// Tokens gives the tokens that are not revoked, oldest first.
func (s *Store) Tokens(ctx context.Context) ([]core.Token, error) {
	var rows []sqlcgen.TokensRow
	err := s.look(ctx, "list tokens", func(ctx context.Context) (err error) {
		rows, err = s.q.Tokens(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	list := make([]core.Token, len(rows))
	for i, r := range rows {
		list[i] = tokenOf(r.Hash, r.Principal, r.Grants, r.Purpose, r.CreatedAt, r.ExpiresAt)
	}
	return list, nil
}

// RevokeToken makes a token worthless, or fails with KindNotFound.
func (s *Store) RevokeToken(ctx context.Context, hash string) error {
	const op = "revoke token"
	return s.change(ctx, op, nil, func(ctx context.Context, q *sqlcgen.Queries) error {
		held, err := q.RevokeToken(ctx, hash, micros(s.clock.Now()))
		if err == nil && held == 0 {
			return core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有这个令牌", En: "no such token"})
		}
		return err
	})
}

// Setting gives a setting's value, or KindNotFound.
func (s *Store) Setting(ctx context.Context, name string) (string, error) {
	op := fmt.Sprintf("read setting %q", name)
	var value string
	err := s.look(ctx, op, func(ctx context.Context) (err error) {
		value, err = s.q.ReadSetting(ctx, name)
		return err
	})
	if notFound(err) {
		return "", core.Errorf(core.KindNotFound, op, "no such setting")
	}
	return value, err
}

// PutSetting sets a setting's value.
func (s *Store) PutSetting(ctx context.Context, name, value string) error {
	return s.change(ctx, fmt.Sprintf("put setting %q", name), nil, func(ctx context.Context, q *sqlcgen.Queries) error {
		return q.PutSetting(ctx, clean(name), clean(value))
	})
}
