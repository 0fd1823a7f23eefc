package clickhouse

import (
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

//go:embed views/*.sql
var viewFiles embed.FS

// view is one file of views: the header and one statement. Views hold no rows, so unlike a migration the file is edited
// when the view changes; its name and columns are the analyst's contract.
type view struct {
	name    string
	header  string // the lines of comment without their dashes; see history.md
	example string // of the header: one statement that works as it stands
	comment string // the view's own, which ends in the checksum of the file
	sql     string
}

// mark is the end of a view's comment: the checksum of the file it was made from.
var mark = regexp.MustCompile(`\nCOMMENT '((?:[^']|'')+)'\n$`)

// views gives the embedded files in an order in which each comes after the views it reads.
func views() ([]view, error) {
	paths, err := fs.Glob(viewFiles, "views/*.sql")
	if err != nil {
		return nil, err
	}
	known := make([]view, 0, len(paths))
	for _, path := range paths {
		text, err := viewFiles.ReadFile(path)
		if err != nil {
			return nil, err
		}
		v, err := parseView(strings.TrimSuffix(strings.TrimPrefix(path, "views/"), ".sql"), string(text))
		if err != nil {
			return nil, err
		}
		known = append(known, v)
	}
	var sorted []view
	for len(known) > 0 {
		free := slices.IndexFunc(known, func(v view) bool {
			return !slices.ContainsFunc(known, func(o view) bool { return o.name != v.name && v.reads(o.name) })
		})
		if free < 0 {
			return nil, fmt.Errorf("view %s and others read one another", known[0].name)
		}
		sorted = append(sorted, known[free])
		known = slices.Delete(known, free, free+1)
	}
	return sorted, nil
}

func (v view) reads(name string) bool {
	return regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(v.sql)
}

// parseView takes a file apart: lines of comment, then one statement that ends in the view's comment.
func parseView(name, text string) (view, error) {
	v := view{name: name}
	body := text
	for strings.HasPrefix(body, "--") {
		var line string
		line, body, _ = strings.Cut(body, "\n")
		v.header += strings.TrimPrefix(strings.TrimPrefix(line, "--"), " ") + "\n"
	}
	_, example, _ := strings.Cut(v.header, "\nExample:\n")
	for line := range strings.Lines(example) {
		v.example += strings.TrimPrefix(line, "  ")
	}
	v.example = strings.TrimSpace(v.example)
	said := mark.FindStringSubmatch(body)
	if said == nil || v.example == "" || !strings.HasPrefix(body, "CREATE OR REPLACE VIEW "+name+"\n(") {
		return v, fmt.Errorf("view %s: a header with an example, then CREATE OR REPLACE VIEW %s and a list of columns, and a comment as the last line", name, name)
	}
	sum := sha256.Sum256([]byte(text))
	v.comment = fmt.Sprintf("%s [%s]", said[1], hex.EncodeToString(sum[:6]))
	v.sql = mark.ReplaceAllLiteralString(body, "\nCOMMENT '"+v.comment+"'")
	return v, nil
}

// replaceViews makes the views those of this program. A view says in its comment from which text it was made, so that one
// question is asked when nothing has changed. Two servers may do so at once; of two versions the last one started wins.
func (c *Client) replaceViews(ctx context.Context, conn driver.Conn) error {
	const op = "make the views of history"
	known, err := views()
	if err != nil {
		return err
	}
	names := make([]string, len(known))
	for i := range known {
		names[i] = known[i].name
	}
	rows, err := conn.Query(settings(ctx, reading()), "SELECT name, comment FROM system.tables WHERE database = currentDatabase() AND name IN {names:Array(String)}", ch.Named("names", names))
	if err != nil {
		return serverError(op, err)
	}
	defer rows.Close()
	there := make(map[string]string)
	for rows.Next() {
		var name, comment string
		if err := rows.Scan(&name, &comment); err != nil {
			return serverError(op, err)
		}
		there[name] = comment
	}
	if err := rows.Err(); err != nil {
		return serverError(op, err)
	}
	for _, v := range known {
		if there[v.name] == strings.ReplaceAll(v.comment, "''", "'") {
			continue
		}
		if err := c.cluster.exec(ctx, conn, c.cluster.view(v, known)); err != nil {
			return serverError(op+": "+v.name, err)
		}
		c.log.Info("view made", "view", v.name, "replaced", cmp.Or(there[v.name], "none"))
	}
	return nil
}
