package precondition

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/gnomon-scheduler/gnomon/core"
)

var connectionName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func checkSQL(q core.SQLCheck) []core.Finding {
	var found []core.Finding
	if !connectionName.MatchString(q.Connection) {
		found = append(found, finding("sql.connection", "请写授权给命名空间的连接名，例如 business（授权名为 sql:business）",
			"give the name of a connection that is granted to the namespace: business, where sql:business is granted"))
	}
	if zh, en := statementProblem(q.Query); en != "" {
		found = append(found, finding("sql.query", zh, en))
	}
	return found
}

// statementProblem says what keeps a text from being one reading statement. It knows the quotes and comments of
// PostgreSQL, MySQL and SQLite; where they differ it would rather refuse. What the statement may do is held by the
// database itself, in a transaction that only reads; this is so that a mistake is found when the task is saved.
func statementProblem(query string) (zh, en string) {
	switch {
	case strings.TrimSpace(query) == "":
		return "查询为空", "the query is empty"
	case len(query) > maxQuery:
		return "查询超过 16 KiB", "the query is longer than 16 KiB"
	case !utf8.ValidString(query) || strings.Contains(query, "\x00"):
		return "查询不是有效的文本", "the query is not valid text"
	}
	code, closed := codeOf(query)
	if !closed {
		return "有引号或注释没有结束；文字里的单引号请写两次", "a quote or a comment does not end; write a quote within a text twice"
	}
	words := strings.FieldsFunc(code, func(r rune) bool {
		return r != ';' && r != '_' && (r < '0' || r > '9' && r < 'A' || r > 'Z' && r < 'a' || r > 'z' && r < utf8.RuneSelf)
	})
	if statement, after, more := strings.Cut(code, ";"); more && strings.Trim(after, "; \t\r\n") != "" {
		return "只能有一条语句，“;”后面还有内容", `there may be one statement only, and something follows the ";"`
	} else if strings.TrimSpace(statement) == "" {
		return "查询为空", "the query is empty"
	}
	switch strings.ToUpper(words[0]) {
	case "SELECT", "WITH", "VALUES", "TABLE":
	default:
		return "必须是读取数据的语句，以 SELECT、WITH、VALUES 或 TABLE 开头", "must be a statement that reads; it begins with SELECT, WITH, VALUES or TABLE"
	}
	for i, w := range words {
		if strings.EqualFold(w, "INTO") && i+1 < len(words) && (strings.EqualFold(words[i+1], "OUTFILE") || strings.EqualFold(words[i+1], "DUMPFILE")) {
			return "不能写文件：请去掉 INTO " + strings.ToUpper(words[i+1]), "must not write a file: leave out INTO " + strings.ToUpper(words[i+1])
		}
	}
	return "", ""
}

// codeOf gives a statement without what stands in quotes and comments, a space or a word in its place; closed is false if one of
// them does not end. MySQL runs what stands in /*! comments: that is kept.
func codeOf(query string) (code string, closed bool) {
	var out strings.Builder
	for i := 0; i < len(query); {
		rest := query[i:]
		length, mark := 0, ""
		switch c := rest[0]; {
		case c == '\'' || c == '"' || c == '`':
			length, mark = 1, rest[:1]
		case strings.HasPrefix(rest, "--"):
			end := strings.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			}
			out.WriteByte(' ')
			i += end
			continue
		case strings.HasPrefix(rest, "/*!"):
			length = 0
		case strings.HasPrefix(rest, "/*"):
			length, mark = 2, "*/"
		case c == '$':
			if tag := dollarQuote.FindString(rest); tag != "" {
				length, mark = len(tag), tag
			}
		}
		if mark == "" {
			out.WriteByte(rest[0])
			i++
			continue
		}
		end := strings.Index(rest[length:], mark)
		if end < 0 {
			return "", false
		}
		if mark == "*/" {
			out.WriteByte(' ')
		} else {
			out.WriteString(" quoted ")
		}
		i += length + end + len(mark)
	}
	return out.String(), true
}

var dollarQuote = regexp.MustCompile(`^\$(?:[A-Za-z_][A-Za-z0-9_]*)?\$`)
