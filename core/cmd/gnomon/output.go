package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/goccy/go-yaml"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

// outputFlag adds -o with the forms a command knows; the first is the default.
func (s *session) outputFlag(cmd *cobra.Command, forms ...string) {
	cmd.Flags().StringVarP(&s.output, "output", "o", forms[0], strings.Join(forms, "|"))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	check := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("output") { // the field is one for all commands: what it holds is another's default
			s.output = forms[0]
		}
		if !slices.Contains(forms, s.output) {
			return &usageError{fmt.Errorf(s.say("-o %s：只能是 %s 之一", "-o %s: must be one of %s"), s.output, strings.Join(forms, ", "))}
		}
		if check != nil {
			return check(cmd, args)
		}
		return nil
	}
}

// show prints a JSON document as JSON or YAML, or, for a person, what human writes.
func (s *session) show(document json.RawMessage, human func() error) error {
	switch s.output {
	case "json":
		var text bytes.Buffer
		if err := json.Indent(&text, document, "", "  "); err != nil {
			return err
		}
		_, err := fmt.Fprintln(s.out, strings.TrimSpace(text.String()))
		return err
	case "yaml":
		text, err := yaml.JSONToYAML(document)
		if err != nil {
			return err
		}
		_, err = s.out.Write(text)
		return err
	}
	return human()
}

// array makes one JSON document of many.
func array(items []json.RawMessage) json.RawMessage {
	text := []byte("[")
	for i, item := range items {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, item...)
	}
	return append(text, ']')
}

// each reads items as what they are.
func each[T any](items []json.RawMessage) ([]T, error) {
	list := make([]T, len(items))
	for i, item := range items {
		if err := json.Unmarshal(item, &list[i]); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
	}
	return list, nil
}

// table prints rows under headings: no frame, two blanks between columns, so that it reads well and cuts well. That there
// are none is said beside the output, so that who counts lines counts none.
func (s *session) table(headings []string, rows [][]string) error {
	if len(rows) == 0 {
		return s.nothing("没有内容", "there are none")
	}
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = 0
	t.SetStyle(style)
	t.AppendHeader(tableRow(headings))
	for _, row := range rows {
		t.AppendRow(tableRow(row))
	}
	for line := range strings.SplitSeq(t.Render(), "\n") {
		if _, err := fmt.Fprintln(s.out, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

// nothing says that there is nothing to print.
func (s *session) nothing(zh, en string) error {
	_, err := fmt.Fprintln(s.err, s.say("（"+zh+"）", "("+en+")"))
	return err
}

// harmless takes from text what would steer the reader's terminal: much of what is shown was said by tasks.
var harmless = strings.NewReplacer("\x1b", "␛", "\r", "␍", "\x07", "␇", "\u009b", "␛[")

func tableRow(cells []string) table.Row {
	row := make(table.Row, len(cells))
	for i, c := range cells {
		row[i] = strings.NewReplacer("\n", "⏎", "\t", " ").Replace(harmless.Replace(c))
	}
	return row
}

// pairs prints names and values under each other; a pair without value is left out.
func (s *session) pairs(list ...string) error {
	var rows [][]string
	for i := 0; i+1 < len(list); i += 2 {
		if list[i+1] != "" {
			rows = append(rows, []string{list[i], list[i+1]})
		}
	}
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(s.out, "%-*s  %s\n", width, r[0], strings.ReplaceAll(harmless.Replace(r[1]), "\n", "\n"+strings.Repeat(" ", width+2))); err != nil {
			return err
		}
	}
	return nil
}

// clock prints an instant in the zone of the reader, to the second.
func clock(t *api.Time) string {
	if t == nil {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// clockMillis prints an instant in the zone of the reader, to the millisecond.
func clockMillis(t *api.Time) string {
	if t == nil {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}

func took(from, to *api.Time) string {
	if from == nil || to == nil {
		return ""
	}
	return to.Sub(from.Time).Round(time.Millisecond).String()
}

func compact(document api.Object) string {
	var text bytes.Buffer
	if json.Compact(&text, document) != nil || text.String() == "{}" {
		return ""
	}
	return text.String()
}
