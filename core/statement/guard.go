package statement

import (
	"fmt"
	"strings"
)

// Refusal is why a statement is not run, in ClickHouse's form.
type Refusal struct {
	Code int // ClickHouse's error number
	What string
}

// Error gives the refusal as ClickHouse would say it.
func (r *Refusal) Error() string {
	return fmt.Sprintf("Code: %d. DB::Exception: %s. (READONLY)", r.Code, r.What)
}

// codeReadonly is ClickHouse's error number for what a reader may not do.
const codeReadonly = 164

func refuse(format string, args ...any) error {
	return &Refusal{Code: codeReadonly, What: fmt.Sprintf(format, args...)}
}

// Guard refuses what a reader's statement must not contain. readonly=1 alone is not enough (measured with libchdb 26.7.3): the
// scalar function file() reads any file, DESCRIBE url(…) connects, a SETTINGS clause in a subquery changes any setting. So a
// reader calls no table function but those that only make rows, names none of a list of functions, and sets nothing.
type Guard struct {
	tableFunctions map[string]bool // all of the server, in lower case
	columns        map[string]bool // columns of system.tables and system.columns that tell about rows, in lower case
}

// New makes a guard for a server with these table functions, and with these columns of system.tables and system.columns.
func New(tableFunctions, systemColumns []string) *Guard {
	g := &Guard{tableFunctions: make(map[string]bool), columns: make(map[string]bool)}
	for _, name := range tableFunctions {
		g.tableFunctions[strings.ToLower(name)] = true
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

// deniedFunctions reach files, the network, or the inside of the process, or cannot be ended; in lower case. They are refused as bare
// words too: APPLY and the higher-order functions call a function by its name alone.
var deniedFunctions = map[string]bool{
	"file": true, "catboostevaluate": true, "modelevaluate": true, "addresstoline": true, "addresstolinewithinlines": true,
	"addresstosymbol": true, "demangle": true, "getclienthttpheader": true, "sleep": true, "sleepeachrow": true,
	"aiclassify": true, "aiextract": true, "aigenerate": true, "aitranslate": true, "aiembed": true,
	"getmacro": true, "getserversetting": true, "showcertificate": true, "fuzzquery": true,
	"filesystemavailable": true, "filesystemcapacity": true, "filesystemunreserved": true,
	// These look at no limit of time within a row, and one row may take them hours.
	"arraylevenshteindistance": true, "arraylevenshteindistanceweighted": true, "arraysimilarity": true,
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
			return refuse("A SETTINGS clause is not available in read-only queries; leave it out (a column of this name is written `%s`)", t.Text)
		}
		// Whatever is decoded here otherwise than by ClickHouse would be another name to it.
		if t.Kind == Word && t.Escaped {
			return refuse("A backslash in a name is not available in read-only queries; write %s without it", t.Text)
		}
		if t.isSymbol("(") && previous.Kind == Word {
			name := strings.ToLower(previous.Text)
			if g.tableFunctions[name] && !rowMakers[name] {
				return refuse("The table function %s is not available in read-only queries", previous.Text)
			}
		}
		if t.Kind == Word {
			name := strings.ToLower(t.Text)
			if deniedFunctions[name] || strings.HasPrefix(name, "ai_") {
				return refuse("The function %s is not available in read-only queries", t.Text)
			}
			// libchdb's database `default` has a table for every path of the machine. ClickHouse refuses to read them,
			// but EXISTS would tell which there are.
			if t.Quoted && (previous.isSymbol(".") || looksUp) && strings.Contains(t.Text, "/") {
				return refuse("The name %q is not available in read-only queries", t.Text)
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
// ClickHouse's own tables, virtual columns, plans, and figures of progress. params are the values of {name:Type}.
func (g *Guard) Asker(sql string, params map[string]string) error {
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
			return refuse("EXPLAIN shows how many rows others have; with a grant in some namespaces only, EXPLAIN SYNTAX, EXPLAIN AST and EXPLAIN QUERY TREE are available")
		}
		if previous.Is("SHOW") && n == 1 && first.Is("SHOW") && !showable(t) {
			return refuse("SHOW %s tells about others' work; with a grant in some namespaces only, SHOW DATABASES, TABLES, COLUMNS, CREATE and FUNCTIONS are available", t.Text)
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
			return refuse("The name %s is not available with a grant in some namespaces only: names that begin with _ are ClickHouse's own columns, which count others' rows", t.Text)
		case name == "information_schema":
			return refuse("The database %s is not available with a grant in some namespaces only; ask system.tables and system.columns", t.Text)
		case tellingFunctions[name]:
			return refuse("The function %s is not available with a grant in some namespaces only", t.Text)
		case strings.HasSuffix(name, "withprogress"):
			return refuse("The format %s tells how many rows were read, others' included; leave Progress out", t.Text)
		case strings.HasPrefix(name, "system."), strings.HasPrefix(name, "information_schema."):
			return refuse("Write the database and the table as two names: %s", strings.ReplaceAll(t.Text, "`", ""))
		case name == "columns" && !first.Is("SHOW"):
			starred = starred || !previous.isSymbol(".") || !before.Is("system")
		case g.columns[name]:
			named, telling = true, t.Text
		}
		if previous.isSymbol(".") && before.Kind == Word && strings.EqualFold(before.Text, "system") {
			if !openSystem[name] {
				return refuse("The table system.%s is not available with a grant in some namespaces only", t.Text)
			}
			catalogue = catalogue || name == "tables" || name == "columns" || name == "databases"
		}
		if t.Is("Identifier") && previous.isSymbol(":") {
			for _, value := range params {
				if err := g.identifier(value); err != nil {
					return err
				}
			}
		}
		before, previous = previous, t
	}
	if catalogue && starred {
		return refuse("Name the columns of system.tables and system.columns instead of *: some of them count others' rows")
	}
	if catalogue && named {
		return refuse("The column %s is not available with a grant in some namespaces only: it counts others' rows", telling)
	}
	return nil
}

// identifier refuses a name that comes as the value of a parameter, where it could not be told from a table's.
func (g *Guard) identifier(value string) error {
	for part := range strings.SplitSeq(strings.ToLower(value), ".") {
		part = strings.Trim(part, "`\" ")
		if strings.HasPrefix(part, "_") || part == "system" || part == "information_schema" || g.columns[part] || strings.Contains(part, `\`) {
			return refuse("The name %q is not available as a parameter with a grant in some namespaces only", value)
		}
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
