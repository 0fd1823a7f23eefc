package clickhouse

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A cell is a value as JSON: what answers are made of, whichever protocol it came by. Nothing in it is taken apart further than
// the answer needs, so that a long array costs its text and no more.

// shape is a type of ClickHouse, as far as its cells depend on it. nil: of no type that matters.
type shape struct {
	kind  string         // "DateTime64", without arguments, Nullable and LowCardinality
	zone  *time.Location // of a DateTime; UTC if the type names none
	scale int            // of a Decimal, digits
	names []string       // of a Tuple; nil: it has none
	of    []*shape       // Array: one; Map: key and value; Tuple: each
}

func shapeOf(text string) *shape {
	kind, inside, _ := strings.Cut(bareType(text), "(")
	args := arguments(strings.TrimSuffix(inside, ")"))
	s := &shape{kind: kind}
	switch {
	case strings.HasPrefix(kind, "DateTime"):
		s.zone = time.UTC
		if len(args) > 0 {
			if zone, err := time.LoadLocation(strings.Trim(args[len(args)-1], "'")); err == nil && strings.HasPrefix(args[len(args)-1], "'") {
				s.zone = zone
			}
		}
	case strings.HasPrefix(kind, "Decimal") && len(args) > 0:
		s.scale, _ = strconv.Atoi(args[len(args)-1]) // ClickHouse names types with their scale
	case kind == "SimpleAggregateFunction" && len(args) > 1:
		return shapeOf(args[1])
	case kind == "Nested":
		return &shape{kind: "Array", of: []*shape{shapeOf("Tuple(" + strings.Join(args, ", ") + ")")}}
	case kind == "Array", kind == "Map" && len(args) == 2, kind == "Tuple":
		for _, arg := range args {
			if name, rest, named := field(arg); kind == "Tuple" && named {
				s.names, arg = append(s.names, name), rest
			}
			s.of = append(s.of, shapeOf(arg))
		}
	}
	return s
}

// bareType leaves out what only says how a value is stored, or that it may be absent.
func bareType(text string) string {
	for {
		inner, ok := strings.CutPrefix(text, "Nullable(")
		if !ok {
			if inner, ok = strings.CutPrefix(text, "LowCardinality("); !ok {
				return text
			}
		}
		text = strings.TrimSuffix(inner, ")")
	}
}

// arguments parts what stands in the brackets of a type at its commas.
func arguments(text string) (all []string) {
	depth, begin := 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '(':
			depth++
		case ')':
			depth--
		case '\'', '`':
			for i++; i < len(text) && text[i] != c; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case ',':
			if depth == 0 {
				all, begin = append(all, strings.TrimSpace(text[begin:i])), i+1
			}
		}
	}
	if rest := strings.TrimSpace(text[begin:]); rest != "" {
		all = append(all, rest)
	}
	return all
}

// field parts "name Type" of a tuple, if it has a name.
func field(text string) (name, rest string, named bool) {
	if quoted, ok := strings.CutPrefix(text, "`"); ok {
		name, rest, named = strings.Cut(quoted, "` ")
		return name, rest, named
	}
	name, rest, named = strings.Cut(text, " ")
	return name, rest, named && !strings.ContainsAny(name, "('")
}

// child is the shape of the i-th part of a cell, or of the one of that name.
func (s *shape) child(i int, name string) *shape {
	if s == nil || len(s.of) == 0 {
		return nil
	}
	switch s.kind {
	case "Array":
		return s.of[0]
	case "Map":
		return s.of[1]
	}
	if s.names != nil {
		i = slices.Index(s.names, name)
	}
	if i < 0 || i >= len(s.of) {
		return nil
	}
	return s.of[i]
}

// wide tells whether values are integers that JSON's readers would round.
func (s *shape) wide() bool {
	return s != nil && (strings.HasSuffix(s.kind, "Int128") || strings.HasSuffix(s.kind, "Int256"))
}

// scalar gives a cell as a value of Go: nil, bool, int64, uint64, float64 or string; what is composed stays as it is.
func (s *shape) scalar(cell []byte) any {
	switch cell[0] {
	case 'n':
		return nil
	case 't', 'f':
		return cell[0] == 't'
	case '[', '{':
		return json.RawMessage(bytes.Clone(cell))
	case '"':
		if inside := cell[1 : len(cell)-1]; bytes.IndexByte(inside, '\\') < 0 {
			return string(inside)
		}
		var text string
		if json.Unmarshal(cell, &text) != nil {
			return string(cell)
		}
		return text
	}
	number := string(cell)
	if strings.HasPrefix(s.kind, "UInt") {
		if n, err := strconv.ParseUint(number, 10, 64); err == nil {
			return n
		}
	}
	if !strings.Contains(s.kind, "Float") {
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			return n
		}
	}
	if n, err := strconv.ParseFloat(number, 64); err == nil {
		return n
	}
	return number
}

// copy appends the cell that in begins with, as ClickHouse wrote it, in our form, and gives what is behind it.
func (s *shape) copy(dst, in []byte) (out, rest []byte, err error) {
	in = bytes.TrimLeft(in, " ")
	if len(in) == 0 {
		return nil, nil, errCut
	}
	if s == nil || in[0] != '"' && len(s.of) == 0 {
		end := cellEnd(in)
		if end < 0 {
			return nil, nil, errCut
		}
		switch cell := in[:end]; {
		case s.wide() && cell[0] != 'n':
			dst = append(append(append(dst, '"'), cell...), '"')
		case !utf8.Valid(cell):
			dst = append(dst, bytes.ToValidUTF8(cell, []byte("\uFFFD"))...)
		default:
			dst = append(dst, cell...)
		}
		return dst, in[end:], nil
	}
	switch in[0] {
	case '"':
		end := cellEnd(in)
		if end < 0 {
			return nil, nil, errCut
		}
		return s.copyText(dst, in[:end]), in[end:], nil
	case '[', '{':
		closing := in[0] + 2 // in ASCII
		dst, in = append(dst, in[0]), in[1:]
		for i := 0; ; i++ {
			if in = bytes.TrimLeft(in, " "); len(in) == 0 {
				return nil, nil, errCut
			}
			if in[0] == closing {
				return append(dst, closing), in[1:], nil
			}
			if i > 0 {
				if in[0] != ',' {
					return nil, nil, errCut
				}
				dst, in = append(dst, ','), bytes.TrimLeft(in[1:], " ")
			}
			name := ""
			if closing == '}' {
				end := cellEnd(in)
				if end < 0 || end >= len(in) || in[0] != '"' || in[end] != ':' {
					return nil, nil, errCut
				}
				var key *shape
				if s.kind == "Map" {
					key = s.of[0]
				} else if json.Unmarshal(in[:end], &name) != nil {
					return nil, nil, errCut
				}
				dst, in = append(key.copyText(dst, in[:end]), ':'), in[end+1:]
			}
			if dst, in, err = s.child(i, name).copy(dst, in); err != nil {
				return nil, nil, err
			}
		}
	}
	end := cellEnd(in) // NULL in place of a list
	if end < 0 {
		return nil, nil, errCut
	}
	return append(dst, in[:end]...), in[end:], nil
}

// copyText appends a text: a time as the clocks of its zone showed it, bytes that are not UTF-8 as \x and hexadecimal.
func (s *shape) copyText(dst, text []byte) []byte {
	if s != nil && s.zone != nil {
		if t, err := time.Parse(time.RFC3339Nano, string(text[1:len(text)-1])); err == nil {
			return append(t.In(s.zone).AppendFormat(append(dst, '"'), time.RFC3339Nano), '"')
		}
	}
	if utf8.Valid(text) {
		return append(dst, text...)
	}
	return appendQuoted(dst, raw(text))
}

// raw gives the bytes that a text of ClickHouse's JSON stands for, although it is not UTF-8 and so not JSON: each byte is
// read as the letter of its number.
func raw(text []byte) string {
	letters := make([]rune, len(text))
	for i, b := range text {
		letters[i] = rune(b)
	}
	var read string
	if json.Unmarshal([]byte(string(letters)), &read) != nil {
		return string(text)
	}
	var out []byte
	for _, r := range read {
		if r <= 0xff {
			out = append(out, byte(r))
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return string(out)
}

// appendQuoted appends a text in quotes; bytes that are not UTF-8 as \x and hexadecimal.
func appendQuoted(dst []byte, text string) []byte {
	if !utf8.ValidString(text) {
		text = `\x` + hex.EncodeToString([]byte(text))
	}
	quoted, _ := json.Marshal(text) // a string can be
	return append(dst, quoted...)
}

// cellEnd gives where the cell ends that in begins with; -1: it does not.
func cellEnd(in []byte) int {
	depth := 0
	for i := 0; i < len(in); i++ {
		switch in[i] {
		case '"':
			for i++; i < len(in) && in[i] != '"'; i++ {
				if in[i] == '\\' {
					i++
				}
			}
			if i >= len(in) {
				return -1
			}
			if depth == 0 {
				return i + 1
			}
		case '[', '{':
			depth++
		case ']', '}':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	if depth > 0 {
		return -1
	}
	return len(in)
}

// write appends what clickhouse-go scanned. It stops where the row is longer than a row may be.
func (s *shape) write(dst []byte, v reflect.Value) ([]byte, error) {
	if len(dst) > maxRow {
		return nil, rowTooLong()
	}
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return append(dst, "null"...), nil
		}
		if text, ok := s.special(v.Interface()); ok {
			return appendQuoted(dst, text), nil
		}
		v = v.Elem()
	}
	if v.CanInterface() {
		if text, ok := s.special(v.Interface()); ok {
			return appendQuoted(dst, text), nil
		}
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.AppendBool(dst, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(dst, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(dst, v.Uint(), 10), nil
	case reflect.Float32, reflect.Float64:
		switch f := v.Float(); {
		case math.IsNaN(f):
			return append(dst, `"nan"`...), nil
		case math.IsInf(f, 1):
			return append(dst, `"inf"`...), nil
		case math.IsInf(f, -1):
			return append(dst, `"-inf"`...), nil
		}
		return strconv.AppendFloat(dst, v.Float(), 'g', -1, v.Type().Bits()), nil
	case reflect.String:
		return appendQuoted(dst, v.String()), nil
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 && s.kind != "Array" {
			bytes := make([]byte, v.Len())
			reflect.Copy(reflect.ValueOf(bytes), v)
			return appendQuoted(dst, string(bytes)), nil
		}
		dst = append(dst, '[')
		for i := range v.Len() {
			var err error
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = orAny(s.child(i, "")).write(dst, v.Index(i)); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	case reflect.Map:
		return s.writeMap(dst, v)
	case reflect.Invalid:
		return append(dst, "null"...), nil
	default:
		return appendQuoted(dst, fmt.Sprint(v.Interface())), nil
	}
}

// writeMap appends a map in the order of its keys.
func (s *shape) writeMap(dst []byte, v reflect.Value) ([]byte, error) {
	var key *shape
	if s.kind == "Map" {
		key = s.of[0]
	}
	values := map[string]reflect.Value{}
	for it := v.MapRange(); it.Next(); {
		name, err := orAny(key).write(nil, it.Key())
		if err != nil {
			return nil, err
		}
		if name[0] != '"' {
			name = append(append([]byte{'"'}, name...), '"')
		}
		values[string(name)] = it.Value()
	}
	dst = append(dst, '{')
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, name...), ':')
		var err error
		if dst, err = orAny(s.child(i, strings.Trim(name, `"`))).write(dst, values[name]); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

func orAny(s *shape) *shape {
	if s == nil {
		return &shape{}
	}
	return s
}

// special gives the text of values that have one of their own.
func (s *shape) special(value any) (string, bool) {
	switch x := value.(type) {
	case time.Time:
		switch {
		case s.zone != nil:
			return x.In(s.zone).Format(time.RFC3339Nano), true
		case strings.HasPrefix(s.kind, "Date"):
			return x.Format(time.DateOnly), true
		}
		return x.Format(time.RFC3339Nano), true
	case big.Int:
		return x.String(), true
	case *big.Int:
		return x.String(), true
	case net.IP:
		return x.String(), true
	case interface{ StringFixed(places int32) string }: // a decimal
		return x.StringFixed(int32(s.scale)), true
	case fmt.Stringer:
		if reflect.ValueOf(value).Kind() == reflect.Pointer && reflect.ValueOf(value).IsNil() {
			return "", false
		}
		return x.String(), true
	}
	return "", false
}
