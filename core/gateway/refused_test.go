package gateway_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/clickhouse"
	"github.com/gnomon-scheduler/gnomon/core/gateway"
	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// refused are what nobody may ask, whatever it may see.
var refused = map[string][]string{
	"a parameter that is a name": {
		"SELECT arrayMap({f:Identifier}, ['/etc/passwd'])", "SELECT arrayMap({f /**/ : /* */ Identifier }, ['/etc/passwd'])", "SELECT arrayMap({f:\u2003Identifier\n}, ['/etc/passwd'])",
		"SELECT arrayFilter({f:Identifier}, ['/etc/passwd'])", "SELECT arrayMap(x -> x, arrayMap({f:Identifier}, ['/etc/passwd']))", "WITH {f:Identifier} AS g SELECT arrayMap(g, ['/etc/passwd'])",
		"SELECT * FROM system.{t:Identifier}", "SELECT query FROM system . {t : Identifier}", "SELECT * FROM {d:Identifier}.{t:Identifier}", "SELECT 1 AS {f:Identifier}",
		"DESCRIBE system.{t:Identifier}", "SHOW TABLES FROM {d:Identifier}", "EXPLAIN SYNTAX SELECT * FROM system.{t:Identifier}",
	},
	"what ends the engine": {
		"SELECT JSONMergePatch(repeat('{\"a\":',120000)||'1'||repeat('}',120000), '{}')", "SELECT jsonMergePatch('{}', '{}')", "SELECT arrayMap(jsonmergepatch, ['{}'], ['{}'])",
	},
	"geometry": {
		"SELECT polygonsUnionCartesian([[[(0, 0), (0, 1), (1, 1)]]], [[[(0, 0), (0, 1), (1, 1)]]])", "SELECT arrayMap(PolygonsWithinSpherical, [1], [1])", "SELECT `polygonConvexHullCartesian`(1)",
		"SELECT h3PolygonToCells([(0, 0)], 15)", "SELECT ST_PolyFromWKB('')", "SELECT pointInPolygon((1, 1), [(1, 1)])", "SELECT ST_AsMVT(1)",
	},
	"tables that do more than read": {
		"SELECT * FROM system.models", "SELECT 1 FROM \"system\" . /* */ `MODELS`", "SELECT 1 UNION ALL SELECT (SELECT count() FROM system.stack_trace)", "SELECT * FROM system.zookeeper WHERE path = '/'",
	},
	"what looks at no limit": {
		"SELECT editDistance('a', 'b')", "SELECT arrayMap(LevenshteinDistance, ['a'], ['b'])", "SELECT levenshteinDistanceUTF8('a', 'b')", "SELECT editDistanceUTF8('a', 'b')",
		"SELECT damerauLevenshteinDistance('a', 'b')", "SELECT jaroSimilarity('a', 'b')", "SELECT jaroWinklerSimilarity('a', 'b')", "SELECT arrayReduceInRanges('sum', [(1, 1)], [1])",
		"SELECT arrayEnumerateUniqRanked([[1]])", "SELECT arrayEnumerateDenseRanked([[1]])", "SELECT arrayFold((a, x) -> a + x, [1], 0)", "SELECT isProbablePrime(7)",
		"SELECT seriesDecomposeSTL([1], 1)", "SELECT financialInternalRateOfReturn([1.])",
	},
	"a function by its bare name": {
		"SELECT arrayMap(file, ['/etc/passwd'])", "SELECT arrayMap(\"FILE\", ['/etc/passwd'])", "WITH file AS f SELECT arrayMap(f, ['/etc/passwd'])", "SELECT arrayMap(f -> file(f), ['/etc/passwd'])",
		"SELECT '/etc/passwd' |> file", "SELECT * REPLACE (file(a) AS a) FROM (SELECT '/etc/passwd' AS a)", "SELECT arrayFold(file, ['/etc/passwd'], '')",
	},
}

// TestNobodyMayAsk asks at both doors, for one who may see all namespaces and for one who may see some.
func TestNobodyMayAsk(t *testing.T) {
	t.Parallel()
	w := setup(t, gateway.Limits{})
	params := map[string]string{"f": "file", "t": "processes", "d": "system"}
	for what, statements := range refused {
		t.Run(what, func(t *testing.T) {
			for _, sql := range statements {
				for _, token := range []string{"all", "some"} {
					a := w.ask(token, sql, "param_f=file", "param_t=processes", "param_d=system")
					if a.status != http.StatusForbidden || !strings.HasPrefix(a.body, "Code: 164.") || !strings.Contains(a.body, "不") {
						t.Errorf("%s, %s: %d %.300s", token, sql, a.status, a.body)
					}
				}
				for _, scope := range []statement.Scope{{All: true}, {Namespaces: []string{"Common"}}} {
					rows, err := w.history.Query(t.Context(), sql, clickhouse.QueryLimits{}, params, scope)
					if err == nil {
						rows.Close()
					}
					if e, ok := errors.AsType[*core.Error](err); !ok || e.Kind != core.KindInvalid || len(e.Findings) != 1 || e.Findings[0].Message.Zh == "" {
						t.Errorf("%+v, %s: %v", scope, sql, err)
					}
				}
			}
		})
	}
	for name := range strings.SplitSeq(w.owner("SELECT name FROM system.functions WHERE name ILIKE '%polygon%' OR categories LIKE 'Geo%'"), "\n") {
		if a := w.ask("all", "SELECT "+name+"(1)"); a.status != http.StatusForbidden || !strings.Contains(a.body, name) {
			t.Errorf("%s is let through: %d %.300s", name, a.status, a.body)
		}
	}
	w.must("some", "SELECT 1 AS tid, [2] AS nested, hasAny([1], [1]), match('a', 'a'), JSONExtractRaw('{}', 'a'), {f:String} FORMAT Null", "param_f=file")
	if a := w.ask("all", "SELECT {f:Identifier}"); !strings.Contains(a.body, "{f:String}") {
		t.Errorf("it does not say what to write: %s", a.body)
	}
}
