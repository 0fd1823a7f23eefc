package main

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/goccy/go-yaml"
)

// Config is what an operator writes: a YAML file named by --config. Flags and GNOMON_ variables go before it.
type Config struct {
	Listen        string `yaml:"listen"`         // address of the REST API; default 127.0.0.1:8080
	Data          string `yaml:"data"`           // folder of everything that is kept
	StoreDSN      string `yaml:"store_dsn"`      // postgres://…; empty: SQLite in the data folder
	ClickHouseDSN string `yaml:"clickhouse_dsn"` // clickhouse://… or http://…, with ?cluster=NAME for a cluster; empty: the embedded engine
	// ClickHouseListen is an address at whose root ClickHouse's clients are answered, beside /clickhouse/ on Listen; empty: none.
	ClickHouseListen string        `yaml:"clickhouse_listen"`
	Backups          string        `yaml:"backups"`       // folder that backups of history lie in; default backups in the data folder
	Plugins          string        `yaml:"plugins"`       // folder that holds one folder per plugin
	Scripts          string        `yaml:"scripts"`       // folder that holds <Namespace>/<Type>.lua
	LuaWorkers       int           `yaml:"lua_workers"`   // worker processes per namespace at most; default: four for each core
	SpoolMiB         int           `yaml:"spool_mib"`     // MiB of disk that log lines may take until history has them; default 4096
	OTLPEndpoint     string        `yaml:"otlp_endpoint"` // collector of traces, OTLP over HTTP; empty: OTEL_EXPORTER_OTLP_ENDPOINT, else runs are not traced
	TraceRatio       float64       `yaml:"trace_ratio"`   // share of runs that are traced, above 0 to 1; default all
	Grants           []GrantConfig `yaml:"grants"`        // what tasks may use

	notItself string // what every "http" grant ends with: the addresses of this server, excluded
}

const maxSpoolMiB = 16 << 20 // 16 TiB

// GrantConfig gives what tasks of some namespaces need. ${NAME} in a value is the server's environment variable NAME,
// so that a secret need not stand in the file.
type GrantConfig struct {
	Namespaces []string          `yaml:"namespaces"` // ["*"]: all
	Needs      map[string]string `yaml:"needs"`      // by need: "sql:business": "sqlite:/path/to/file", "http": "10.0.0.0/8,example.com:443"
}

func readConfig(path string) (Config, error) {
	var c Config
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("read configuration: %w", err)
		}
		decoder := yaml.NewDecoder(bytes.NewReader(text), yaml.DisallowUnknownField())
		if err := decoder.Decode(&c); err != nil {
			return c, fmt.Errorf("configuration %s: %s", path, yaml.FormatError(err, false, true))
		}
	}
	for i, grant := range c.Grants {
		for need, value := range grant.Needs {
			var missing string
			c.Grants[i].Needs[need] = os.Expand(value, func(name string) string {
				text, ok := os.LookupEnv(name)
				if !ok {
					missing = name
				}
				return text
			})
			if missing != "" {
				return c, fmt.Errorf("configuration %s: grants[%d].needs.%s: the environment variable %s is not set", path, i, need, missing)
			}
		}
	}
	return c, nil
}

// complete takes environment variables and defaults for what neither flag nor file gave.
func (c *Config) complete() error {
	set := func(field *string, variable, value string) {
		if *field == "" {
			*field = os.Getenv(variable)
		}
		if *field == "" {
			*field = value
		}
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	beside := func(name string) string { return filepath.Join(filepath.Dir(exe), name) }
	set(&c.Listen, "GNOMON_LISTEN", "127.0.0.1:8080")
	set(&c.StoreDSN, "GNOMON_STORE_DSN", "")
	set(&c.ClickHouseDSN, "GNOMON_CLICKHOUSE_DSN", "")
	set(&c.OTLPEndpoint, "GNOMON_OTLP_ENDPOINT", "")
	if text := os.Getenv("GNOMON_TRACE_RATIO"); text != "" && c.TraceRatio == 0 {
		if c.TraceRatio, err = strconv.ParseFloat(text, 64); err != nil {
			return fmt.Errorf("GNOMON_TRACE_RATIO %q is not a number", text)
		}
	} else if c.TraceRatio == 0 {
		c.TraceRatio = 1
	}
	if !(c.TraceRatio > 0 && c.TraceRatio <= 1) { // NaN is neither
		return fmt.Errorf("trace_ratio is %v; give a number above 0 up to 1, or nothing for all runs; to trace none, name no collector", c.TraceRatio)
	}
	if text := os.Getenv("GNOMON_SPOOL_MIB"); text != "" && c.SpoolMiB == 0 {
		if c.SpoolMiB, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("GNOMON_SPOOL_MIB %q is not a whole number", text)
		}
	}
	if c.SpoolMiB < 0 || c.SpoolMiB > maxSpoolMiB {
		return fmt.Errorf("spool_mib is %d; give 1 to %d, or nothing for 4096", c.SpoolMiB, maxSpoolMiB)
	}
	set(&c.ClickHouseListen, "GNOMON_CLICKHOUSE_LISTEN", "")
	set(&c.Plugins, "GNOMON_PLUGINS", beside("plugins"))
	set(&c.Scripts, "GNOMON_SCRIPTS", beside("scripts"))
	home, err := os.UserHomeDir()
	if err != nil {
		home = "."
	}
	set(&c.Data, "GNOMON_DATA", filepath.Join(home, ".local", "share", "gnomon"))
	if c.Data, err = filepath.Abs(c.Data); err != nil {
		return err
	}
	set(&c.Backups, "GNOMON_BACKUPS", filepath.Join(c.Data, "backups"))
	c.Backups, err = filepath.Abs(c.Backups)
	return err
}

// excluding gives the end of an allow-list (package egress) that keeps tasks from the server listening at address, by
// whichever of this machine's addresses they might try.
func excluding(address string) (string, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return "", err
	}
	list := fmt.Sprintf(",!127.0.0.0/8:%d,![::1]:%d", at.Port(), at.Port())
	if at.Addr().IsLoopback() {
		return list, nil
	}
	own := []net.Addr{&net.IPAddr{IP: at.Addr().Unmap().AsSlice()}}
	if at.Addr().IsUnspecified() {
		if own, err = net.InterfaceAddrs(); err != nil {
			return "", err
		}
	}
	for _, a := range own {
		text, _, _ := strings.Cut(a.String(), "/")
		if ip, err := netip.ParseAddr(text); err == nil {
			list += ",!" + netip.AddrPortFrom(ip.Unmap().WithZone(""), at.Port()).String()
		}
	}
	return list, nil
}

// grants gives what a task of the namespace was granted of its needs; a need that nobody granted is an error that
// says where to grant it. Later entries go before earlier ones.
func (c *Config) grants(namespace, taskType string, needs []string) (map[string]string, error) {
	granted := make(map[string]string, len(needs))
	for _, need := range needs {
		value, ok := c.granted(namespace, need)
		if !ok {
			return nil, core.Errorf(core.KindDenied, "grant "+need+" to "+taskType,
				"namespace %s has not been granted it; add it under grants in the server's configuration, namespaces [%s]", namespace, namespace)
		}
		if need == "http" { // whatever was listed, tasks do not reach Gnomon itself (promise S7)
			value += c.notItself
		}
		granted[need] = value
	}
	return granted, nil
}

// needs gives the names of all that a namespace was granted, in order.
func (c *Config) needs(namespace string) []string {
	var list []string
	for _, grant := range c.Grants {
		if slices.Contains(grant.Namespaces, namespace) || slices.Contains(grant.Namespaces, "*") {
			list = slices.AppendSeq(list, maps.Keys(grant.Needs))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func (c *Config) granted(namespace, need string) (string, bool) {
	for _, grant := range slices.Backward(c.Grants) {
		if !slices.Contains(grant.Namespaces, namespace) && !slices.Contains(grant.Namespaces, "*") {
			continue
		}
		if value, ok := grant.Needs[need]; ok {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}
