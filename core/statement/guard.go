package statement

import (
	"fmt"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Refusal is why a statement is not run.
type Refusal struct {
	Code int // ClickHouse's error number
	What core.Text
}

// Error gives the refusal as ClickHouse would say it.
func (r *Refusal) Error() string {
	return fmt.Sprintf("Code: %d. DB::Exception: %s. (READONLY)", r.Code, r.What.En)
}

// codeReadonly is ClickHouse's error number for what a reader may not do.
const codeReadonly = 164

func refuse(zh, en string, args ...any) error {
	return &Refusal{Code: codeReadonly, What: core.Text{Zh: fmt.Sprintf(zh, args...), En: fmt.Sprintf(en, args...)}}
}

// Guard refuses what a reader's statement must not contain. readonly=1 alone is not enough (measured with libchdb 26.7.3): the
// scalar function file() reads any file, DESCRIBE url(…) connects, a SETTINGS clause in a subquery changes any setting. So a
// reader calls no table function but those that only make rows, names none of a list of functions, and sets nothing.
type Guard struct {
	tableFunctions map[string]bool // all of the server, in lower case
	rare           map[string]bool // functions that RareFunctions gave, in lower case
	columns        map[string]bool // columns of system.tables and system.columns that tell about rows, in lower case
}

// New makes a guard for a server with these table functions, with what RareFunctions gives there, and with these columns of
// system.tables and system.columns.
func New(tableFunctions, rare, systemColumns []string) *Guard {
	g := &Guard{tableFunctions: make(map[string]bool), rare: make(map[string]bool), columns: make(map[string]bool)}
	for _, name := range tableFunctions {
		g.tableFunctions[strings.ToLower(name)] = true
	}
	for _, name := range rare {
		g.rare[strings.ToLower(name)] = true
	}
	for _, name := range systemColumns {
		if name = strings.ToLower(name); name != "" && !aboutSchema[name] {
			g.columns[name] = true
		}
	}
	return g
}

// rowMakers are the table functions that touch nothing but their arguments. Anything new is refused until listed.
var rowMakers = map[string]bool{
	"numbers": true, "numbers_mt": true, "zeros": true, "zeros_mt": true, "primes": true, "null": true, "values": true,
	"sqlstandardvalues": true, "generateseries": true, "generate_series": true, "generaterandom": true, "view": true,
	"format": true,
}

// RareFunctions is the SQL that gives the functions nobody needs who asks about background work, by ClickHouse's own categories: 201 of 1,825
// in 26.7. Those of boost::geometry take all memory there is and look at no limit; of the others nobody knows. nested and tid do nothing, and are words
// that people name columns with.
const RareFunctions = "SELECT name FROM system.functions WHERE name NOT IN ('nested', 'tid') AND (name ILIKE 'polygon%' OR if(alias_to = '', name, alias_to) IN (" +
	"SELECT name FROM system.functions WHERE categories IN ('AI', 'Embedded Dictionary', 'Financial', 'Geo', 'Geo Polygon', " +
	"'Internal', 'Introspection', 'Machine Learning', 'NumericIndexedVector', 'QBit', 'Time Series')))"

// deniedFunctions reach files, the network, or the inside of the process, or cannot be ended; in lower case. They are refused as bare
// words too: APPLY and the higher-order functions call a function by its name alone.
var deniedFunctions = map[string]bool{
	"file": true, "catboostevaluate": true, "modelevaluate": true, "addresstoline": true, "addresstolinewithinlines": true,
	"addresstosymbol": true, "demangle": true, "getclienthttpheader": true, "sleep": true, "sleepeachrow": true,
	"aiclassify": true, "aiextract": true, "aigenerate": true, "aitranslate": true, "aiembed": true,
	"getmacro": true, "getserversetting": true, "showcertificate": true, "fuzzquery": true,
	"filesystemavailable": true, "filesystemcapacity": true, "filesystemunreserved": true,
	// It takes the stack for each level of what it is given, and 120,000 levels take the engine with all that is under way in it.
	"jsonmergepatch": true,
	// These look at no limit of time within a call, and take the square of what they are given, or a second for each row of it.
	"arraylevenshteindistance": true, "arraylevenshteindistanceweighted": true, "arraysimilarity": true,
	"editdistance": true, "editdistanceutf8": true, "levenshteindistance": true, "levenshteindistanceutf8": true, "dameraulevenshteindistance": true,
	"jarosimilarity": true, "jarowinklersimilarity": true, "arrayreduceinranges": true, "arrayenumerateuniqranked": true, "arrayenumeratedenseranked": true,
	"arrayfold": true, "isprobableprime": true, "seriesdecomposestl": true, "financialinternalrateofreturn": true, "financialinternalrateofreturnextended": true,
}

// actingTables of ClickHouse's own do more than read memory: models starts a process and waits for it, stack_trace signals every thread,
// the others open files or ask other machines. In lower case; nobody may.
var actingTables = map[string]bool{
	"models": true, "stack_trace": true, "jemalloc_profile_text": true, "symbols": true, "remote_data_paths": true,
	"iceberg_files": true, "iceberg_history": true, "distributed_ddl_queue": true, "zookeeper": true, "zookeeper_info": true,
	"zookeeper_connection": true, "zookeeper_watches": true,
}

// Reader gives the reason to refuse sql to any reader, or nil.
func (g *Guard) Reader(sql string) error {
	s := Scan(sql)
	first, _ := s.Next()
	looksUp := first.Is("EXISTS") || first.Is("SHOW") || first.Is("DESCRIBE") || first.Is("DESC")
	s = Scan(sql)
	var before, previous Token
	for {
		t, some := s.Next()
		if !some {
			return nil
		}
		if t.Is("SETTINGS") && !t.Quoted && !(previous.isSymbol(".") && before.Is("system")) {
			return refuse("只读查询不能使用 SETTINGS 子句，请去掉（名为 SETTINGS 的列请写作 `%s`）", "A SETTINGS clause is not available in read-only queries; leave it out (a column of this name is written `%s`)", t.Text)
		}
		// Whatever is decoded here otherwise than by ClickHouse would be another name to it.
		if t.Kind == Word && t.Escaped {
			return refuse("只读查询的名称中不能有反斜杠：请写作不含反斜杠的 %s", "A backslash in a name is not available in read-only queries; write %s without it", t.Text)
		}
		// Its value would be a name that nobody has looked at: of a function (arrayMap({f:Identifier}, …)), of a table of ClickHouse's own.
		if t.Is("Identifier") && previous.isSymbol(":") {
			return refuse("查询参数不能作名称，{%[1]s:Identifier} 不可用：请把表、列或函数的名称直接写入语句；参数只作值，如 {%[1]s:String}",
				"A parameter cannot be a name in read-only queries, so {%[1]s:Identifier} is not available; write the name of the table, column or function itself. Parameters are values: {%[1]s:String}", before.Text)
		}
		if t.isSymbol("(") && previous.Kind == Word {
			name := strings.ToLower(previous.Text)
			if g.tableFunctions[name] && !rowMakers[name] {
				return refuse("只读查询不能使用表函数 %s", "The table function %s is not available in read-only queries", previous.Text)
			}
		}
		if t.Kind == Word {
			name := strings.ToLower(t.Text)
			if deniedFunctions[name] || g.rare[name] || strings.HasPrefix(name, "ai_") {
				return refuse("只读查询不能使用函数 %s", "The function %s is not available in read-only queries", t.Text)
			}
			if actingTables[name] && previous.isSymbol(".") && strings.EqualFold(before.Text, "system") {
				return refuse("只读查询不能使用表 system.%s", "The table system.%s is not available in read-only queries", t.Text)
			}
			// libchdb's database `default` has a table for every path of the machine. ClickHouse refuses to read them,
			// but EXISTS would tell which there are.
			if t.Quoted && (previous.isSymbol(".") || looksUp) && strings.Contains(t.Text, "/") {
				return refuse("只读查询不能使用名称 %q", "The name %q is not available in read-only queries", t.Text)
			}
		}
		before, previous = previous, t
	}
}

// openSystem are the tables of ClickHouse's own that say nothing about anybody's rows. Any other is refused to one who may
// see some namespaces only.
var openSystem = map[string]bool{
	"one": true, "numbers": true, "numbers_mt": true, "zeros": true, "zeros_mt": true, "functions": true, "formats": true,
	"data_type_families": true, "table_functions": true, "aggregate_function_combinators": true, "settings": true, "databases": true,
	"tables": true, "columns": true, "contributors": true, "licenses": true, "time_zones": true, "keywords": true,
	"collations": true, "table_engines": true, "documentation": true,
}

// aboutSchema are the columns of system.tables and system.columns that tell how a table is made; all others tell what is in it.
var aboutSchema = map[string]bool{
	"database": true, "name": true, "table": true, "uuid": true, "engine": true, "is_temporary": true, "comment": true,
	"create_table_query": true, "engine_full": true, "as_select": true, "partition_key": true, "sorting_key": true, "primary_key": true,
	"sampling_key": true, "type": true, "position": true, "default_kind": true, "default_expression": true, "is_in_partition_key": true,
	"is_in_sorting_key": true, "is_in_primary_key": true, "is_in_sampling_key": true, "compression_codec": true,
	"character_octet_length": true, "numeric_precision": true, "numeric_precision_radix": true, "numeric_scale": true,
	"datetime_precision": true, "dependencies_database": true, "dependencies_table": true, "has_own_data": true,
	"table_schema": true, "table_catalog": true, "table_name": true, "is_readonly": true, "definer": true,
}

// tellingFunctions tell about rows beside the ones they are given, or write to the server's log; in lower case.
var tellingFunctions = map[string]bool{
	"dumpcolumnstructure": true, "lowcardinalityindices": true, "lowcardinalitykeys": true, "blockserializedsize": true,
	"blocknumber": true, "logtrace": true,
}

// Asker gives the reason to refuse sql to one who may see the rows of some namespaces only, or nil. The rows themselves are
// kept from him by the server (row policies and grants); this is about what tells of others' rows without reading them:
// ClickHouse's own tables, virtual columns, plans, and figures of progress.
func (g *Guard) Asker(sql string) error {
	if err := g.Reader(sql); err != nil {
		return err
	}
	var catalogue, starred, named bool // system.tables or system.columns, a star, a column that tells about rows
	var telling string
	var before, previous, first Token
	s := Scan(sql)
	for n := 0; ; n++ {
		t, some := s.Next()
		if !some {
			break
		}
		if n == 0 {
			first = t
		}
		if previous.Is("EXPLAIN") && !t.Is("SYNTAX") && !t.Is("AST") && !t.Is("QUERY") {
			return refuse("只有部分命名空间的权限时，不能用 EXPLAIN 查看他人有多少行；可用 EXPLAIN SYNTAX、EXPLAIN AST 和 EXPLAIN QUERY TREE", "EXPLAIN shows how many rows others have; with a grant in some namespaces only, EXPLAIN SYNTAX, EXPLAIN AST and EXPLAIN QUERY TREE are available")
		}
		if previous.Is("SHOW") && n == 1 && first.Is("SHOW") && !showable(t) {
			return refuse("只有部分命名空间的权限时，不能使用 SHOW %s；可用 SHOW DATABASES、TABLES、COLUMNS、CREATE 和 FUNCTIONS", "SHOW %s tells about others' work; with a grant in some namespaces only, SHOW DATABASES, TABLES, COLUMNS, CREATE and FUNCTIONS are available", t.Text)
		}
		if t.Is("WHERE") && first.Is("SHOW") { // SHOW TABLES is a SELECT from system.tables
			return refuse("只有部分命名空间的权限时，SHOW 不能带 WHERE：其中可写会计入他人的行的列；请用 LIKE 或 ILIKE", "SHOW … WHERE is not available with a grant in some namespaces only: it can ask of columns that count others' rows; use LIKE or ILIKE")
		}
		if t.isSymbol("*") && !(previous.isSymbol("(") && before.Is("count")) {
			starred = true
		}
		if t.Kind != Word {
			before, previous = previous, t
			continue
		}
		name := strings.ToLower(t.Text)
		switch {
		case len(name) > 1 && name[0] == '_':
			return refuse("只有部分命名空间的权限时，不能使用 %s：以 _ 开头的名称是 ClickHouse 自己的列，会计入他人的行", "The name %s is not available with a grant in some namespaces only: names that begin with _ are ClickHouse's own columns, which count others' rows", t.Text)
		case name == "information_schema":
			return refuse("只有部分命名空间的权限时，不能使用数据库 %s；请查询 system.tables 和 system.columns", "The database %s is not available with a grant in some namespaces only; ask system.tables and system.columns", t.Text)
		case tellingFunctions[name]:
			return refuse("只有部分命名空间的权限时，不能使用函数 %s", "The function %s is not available with a grant in some namespaces only", t.Text)
		case strings.HasSuffix(name, "withprogress"):
			return refuse("格式 %s 会说出读取的行数，其中有他人的行；请去掉 Progress", "The format %s tells how many rows were read, others' included; leave Progress out", t.Text)
		case strings.HasPrefix(name, "system."), strings.HasPrefix(name, "information_schema."):
			return refuse("数据库与表请写作两个名称：%s", "Write the database and the table as two names: %s", strings.ReplaceAll(t.Text, "`", ""))
		case name == "columns" && !first.Is("SHOW"):
			starred = starred || !previous.isSymbol(".") || !before.Is("system")
		case g.columns[name]:
			named, telling = true, t.Text
		}
		if previous.isSymbol(".") && before.Kind == Word && strings.EqualFold(before.Text, "system") {
			if !openSystem[name] {
				return refuse("只有部分命名空间的权限时，不能使用表 system.%s", "The table system.%s is not available with a grant in some namespaces only", t.Text)
			}
			catalogue = catalogue || name == "tables" || name == "columns" || name == "databases"
		}
		before, previous = previous, t
	}
	if catalogue && starred {
		return refuse("查询 system.tables 和 system.columns 时请写出列名，不要用 *：其中有些列会计入他人的行", "Name the columns of system.tables and system.columns instead of *: some of them count others' rows")
	}
	if catalogue && named {
		return refuse("只有部分命名空间的权限时，不能使用列 %s：它会计入他人的行", "The column %s is not available with a grant in some namespaces only: it counts others' rows", telling)
	}
	return nil
}

func showable(t Token) bool {
	for _, word := range []string{"DATABASES", "TABLES", "FULL", "COLUMNS", "FIELDS", "CREATE", "FUNCTIONS"} {
		if t.Is(word) {
			return true
		}
	}
	return false
}

func (t Token) isSymbol(text string) bool { return t.Kind == Symbol && t.Text == text }

// WritesFile tells whether a statement reads or writes a file of the server's machine, which libchdb would do even in a
// read-only session. Nobody may.
func WritesFile(sql string) bool {
	s := Scan(sql)
	var previous Token
	for {
		t, some := s.Next()
		if !some {
			return false
		}
		if t.Is("OUTFILE") && previous.Is("INTO") || t.Is("INFILE") && previous.Is("FROM") {
			return true
		}
		previous = t
	}
}
