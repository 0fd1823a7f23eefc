//go:build linux || darwin

package engine

// InsertHead is insertHead.
func InsertHead(sql string) (head, format string, data int, ok bool) { return insertHead(sql) }

// OutputFormat is outputFormat.
func OutputFormat(sql string) string { return outputFormat(sql) }

// RefusedToReaders tells whether the guard of a library with these table functions refuses sql.
func RefusedToReaders(sql string, tableFunctions ...string) bool {
	g := &guard{tableFunctions: make(map[string]bool)}
	for _, name := range tableFunctions {
		g.tableFunctions[name] = true
	}
	return g.forReader(sql) != nil
}
