package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Workers runs the scripts of one namespace and can describe one of them. The pools of Lua workers implement it.
type Workers interface {
	core.Provider
	// Describe gives what one script offers; a script that does not compile is a type with a Problem.
	Describe(ctx context.Context, typeName string) ([]core.TaskType, error)
}

// ScriptsOptions configure Scripts.
type ScriptsOptions struct {
	Dir     string                                  // holds <Namespace>/<Type>.lua
	Workers func(namespace string) (Workers, error) // the pool of a namespace, made when its first script appears
	Every   time.Duration                           // pause between two looks at the folder; 0: two seconds
	Log     *slog.Logger
}

// Scripts keeps the catalog in step with a folder of Lua scripts: a new, changed or removed file is a new, changed or
// withdrawn task type.
type Scripts struct {
	opts    ScriptsOptions
	catalog *Catalog
	seen    map[string]scriptFile // by <Namespace>/<Type>.lua
	stop    context.CancelFunc
	done    chan struct{}
}

// scriptName is what namespaces and task types are called.
var scriptName = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)

type scriptFile struct {
	info   fs.FileInfo
	looked time.Time // when it was read
	hash   string
}

// settled is how old a change must be when a file is read, so that another within the tick of the file system's clock is not missed.
const settled = time.Second

// same says whether a file is certainly as it was read. Another file in its place may have its size and its time.
func (f scriptFile) same(info fs.FileInfo) bool {
	return os.SameFile(f.info, info) && f.info.Size() == info.Size() && f.info.ModTime().Equal(info.ModTime()) && f.looked.Sub(info.ModTime()) > settled
}

// NewScripts checks the options. Nothing happens before Start.
func NewScripts(catalog *Catalog, opts ScriptsOptions) *Scripts {
	if opts.Every == 0 {
		opts.Every = 2 * time.Second
	}
	return &Scripts{opts: opts, catalog: catalog, seen: make(map[string]scriptFile)}
}

// Start describes every script once, then goes on watching until Stop. A script that cannot be described is offered
// with its problem and does not fail Start; an unreadable folder does.
func (s *Scripts) Start(ctx context.Context) error {
	if err := s.look(ctx); err != nil {
		return err
	}
	ctx, s.stop = context.WithCancel(ctx)
	s.done = make(chan struct{})
	go func() { // ends when Stop cancels ctx
		defer close(s.done)
		tick := time.NewTicker(s.opts.Every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := s.look(ctx); err != nil && ctx.Err() == nil {
					s.opts.Log.Warn("scripts folder not read", "dir", s.opts.Dir, "err", err)
				}
			}
		}
	}()
	return nil
}

// Stop ends the watching; the types stay offered.
func (s *Scripts) Stop(context.Context) error {
	if s.stop != nil {
		s.stop()
		<-s.done
		s.stop = nil
	}
	return nil
}

// look compares the folder with what was seen and describes what differs. Links are followed.
func (s *Scripts) look(ctx context.Context) error {
	scripts, err := s.list()
	if err != nil {
		return core.Errorf(core.KindInvalid, "read scripts folder "+s.opts.Dir, "%w", err)
	}
	for rel, info := range scripts {
		if err := s.refresh(ctx, rel, info); err != nil {
			return err
		}
	}
	for rel := range s.seen {
		if _, present := scripts[rel]; !present {
			delete(s.seen, rel)
			s.catalog.Withdraw(providerOf(rel))
			s.opts.Log.Info("script removed", "script", rel)
		}
	}
	return nil
}

// list gives the scripts there are, by <Namespace>/<Type>.lua. Everything else in the folder is not ours: tests, modules
// that scripts require (their names begin with a lower-case letter), README files.
func (s *Scripts) list() (map[string]fs.FileInfo, error) {
	scripts := make(map[string]fs.FileInfo)
	folders, err := os.ReadDir(s.opts.Dir)
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		dir := filepath.Join(s.opts.Dir, folder.Name())
		if info, err := os.Stat(dir); err != nil || !info.IsDir() || !scriptName.MatchString(folder.Name()) {
			continue
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			name, isLua := strings.CutSuffix(file.Name(), ".lua")
			if !isLua || !scriptName.MatchString(name) {
				continue
			}
			if info, err := os.Stat(filepath.Join(dir, file.Name())); err == nil && info.Mode().IsRegular() {
				scripts[filepath.Join(folder.Name(), file.Name())] = info
			}
		}
	}
	return scripts, nil
}

func providerOf(rel string) string { return "lua:" + filepath.ToSlash(rel) }

// refresh describes a script anew if its content has changed. Only the end of ctx is an error: what is wrong with one
// script is that script's problem.
func (s *Scripts) refresh(ctx context.Context, rel string, info fs.FileInfo) error {
	known, old := s.seen[rel]
	if old && known.same(info) {
		return nil
	}
	now := scriptFile{info: info, looked: time.Now()}
	source, err := os.ReadFile(filepath.Join(s.opts.Dir, rel))
	switch {
	case errors.Is(err, fs.ErrNotExist): // removed since it was listed: the next look sees it
		return nil
	case err == nil:
		sum := sha256.Sum256(source)
		if now.hash = hex.EncodeToString(sum[:]); old && known.hash == now.hash {
			s.seen[rel] = now
			return nil
		}
	}
	namespace := filepath.Dir(rel)
	typeName := namespace + "." + strings.TrimSuffix(filepath.Base(rel), ".lua")
	var workers Workers
	var types []core.TaskType
	if err == nil {
		workers, err = s.opts.Workers(namespace)
	}
	if err == nil {
		types, err = workers.Describe(ctx, typeName)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil { // it cannot be read, or the worker died or hung over it: the type is shown with its problem
		types = []core.TaskType{{Name: typeName, Version: now.hash[:min(12, len(now.hash))], Problem: err.Error(), ParamsSchema: []byte(`{"type":"object"}`)}}
	}
	s.seen[rel] = now
	for _, t := range types {
		if t.Problem != "" {
			s.opts.Log.Warn("script cannot run", "task_type", t.Name, "script", rel, "err", t.Problem)
		} else if old {
			s.opts.Log.Info("script changed", "task_type", t.Name, "version", t.Version)
		}
	}
	if err := s.catalog.Offer(providerOf(rel), workers, types); err != nil {
		s.opts.Log.Warn("script not offered", "script", rel, "err", err)
	}
	return nil
}
