package access_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/access"
)

// kept is the smallest real token store: a map.
type kept struct {
	mu     sync.Mutex
	tokens map[string]core.Token
	err    error
}

func (k *kept) CreateToken(_ context.Context, t core.Token) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	if _, ok := k.tokens[t.Hash]; ok {
		return core.Errorf(core.KindConflict, "create token", "there already")
	}
	k.tokens[t.Hash] = t
	return nil
}

func (k *kept) TokenByHash(_ context.Context, hash string) (core.Token, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return core.Token{}, k.err
	}
	t, ok := k.tokens[hash]
	if !ok {
		return core.Token{}, core.Errorf(core.KindNotFound, "token", "none")
	}
	return t, nil
}

func (k *kept) Tokens(context.Context) ([]core.Token, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.SortedFunc(maps.Values(k.tokens), func(a, b core.Token) int { return a.CreatedAt.Compare(b.CreatedAt) }), k.err
}

func (k *kept) RevokeToken(_ context.Context, hash string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.tokens[hash]; !ok {
		return core.Errorf(core.KindNotFound, "revoke token", "none")
	}
	delete(k.tokens, hash)
	return nil
}

type fixed struct {
	core.SystemClock
	now time.Time
}

func (f *fixed) Now() time.Time { return f.now }

func setup(t *testing.T) (*access.Access, *kept, *fixed) {
	t.Helper()
	store := &kept{tokens: map[string]core.Token{}}
	clock := &fixed{now: time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)}
	a, err := access.New(access.Options{Store: store, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	return a, store, clock
}

func TestBootstrapWritesOneTokenAndKeepsIt(t *testing.T) {
	t.Parallel()
	a, store, _ := setup(t)
	dir := t.TempDir()
	path, created, err := a.Bootstrap(t.Context(), dir)
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	first, err := access.ReadToken(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := a.Authenticate(t.Context(), first.Reveal())
	if err != nil || !p.Can(access.NamespaceWrite, access.Everywhere) {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, created, err = a.Bootstrap(t.Context(), dir); err != nil || created {
		t.Fatalf("second start: created %v, %v", created, err)
	}
	if again, _ := access.ReadToken(path); again != first {
		t.Error("the second start changed the token")
	}
	for hash := range store.tokens {
		if strings.Contains(first.Reveal(), hash) || len(hash) != 64 {
			t.Errorf("the store holds %q", hash)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestBootstrapRefusesAForeignOrOpenFile(t *testing.T) {
	t.Parallel()
	a, _, _ := setup(t)
	other, _, _ := setup(t)
	dir := t.TempDir()
	path, _, err := a.Bootstrap(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Bootstrap(t.Context(), dir); core.KindOf(err) != core.KindDamaged {
		t.Errorf("foreign: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Bootstrap(t.Context(), dir); core.KindOf(err) != core.KindDamaged || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("open to others: %v", err)
	}
	if err := os.WriteFile(path, []byte("half a tok"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = a.Bootstrap(t.Context(), dir)
	if core.KindOf(err) != core.KindDamaged || strings.Contains(err.Error(), "half a tok") {
		t.Errorf("damaged: %v", err)
	}
}

func TestOnlyAWholeLiveTokenOpens(t *testing.T) {
	t.Parallel()
	a, store, clock := setup(t)
	p := access.Principal{Name: "wang", Grants: map[string]access.Role{"Common": access.Viewer}}
	secret, err := a.Issue(t.Context(), p, "test", clock.now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	token := secret.Reveal()
	for _, bad := range []string{
		"", "gnomon_", token[:len(token)-1], token + "A", strings.ToUpper(token), strings.TrimPrefix(token, "gnomon_"),
		token[:len(token)-3] + "+/=", " " + token, token + "\n",
	} {
		if _, err := a.Authenticate(t.Context(), bad); core.KindOf(err) != core.KindUnauthenticated {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	if got, err := a.Authenticate(t.Context(), token); err != nil || got.Name != "wang" {
		t.Errorf("%+v, %v", got, err)
	}
	clock.now = clock.now.Add(time.Hour)
	if _, err := a.Authenticate(t.Context(), token); core.KindOf(err) != core.KindUnauthenticated {
		t.Errorf("expired: %v", err)
	}
	store.err = context.DeadlineExceeded
	if _, err := a.Authenticate(t.Context(), token); core.KindOf(err) != core.KindUnavailable {
		t.Errorf("store down: %v", err)
	}
	if _, err := a.Issue(t.Context(), access.Principal{Name: "x", Grants: map[string]access.Role{"*": "root"}}, "", time.Time{}); err == nil {
		t.Error("an unknown role was granted")
	}
}

func TestARevokedTokenOpensNothing(t *testing.T) {
	t.Parallel()
	a, _, clock := setup(t)
	li := access.Principal{Name: "li", Grants: map[string]access.Role{"Common": access.Analyst}}
	first, err := a.Issue(t.Context(), li, "Grafana", clock.now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	clock.now = clock.now.Add(time.Second)
	second, err := a.Issue(t.Context(), li, "", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	held, err := a.Tokens(t.Context())
	if err != nil || len(held) != 2 || held[0].ID != access.TokenID(first) || held[0].Purpose != "Grafana" || held[0].Principal.Grants["Common"] != access.Analyst || !held[1].ExpiresAt.IsZero() {
		t.Fatalf("%+v %v", held, err)
	}
	if strings.Contains(fmt.Sprintf("%+v", held), first.Reveal()) {
		t.Error("a list shows a value")
	}
	if err := a.Revoke(t.Context(), held[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Authenticate(t.Context(), first.Reveal()); core.KindOf(err) != core.KindUnauthenticated {
		t.Errorf("the revoked one: %v", err)
	}
	if _, err := a.Authenticate(t.Context(), second.Reveal()); err != nil {
		t.Errorf("the other one: %v", err)
	}
	for _, id := range []string{held[0].ID, "", "nothing", held[1].ID[:8]} {
		if err := a.Revoke(t.Context(), id); core.KindOf(err) != core.KindNotFound {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// Who may do what beyond reading, said once more in other words than the table's.
func TestWhatEachRoleMayChange(t *testing.T) {
	t.Parallel()
	for perm, roles := range map[access.Permission][]access.Role{
		access.NamespaceWrite: {access.Admin},
		access.SettingsWrite:  {access.Admin},
		access.TokenManage:    {access.Admin},
		access.TaskWrite:      {access.Admin, access.Editor},
		access.TaskRun:        {access.Admin, access.Editor, access.Operator},
		access.RunCancel:      {access.Admin, access.Editor, access.Operator},
		access.RunIntervene:   {access.Admin, access.Editor, access.Operator},
		access.HistoryQuery:   {access.Admin, access.Analyst},
		access.SettingsRead:   access.Roles(),
	} {
		for _, role := range access.Roles() {
			if role.Allows(perm) != slices.Contains(roles, role) {
				t.Errorf("%s %s: %v", role, perm, role.Allows(perm))
			}
		}
	}
}

func TestDefaultDeny(t *testing.T) {
	t.Parallel()
	for _, role := range access.Roles() {
		p := access.Principal{Name: "p", Grants: map[string]access.Role{"Common": role}}
		for _, perm := range access.Permissions() {
			if p.Can(perm, "Other") || p.Can(perm, "") || p.Can(perm, access.Everywhere) {
				t.Errorf("%s in Common may %s elsewhere", role, perm)
			}
			if p.Can(perm, "Common") != role.Allows(perm) {
				t.Errorf("%s %s", role, perm)
			}
		}
		if p.Can("task:destroy", "Common") || p.Can("", "Common") {
			t.Errorf("%s has a permission that does not exist", role)
		}
	}
	if (access.Principal{}).Can(access.TaskRead, "Common") || access.Role("").Allows("") {
		t.Error("nobody may something")
	}
	all, names := access.Principal{Grants: map[string]access.Role{"B": access.Viewer, "A": access.Admin, "C": "gone"}}.Scope(access.TaskRead)
	if all || !slices.Equal(names, []string{"A", "B"}) {
		t.Errorf("scope %v %v", all, names)
	}
}

func TestAuditChainHoldsAndNoticesChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	write := func(n int) {
		a, err := access.OpenAudit(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			if err := a.Record(t.Context(), access.Act{Principal: "wang", Operation: "run-task", Namespace: "Common", Resource: "/v1/tasks/} x\n", Allowed: true}); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Close(); err != nil || a.Close() != nil {
			t.Fatal(err)
		}
		if a.Record(t.Context(), access.Act{}) == nil {
			t.Error("a closed file took an act")
		}
	}
	write(3)
	write(2)
	if acts, _, err := access.VerifyAudit(path); err != nil || acts != 5 {
		t.Fatalf("%d acts, %v", acts, err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A crash in the middle of an append leaves a torn line: it was never acknowledged and goes.
	if err := os.WriteFile(path, append(slices.Clone(raw), []byte(`0123 {"at":`)...), 0o600); err != nil {
		t.Fatal(err)
	}
	write(1)
	if acts, _, err := access.VerifyAudit(path); err != nil || acts != 6 {
		t.Fatalf("after a torn line: %d acts, %v", acts, err)
	}
	lines := strings.SplitAfter(string(raw), "\n")
	for name, text := range map[string]string{
		"changed":  strings.Replace(string(raw), "wang", "feng", 1),
		"removed":  lines[0] + strings.Join(lines[2:], ""),
		"swapped":  lines[1] + lines[0] + strings.Join(lines[2:], ""),
		"repeated": lines[0] + lines[0],
		"foreign":  "hello\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := access.OpenAudit(path, nil); core.KindOf(err) != core.KindDamaged {
			t.Errorf("%s: %v", name, err)
		}
		if now, _ := os.ReadFile(path); string(now) != text {
			t.Errorf("%s: the evidence was changed", name)
		}
	}
}
