//go:build unix

// Package storetest starts a PostgreSQL server of the Debian package for tests: on a unix socket in a temporary folder,
// without syncing, as the user postgres where the tests run as root, which PostgreSQL refuses.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Postgres is a running server.
type Postgres struct {
	Dir string // holds the data and the socket
	bin string
	run *exec.Cmd
	out *bytes.Buffer
	who *syscall.SysProcAttr
}

// ErrMissing says what to install.
var ErrMissing = errors.New("PostgreSQL is missing: install the package postgresql (its initdb and postgres were not found in /usr/lib/postgresql/*/bin or PATH)")

// Start makes a cluster and starts its server. Stop must be called.
func Start(ctx context.Context) (*Postgres, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "gnomon-pg")
	if err != nil {
		return nil, err
	}
	p := &Postgres{Dir: dir, bin: bin}
	if err := p.make(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := p.Up(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

func binaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		slices.Sort(found)
		return filepath.Dir(found[len(found)-1]), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", ErrMissing
	}
	return filepath.Dir(path), nil
}

func (p *Postgres) make(ctx context.Context) error {
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMissing, err)
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return err
		}
		if err := os.Chown(p.Dir, int(uid), int(gid)); err != nil {
			return err
		}
		p.who = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	initdb := exec.CommandContext(ctx, filepath.Join(p.bin, "initdb"), "-D", p.data(), "-U", "gnomon", "-A", "trust",
		"--no-sync", "--no-instructions", "-E", "UTF8", "--locale", "C")
	initdb.SysProcAttr, initdb.Dir = p.who, p.Dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

func (p *Postgres) data() string { return filepath.Join(p.Dir, "data") }

// Socket gives the path of the server's socket.
func (p *Postgres) Socket() string { return filepath.Join(p.Dir, ".s.PGSQL.5432") }

// DSN gives the address of a database.
func (p *Postgres) DSN(database string) string {
	return fmt.Sprintf("postgres://gnomon@/%s?host=%s", database, p.Dir)
}

// Up starts the server, which must be down, and waits until it takes connections.
func (p *Postgres) Up(ctx context.Context) error {
	p.out = &bytes.Buffer{}
	p.run = exec.Command(filepath.Join(p.bin, "postgres"), "-D", p.data(), "-k", p.Dir, "-c", "listen_addresses=",
		"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=300")
	p.run.SysProcAttr, p.run.Dir, p.run.Stdout, p.run.Stderr = p.who, p.Dir, p.out, p.out
	if err := p.run.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	ready := filepath.Join(p.bin, "pg_isready")
	for range 500 {
		if exec.CommandContext(ctx, ready, "-q", "-h", p.Dir).Run() == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("postgres does not come up: %s", p.out)
}

// Down ends the server at once, as a crash would: open transactions are lost, committed ones are not.
func (p *Postgres) Down() error {
	if p.run == nil {
		return nil
	}
	err := p.run.Process.Signal(syscall.SIGQUIT)
	_ = p.run.Wait() // the exit code of an immediate shutdown says nothing
	p.run = nil
	return err
}

// Stop ends the server and removes its files.
func (p *Postgres) Stop() error { return errors.Join(p.Down(), os.RemoveAll(p.Dir)) }
