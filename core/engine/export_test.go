//go:build linux || darwin

package engine

import (
	"time"

	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// InsertHead is insertHead.
func InsertHead(sql string) (head, format string, data int, ok bool) { return insertHead(sql) }

// OutputFormat is statement.OutputFormat.
func OutputFormat(sql string) string { return statement.OutputFormat(sql) }

// RefusedToReaders tells whether the guard of a library with these table functions refuses sql.
func RefusedToReaders(sql string, tableFunctions ...string) bool {
	return statement.New(tableFunctions, nil, nil).Reader(sql) != nil
}

// Hangs is hangs.
func Hangs(silent, used, limit time.Duration) bool { return hangs(silent, used, limit) }
