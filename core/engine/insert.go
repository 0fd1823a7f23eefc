package engine

import "github.com/gnomon-scheduler/gnomon/core/statement"

// insertHead recognises an INSERT whose data follows the statement. head is the statement without its FORMAT clause
// and data the offset in sql at which data begins. ok is false for every other statement.
func insertHead(sql string) (head, format string, data int, ok bool) {
	s := statement.Scan(sql)
	first, some := s.Next()
	if !some || !first.Is("INSERT") {
		return "", "", 0, false
	}
	depth, before := 0, first.End
	for {
		t, some := s.Next()
		if !some {
			return "", "", 0, false
		}
		switch {
		case t.Text == "(" && t.Kind == statement.Symbol:
			depth++
		case t.Text == ")" && t.Kind == statement.Symbol:
			depth--
		case depth > 0:
		case t.Is("SELECT"), t.Is("WITH"), t.Is("WATCH"), t.Is("INFILE"):
			return "", "", 0, false
		case t.Is("VALUES"):
			return sql[:before], "Values", t.End, true
		case t.Is("FORMAT"):
			name, some := s.Next()
			if !some || name.Kind != statement.Word {
				return "", "", 0, false
			}
			data = name.End
			for data < len(sql) && (sql[data] == ' ' || sql[data] == '\t' || sql[data] == '\r' || sql[data] == ';') {
				data++
			}
			if data < len(sql) && sql[data] == '\n' {
				data++
			}
			return sql[:before], name.Text, data, true
		}
		before = t.End
	}
}
