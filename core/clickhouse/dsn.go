package clickhouse

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// schemes are the protocols of a DSN. clickhouse:// is the native one, with ?secure=true over TLS.
var schemes = []string{"clickhouse", "http", "https"}

// parseDSN gives the driver's options for a DSN. It fails with KindInvalid, and never quotes the DSN: it may hold a password.
func parseDSN(dsn string) (*ch.Options, error) {
	refuse := func(zh, en string) error {
		return core.Invalid("open history", core.Finding{Message: core.Text{
			Zh: "无法使用该 ClickHouse DSN：" + zh + "；正确的形式如 clickhouse://用户:密码@主机:9000/数据库（TLS 加 ?secure=true）或 https://用户:密码@主机:8443/数据库",
			En: "the ClickHouse DSN cannot be used: " + en + "; it looks like clickhouse://user:password@host:9000/database (?secure=true for TLS) or https://user:password@host:8443/database",
		}})
	}
	scheme, _, found := strings.Cut(dsn, "://")
	switch {
	case !found:
		return nil, refuse("缺少协议（clickhouse://、http:// 或 https://）", "it names no protocol (clickhouse://, http:// or https://)")
	case !slices.Contains(schemes, scheme):
		return nil, refuse(fmt.Sprintf("协议 %q 未知，只能是 clickhouse、http 或 https", scheme), fmt.Sprintf("the protocol %q is none of clickhouse, http, https", scheme))
	}
	if at, err := url.Parse(dsn); err == nil && scheme == "https" && !at.Query().Has("secure") {
		values := at.Query() // clickhouse-go refuses https that does not say so twice
		values.Set("secure", "true")
		at.RawQuery = values.Encode()
		dsn = at.String()
	}
	options, err := ch.ParseDSN(dsn)
	if err != nil { // it may quote the DSN
		return nil, refuse("格式有误（地址、参数，或密码中未转义的字符）", "it cannot be read (its address, a parameter, or a character of the password that is not escaped)")
	}
	for _, address := range options.Addr {
		host, port, err := net.SplitHostPort(address)
		if err != nil && options.Protocol == ch.HTTP { // http and https have ports of their own
			host, port, err = strings.Trim(address, "[]"), "80", nil
		}
		n, notANumber := strconv.ParseUint(port, 10, 16)
		switch {
		case err != nil:
			return nil, refuse(fmt.Sprintf("地址 %q 没有端口", address), fmt.Sprintf("the address %q has no port", address))
		case host == "":
			return nil, refuse(fmt.Sprintf("地址 %q 没有主机名", address), fmt.Sprintf("the address %q has no host", address))
		case notANumber != nil || n == 0:
			return nil, refuse(fmt.Sprintf("地址 %q 的端口不是 1 到 65535 的数字", address), fmt.Sprintf("the port of the address %q is no number from 1 to 65535", address))
		}
	}
	if strings.Contains(options.Auth.Database, "/") {
		return nil, refuse(fmt.Sprintf("%q 不是数据库名", options.Auth.Database), fmt.Sprintf("%q is not the name of a database", options.Auth.Database))
	}
	return options, nil
}

// stranger says of an error of the first question to a server that what answered it is no ClickHouse; other errors stay. An
// answer that a proxy may give whose ClickHouse is away for now is no reason not to wait.
func stranger(op string, err error) error {
	lost, ok := errors.AsType[*away](err)
	if !ok || onTheWay(err) {
		return err
	}
	kind, answer := core.KindInvalid, core.Text{Zh: "其应答无法理解", En: "its answer makes no sense"}
	if said, ok := errors.AsType[*ch.HTTPError](err); ok {
		status := fmt.Sprintf("HTTP %d %s", said.StatusCode, http.StatusText(said.StatusCode))
		answer = core.Text{Zh: "其应答为 " + status, En: "it says " + status}
		if slices.Contains([]int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, said.StatusCode) {
			kind = core.KindUnavailable
		}
	}
	return &core.Error{Kind: kind, Op: op, Findings: []core.Finding{{Message: core.Text{
		Zh: fmt.Sprintf("%s 处应答的不是 ClickHouse（%s）；请检查 GNOMON_CLICKHOUSE_DSN 的协议、主机和端口", strings.TrimPrefix(lost.at.name, "ClickHouse at "), answer.Zh),
		En: fmt.Sprintf("what answers at %s is not a ClickHouse (%s); look at the protocol, host and port in GNOMON_CLICKHOUSE_DSN", strings.TrimPrefix(lost.at.name, "ClickHouse at "), answer.En),
	}}}}
}
