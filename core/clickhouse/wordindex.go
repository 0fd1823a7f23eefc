package clickhouse

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// The expressions that the indexes of messages are over (migration 0014). Conditions must have them word for word.
const (
	asciiPart = "replaceRegexpAll(lower(message), '[^ -~]+', ' ')"
	otherPart = "replaceRegexpAll(message, '[ -~]+', ' ')"
	// wordIndexes are made by IndexLines, not by inserts and merges.
	wordIndexes = "message_words,message_pairs"
)

// deferWordIndexes keeps inserts and merges from making the indexes of messages, where the server knows how to (ClickHouse
// 26). An older one makes them each time, at the price of half as much again for a line.
func (c *Client) deferWordIndexes(ctx context.Context, conn driver.Conn) error {
	known := 0
	err := eachOf(ctx, conn, "SELECT name FROM system.settings WHERE name = 'exclude_materialize_skip_indexes_on_insert' UNION ALL SELECT name FROM system.merge_tree_settings WHERE name = 'exclude_materialize_skip_indexes_on_merge'",
		nil, func(rows driver.Rows) error {
			var name string
			known++
			return rows.Scan(&name)
		})
	if err != nil || known != 2 {
		return err
	}
	c.defersIndexes = true
	done := false
	err = eachOf(ctx, conn, "SELECT position(create_table_query, 'exclude_materialize_skip_indexes_on_merge') > 0 FROM system.tables WHERE database = currentDatabase() AND name = {table:String}",
		[]any{ch.Named("table", c.cluster.local("run_logs"))}, func(rows driver.Rows) error {
			var set uint8
			err := rows.Scan(&set)
			done = set != 0
			return err
		})
	if err != nil || done {
		return err
	}
	return c.cluster.exec(ctx, conn, c.cluster.alter("run_logs")+" MODIFY SETTING exclude_materialize_skip_indexes_on_merge = '"+wordIndexes+"'")
}

// indexTime bounds the indexing of one day's lines.
const indexTime = 30 * time.Minute

// IndexLines makes the indexes of messages for the days from <= day < to that have lines, the oldest first, and gives the day
// after the last that was done: to, or where an error stopped it. Doing a day again does no harm. Lines that arrive
// later are searched without an index. On a cluster the shards have been told to, and do it by themselves.
func (c *Client) IndexLines(ctx context.Context, from, to time.Time) (time.Time, error) {
	const op = "index log lines"
	from, to = from.UTC().Truncate(24*time.Hour), to.UTC().Truncate(24*time.Hour)
	ids, err := c.partitions(ctx, "run_logs")
	if err != nil {
		return from, serverError(op, err)
	}
	for _, id := range ids {
		day, _, ok := partitionTime(id)
		if !ok || day.Before(from) || !day.Before(to) {
			continue
		}
		if err := c.indexDay(ctx, id); err != nil {
			return day, serverError(op+" of "+id, err)
		}
	}
	return to, nil
}

func (c *Client) indexDay(ctx context.Context, partition string) error {
	ctx, cancel := context.WithTimeout(ctx, indexTime)
	defer cancel()
	return c.conn.Exec(settings(ctx, c.cluster.mutations()),
		c.cluster.alter("run_logs")+fmt.Sprintf(" MATERIALIZE INDEX message_words IN PARTITION ID '%[1]s', MATERIALIZE INDEX message_pairs IN PARTITION ID '%[1]s'", partition))
}

var (
	asciiWords = regexp.MustCompile(`[0-9a-z]+`)
	otherTexts = regexp.MustCompile(`[^ -~]{2,}`)
)

// textConditions say that a message contains a text, in whatever case, and let the indexes help: always with what is not
// ASCII; with letters and digits only if they must be whole words, because the index has no parts of them.
func textConditions(text string, wholeWords bool) (condition string, args []any) {
	all := []string{containsText}
	args = []any{ch.Named("text", text)}
	for i, part := range otherTexts.FindAllString(text, 10) {
		if strings.ToLower(part) != strings.ToUpper(part) { // it has cases, and the index only what was written
			continue
		}
		name := fmt.Sprintf("other%d", i)
		all, args = append(all, otherPart+" LIKE {"+name+":String}"), append(args, ch.Named(name, "%"+likeText(part)+"%"))
	}
	if wholeWords {
		for i, word := range asciiWords.FindAllString(strings.ToLower(text), 10) {
			name := fmt.Sprintf("word%d", i)
			all, args = append(all, "hasToken("+asciiPart+", {"+name+":String})"), append(args, ch.Named(name, word))
		}
	}
	return strings.Join(all, " AND "), args
}

// likeText takes the meaning of wildcards out of a text.
func likeText(text string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text)
}
