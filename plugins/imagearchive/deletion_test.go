package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
)

func TestPluginKeepsTheContract(t *testing.T) { sdktest.Exercise(t, plugin()) }

// archive is a business database and an archive folder with documents marked for deletion.
func archive(t *testing.T, paths ...string) (db *sql.DB, folder string, grants map[string]string) {
	t.Helper()
	dir := t.TempDir()
	folder = filepath.Join(dir, "archive")
	db, err := sql.Open("sqlite", filepath.Join(dir, "business.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	schema, err := os.ReadFile("../../deploy/demo/hospital/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(string(schema)); err != nil {
		t.Fatal(err)
	}
	for i, path := range paths {
		full := filepath.Join(folder, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o700), os.WriteFile(full, []byte("DICOM"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(`INSERT INTO document (id, org_id, path, size_bytes, state, created_at, marked_at) VALUES ($1, 1, $2, 5, 'marked', 1, 2);
			INSERT INTO document_storage (document_id, volume, stored_at) VALUES ($1, 'archive-1', 1)`, i+1, path); err != nil {
			t.Fatal(err)
		}
	}
	return db, folder, map[string]string{"sql:business": "sqlite:" + filepath.Join(dir, "business.db"), "files:archive": folder}
}

func count(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestMarkedDocumentsAreDeletedAndTheChangeIsKept(t *testing.T) {
	t.Parallel()
	db, folder, grants := archive(t, "org-1/a.dcm", "org-1/b.dcm", "org-2/c.dcm")
	if err := os.Remove(filepath.Join(folder, "org-1/b.dcm")); err != nil { // a run that crashed had come this far
		t.Fatal(err)
	}
	result := sdktest.Start(t, plugin()).Run(t.Context(), sdktest.Attempt{Type: "ImageArchive.DocumentDeletionService", Grants: grants, RunID: "run-1"})
	var out DeletionOutput
	if err := json.Unmarshal(result.Output, &out); err != nil {
		t.Fatalf("%s %s %v", result.Verdict, result.Message, err)
	}
	if out != (DeletionOutput{Deleted: 2, Missing: 1, FreedBytes: 10}) {
		t.Errorf("got %+v", out)
	}
	if _, err := os.Stat(filepath.Join(folder, "org-2/c.dcm")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if n := count(t, db, `SELECT count(*) FROM document WHERE state = 'deleted'`); n != 3 {
		t.Errorf("%d documents deleted, want 3", n)
	}
	if n := count(t, db, `SELECT count(*) FROM document_change WHERE change = 'deleted' AND run_id = 'run-1'`); n != 3 {
		t.Errorf("%d changes kept, want 3", n)
	}
	if n := count(t, db, `SELECT count(*) FROM document_storage`); n != 0 {
		t.Errorf("%d storage rows left", n)
	}
}

func TestBatchBoundsARun(t *testing.T) {
	t.Parallel()
	var paths []string
	for i := range 7 {
		paths = append(paths, fmt.Sprintf("%d.dcm", i))
	}
	db, _, grants := archive(t, paths...)
	sdktest.Start(t, plugin()).Run(t.Context(), sdktest.Attempt{Type: "ImageArchive.DocumentDeletionService", Grants: grants, Params: `{"batch":3}`})
	if n := count(t, db, `SELECT count(*) FROM document WHERE state = 'deleted'`); n != 3 {
		t.Errorf("%d documents deleted, want 3", n)
	}
}

func TestPathCannotLeaveTheArchive(t *testing.T) {
	t.Parallel()
	db, folder, grants := archive(t, "x.dcm")
	outside := filepath.Join(filepath.Dir(folder), "patients.db")
	if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`UPDATE document SET path = '../patients.db'`); err != nil {
		t.Fatal(err)
	}
	result := sdktest.Start(t, plugin()).Run(t.Context(), sdktest.Attempt{Type: "ImageArchive.DocumentDeletionService", Grants: grants})
	if result.Verdict != sdktest.Failed {
		t.Errorf("got %s", result.Verdict)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a file outside the archive was deleted: %v", err)
	}
}
