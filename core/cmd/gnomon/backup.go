package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/engine"
)

// gated is history with a gate in front of its writers: while it is shut they wait, and what they have waits on disk.
type gated struct {
	past
	gate sync.RWMutex
}

// WriteSegment writes what tasks said.
func (g *gated) WriteSegment(ctx context.Context, s core.Segment) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.past.WriteSegment(ctx, s)
}

// WriteRuns writes ended runs.
func (g *gated) WriteRuns(ctx context.Context, batchID string, ended []core.Run) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.past.WriteRuns(ctx, batchID, ended)
}

// WriteReconciliations writes what was found about a day.
func (g *gated) WriteReconciliations(ctx context.Context, batchID string, found []core.Reconciliation) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.past.WriteReconciliations(ctx, batchID, found)
}

// WriteBreakerChanges writes changes of breakers.
func (g *gated) WriteBreakerChanges(ctx context.Context, batchID string, changes []core.BreakerChange) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.past.WriteBreakerChanges(ctx, batchID, changes)
}

// WriteTasks writes versions of tasks.
func (g *gated) WriteTasks(ctx context.Context, batchID string, snapshots []core.TaskSnapshot) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.past.WriteTasks(ctx, batchID, snapshots)
}

// WriteTaskTypes writes versions of task types.
func (g *gated) WriteTaskTypes(ctx context.Context, batchID string, snapshots []core.TypeSnapshot) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.past.WriteTaskTypes(ctx, batchID, snapshots)
}

// manifestName is the file in a backup that says what it holds. ClickHouse leaves it alone.
const manifestName = "gnomon-backup.json"

// manifest is what a backup says of itself.
type manifest struct {
	Layout  int                   `json:"layout"`
	Gnomon  string                `json:"gnomon"` // version that made it
	Engine  string                `json:"engine"` // version of ClickHouse
	MadeAt  time.Time             `json:"made_at"`
	Base    string                `json:"base,omitempty"` // name of the folder beside it that it stands on
	Tables  []clickhouse.Checksum `json:"tables"`
	Seconds float64               `json:"seconds"`
}

// readManifest reads what a backup says of itself; KindInvalid if there is no whole backup.
func readManifest(folder string) (manifest, error) {
	var m manifest
	text, err := os.ReadFile(filepath.Join(folder, manifestName))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err == nil && m.Layout != 1 {
		err = fmt.Errorf("its layout %d is not known to this version", m.Layout)
	}
	if err != nil {
		return m, core.Errorf(core.KindInvalid, "read the backup "+folder, "it is not a whole backup of gnomon: %w", err)
	}
	return m, nil
}

// backUp makes a backup of history of one instant. Its writers wait meanwhile; runs do not: what they say is in the spool.
func (a *app) backUp(ctx context.Context, folder, base string) (api.Backup, error) {
	const op = "back up history"
	if a.engine == nil {
		return api.Backup{}, core.Invalid(op, core.Finding{Path: "folder", Message: core.Text{
			Zh: "历史在自己的 ClickHouse 服务器中：请用它的 BACKUP DATABASE 备份，见 core/docs/history-backup.md",
			En: "history is in a ClickHouse server of your own: use its BACKUP DATABASE; core/docs/history-backup.md says how",
		}})
	}
	into, err := a.inBackups("folder", folder)
	if err != nil {
		return api.Backup{}, err
	}
	if _, err := os.Lstat(into); err == nil {
		return api.Backup{}, core.Errorf(core.KindConflict, op, "%s exists; name a folder that does not", into)
	}
	made := manifest{Layout: 1, Gnomon: version, Engine: a.history.Version()}
	from := ""
	if base != "" {
		if from, err = a.inBackups("base", base); err != nil {
			return api.Backup{}, err
		}
		below, err := readManifest(from)
		if err != nil {
			return api.Backup{}, err
		}
		if below.Base != "" {
			return api.Backup{}, core.Invalid(op, core.Finding{Path: "base", Message: core.Text{
				Zh: base + " 本身是增量备份；请以完整备份为基础", En: base + " stands on another backup itself; name a full one",
			}})
		}
		made.Base = filepath.Base(from)
	}
	database, err := a.history.Database(ctx)
	if err != nil {
		return api.Backup{}, err
	}
	began := time.Now()
	a.log.Info("backup of history begins", "folder", into, "base", from)
	if err := a.shutGate(ctx); err != nil {
		return api.Backup{}, err
	}
	made.MadeAt = time.Now().UTC()
	if made.Tables, err = a.history.Checksums(ctx); err == nil {
		err = a.history.Backup(ctx, database, into, from)
	}
	a.history.gate.Unlock()
	if err == nil {
		made.Seconds = time.Since(began).Seconds()
		err = writeManifest(into, made)
	}
	if err != nil {
		a.log.Error("backup of history not made", "folder", into, "err", err)
		return api.Backup{}, errors.Join(err, os.RemoveAll(into)) // nobody shall take a part for a whole
	}
	size, err := sizeOf(into)
	if err != nil {
		return api.Backup{}, err
	}
	out := api.Backup{Folder: into, Base: made.Base, MadeAt: instant(made.MadeAt), Seconds: made.Seconds, Bytes: size}
	for _, t := range made.Tables {
		out.Tables = append(out.Tables, api.BackedTable{Name: t.Table, Rows: t.Rows})
	}
	a.log.Info("backup of history made", "folder", into, "bytes", size, "duration_ms", time.Since(began).Milliseconds())
	return out, nil
}

// shutGate keeps writers from history once those under way are through, and other backups until this one is.
func (a *app) shutGate(ctx context.Context) error {
	shut := make(chan struct{})
	go func() { // ends when the writers under way are through
		a.history.gate.Lock()
		close(shut)
	}()
	select {
	case <-shut:
		return nil
	case <-ctx.Done():
		go func() { // ends likewise
			<-shut
			a.history.gate.Unlock()
		}()
		return context.Cause(ctx)
	}
}

// inBackups gives the path of a backup, which lies directly in the server's folder of backups.
func (a *app) inBackups(field, name string) (string, error) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(a.config.Backups, path)
	}
	if path = filepath.Clean(path); filepath.Dir(path) != a.config.Backups {
		return "", core.Invalid("back up history", core.Finding{Path: field, Message: core.Text{
			Zh: fmt.Sprintf("备份须直接放在 %s 之下；另一个位置由服务器配置 backups（GNOMON_BACKUPS）指定", a.config.Backups),
			En: fmt.Sprintf("backups lie directly in %s; another place is named by backups in the server's configuration (GNOMON_BACKUPS)", a.config.Backups),
		}})
	}
	return path, nil
}

// writeManifest is the last step of a backup: without it there is none.
func writeManifest(folder string, m manifest) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(folder, manifestName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	return errors.Join(err, file.Sync(), file.Close())
}

func sizeOf(folder string) (total int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// restore fills the empty history of a data folder that no server has open from a backup, and compares it with what the
// backup says it holds.
func restore(ctx context.Context, config Config, folder string, log *slog.Logger) (m manifest, err error) {
	const op = "restore history"
	if config.ClickHouseDSN != "" {
		return m, core.Invalid(op, core.Finding{Message: core.Text{
			Zh: "历史在自己的 ClickHouse 服务器中：请用它的 RESTORE DATABASE 恢复，见 core/docs/history-backup.md",
			En: "history is in a ClickHouse server of your own: use its RESTORE DATABASE; core/docs/history-backup.md says how",
		}})
	}
	if folder, err = filepath.Abs(folder); err != nil {
		return m, err
	}
	if m, err = readManifest(folder); err != nil {
		return m, err
	}
	base := ""
	if m.Base != "" {
		base = filepath.Join(filepath.Dir(folder), m.Base)
		if _, err := readManifest(base); err != nil {
			return m, fmt.Errorf("the backup stands on %s, which must lie beside it: %w", m.Base, err)
		}
	}
	socket := filepath.Join(runDir(config.Data), "engine.sock")
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return m, err
	}
	eng, err := engine.NewSupervisor(engine.SupervisorOptions{Dir: filepath.Join(config.Data, "history"), Socket: socket, Backups: filepath.Dir(folder), Log: log})
	if err != nil {
		return m, err
	}
	if err := eng.Start(ctx); err != nil {
		if strings.Contains(err.Error(), "another") {
			return m, core.Errorf(core.KindConflict, op, "a server has %s open; stop it first: %w", config.Data, err)
		}
		return m, err
	}
	defer func() { err = errors.Join(err, eng.Stop(context.WithoutCancel(ctx))) }()
	options := clickhouse.Options{Socket: socket, Log: log}
	got, err := clickhouse.Restore(ctx, options, folder, base)
	if err != nil {
		return m, err
	}
	if wrong := clickhouse.Differences(m.Tables, got); len(wrong) > 0 {
		return m, core.Errorf(core.KindDamaged, op, "what was restored is not what was backed up: %s", strings.Join(wrong, "; "))
	}
	history, err := clickhouse.Open(ctx, options) // brings the schema up to date
	if err != nil {
		return m, err
	}
	// The spool keeps some minutes of what it has shipped. Without its checkpoint it ships all of that again, each record
	// once: what was said between the backup and now comes back as far as it is still there.
	if err := os.Remove(filepath.Join(config.Data, "spool", "checkpoint")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return m, errors.Join(err, history.Close())
	}
	return m, history.Close()
}
