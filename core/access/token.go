package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Store keeps tokens by their hash. It never sees a token itself.
type Store interface {
	// CreateToken keeps a token. It fails with KindConflict if its hash is there already.
	CreateToken(ctx context.Context, token core.Token) error
	// TokenByHash gives a token, or KindNotFound.
	TokenByHash(ctx context.Context, hash string) (core.Token, error)
	// Tokens gives the tokens that are not revoked, oldest first.
	Tokens(ctx context.Context) ([]core.Token, error)
	// RevokeToken makes a token worthless, or fails with KindNotFound.
	RevokeToken(ctx context.Context, hash string) error
}

// tokenPrefix lets people and secret scanners see what the string is.
const tokenPrefix = "gnomon_"

// tokenBytes is the entropy of a token: 256 bits.
const tokenBytes = 32

// Options are what an Access is made of.
type Options struct {
	Store Store
	Clock core.Clock // nil: the system's
}

// Access tells who a token belongs to. Safe for concurrent use.
type Access struct {
	store Store
	clock core.Clock
}

// New checks and assigns.
func New(o Options) (*Access, error) {
	if o.Store == nil {
		return nil, errors.New("access needs a store")
	}
	if o.Clock == nil {
		o.Clock = core.SystemClock{}
	}
	return &Access{store: o.Store, clock: o.Clock}, nil
}

// Issue makes a token for a principal and keeps its hash. The value is shown this once and can never be read again.
// expires may be zero: never.
func (a *Access) Issue(ctx context.Context, p Principal, purpose string, expires time.Time) (core.Secret, error) {
	value := newToken()
	if err := a.keep(ctx, value, p, purpose, expires); err != nil {
		return core.Secret{}, err
	}
	return core.NewSecret(value), nil
}

func (a *Access) keep(ctx context.Context, value string, p Principal, purpose string, expires time.Time) error {
	op := fmt.Sprintf("issue a token for %q", p.Name)
	if p.Name == "" || len(p.Grants) == 0 {
		return core.Errorf(core.KindInvalid, op, "a token needs a principal and at least one grant")
	}
	grants := make(map[string]string, len(p.Grants))
	for ns, role := range p.Grants {
		if !role.Known() {
			return core.Errorf(core.KindInvalid, op, "there is no role %q", role)
		}
		grants[ns] = string(role)
	}
	err := a.store.CreateToken(ctx, core.Token{
		Hash: hashOf(value), Principal: p.Name, Grants: grants, Purpose: purpose,
		CreatedAt: a.clock.Now().UTC(), ExpiresAt: expires,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

// Held is a token as it can be shown: everything but its value.
type Held struct {
	ID        string // the beginning of its hash
	Principal Principal
	Purpose   string
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
}

// idLength is how much of a hash names a token: 64 bits, of which two alike are refused rather than guessed at.
const idLength = 16

// TokenID gives the id under which a token is listed.
func TokenID(token core.Secret) string { return hashOf(token.Reveal())[:idLength] }

// Tokens gives the tokens that are not revoked, oldest first, expired ones included.
func (a *Access) Tokens(ctx context.Context) ([]Held, error) {
	kept, err := a.store.Tokens(ctx)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	held := make([]Held, len(kept))
	for i, t := range kept {
		held[i] = Held{ID: t.Hash[:min(len(t.Hash), idLength)], Principal: principalOf(t), Purpose: t.Purpose, CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt}
	}
	return held, nil
}

// Revoke makes a token worthless from now on. It fails with KindNotFound if there is none with the id.
func (a *Access) Revoke(ctx context.Context, id string) error {
	op := fmt.Sprintf("revoke the token %q", id)
	kept, err := a.store.Tokens(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	var hash string
	for _, t := range kept {
		if len(id) != idLength || !strings.HasPrefix(t.Hash, id) {
			continue
		}
		if hash != "" {
			return core.Refuse(core.KindConflict, op, core.Text{Zh: "有两个令牌的编号都以 " + id + " 开头", En: "two tokens have this id"})
		}
		hash = t.Hash
	}
	if hash == "" {
		return core.Refuse(core.KindNotFound, op, core.Text{Zh: "没有编号为 " + id + " 的令牌", En: "there is no such token"})
	}
	return a.store.RevokeToken(ctx, hash)
}

func principalOf(kept core.Token) Principal {
	p := Principal{Name: kept.Principal, Grants: make(map[string]Role, len(kept.Grants))}
	for ns, role := range kept.Grants {
		p.Grants[ns] = Role(role) // a role this version does not know allows nothing
	}
	return p
}

// errUnknownToken is the one answer to every token that does not open anything, so that no two cases can be told apart.
var errUnknownToken = core.Refuse(core.KindUnauthenticated, "", core.Text{Zh: "此处没有这个令牌，或它已过期", En: "the token is not known here, or has expired"})

// Authenticate gives the principal a token belongs to. It fails with KindUnauthenticated for any token that is not
// known, and with KindUnavailable if the store does not answer.
func (a *Access) Authenticate(ctx context.Context, token string) (Principal, error) {
	if !wellFormed(token) {
		return Principal{}, errUnknownToken
	}
	hash := hashOf(token)
	kept, err := a.store.TokenByHash(ctx, hash)
	switch {
	case err != nil && core.KindOf(err) == core.KindNotFound:
		return Principal{}, errUnknownToken
	case err != nil:
		return Principal{}, core.Errorf(core.KindUnavailable, "look up a token", "%w", err)
	}
	// The look-up is by a hash nobody can steer; the comparison is constant in time all the same, so that a store that
	// matches loosely (case, trailing blanks) opens nothing.
	if subtle.ConstantTimeCompare([]byte(kept.Hash), []byte(hash)) != 1 {
		return Principal{}, errUnknownToken
	}
	if !kept.ExpiresAt.IsZero() && !a.clock.Now().Before(kept.ExpiresAt) {
		return Principal{}, errUnknownToken
	}
	return principalOf(kept), nil
}

// bootstrapFile is the name of the one-time token's file in the data folder.
const bootstrapFile = "bootstrap-token"

// Bootstrap makes sure that the data folder holds a token of the first administrator, and gives the path of its file
// (mode 0600). The first start writes it; later starts keep it. created says whether this one wrote it. A file whose
// token the store does not know is refused with KindDamaged: it belongs to another store.
func (a *Access) Bootstrap(ctx context.Context, dataDir string) (path string, created bool, err error) {
	path = filepath.Join(dataDir, bootstrapFile)
	const op = "read the bootstrap token"
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, true, a.writeBootstrap(ctx, path)
	case err != nil:
		return path, false, core.Errorf(core.KindDamaged, op, "%w", err)
	case !info.Mode().IsRegular():
		return path, false, core.Errorf(core.KindDamaged, op, "%s is not a regular file; remove it and start again", path)
	case info.Mode().Perm()&0o077 != 0:
		return path, false, core.Errorf(core.KindDamaged, op,
			"%s can be read by others (mode %04o); run chmod 600 on it, or remove it to get a new token", path, info.Mode().Perm())
	}
	value, err := ReadToken(path)
	if err != nil {
		return path, false, err
	}
	_, err = a.Authenticate(ctx, value.Reveal())
	if core.KindOf(err) == core.KindUnauthenticated && err != nil {
		return path, false, core.Errorf(core.KindDamaged, op,
			"%s holds a token this store does not know: it belongs to another store; remove the file to get a new token", path)
	}
	return path, false, err
}

// writeBootstrap keeps the hash first and shows the token second: a crash between the two leaves a hash nobody has the
// token of, never a file that opens nothing.
func (a *Access) writeBootstrap(ctx context.Context, path string) error {
	value := newToken()
	admin := Principal{Name: "bootstrap", Grants: map[string]Role{Everywhere: Admin}}
	if err := a.keep(ctx, value, admin, "bootstrap", time.Time{}); err != nil {
		return err
	}
	if err := writeFile(path, value+"\n"); err != nil {
		return core.Errorf(core.KindInternal, "write the bootstrap token", "%w", err)
	}
	return nil
}

// writeFile writes a new file of mode 0600 that is either whole or not there, and durable when it returns.
func writeFile(path, content string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already if the rename worked
	_, err = tmp.WriteString(content)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// ReadToken reads a token file as Bootstrap writes it. What it refuses, it does not repeat.
func ReadToken(path string) (core.Secret, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return core.Secret{}, core.Errorf(core.KindDamaged, "read the token file", "%w", err)
	}
	value := strings.TrimSpace(string(raw))
	if !wellFormed(value) {
		return core.Secret{}, core.Errorf(core.KindDamaged, "read the token file",
			"%s does not hold a token (%d bytes); remove it to get a new one", path, len(raw))
	}
	return core.NewSecret(value), nil
}

func newToken() string {
	raw := make([]byte, tokenBytes)
	_, _ = rand.Read(raw) // never fails since Go 1.24
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

func wellFormed(token string) bool {
	rest, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok || len(rest) != base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	return err == nil
}

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
