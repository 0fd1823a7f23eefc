package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

// cluster is the ClickHouse cluster that history is spread over; nil: history is in one server. All that differs on a
// cluster is said here and asked of its methods, which a nil cluster has, too (ADR 021).
//
// Large tables (sharded) are NAME_local on every node, replicated within a shard, and NAME, a Distributed table over them. All
// others are shared: every node has the whole table under its own name, so that joins with them stay on the node.
type cluster struct {
	name     string
	database string // the same on every node
}

// sharded are the large tables and what a row's shard is found by. All rows of a run lie on one shard, and so does a row
// that is sent twice: the table's key, by which repeats are removed, has these columns in it.
var sharded = map[string]string{
	"fires":          "cityHash64(run_id)",
	"runs":           "cityHash64(run_id)",
	"attempts":       "cityHash64(run_id)",
	"run_logs":       "cityHash64(run_id)",
	"run_samples":    "cityHash64(run_id)",
	"plugin_samples": "cityHash64(plugin, pid)",
	// Filled on each node from its plugin_samples.
	"process_hours": "cityHash64(plugin, pid)",
}

// takeCluster takes the cluster out of a DSN: ClickHouse would take it for a setting.
func takeCluster(dsn string) (name, rest string, err error) {
	at, failed := url.Parse(dsn)
	if failed != nil || !at.Query().Has("cluster") {
		return "", dsn, nil
	}
	values := at.Query()
	name = values.Get("cluster")
	if name == "" || len(values["cluster"]) > 1 {
		return "", "", core.Invalid("open history", core.Finding{Message: core.Text{
			Zh: "ClickHouse DSN 中的 cluster 必须恰好给出一个集群名，例如 ?cluster=main",
			En: "cluster in the ClickHouse DSN must name one cluster, like ?cluster=main",
		}})
	}
	values.Del("cluster")
	at.RawQuery = values.Encode()
	return name, at.String(), nil
}

// onCluster goes behind a name in a statement that every node is to carry out.
func (c *cluster) onCluster() string {
	if c == nil {
		return ""
	}
	return " ON CLUSTER " + quoted(c.name)
}

// local is the table that has the rows of a table on each node.
func (c *cluster) local(table string) string {
	if c == nil || sharded[table] == "" {
		return table
	}
	return table + "_local"
}

// in gives the full name of a table or view. A node that carries out a statement of the cluster's queue knows nothing of the
// database that was current where it came from, but for the name the statement begins with.
func (c *cluster) in(table string) string {
	if c == nil {
		return table
	}
	return quoted(c.database) + "." + table
}

// alter begins an ALTER of what has a table's rows. A shared table hands it on to all nodes itself.
func (c *cluster) alter(table string) string {
	if c == nil || sharded[table] == "" {
		return "ALTER TABLE " + c.in(table)
	}
	return "ALTER TABLE " + c.in(c.local(table)) + c.onCluster()
}

// system is a table of the database system: of one replica of each shard.
func (c *cluster) system(table string) string {
	if c == nil {
		return "system." + table
	}
	return "cluster(" + literal(c.name) + ", system." + table + ")"
}

// everywhere is a table of the database system: of all nodes.
func (c *cluster) everywhere(table string) string {
	if c == nil {
		return "system." + table
	}
	return "clusterAllReplicas(" + literal(c.name) + ", system." + table + ")"
}

// mutations are the settings of an ALTER that rewrites parts. The queue of a cluster's statements is worked off one by one, so
// that nobody may wait in it; a server of one's own is waited for.
func (c *cluster) mutations() ch.Settings {
	if c == nil {
		return ch.Settings{"mutations_sync": 1}
	}
	return with(ddl(), ch.Settings{"mutations_sync": 0})
}

// ddl are the settings of statements that all nodes carry out. One that is away does so when it is back; the error of any other
// is the statement's, over HTTP too.
func ddl() ch.Settings {
	return ch.Settings{"distributed_ddl_output_mode": "throw_only_active", "distributed_ddl_task_timeout": 180, "http_wait_end_of_query": 1}
}

func with(s, more ch.Settings) ch.Settings {
	for name, value := range more {
		s[name] = value
	}
	return s
}

// inserting are the settings of inserts besides those they have anyway: on a cluster the answer comes when the shards
// have the rows.
func (c *cluster) inserting() ch.Settings {
	if c == nil {
		return nil
	}
	return ch.Settings{"distributed_foreground_insert": 1}
}

// exec runs a statement that changes the schema.
func (c *cluster) exec(ctx context.Context, conn driver.Conn, sql string) error {
	if c == nil {
		return conn.Exec(ctx, sql)
	}
	err := conn.Exec(settings(ctx, ddl()), sql)
	if e := serverError("", err); codeIs(e, timedOut) {
		return core.Errorf(core.KindUnavailable, "change the schema of cluster "+c.name, "not every node has done it yet: %w", err)
	}
	return err
}

// timedOut is ClickHouse's TIMEOUT_EXCEEDED.
const timedOut = 159

func codeIs(err error, code int) bool {
	e, ok := err.(*core.Error) //nolint:errorlint // serverError has just made it
	return ok && codeOf(e) == code
}

// The forms that our migrations have.
var (
	createTable = regexp.MustCompile(`^CREATE TABLE IF NOT EXISTS (\w+)\n`)
	alterTable  = regexp.MustCompile(`^ALTER TABLE (\w+)\s`)
	createFill  = regexp.MustCompile(`^CREATE MATERIALIZED VIEW IF NOT EXISTS (\w+) TO (\w+)\n`)
	fillSource  = regexp.MustCompile(`\nFROM (\w+)`)
	tableEngine = regexp.MustCompile(`\nENGINE = (\w*MergeTree)(?:\(([^()\n]*)\))?\n`)
	tableWindow = regexp.MustCompile(`\bnon_replicated_deduplication_window = (\d+)`)
	tableAbout  = regexp.MustCompile(`\nCOMMENT '((?:[^']|'')*)'\s*$`)
)

// statements gives what is run for one migration, in order; each may be run again. It fails if the file has none of the forms
// above.
func (c *cluster) statements(file string) ([]string, error) {
	if c == nil {
		return []string{file}, nil
	}
	sql := file
	for strings.HasPrefix(sql, "--") {
		_, sql, _ = strings.Cut(sql, "\n")
	}
	if m := createTable.FindStringSubmatch(sql); m != nil {
		return c.create(m[1], sql[len(m[0]):])
	}
	if m := alterTable.FindStringSubmatch(sql); m != nil {
		return c.change(m[1], sql[len(m[0])-1:])
	}
	if m := createFill.FindStringSubmatch(sql); m != nil {
		from := fillSource.FindStringSubmatch(sql)
		if from == nil || (c.local(from[1]) == from[1]) != (c.local(m[2]) == m[2]) {
			// A batch has one token on all shards, so that what they make of it must not meet in one table.
			return nil, fmt.Errorf("the view %s fills a shared table from a sharded one, or the other way round", m[1])
		}
		sql = "CREATE MATERIALIZED VIEW IF NOT EXISTS " + c.in(m[1]) + c.onCluster() + " TO " + c.in(c.local(m[2])) + "\n" + sql[len(m[0]):]
		return []string{strings.Replace(sql, from[0], "\nFROM "+c.in(c.local(from[1])), 1)}, nil
	}
	head, _, _ := strings.Cut(sql, "\n")
	return nil, fmt.Errorf("no form of migrations that is known on a cluster: %s", head)
}

// create makes a replicated table and, if it is sharded, the Distributed table over it. body is what follows the name.
func (c *cluster) create(name, body string) ([]string, error) {
	local := c.local(name)
	engine := tableEngine.FindStringSubmatchIndex(body)
	if engine == nil {
		return nil, fmt.Errorf("the table %s is of no MergeTree", name)
	}
	path, replica := "every", "{shard}-{replica}" // one path for all nodes
	if local != name {
		path, replica = "{shard}", "{replica}"
	}
	args := literal("/clickhouse/tables/"+c.name+"/"+path+"/"+c.database+"/"+local) + ", " + literal(replica)
	if engine[4] >= 0 {
		args += ", " + body[engine[4]:engine[5]]
	}
	rows := body[:engine[0]] + "\nENGINE = Replicated" + body[engine[2]:engine[3]] + "(" + args + ")\n" + body[engine[1]:]
	rows = tableWindow.ReplaceAllString(rows, "replicated_deduplication_window = $1, replicated_deduplication_window_seconds = 604800")
	all := []string{"CREATE TABLE IF NOT EXISTS " + c.in(local) + c.onCluster() + "\n" + rows}
	if local == name {
		return all, nil
	}
	list, ok := strings.CutSuffix(strings.TrimPrefix(body[:engine[0]], "(\n"), "\n)")
	columns, err := lines(list, []string{"    INDEX "}, "    ")
	about := tableAbout.FindString(body)
	if !ok || err != nil || about == "" {
		return nil, fmt.Errorf("the table %s is not one column to a line, then the indexes, with a comment at the end: %w", name, err)
	}
	return append(all, "CREATE TABLE IF NOT EXISTS "+c.in(name)+c.onCluster()+"\n(\n"+columns+"\n)\nENGINE = Distributed("+
		literal(c.name)+", "+literal(c.database)+", "+literal(local)+", "+sharded[name]+")"+about), nil
}

// change alters the table that has the rows and then, in what it has of the change, the Distributed one.
func (c *cluster) change(name, changes string) ([]string, error) {
	all := []string{c.alter(name) + changes}
	if c.local(name) == name {
		return all, nil
	}
	columns, err := lines(strings.TrimSpace(changes), []string{"ADD INDEX ", "MATERIALIZE COLUMN ", "MODIFY SETTING "}, "ADD COLUMN IF NOT EXISTS ", "MODIFY COLUMN IF EXISTS ", "COMMENT COLUMN IF EXISTS ")
	if err != nil {
		return nil, fmt.Errorf("a change of the table %s: %w", name, err)
	}
	if columns != "" {
		all = append(all, "ALTER TABLE "+c.in(name)+c.onCluster()+"\n"+columns)
	}
	return all, nil
}

// lines gives those lines of a list that do not begin with any of without. All others must begin with one of known.
func lines(list string, without []string, known ...string) (string, error) {
	var kept []string
	for line := range strings.Lines(list) {
		line = strings.TrimRight(line, "\n,")
		begins := func(with string) bool {
			return strings.HasPrefix(line, with) || strings.HasPrefix(strings.TrimSpace(line), with)
		}
		if slices.ContainsFunc(without, begins) {
			continue
		}
		if !slices.ContainsFunc(known, begins) {
			return "", fmt.Errorf("no line that is known on a cluster: %s", line)
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, ",\n"), nil
}

// view is the statement that makes a view on every node. It may read our tables and the views given.
func (c *cluster) view(v view, views []view) string {
	if c == nil {
		return v.sql
	}
	begin := "CREATE OR REPLACE VIEW "
	body := readsFrom.ReplaceAllStringFunc(strings.TrimPrefix(v.sql, begin+v.name), func(text string) string {
		m := readsFrom.FindStringSubmatch(text)
		ours := slices.ContainsFunc(Readables(), func(r Readable) bool { return r.Table == m[2] }) || slices.ContainsFunc(views, func(o view) bool { return o.name == m[2] })
		if !ours { // what the view itself names by WITH
			return text
		}
		return m[1] + c.in(m[2])
	})
	return begin + c.in(v.name) + c.onCluster() + body
}

var readsFrom = regexp.MustCompile(`(\b(?:FROM|JOIN)\s+)(\w+)`)

// theirs is how ClickHouse itself writes what it has made.
var theirs = regexp.MustCompile("^CREATE (TABLE|MATERIALIZED VIEW|VIEW) ((?:`(?:[^`\\\\]|\\\\.)*`|\\w+)\\.\\w+)")

// welcome makes on nodes that have joined the cluster what this one has. A replica must be made as its table is now, so that the
// migrations, which begin with what it was once, are of no use there.
func (c *cluster) welcome(ctx context.Context, conn driver.Conn, log *slog.Logger) error {
	if c == nil {
		return nil
	}
	var fresh []string
	err := eachOf(ctx, conn, "SELECT hostName() AS host FROM "+c.everywhere("tables")+" GROUP BY host HAVING countIf(database = {database:String} AND name = 'schema_migrations') = 0 ORDER BY host SETTINGS skip_unavailable_shards = 1",
		[]any{ch.Named("database", c.database)}, func(rows driver.Rows) error {
			var host string
			err := rows.Scan(&host)
			fresh = append(fresh, host)
			return err
		})
	if err != nil || len(fresh) == 0 {
		return err
	}
	all, err := c.everything(ctx, conn)
	if err != nil {
		return err
	}
	for _, sql := range all {
		if err := c.exec(ctx, conn, sql); err != nil {
			return err
		}
	}
	log.Info("nodes joined history", "cluster", c.name, "nodes", fresh)
	return nil
}

// everything gives the statements that make all this node has, on every node that lacks it.
func (c *cluster) everything(ctx context.Context, conn driver.Conn) (all []string, err error) {
	err = eachOf(ctx, conn, "SELECT create_table_query FROM system.tables WHERE database = {database:String} ORDER BY multiIf(engine LIKE '%MergeTree', 1, engine = 'Distributed', 2, engine = 'MaterializedView', 3, 4), metadata_modification_time, name",
		[]any{ch.Named("database", c.database)}, func(rows driver.Rows) error {
			var sql string
			if err := rows.Scan(&sql); err != nil {
				return err
			}
			m := theirs.FindStringSubmatch(sql)
			if m == nil {
				return core.Errorf(core.KindDamaged, "bring a node into history", "the database %s holds something that is not Gnomon's: %.100s", c.database, sql)
			}
			all = append(all, "CREATE "+m[1]+" IF NOT EXISTS "+m[2]+c.onCluster()+sql[len(m[0]):])
			return nil
		})
	return all, err
}

func literal(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

var overCluster = regexp.MustCompile(`^Distributed\('((?:[^'\\]|\\.)*)'`)

// stays refuses a history that was begun in another way: in one server, or on another cluster.
func (c *cluster) stays(ctx context.Context, conn driver.Conn) error {
	was := "" // "-": one server
	err := eachOf(ctx, conn, "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'fires'", nil, func(rows driver.Rows) error {
		var engine string
		err := rows.Scan(&engine)
		was = "-"
		if m := overCluster.FindStringSubmatch(engine); m != nil {
			was = strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(m[1])
		}
		return err
	})
	if err != nil {
		return serverError("open history", err)
	}
	var said core.Text
	switch {
	case was == "":
		return nil
	case c == nil && was != "-":
		said = core.Text{Zh: "该数据库中的历史建在 ClickHouse 集群 " + was + " 上；请在 GNOMON_CLICKHOUSE_DSN 中加上 cluster=" + was, En: "history in this database is on the ClickHouse cluster " + was + "; add cluster=" + was + " to GNOMON_CLICKHOUSE_DSN"}
	case c != nil && was == "-":
		said = core.Text{Zh: "该数据库中的历史建在单台服务器上，不能原地变为集群 " + c.name + "；请为集群指定一个新的数据库，或去掉 cluster", En: "history in this database is of one server, which cannot become the cluster " + c.name + " where it is; name another database for the cluster, or leave cluster out"}
	case c != nil && was != c.name:
		said = core.Text{Zh: "该数据库中的历史建在 ClickHouse 集群 " + was + " 上，而不是 " + c.name, En: "history in this database is on the ClickHouse cluster " + was + ", not on " + c.name}
	default:
		return nil
	}
	return core.Invalid("open history", core.Finding{Message: said})
}

// check refuses a cluster that history cannot be kept in, saying what to set.
func (c *cluster) check(ctx context.Context, conn driver.Conn) error {
	if err := c.stays(ctx, conn); c == nil || err != nil {
		return err
	}
	const op = "open history"
	refuse := func(zh, en string, args ...any) error {
		return core.Invalid(op, core.Finding{Message: core.Text{Zh: fmt.Sprintf("ClickHouse 集群 %s："+zh, slices.Concat([]any{c.name}, args)...), En: fmt.Sprintf("ClickHouse cluster %s: "+en, slices.Concat([]any{c.name}, args)...)}})
	}
	list := func(sql string, args ...any) (names []string, err error) {
		err = eachOf(ctx, conn, sql, args, func(rows driver.Rows) error {
			var name string
			err := rows.Scan(&name)
			names = append(names, name)
			return err
		})
		return names, serverError(op, err)
	}
	known, err := list("SELECT DISTINCT cluster FROM system.clusters ORDER BY cluster")
	if err != nil {
		return err
	}
	if !slices.Contains(known, c.name) {
		return refuse("服务器的 system.clusters 里没有它，现有：%s；请在服务器的 remote_servers 中定义它，或改正 GNOMON_CLICKHOUSE_DSN 中的 cluster",
			"the server's system.clusters does not have it, but: %s; define it in the server's remote_servers, or correct cluster in GNOMON_CLICKHOUSE_DSN", strings.Join(known, ", "))
	}
	own, err := list("SELECT host_name FROM system.clusters WHERE cluster = {cluster:String} AND is_local", ch.Named("cluster", c.name))
	if err != nil {
		return err
	}
	if len(own) == 0 {
		return refuse("所连接的服务器不在其中；请连接集群的一个节点", "the server that is connected to is none of its nodes; connect to one")
	}
	macros, err := list("SELECT macro FROM system.macros")
	if err != nil {
		return err
	}
	for _, macro := range []string{"shard", "replica"} {
		if !slices.Contains(macros, macro) {
			return refuse("服务器没有定义宏 {%s}；请在每个节点的 macros 中设置 shard 与 replica", "the server has no macro {%s}; set shard and replica in macros on every node", macro)
		}
	}
	engines, err := list("SELECT engine FROM system.databases WHERE name = {database:String}", ch.Named("database", c.database))
	if err != nil {
		return err
	}
	if len(engines) != 1 || engines[0] != "Atomic" {
		return refuse("数据库 %s 的引擎是 %s，应为 Atomic；请用 CREATE DATABASE … ON CLUSTER … ENGINE = Atomic 创建它",
			"the database %s is of engine %s, and must be Atomic; make it by CREATE DATABASE … ON CLUSTER … ENGINE = Atomic", c.database, strings.Join(engines, ""))
	}
	columns, err := list("SELECT name FROM system.columns WHERE database = 'system' AND table = 'clusters' AND name = 'internal_replication'")
	if err != nil || len(columns) == 0 { // 25.8 does not show it
		return err
	}
	doubled, err := list("SELECT toString(shard_num) FROM system.clusters WHERE cluster = {cluster:String} GROUP BY shard_num HAVING count() > 1 AND min(internal_replication) = 0 ORDER BY 1", ch.Named("cluster", c.name))
	if err != nil {
		return err
	}
	if len(doubled) > 0 {
		return refuse("分片 %s 有多个副本但没有 <internal_replication>true</internal_replication>，每行会写入多次；请加上它",
			"shard %s has several replicas without <internal_replication>true</internal_replication>, so that each row would be written several times; add it", strings.Join(doubled, ", "))
	}
	return nil
}

// refused says that something is not done on a cluster, and what to do instead.
func (c *cluster) refused(op string, instead core.Text) error {
	if c == nil {
		return nil
	}
	return core.Invalid(op, core.Finding{Message: core.Text{
		Zh: "历史库在 ClickHouse 集群 " + c.name + " 上：" + instead.Zh,
		En: "history is on the ClickHouse cluster " + c.name + ": " + instead.En,
	}})
}
