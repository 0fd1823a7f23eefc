package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// BackupRequest asks for a backup of history.
type BackupRequest struct {
	Folder string `json:"folder" doc:"Its name, or a path, in the server's folder of backups; it must not exist yet" example:"2026-11-28" minLength:"1" maxLength:"500"`
	Base   string `json:"base,omitempty" doc:"A full backup in the same folder: only what it lacks is written, and restoring needs both" maxLength:"500"`
}

// Backup is a backup that was made.
type Backup struct {
	Folder  string        `json:"folder" doc:"Where it is, on the server's machine"`
	Base    string        `json:"base,omitempty" doc:"The backup it stands on"`
	MadeAt  *Time         `json:"made_at" doc:"The instant of all tables"`
	Seconds float64       `json:"seconds" doc:"How long it took"`
	Bytes   int64         `json:"bytes" doc:"On disk, the base apart"`
	Tables  []BackedTable `json:"tables" doc:"What it holds; restoring compares it"`
}

// BackedTable is one table in a backup.
type BackedTable struct {
	Name string `json:"name" doc:"The table" example:"runs"`
	Rows uint64 `json:"rows" doc:"Repeats apart"`
}

func (a *API) backups() {
	register(a, huma.Operation{
		OperationID: "back-up-history", Method: http.MethodPost, Path: "/v1/history/backups", Tags: []string{"history"},
		Summary: "Back up history of one instant; runs go on, and what they say waits in the spool meanwhile",
	}, rule{permission: "settings:write", source: fromServer, changes: true},
		func(ctx context.Context, in *struct{ Body BackupRequest }) (*struct{ Body Backup }, error) {
			made, err := a.opts.BackUp(ctx, in.Body.Folder, in.Body.Base)
			return &struct{ Body Backup }{made}, err
		})
}
