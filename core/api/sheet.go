package api

import (
	"archive/zip"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// What a sheet of Excel can hold (support.microsoft.com, "Excel specifications and limits").
const (
	sheetRows    = 1<<20 - 1 // below the line of names
	sheetColumns = 1 << 14
	cellLetters  = 32767
)

// exactInteger is the largest integer up to which a number of Excel, a float64, has all of them.
const exactInteger = 1 << 53

// sheet is a workbook of one sheet that is filled row by row; beyond 16 MiB it lies in a temporary file.
type sheet struct {
	file    *excelize.File
	rows    *excelize.StreamWriter
	columns []Column
	at      int // row, from 1
	cells   []any
	moment  int // styles
	day     int
}

func newSheet(columns []Column) (*sheet, error) {
	if len(columns) > sheetColumns {
		return nil, errors.New("a sheet of Excel has room for 16384 columns")
	}
	s := &sheet{file: excelize.NewFile(), columns: columns}
	ok := false
	defer func() {
		if !ok {
			s.close()
		}
	}()
	var err error
	if s.rows, err = s.file.NewStreamWriter("Sheet1"); err != nil {
		return nil, err
	}
	momentForm, dayForm := "yyyy-mm-dd hh:mm:ss.000", "yyyy-mm-dd"
	if s.moment, err = s.file.NewStyle(&excelize.Style{CustomNumFmt: &momentForm}); err != nil {
		return nil, err
	}
	if s.day, err = s.file.NewStyle(&excelize.Style{CustomNumFmt: &dayForm}); err != nil {
		return nil, err
	}
	bold, err := s.file.NewStyle(&excelize.Style{Font: &excelize.Font{Bold: true}})
	if err != nil {
		return nil, err
	}
	for i, c := range columns {
		width := min(max(float64(utf8.RuneCountInString(c.Name))+2, 10), 40)
		if strings.HasPrefix(bare(c.Type), "DateTime") {
			width = max(width, 24)
		}
		if err := s.rows.SetColWidth(i+1, i+1, width); err != nil {
			return nil, err
		}
	}
	if err := s.rows.SetPanes(&excelize.Panes{Freeze: true, YSplit: 1, TopLeftCell: "A2", ActivePane: "bottomLeft"}); err != nil {
		return nil, err
	}
	for _, c := range columns {
		s.cells = append(s.cells, excelize.Cell{StyleID: bold, Value: harmlessText(c.Name)})
	}
	ok = true
	return s, s.put()
}

func (s *sheet) put() error {
	s.at++
	return s.rows.SetRow("A"+strconv.Itoa(s.at), s.cells)
}

func (s *sheet) row(values []any) error {
	s.cells = s.cells[:0]
	for i, v := range values {
		cell, err := s.cell(v, bare(s.columns[i].Type))
		if err != nil {
			return err
		}
		s.cells = append(s.cells, cell)
	}
	return s.put()
}

// cell gives a value as Excel holds it: what is a number or a time stays one unless Excel would round it.
func (s *sheet) cell(v any, kind string) (any, error) {
	switch x := v.(type) {
	case nil, bool, float64:
		return x, nil
	case int64:
		if x > -exactInteger && x < exactInteger {
			return x, nil
		}
		return strconv.FormatInt(x, 10), nil
	case uint64:
		if x < exactInteger {
			return x, nil
		}
		return strconv.FormatUint(x, 10), nil
	case string:
		switch {
		case strings.HasPrefix(kind, "DateTime"), strings.HasPrefix(kind, "Date"):
			if cell, ok := s.time(x); ok {
				return cell, nil
			}
		case strings.Contains(kind, "Float"): // -inf is no formula
			return x, nil
		case strings.HasPrefix(kind, "Decimal"), strings.HasPrefix(kind, "Int"), strings.HasPrefix(kind, "UInt"):
			if n, err := strconv.ParseFloat(x, 64); err == nil && len(x) <= 15 {
				return n, nil
			}
			return x, nil
		}
		return harmlessText(x), nil
	default:
		text, err := cellText(x)
		return harmlessText(text), err
	}
}

// time gives a time as the number of days since the end of 1899, as the clocks of its zone showed it.
func (s *sheet) time(text string) (cell excelize.Cell, ok bool) {
	const days1970 = 25569 // from then to 1970
	style := s.moment
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		style = s.day
		if t, err = time.Parse(time.DateOnly, text); err != nil {
			return cell, false
		}
	}
	_, offset := t.Zone()
	days := days1970 + (float64(t.Unix()+int64(offset))+float64(t.Nanosecond())/1e9)/86400
	// Excel counts a 29 February 1900 that never was: before it, days are off by one.
	return excelize.Cell{StyleID: style, Value: days}, days >= 61
}

func (s *sheet) end() error { return s.rows.Flush() }

// write writes the workbook as it is packed: excelize would hold the whole of it first.
func (s *sheet) write(w io.Writer) error {
	s.file.SetZipWriter(func(io.Writer) excelize.ZipWriter { return zip.NewWriter(w) })
	return s.file.Write(io.Discard)
}

// close removes the temporary file, if there is one.
func (s *sheet) close() { _ = s.file.Close() }

// harmlessText keeps a spreadsheet from taking text for a formula, now or when it is saved and opened again: text that
// begins like one gets an apostrophe (owasp.org, "CSV Injection"). Text longer than a cell may be is cut, and ends in ….
func harmlessText(text string) string {
	if utf8.RuneCountInString(text) > cellLetters-2 {
		text = string([]rune(text)[:cellLetters-2]) + "…"
	}
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}

// bare gives a type without what only says how it is stored or that it may be absent.
func bare(kind string) string {
	for {
		inner, ok := strings.CutPrefix(kind, "Nullable(")
		if !ok {
			if inner, ok = strings.CutPrefix(kind, "LowCardinality("); !ok {
				return kind
			}
		}
		kind = strings.TrimSuffix(inner, ")")
	}
}
