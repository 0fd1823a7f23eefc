package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
	"github.com/gnomon-scheduler/gnomon/sdk/sqlgrant"
)

// DeletionParams are the parameters of ImageArchive.DocumentDeletionService.
type DeletionParams struct {
	Batch int `json:"batch,omitempty" doc:"documents deleted in one run at most" default:"500" minimum:"1" maximum:"10000"`
}

// DeletionOutput is what a run did.
type DeletionOutput struct {
	Deleted    int   `json:"deleted" doc:"files removed"`
	Missing    int   `json:"missing" doc:"files that were gone already"`
	FreedBytes int64 `json:"freed_bytes"`
}

var documentDeletion = sdk.Define(sdk.Definition{
	Name: "ImageArchive.DocumentDeletionService",
	Title: sdk.Text{
		Zh: "文件删除服务：根据文档表（Document），获取标记为已删除的记录，将对应的文件进行删除，并删除存储信息数据，检查数据进行变更保留",
		En: "Delete the files of documents marked as deleted, and keep the change record",
	},
	Description: sdk.Text{
		Zh: "逐个删除已打删除标记的文档文件，移除存储信息，写入变更记录。",
		En: "Removes each marked document's file, then its storage row, and writes the change record.",
	},
	Needs:   []string{"sql:business", "files:archive"},
	Timeout: 10 * time.Minute,
	Example: DeletionParams{Batch: 10},
}, deleteMarked)

// document is one row marked for deletion.
type document struct {
	id   int64
	path string
	size int64
}

// deleteMarked removes the file first and writes the change after it: a crash between the two leaves a marked row whose
// file is missing, which the next run completes. The other order could leave a file that nothing points to.
func deleteMarked(ctx context.Context, run *sdk.Run, p DeletionParams) (DeletionOutput, error) {
	var out DeletionOutput
	db, err := sqlgrant.DB(run, "business")
	if err != nil {
		return out, err
	}
	folder, ok := run.Grant("files:archive")
	if !ok || !filepath.IsAbs(folder) {
		return out, sdk.Permanent(errors.New("the grant files:archive must be the absolute path of the archive's folder"))
	}
	archive, err := os.OpenRoot(folder) // a path in the database cannot lead out of it
	if err != nil {
		return out, fmt.Errorf("open the archive: %w", err)
	}
	defer archive.Close()
	marked, err := markedDocuments(ctx, db, p.Batch)
	if err != nil {
		return out, err
	}
	for i, doc := range marked {
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		err := archive.Remove(filepath.FromSlash(doc.path))
		switch {
		case err == nil:
			out.Deleted++
			out.FreedBytes += doc.size
		case errors.Is(err, fs.ErrNotExist):
			out.Missing++
			run.Log.Warn("file was gone already", "document_id", doc.id, "path", doc.path)
		default:
			return out, fmt.Errorf("delete document %d (%s): %w", doc.id, doc.path, err)
		}
		if err := recordDeletion(ctx, db, doc, run.ID); err != nil {
			return out, err
		}
		run.Progress(int64(i+1), int64(len(marked)), doc.path)
	}
	run.Log.Info("documents deleted", "deleted", out.Deleted, "missing", out.Missing, "freed_bytes", out.FreedBytes)
	return out, nil
}

func markedDocuments(ctx context.Context, db *sql.DB, limit int) ([]document, error) {
	rows, err := db.QueryContext(ctx, `SELECT id, path, size_bytes FROM document WHERE state = 'marked' ORDER BY marked_at, id LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("read marked documents: %w", err)
	}
	defer rows.Close()
	var list []document
	for rows.Next() {
		var doc document
		if err := rows.Scan(&doc.id, &doc.path, &doc.size); err != nil {
			return nil, fmt.Errorf("read marked documents: %w", err)
		}
		list = append(list, doc)
	}
	return list, rows.Err()
}

// recordDeletion writes row, storage information and change record together.
func recordDeletion(ctx context.Context, db *sql.DB, doc document, runID string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("record the deletion of document %d: %w", doc.id, err)
	}
	now := time.Now().UnixMilli()
	_, err = tx.ExecContext(ctx, `UPDATE document SET state = 'deleted', deleted_at = $1 WHERE id = $2 AND state = 'marked'`, now, doc.id)
	if err == nil {
		_, err = tx.ExecContext(ctx, `DELETE FROM document_storage WHERE document_id = $1`, doc.id)
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO document_change (document_id, at, change, path, size_bytes, reason, run_id) VALUES ($1, $2, 'deleted', $3, $4, 'marked for deletion', $5)`,
			doc.id, now, doc.path, doc.size, runID)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("record the deletion of document %d: %w", doc.id, err), tx.Rollback())
	}
	return tx.Commit()
}
