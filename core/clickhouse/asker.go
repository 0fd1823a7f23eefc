package clickhouse

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// Asker is the user for whom the statements of analysts run, in the embedded engine and in a ClickHouse of one's own. It may
// read the tables of Readable and nothing else, and of them the rows that their policies let through.
const Asker = "gnomon_asker"

// ofNamespace lets the rows of the asker's namespaces through, and with all namespaces every row. An empty text holds no
// name, so that rows without a namespace are not let through by it. As the condition is constant but for the
// column, ClickHouse makes a condition on the key of it.
const ofNamespace = ofNobody + " OR has(" + statement.Granted + ", namespace)"

// ofNobody lets rows through for those only who may see all namespaces.
const ofNobody = "has(" + statement.Granted + ", '" + statement.Everything + "')"

// Readable is a table that analysts may read; one ending in * stands for all tables and views whose names begin so.
type Readable struct {
	Table  string
	Filter string // condition on a row, in SQL with statement.Granted; empty: every row is for everyone
}

// Readables says of each table who may read which of its rows. A table that is not here cannot be read by analysts. The views
// v_* read with the rights of whoever asks (SQL SECURITY INVOKER is ClickHouse's default), so they need no filter of their own.
func Readables() []Readable {
	return []Readable{
		{"fires", ofNamespace},
		{"runs", ofNamespace},
		{"attempts", ofNamespace},
		{"run_logs", ofNamespace},
		{"run_samples", ofNamespace},
		{"reconciliations", ofNamespace},
		{"tasks", ofNamespace},
		{"task_types", ofNamespace},
		{"runs_hour", ofNamespace},
		{"runs_day", ofNamespace},
		{"namespaces_day", ofNamespace},
		{"errors_day", ofNamespace},
		{"servers_day", ofNamespace},
		// What a shared process used is in it without a namespace; what a namespace's attempts were given of it is theirs.
		{"costs", ofNamespace},
		{"neighbours", ofNobody},
		{"rollups", ofNamespace},
		// What is spent beyond runs is spent for everybody, but for the Lua workers of one's own namespace.
		{"process_hours", ofNamespace},
		// Machines are shared: whom a server works for, and how often it was started, is not one namespace's business.
		{"servers", ofNobody},
		// What a shared plugin's process uses, it uses for several namespaces: only those of a namespace's own are shown.
		{"plugin_samples", ofNamespace},
		// A downstream's breaker is shared; the changes that runs of the asker's namespaces made are shown.
		{"breaker_changes", ofNamespace},
		// The machine works for everybody: what is not one's own work is others'.
		{"host_samples", ofNobody},
		// How many rows others have is not one namespace's business.
		{"thinnings", ofNobody},
		{"schema_migrations", ""},
		{"v_*", ""},
	}
}

// scopeOf gives the names of a scope, parted by commas.
func scopeOf(scope statement.Scope) (string, error) {
	if scope.All {
		return statement.Everything, nil
	}
	if len(scope.Namespaces) == 0 {
		return "", core.Refuse(core.KindDenied, "query history", core.Text{Zh: "没有获得任何命名空间的权限", En: "no namespace was granted"})
	}
	for _, name := range scope.Namespaces {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool {
			return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		}) {
			return "", core.Errorf(core.KindDenied, "query history", "a grant in the namespace %q gives no rows: that is no name of a namespace", name)
		}
	}
	return strings.Join(scope.Namespaces, ","), nil
}

// AskSettings are the settings every analyst's statement has, whatever way it comes: what it sees, that it only reads, and
// that repeats are left out.
func (c *Client) AskSettings(scope statement.Scope) (map[string]string, error) {
	names, err := scopeOf(scope)
	if err != nil {
		return nil, err
	}
	s := map[string]string{
		"readonly": "1", "use_query_cache": "0",
		"final": "1", "do_not_merge_across_partitions_select_final": "1", "use_skip_indexes_if_final": "1",
		"use_skip_indexes_if_final_exact_mode": "0", "distributed_product_mode": "global", // see exact
	}
	switch {
	case c.scopeKey == "": // the embedded engine seals by itself
		s[statement.ScopeSetting] = names
	case c.conn.good.Load() && c.askerErr != nil: // the owner asks, whom no policy holds
	default:
		s[statement.ScopeSetting] = statement.Seal(c.scopeKey, names)
	}
	if !scope.All {
		s["output_format_write_statistics"] = "0" // rows read are others' too
		// The dictionary of a part holds others' words, and Arrow would be given the whole of it (26.7.3).
		s["output_format_arrow_low_cardinality_as_dictionary"] = "0"
	}
	return s, nil
}

// Admit refuses an analyst's statement that reaches for more than rows, with KindInvalid and a ServerError, as ClickHouse
// refuses.
func (c *Client) Admit(ctx context.Context, sql string, scope statement.Scope) error {
	guard, err := c.guardOf(ctx)
	if err != nil {
		return err
	}
	if scope.All {
		err = guard.Reader(sql)
	} else {
		err = guard.Asker(sql)
	}
	if refusal, ok := errors.AsType[*statement.Refusal](err); ok {
		return &core.Error{Kind: core.KindInvalid, Op: "query history", Err: &ServerError{Code: refusal.Code, Text: refusal.Error()}, Findings: []core.Finding{{Path: "sql", Message: refusal.What}}}
	}
	return err
}

// guardOf asks the server once what it has.
func (c *Client) guardOf(ctx context.Context) (*statement.Guard, error) {
	c.guardMu.Lock()
	defer c.guardMu.Unlock()
	if c.guard != nil {
		return c.guard, nil
	}
	list := func(sql string) (names []string, err error) {
		rows, err := c.conn.Query(settings(ctx, reading()), sql)
		if err != nil {
			return nil, serverError("query history", err)
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return nil, serverError("query history", err)
			}
			names = append(names, name)
		}
		if len(names) == 0 && rows.Err() == nil {
			return nil, core.Errorf(core.KindInternal, "query history", "%s gave nothing", sql)
		}
		return names, serverError("query history", rows.Err())
	}
	functions, err := list("SELECT name FROM system.table_functions")
	if err != nil {
		return nil, err
	}
	columns, err := list("SELECT DISTINCT name FROM system.columns WHERE database = 'system' AND table IN ('tables', 'columns', 'databases')")
	if err != nil {
		return nil, err
	}
	rare, err := list(statement.RareFunctions)
	if err != nil {
		return nil, err
	}
	c.guard = statement.New(functions, rare, columns)
	return c.guard, nil
}

// asking is how a statement of an analyst is run.
type asking struct {
	conn interface {
		Query(ctx context.Context, sql string, args ...any) (driver.Rows, error)
		QueryFormat(ctx context.Context, format, sql string, args ...any) (io.ReadCloser, error)
	}
	settings ch.Settings
}

// ask admits a statement of an analyst, and says as whom and with what it runs.
func (c *Client) ask(ctx context.Context, sql string, limits QueryLimits, scope statement.Scope) (a asking, err error) {
	if err := c.Admit(ctx, sql, scope); err != nil {
		return a, err
	}
	a.conn = c.asker
	switch {
	case c.askerErr == nil:
	case scope.All:
		a.conn = c.conn
	default:
		return a, c.askerErr
	}
	asked, err := c.AskSettings(scope)
	if err != nil {
		return a, err
	}
	a.settings = limits.settings()
	for name, value := range asked {
		a.settings[name] = value
	}
	return a, nil
}

// Door is the way by which an analyst's statement reaches ClickHouse over HTTP.
type Door struct {
	Transport      http.RoundTripper // each piece of an answer is waited for, see deadline.go
	URL            string            // "http://host:8123"
	User, Password string
	Database       string
}

// Door gives the way for an asker. It fails with KindUnavailable where there is none: a DSN of the native protocol, or, for one
// who may see some namespaces only, a server on which the user for it could not be made.
func (c *Client) Door(scope statement.Scope) (Door, error) {
	if c.door.URL == "" {
		return Door{}, &core.Error{Kind: core.KindUnavailable, Op: "query history", Err: errors.New("the ClickHouse DSN is of the native protocol"), Findings: []core.Finding{{Message: core.Text{
			Zh: "GNOMON_CLICKHOUSE_DSN 使用原生协议（clickhouse://），而 /clickhouse/ 需要 ClickHouse 的 HTTP 接口：请把它改为 http://用户:密码@主机:8123/数据库 或 https://…:8443/…",
			En: "GNOMON_CLICKHOUSE_DSN is of the native protocol (clickhouse://), and /clickhouse/ needs ClickHouse's HTTP interface: make it http://user:password@host:8123/database or https://…:8443/…",
		}}}}
	}
	if !c.conn.good.Load() {
		return Door{}, core.Errorf(core.KindUnavailable, "query history", "history does not answer")
	}
	if c.askerErr == nil {
		return c.door, nil
	}
	if !scope.All {
		return Door{}, c.askerErr
	}
	own := c.door
	own.User, own.Password = c.owner.Username, c.owner.Password
	return own, nil
}

// openAsker makes the connection for analysts' statements. It asks nothing yet.
func (c *Client) openAsker(o Options, options *ch.Options, at *site) error {
	mine := *options
	mine.Auth.Username = Asker
	c.owner = options.Auth
	c.door = Door{User: Asker, Database: options.Auth.Database}
	switch {
	case o.Socket != "":
		c.door.URL = "http://engine"
		c.door.Transport = &patient{at: at, Transport: http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", o.Socket)
			},
			MaxIdleConns: 8, DisableCompression: true,
		}}
	default:
		mine.Auth.Password = derived(options.Auth, Asker)
		c.door.Password, c.scopeKey = mine.Auth.Password, derived(options.Auth, "scope")
		if options.Protocol == ch.HTTP {
			scheme := "http"
			if options.TLS != nil {
				scheme = "https"
			}
			c.door.URL = (&url.URL{Scheme: scheme, Host: options.Addr[0]}).String()
			c.door.Transport = &patient{at: at, Transport: http.Transport{TLSClientConfig: options.TLS, MaxIdleConns: 8, DisableCompression: true}}
		}
	}
	conn, err := ch.Open(&mine)
	if err != nil {
		return core.Errorf(core.KindInvalid, "open history", "%w", err)
	}
	c.asker = &located{conn, at}
	return nil
}

// derived gives a secret for a use: from the DSN's password, so that all servers of one database have the same and nobody needs to
// keep another.
func derived(owner ch.Auth, use string) string {
	sum := hmac.New(sha256.New, []byte(owner.Password))
	_, _ = sum.Write([]byte(use + "@" + owner.Database))
	return hex.EncodeToString(sum.Sum(nil))
}

// protect makes the asker of a server of one's own, its grants and row policies, or makes them anew as this version wants
// them. Where that may not be done, only those who may see all rows can ask. The embedded engine is told at its start.
func (c *Client) protect(ctx context.Context, conn driver.Conn) {
	if c.door.Password == "" {
		return
	}
	c.askerErr = nil
	for _, sql := range protection(c.door.Database, c.door.Password, c.scopeKey, c.cluster) {
		err := c.cluster.exec(ctx, conn, sql)
		if err == nil {
			continue
		}
		cause := errors.New(strings.NewReplacer(c.door.Password, "[redacted]", c.scopeKey, "[redacted]").Replace(serverError("make the analysts' user", err).Error()))
		c.askerErr = &core.Error{Kind: core.KindUnavailable, Op: "query history", Err: cause, Findings: []core.Finding{{Message: core.Text{
			Zh: "ClickHouse 用户 " + c.owner.Username + " 无权创建分析用户 " + Asker + " 及其行策略，因此暂时只有拥有全部命名空间权限的人能够查询历史；请授予它 ACCESS MANAGEMENT 后重启",
			En: "ClickHouse's user " + c.owner.Username + " may not create the user " + Asker + " and its row policies, so only those with a grant in all namespaces can ask history; GRANT ACCESS MANAGEMENT ON *.* to it and start again",
		}}}}
		c.log.Warn("analysts of some namespaces cannot ask history", "err", cause)
		return
	}
	if c.cluster != nil {
		if c.askerErr = c.askedAsAsker(ctx, conn); c.askerErr != nil {
			c.log.Warn("analysts of some namespaces cannot ask history", "err", c.askerErr)
		}
	}
}

// shardsProbe is a table of a cluster that shows as whom shards carry out a statement, see askedAsAsker.
const shardsProbe = "asker_probe"

// askedAsAsker makes sure that row policies hold on all shards. A shard that is asked by another node takes the
// statement for the asker's only if the cluster has a <secret>; else it is the user of remote_servers, who sees all rows.
func (c *Client) askedAsAsker(ctx context.Context, conn driver.Conn) error {
	const op = "query history"
	var shards, asked, others uint64
	if err := conn.QueryRow(ctx, "SELECT uniqExact(shard_num) FROM system.clusters WHERE cluster = {cluster:String}", ch.Named("cluster", c.cluster.name)).Scan(&shards); err != nil {
		return serverError(op, err)
	}
	id := "gnomon-" + rand.Text()
	asking := settings(ctx, ch.Settings{"readonly": 1, "prefer_localhost_replica": 1}, ch.WithQueryID(id))
	row := c.asker.QueryRow(asking, "SELECT countIf(user = '"+Asker+"'), countIf(user != '"+Asker+"') FROM "+shardsProbe+" WHERE initial_query_id = {id:String}", ch.Named("id", id))
	if err := row.Scan(&asked, &others); err != nil {
		return core.Errorf(core.KindUnavailable, op, "see as whom the shards answer the analysts' user: %w", err)
	}
	if others == 0 && asked >= shards {
		return nil
	}
	return &core.Error{Kind: core.KindUnavailable, Op: op, Err: fmt.Errorf("cluster %s: of %d shards, %d answer as %s", c.cluster.name, shards, asked, Asker), Findings: []core.Finding{{Message: core.Text{
		Zh: "ClickHouse 集群 " + c.cluster.name + " 的分片不以 " + Asker + " 的身份执行查询，行策略因此不生效；目前只有拥有全部命名空间权限的人能够查询历史。请在每个节点的 remote_servers 中为该集群设置 <secret> 后重启",
		En: "the shards of the ClickHouse cluster " + c.cluster.name + " do not carry out statements as " + Asker + ", so that row policies would not hold, and only those with a grant in all namespaces can ask history; set a <secret> for the cluster in remote_servers on every node and start again",
	}}}}
}

// protection gives the statements of protect. On a cluster the rows of a sharded table are filtered where they lie: a policy on
// the Distributed table would not reach a shard that counts.
func protection(database, password, scopeKey string, on *cluster) []string {
	name := func(s string) string { return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(s) + "`" }
	hash := sha256.Sum256([]byte(password))
	identified := "IDENTIFIED WITH sha256_hash BY '" + hex.EncodeToString(hash[:]) + "'"
	all := []string{
		"CREATE USER IF NOT EXISTS " + Asker + on.onCluster() + " " + identified,
		"ALTER USER " + Asker + on.onCluster() + " " + identified,
		"REVOKE" + on.onCluster() + " ALL ON *.* FROM " + Asker,
	}
	for _, r := range Readables() {
		if r.Filter != "" { // before the grant: nothing is readable unfiltered, not even for a moment
			all = append(all, fmt.Sprintf("CREATE ROW POLICY OR REPLACE gnomon_rows%s ON %s.%s FOR SELECT USING %s TO %s", on.onCluster(), name(database), name(on.local(r.Table)), statement.Unsealed(scopeKey, r.Filter), Asker))
		}
		table := name(r.Table)
		if strings.HasSuffix(r.Table, "*") {
			table = r.Table
		}
		grant := fmt.Sprintf("SELECT ON %s.%s", name(database), table)
		if local := on.local(r.Table); local != r.Table {
			grant += fmt.Sprintf(", SELECT ON %s.%s", name(database), name(local))
		}
		all = append(all, fmt.Sprintf("GRANT%s %s TO %s", on.onCluster(), grant, Asker))
	}
	if on != nil {
		all = append(all,
			"CREATE OR REPLACE TABLE "+on.in(shardsProbe)+on.onCluster()+" (user String COMMENT 'as whom a shard carries out a statement', initial_query_id String COMMENT 'which statement') ENGINE = Distributed("+literal(on.name)+", system, processes) COMMENT 'shows gnomon whether row policies hold on all shards'",
			fmt.Sprintf("GRANT%s SELECT ON %s.%s TO %s", on.onCluster(), name(database), shardsProbe, Asker))
	}
	return all
}
