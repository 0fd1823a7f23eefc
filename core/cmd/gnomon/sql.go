package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/spf13/cobra"
)

func newSQLCommand(s *session) *cobra.Command {
	var params map[string]string
	var maxRows int
	cmd := &cobra.Command{
		Use: "sql STATEMENT", Short: "Ask history by ClickHouse SQL", Args: cobra.ExactArgs(1),
		Long: "Ask history by ClickHouse SQL: runs, attempts, run_logs, run_samples, plugin_samples, host_samples. A statement of\n" +
			"- is read from standard input.",
		Example: `  gnomon sql "SELECT task_type, count(), countIf(outcome='succeeded') FROM runs GROUP BY 1"
  gnomon sql "SELECT * FROM runs WHERE namespace = {ns:String} LIMIT 10" --param ns=Common -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			statement := args[0]
			if statement == "-" {
				text, err := io.ReadAll(s.in)
				if err != nil {
					return err
				}
				statement = string(text)
			}
			accept := map[string]string{
				"table": "application/json", "json": "application/x-ndjson", "ndjson": "application/x-ndjson",
				"csv": "text/csv", "tsv": "text/tab-separated-values",
			}[s.output]
			resp, err := s.ask(cmd.Context(), request{
				method: http.MethodPost, path: "/v1/query", header: map[string]string{"Accept": accept},
				body: api.QueryRequest{SQL: statement, Params: params, MaxRows: maxRows},
			})
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			if err := s.rows(resp.Body); err != nil {
				return fmt.Errorf("%s: %w", s.say("结果不完整", "the answer is not complete"), err)
			}
			if resp.Trailer.Get("X-Gnomon-More") == "true" {
				fmt.Fprintf(s.err, s.say("只显示了前 %d 行；用 --max-rows 取更多\n", "only the first %d rows are shown; ask for more with --max-rows\n"), maxRows)
			}
			return nil
		},
	}
	s.flags(cmd)
	cmd.Flags().StringToStringVarP(&params, "param", "p", nil, "value of {name:Type} in the statement: name=value")
	cmd.Flags().IntVar(&maxRows, "max-rows", 10000, "rows at most, up to 1000000")
	s.outputFlag(cmd, "table", "json", "ndjson", "csv", "tsv")
	return cmd
}

// rows prints an answer in the form that was asked for.
func (s *session) rows(body io.Reader) error {
	switch s.output {
	case "table":
		var answer api.QueryAnswer
		if err := json.NewDecoder(body).Decode(&answer); err != nil {
			return err
		}
		headings := make([]string, len(answer.Columns))
		for i, c := range answer.Columns {
			headings[i] = c.Name
		}
		rows := make([][]string, len(answer.Rows))
		for i, row := range answer.Rows {
			for _, cell := range row {
				rows[i] = append(rows[i], cellOf(cell))
			}
		}
		return s.table(headings, rows)
	case "json": // the rows as they come, as one array of objects
		lines := bufio.NewReader(body)
		before := "["
		for {
			line, err := lines.ReadString('\n')
			if line = strings.TrimSuffix(line, "\n"); line != "" {
				if _, err := fmt.Fprint(s.out, before+"\n  "+line); err != nil {
					return err
				}
				before = ","
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
		end := "\n]"
		if before == "[" {
			end = "[]"
		}
		_, err := fmt.Fprintln(s.out, end)
		return err
	}
	_, err := io.Copy(s.out, body)
	return err
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
