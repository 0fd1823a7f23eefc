package calendar

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
)

// ParseHolidays reads public holidays from a file: one year or a list of years as core.Holidays is written in JSON, or the
// file chinese-days.json of the npm package chinese-days (or one of its dist/years/*.json). Years rise in the answer. It
// fails with KindInvalid and findings that say where: "[1].workdays.2026-02-30", or the line and column of bad JSON.
func ParseHolidays(data []byte) ([]core.Holidays, error) {
	const op = "read holidays"
	data = bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	if len(data) == 0 {
		return nil, core.Invalid(op, core.Finding{Message: text("文件是空的", "the file is empty")})
	}
	if data[0] != '{' && data[0] != '[' {
		return nil, core.Invalid(op, core.Finding{Path: "line 1, column 1", Message: noHolidays})
	}
	if data[0] == '[' {
		var years []core.Holidays
		if err := strict(data, &years); err != nil {
			return nil, core.Invalid(op, *err)
		}
		return checked(op, years, true)
	}
	var form struct {
		Region     string            `json:"region"`
		Year       *int              `json:"year"`
		Holidays   map[string]string `json:"holidays"`
		Workdays   map[string]string `json:"workdays"`
		InLieuDays map[string]string `json:"inLieuDays"` // days off for which others are worked: among the holidays already
	}
	if err := strict(data, &form); err != nil {
		return nil, core.Invalid(op, *err)
	}
	if form.Year != nil {
		return checked(op, []core.Holidays{{Region: form.Region, Year: *form.Year, Holidays: form.Holidays, Workdays: form.Workdays}}, false)
	}
	years := make(map[int]*core.Holidays)
	var findings []core.Finding
	take := func(field string, days map[string]string, put func(y *core.Holidays) map[string]string) {
		for _, date := range slices.Sorted(maps.Keys(days)) {
			day, ok := readDate(date)
			if !ok {
				findings = append(findings, core.Finding{Path: field + "." + date, Message: text("%q 不是日期；请写成 2026-10-01", "%q is not a date; write it as 2026-10-01", date)})
				continue
			}
			n, _, _ := civil(day)
			if years[int(n)] == nil {
				years[int(n)] = &core.Holidays{Region: Region, Year: int(n), Holidays: map[string]string{}, Workdays: map[string]string{}}
			}
			put(years[int(n)])[date] = chineseName(days[date])
		}
	}
	take("holidays", form.Holidays, func(y *core.Holidays) map[string]string { return y.Holidays })
	take("workdays", form.Workdays, func(y *core.Holidays) map[string]string { return y.Workdays })
	if len(findings) > 0 {
		return nil, core.Invalid(op, findings...)
	}
	if len(years) == 0 {
		return nil, core.Invalid(op, core.Finding{Message: noHolidays})
	}
	list := make([]core.Holidays, 0, len(years))
	for _, n := range slices.Sorted(maps.Keys(years)) {
		list = append(list, *years[n])
	}
	return checked(op, list, false)
}

var noHolidays = text("没有 holidays；请给出 {region, year, holidays, workdays}、它的列表，或 chinese-days 的 JSON",
	"has no holidays; give {region, year, holidays, workdays}, a list of those, or the JSON of chinese-days")

// chineseName takes the Chinese name out of what chinese-days writes: "New Year's Day,元旦,1".
func chineseName(s string) string {
	if parts := strings.Split(s, ","); len(parts) == 3 {
		return parts[1]
	}
	return s
}

// checked refuses years with findings. Numbered says that their place in a list belongs to the path.
func checked(op string, years []core.Holidays, numbered bool) ([]core.Holidays, error) {
	var findings []core.Finding
	seen := make(map[int]bool)
	for i := range years {
		if years[i].Region == "" {
			years[i].Region = Region
		}
		prefix := ""
		if numbered {
			prefix = fmt.Sprintf("[%d].", i)
		}
		for _, f := range CheckHolidays(years[i]) {
			f.Path = prefix + f.Path
			findings = append(findings, f)
		}
		if seen[years[i].Year] {
			findings = append(findings, core.Finding{Path: prefix + "year", Message: text("%d 年给了两次；请去掉一个", "%d is given twice; remove one", years[i].Year)})
		}
		seen[years[i].Year] = true
	}
	if len(years) == 0 {
		findings = append(findings, core.Finding{Message: text("列表是空的", "the list is empty")})
	}
	if len(findings) > 0 {
		return nil, core.Invalid(op, findings...)
	}
	slices.SortFunc(years, func(a, b core.Holidays) int { return a.Year - b.Year })
	return years, nil
}

// strict decodes one JSON value and nothing behind it; fields that are not known are refused.
func strict(data []byte, into any) *core.Finding {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	at := d.InputOffset()
	if err == nil && d.More() {
		err = fmt.Errorf("there is more behind the end")
	}
	if err == nil {
		return nil
	}
	switch e := err.(type) { //nolint:errorlint // Decode gives these as they are
	case *json.SyntaxError:
		at = e.Offset
	case *json.UnmarshalTypeError:
		at = e.Offset
	}
	before := data[:min(max(at, 0), int64(len(data)))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n')
	why := core.Text{Zh: strings.TrimPrefix(err.Error(), "json: "), En: strings.TrimPrefix(err.Error(), "json: ")}
	if e, ok := err.(*json.UnmarshalTypeError); ok { //nolint:errorlint // as above
		field, want := strings.TrimPrefix(e.Field+": ", ": "), form(e.Type.Kind())
		why = core.Text{Zh: field + "这里须是" + want.Zh, En: field + want.En + " belongs here"}
	}
	return &core.Finding{
		Path:    fmt.Sprintf("line %d, column %d", line, column),
		Message: core.Text{Zh: "读不懂：" + why.Zh, En: "cannot be read: " + why.En},
	}
}

// form says what a Go kind is in a file.
func form(kind reflect.Kind) core.Text {
	switch kind {
	case reflect.Int:
		return text("整数", "a whole number")
	case reflect.String:
		return text("文字", "text")
	case reflect.Slice:
		return text("列表", "a list")
	default:
		return text("由字段组成的对象", "an object of fields")
	}
}
