package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// inquiry is one statement and how its answer is wanted.
type inquiry struct {
	statement string
	params    map[string]*string
	maxRows   int
	file      string // where the answer goes; "": standard output
	id        string
	began     time.Time
}

// rowsOfAFile is how many rows a file takes where nothing else is said: what a sheet of Excel can hold.
const rowsOfAFile = 1<<20 - 1

func newSQLCommand(s *session) *cobra.Command {
	var q inquiry
	var from string
	var params []string
	cmd := &cobra.Command{
		Use: "sql [STATEMENT]", Short: "Ask history by ClickHouse SQL", Args: cobra.MaximumNArgs(1),
		Long: "Ask history by ClickHouse SQL: runs, attempts, run_logs, run_samples, plugin_samples, host_samples, and the views v_*.\n" +
			"A statement of -, or none, is read from standard input. Ctrl-C cancels the query on the server.\n" +
			"Values of -p are taken as they are; a list is written as ClickHouse does: -p \"names=['a', 'b']\".\n" +
			"csv and tsv hold values as they are, also such as a spreadsheet takes for formulas (=1+1); xlsx does not.",
		Example: `  gnomon sql "SELECT task_type, count(), countIf(outcome='succeeded') FROM runs GROUP BY 1"
  gnomon sql "SELECT * FROM runs WHERE namespace = {ns:String} LIMIT 10" --param ns=Common -o json
  gnomon sql --from monthly.sql --file monthly.xlsx`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if q.statement, err = s.statement(args, from); err != nil {
				return err
			}
			for _, param := range params {
				name, value, ok := strings.Cut(param, "=")
				if !ok || name == "" {
					return &usageError{fmt.Errorf(s.say("--param %s：应写作 名称=值", "--param %s: write name=value"), param)}
				}
				if _, twice := q.params[name]; twice {
					return &usageError{fmt.Errorf(s.say("--param %s 给出了两次：每个参数只能给一个值", "--param %s is given twice: a parameter has one value"), name)}
				}
				if q.params == nil {
					q.params = map[string]*string{}
				}
				q.params[name] = &value
			}
			if q.file != "" && !cmd.Flags().Changed("output") {
				if s.output = strings.TrimPrefix(filepath.Ext(q.file), "."); !slices.Contains(sqlForms, s.output) {
					return &usageError{fmt.Errorf(s.say("--file %s：后缀须为 .%s，或用 -o 指定格式", "--file %s: its ending must be .%s, or give the form with -o"), q.file, strings.Join(sqlForms, ", ."))}
				}
			}
			if q.file != "" && !cmd.Flags().Changed("max-rows") {
				q.maxRows = rowsOfAFile
			}
			if (s.output == "xlsx" || s.output == "parquet") && q.file == "" && terminal(s.out) {
				return &usageError{fmt.Errorf(s.say("%s 是二进制文件：请用 --file 指定文件名，或重定向标准输出", "%s is not for a terminal: name a file with --file, or redirect standard output"), s.output)}
			}
			return s.answer(cmd.Context(), q)
		},
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "read the statement from this file")
	f.StringVar(&q.file, "file", "", "write the answer to this file; its ending gives the form where -o does not")
	f.StringArrayVarP(&params, "param", "p", nil, "value of {name:Type} in the statement: name=value, \\N for the NULL of a Nullable; once for each")
	f.IntVar(&q.maxRows, "max-rows", 10000, "rows at most, up to 10000000; with --file 1048575 if it is not given")
	s.outputFlag(cmd, sqlForms...)
	return cmd
}

var sqlForms = []string{"table", "json", "ndjson", "csv", "tsv", "xlsx", "parquet"}

// statement gives the text to be asked, from wherever it is.
func (s *session) statement(args []string, from string) (string, error) {
	var text []byte
	var err error
	switch {
	case from != "" && len(args) > 0:
		return "", &usageError{errors.New(s.say("语句与 --from 只能给出一个", "give the statement or --from, not both"))}
	case from != "":
		text, err = os.ReadFile(from)
	case len(args) == 1 && args[0] != "-":
		text = []byte(args[0])
	case len(args) == 0 && terminal(s.in):
		return "", &usageError{errors.New(s.say("请给出 SQL 语句；见 gnomon sql --help", "give a statement; see gnomon sql --help"))}
	default:
		text, err = io.ReadAll(s.in)
	}
	if err != nil {
		return "", &usageError{err}
	}
	if strings.TrimSpace(string(text)) == "" {
		return "", &usageError{errors.New(s.say("语句为空", "the statement is empty"))}
	}
	return string(text), nil
}

// answer asks and prints, or writes, what comes. A file that cannot be written is noticed before anything is asked.
func (s *session) answer(ctx context.Context, q inquiry) (err error) {
	q.id, q.began = uuid.Must(uuid.NewV7()).String(), time.Now()
	rows, more := -1, false
	ask := func() (err error) {
		rows, more, err = s.fetch(ctx, q)
		return err
	}
	if q.file != "" {
		err = s.toFile(q.file, ask)
	} else {
		err = ask()
	}
	if err != nil {
		return err
	}
	took := time.Since(q.began).Round(time.Millisecond)
	switch {
	case q.file != "":
		written, err := os.Stat(q.file)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.err, s.say("已写入 %s：%s，用时 %s\n", "wrote %s: %s in %s\n"), q.file, sizeText(written.Size()), took)
	case rows >= 0 && s.output == "table":
		fmt.Fprintf(s.err, s.say("%d 行，用时 %s\n", map[bool]string{true: "%d row in %s\n", false: "%d rows in %s\n"}[rows == 1]), rows, took)
	}
	switch {
	case more && s.output == "xlsx" && q.maxRows >= rowsOfAFile:
		fmt.Fprintf(s.err, s.say("还有更多：Excel 的一张工作表最多 %d 行；请缩小查询，或用 --file 写成 .csv 或 .parquet\n", "there is more: a sheet of Excel holds %d rows; ask for less, or write a .csv or .parquet file with --file\n"), rowsOfAFile)
	case more:
		fmt.Fprintf(s.err, s.say("还有更多：只给出了前 %d 行以内的结果；用 --max-rows 取更多\n", "there is more: the answer was cut at %d rows or sooner; ask for more with --max-rows\n"), q.maxRows)
	}
	return nil
}

// fetch asks and prints what comes; rows is -1 if they were not counted.
func (s *session) fetch(ctx context.Context, q inquiry) (rows int, more bool, err error) {
	accept := map[string]string{
		"table": "application/json", "json": "application/x-ndjson", "ndjson": "application/x-ndjson",
		"csv": "text/csv", "tsv": "text/tab-separated-values", "parquet": "application/vnd.apache.parquet",
		"xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	}[s.output]
	var got counter
	endProgress := s.queryProgress(ctx, q, &got)
	defer endProgress()
	resp, err := s.ask(ctx, request{
		method: http.MethodPost, path: "/v1/query", header: map[string]string{"Accept": accept},
		body: api.QueryRequest{SQL: q.statement, Params: q.params, MaxRows: q.maxRows, ID: q.id},
	})
	if err != nil {
		endProgress()
		return -1, false, s.unanswered(ctx, q, &statementError{q.statement, err})
	}
	defer func() { _ = resp.Body.Close() }()
	got.from = resp.Body
	rows, err = s.rows(&untilEnd{r: bufio.NewReaderSize(&got, 64<<10), mark: []byte(api.QueryEndMark(q.id))})
	endProgress()
	if err != nil {
		return -1, false, s.unanswered(ctx, q, &placedError{s.say("结果不完整", "the answer is not complete"), err})
	}
	return rows, resp.Trailer.Get("X-Gnomon-More") == "true", nil
}

// untilEnd is an answer whose last line, if that says why there is no more, is an error and no part of it.
type untilEnd struct {
	r     *bufio.Reader
	mark  []byte // what that line begins with
	part  []byte // of a line, not yet given
	err   error  // what comes behind it
	inner bool   // the line goes on
}

// Read gives what has come.
func (u *untilEnd) Read(p []byte) (n int, err error) {
	for n < len(p) && (len(u.part) > 0 || u.err == nil && (n == 0 || u.r.Buffered() >= len(u.mark))) {
		if len(u.part) == 0 {
			u.next()
		}
		taken := copy(p[n:], u.part)
		n, u.part = n+taken, u.part[taken:]
	}
	if n > 0 {
		return n, nil
	}
	return 0, u.err
}

func (u *untilEnd) next() {
	if begins, _ := u.r.Peek(len(u.mark)); !u.inner && bytes.Equal(begins, u.mark) {
		var end api.QueryEnd
		if u.err = json.NewDecoder(u.r).Decode(&end); u.err == nil {
			u.err = &remoteError{end.Error}
		}
		return
	}
	u.part, u.err = u.r.ReadSlice('\n')
	if u.inner = errors.Is(u.err, bufio.ErrBufferFull); u.inner {
		u.err = nil
	}
}

// unanswered makes sure that a query whose answer nobody waits for is not running on: closing the connection ends it, but
// a proxy may keep its own open.
func (s *session) unanswered(ctx context.Context, q inquiry, err error) error {
	if ctx.Err() == nil {
		return err
	}
	limited, done := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer done()
	if _, gone := s.call(limited, request{method: http.MethodDelete, path: "/v1/queries/" + q.id}, nil); gone != nil {
		return errors.Join(ctx.Err(), gone)
	}
	return ctx.Err()
}

// toFile has what write prints go to a file, which appears when it is whole.
func (s *session) toFile(path string, write func() error) error {
	part, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part")
	if err != nil {
		if at, ok := errors.AsType[*fs.PathError](err); ok {
			err = at.Err
		}
		return &usageError{fmt.Errorf(s.say("无法写入 %s：%w；请换一个已存在且可写的目录", "cannot write %s: %w; name a file in a folder that is there and may be written to"), path, err)}
	}
	defer func() { _ = os.Remove(part.Name()) }() // gone already if all went well
	out, buffered := s.out, bufio.NewWriterSize(part, 1<<16)
	s.out = buffered
	err = write()
	s.out = out
	if err == nil {
		err = errors.Join(buffered.Flush(), part.Chmod(0o644))
	}
	if err = errors.Join(err, part.Close()); err != nil {
		return err
	}
	return os.Rename(part.Name(), path)
}

// queryProgress says on a terminal, each half second, how far the query is, until the function it gives is called.
func (s *session) queryProgress(ctx context.Context, q inquiry, got *counter) (end func()) {
	return s.each500ms(ctx, func(ctx context.Context) {
		var p struct {
			Items []api.RunningQuery `json:"items"`
		}
		if _, err := s.call(ctx, request{method: http.MethodGet, path: "/v1/queries"}, &p); err != nil {
			return // it is the answer that counts
		}
		for _, running := range p.Items {
			if running.ID == q.id {
				progress(s.err, s.say("  已读 %s 行，已收 %s，%.1f 秒", "  %s rows read, %s received, %.1f s"), thousands(running.ReadRows), sizeText(got.bytes.Load()), time.Since(q.began).Seconds())
			}
		}
	})
}

// rows prints an answer in the form that was asked for, and gives how many rows it had if that is known, else -1.
func (s *session) rows(body io.Reader) (int, error) {
	switch s.output {
	case "table":
		var answer api.QueryAnswer
		if err := json.NewDecoder(body).Decode(&answer); err != nil {
			return -1, err
		}
		return len(answer.Rows), s.answerTable(answer)
	case "json": // the rows as they come, as one array of objects
		lines := bufio.NewReader(body)
		count, before := 0, "["
		for {
			line, err := lines.ReadString('\n')
			if line = strings.TrimSuffix(line, "\n"); line != "" {
				if _, err := fmt.Fprint(s.out, before+"\n  "+line); err != nil {
					return -1, err
				}
				count, before = count+1, ","
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return -1, err
			}
		}
		end := "\n]"
		if before == "[" {
			end = "[]"
		}
		_, err := fmt.Fprintln(s.out, end)
		return count, err
	}
	_, err := io.Copy(s.out, body)
	return -1, err
}

// answerTable prints rows under their names: numbers to the right, and on a terminal cut to what fits.
func (s *session) answerTable(answer api.QueryAnswer) error {
	if len(answer.Columns) == 0 {
		return nil
	}
	cells := make([][]string, 0, len(answer.Rows)+1)
	names := make([]string, len(answer.Columns))
	for i, c := range answer.Columns {
		names[i] = c.Name
	}
	for _, row := range append([][]api.Any{nil}, answer.Rows...) {
		line := names
		if row != nil {
			line = make([]string, len(row))
			for i, cell := range row {
				line[i] = cellOf(cell)
			}
		}
		shown := tableRow(line)
		for i := range line {
			line[i] = fmt.Sprint(shown[i])
		}
		cells = append(cells, line)
	}
	shown := len(names)
	if width := terminalWidth(s.out); width > 0 {
		shown = fit(cells, width)
	}
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = 0
	t.SetStyle(style)
	var columns []table.ColumnConfig
	for i, c := range answer.Columns[:shown] {
		if numeric(c.Type) {
			columns = append(columns, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.SetColumnConfigs(columns)
	for i, line := range cells {
		row := make(table.Row, shown)
		for j := range row {
			row[j] = line[j]
		}
		if i == 0 {
			t.AppendHeader(row)
		} else {
			t.AppendRow(row)
		}
	}
	for line := range strings.SplitSeq(t.Render(), "\n") {
		if _, err := fmt.Fprintln(s.out, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	if hidden := len(names) - shown; hidden > 0 {
		fmt.Fprintf(s.err, s.say("另有 %d 列放不下：%s；用 -o csv 或 --file 可得到全部\n", "%d more columns do not fit: %s; -o csv or --file gives all\n"), hidden, strings.Join(names[shown:], ", "))
	}
	return nil
}

// narrowest is how narrow a column may become before columns are left out.
const narrowest = 8

// fit cuts cells so that a line is at most width wide, the widest columns first, and gives how many columns fit.
func fit(cells [][]string, width int) (shown int) {
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], text.StringWidthWithoutEscSequences(cell))
		}
	}
	total := 0
	for _, w := range widths {
		if shown > 0 && total+min(w, narrowest) > width {
			break
		}
		total += min(w, narrowest) + 2
		shown++
	}
	// What is left of the width is shared out: nobody is given more than asked, and who asks most is cut most.
	limit, room := 0, width-2*shown
	for level := 1; level <= width; level++ {
		need := 0
		for _, w := range widths[:shown] {
			need += min(w, level)
		}
		if need > room {
			break
		}
		limit = level
	}
	limit = max(limit, 1)
	for _, line := range cells {
		for i := range shown {
			line[i] = text.Snip(line[i], limit, "…")
		}
	}
	return shown
}

// numeric tells whether values of a type are numbers.
func numeric(kind string) bool {
	for _, wrap := range []string{"Nullable(", "LowCardinality("} {
		kind = strings.TrimPrefix(kind, wrap)
	}
	for _, prefix := range []string{"Int", "UInt", "Float", "BFloat", "Decimal"} {
		if strings.HasPrefix(kind, prefix) && !strings.HasPrefix(kind, "Interval") {
			return true
		}
	}
	return false
}

// cellOf gives a value as a person reads it: text without quotes, NULL as such, the rest as JSON.
func cellOf(v api.Any) string {
	var text string
	switch {
	case string(v) == "null":
		return "NULL"
	case json.Unmarshal(v, &text) == nil:
		return text
	}
	return string(v)
}
