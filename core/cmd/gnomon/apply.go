package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/cobra"
)

// folder is what a YAML file of a folder of definitions holds.
type folder struct {
	Calendars   []map[string]any `yaml:"calendars"`
	Pools       []map[string]any `yaml:"pools"`
	Downstreams []map[string]any `yaml:"downstreams"`
	Namespaces  []map[string]any `yaml:"namespaces"`
	Tasks       []map[string]any `yaml:"tasks"`
}

// lists gives what a file defines, by the names of its lists.
func (f folder) lists() map[string][]map[string]any {
	return map[string][]map[string]any{
		"calendars": f.Calendars, "pools": f.Pools, "downstreams": f.Downstreams, "namespaces": f.Namespaces, "tasks": f.Tasks,
	}
}

func newApplyCommand(s *session) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use: "apply FOLDER", Short: "Make namespaces, calendars, pools, downstreams and tasks what the YAML files of a folder say", Args: cobra.ExactArgs(1),
		Long: "Each file has namespaces:, calendars:, pools:, downstreams: and tasks:, lists of what the REST API takes. What others name\n" +
			"comes first, whatever file it stands in. Everything is checked first: if anything is wrong, all of it is said and nothing\n" +
			"is changed. Doing it twice changes nothing more. Nothing is removed.",
		Example: "  gnomon apply deploy/tasks --dry-run\n  gnomon apply deploy/tasks",
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := definitionFiles(args[0])
			if err != nil {
				return &usageError{err}
			}
			var all []*defined
			wrong := &refusals{code: exitRefused}
			for _, file := range files {
				some, err := readFolder(file)
				if refused, ok := errors.AsType[*core.Error](err); ok {
					wrong.lines = append(wrong.lines, s.findings(refused)...)
				} else if err != nil {
					return &usageError{err}
				}
				all = append(all, some...)
			}
			if len(wrong.lines) > 0 {
				return wrong
			}
			if len(all) == 0 {
				return s.nothing("文件中没有内容", "the files hold nothing")
			}
			return s.apply(cmd.Context(), all, dryRun)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only check, and say what would be made, changed and left as it is")
	s.flags(cmd)
	s.outputFlag(cmd, "table", "json", "yaml")
	return cmd
}

// refusals are all that is wrong in the user's files, one line each.
type refusals struct {
	lines []string
	code  int
}

func (e *refusals) Error() string { return strings.Join(e.lines, "\n") }

// defined is one thing that a file defines.
type defined struct {
	file  string
	body  ast.Node // of the document it stands in
	list  string   // "tasks"
	index int      // in that list
	doc   map[string]any
}

// text gives a field that names the thing; empty if it does not.
func (d *defined) text(field string) string {
	text, _ := d.doc[field].(string)
	return text
}

// what names it in messages: task Common/keep-alive.
func (d *defined) what() string {
	name := d.text("name")
	if d.list == "tasks" {
		name = d.text("namespace") + "/" + name
	}
	return strings.TrimSuffix(d.list, "s") + " " + name
}

// line says where a field of it stands, or the nearest thing around that field.
func (d *defined) line(field string) int {
	steps := strings.FieldsFunc(strings.ReplaceAll(field, "[", ".["), func(r rune) bool { return r == '.' })
	for n := len(steps); n >= 0; n-- {
		path := (&yaml.PathBuilder{}).Root().Child(d.list).Index(uint(d.index))
		for _, step := range steps[:n] {
			if i, err := strconv.ParseUint(strings.Trim(step, "[]"), 10, 32); err == nil && step[0] == '[' {
				path = path.Index(uint(i))
			} else {
				path = path.Child(step)
			}
		}
		if node, err := path.Build().FilterNode(d.body); err == nil && node != nil {
			return node.GetToken().Position.Line
		}
	}
	return 1
}

// place says the same with the file: file.yaml:12.
func (d *defined) place(field string) string { return d.file + ":" + strconv.Itoa(d.line(field)) }

// put gives the request that makes it what the file says.
func (d *defined) put() request {
	body := make(map[string]any, len(d.doc))
	for key, value := range d.doc {
		if key != "name" && (key != "namespace" || d.list != "tasks") {
			body[key] = value
		}
	}
	path := "/v1/" + d.list + "/" + url.PathEscape(d.text("name"))
	if d.list == "tasks" {
		path = "/v1/namespaces/" + url.PathEscape(d.text("namespace")) + "/tasks/" + url.PathEscape(d.text("name"))
	}
	return request{method: http.MethodPut, path: path, body: body}
}

// appliedItem says what has become of one thing, or would.
type appliedItem struct {
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`
	File   string   `json:"file"`
	Action string   `json:"action"` // create, change, keep, or left if an apply broke off before it
	Fields []string `json:"fields"`
}

// apply has everything checked together, and puts what is not there yet in the order in which each thing comes after what it
// names.
func (s *session) apply(ctx context.Context, all []*defined, dryRun bool) error {
	lists := map[string][]*defined{}
	sent := map[string][]map[string]any{}
	for _, d := range all {
		lists[d.list], sent[d.list] = append(lists[d.list], d), append(sent[d.list], d.doc)
	}
	var checked api.CheckAnswer
	if _, err := s.call(ctx, request{method: http.MethodPost, path: "/v1/definitions/check", body: sent}, &checked); err != nil {
		return err
	}
	type refused struct {
		file string
		line int
		text string
	}
	var wrong []refused
	done := make([]appliedItem, len(checked.Items))
	sources := make([]*defined, len(checked.Items))
	for i, item := range checked.Items {
		of := lists[item.Kind+"s"]
		if item.Index < 0 || item.Index >= len(of) {
			return errors.New("the server's answer names a definition that was not asked about")
		}
		d := of[item.Index]
		kind, name, _ := strings.Cut(d.what(), " ")
		sources[i], done[i] = d, appliedItem{Kind: kind, Name: name, File: d.file, Action: item.Action, Fields: item.Fields}
		for _, e := range item.Errors {
			line := d.place(e.Location) + ": " + d.what() + ": "
			if e.Location != "" {
				line += e.Location + ": "
			}
			wrong = append(wrong, refused{d.file, d.line(e.Location), line + s.say(e.MessageZh, e.MessageEn)})
		}
	}
	if n := len(wrong); n > 0 {
		slices.SortStableFunc(wrong, func(a, b refused) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line)) })
		all := &refusals{code: exitRefused}
		for _, w := range wrong {
			all.lines = append(all.lines, w.text)
		}
		all.lines = append(all.lines, s.say(fmt.Sprintf("共 %d 处错误；什么都没有改", n), count(n, "thing is wrong", "things are wrong")+"; nothing was changed"))
		return all
	}
	s.warn(checked.Items, sources)
	var failed error
	for i, d := range sources {
		switch {
		case dryRun || done[i].Action == "keep":
		case failed != nil:
			done[i].Action = "left"
		default:
			if _, err := s.call(ctx, d.put(), nil); err != nil { // it has become wrong since it was checked
				failed, done[i].Action = &placedError{d.place("") + ": " + d.what(), err}, "left"
			}
		}
	}
	document, err := json.Marshal(done)
	if err != nil {
		return err
	}
	return errors.Join(s.show(document, func() error { return s.appliedForPeople(done, dryRun) }), failed)
}

// warn says what is accepted and may not be what was meant, once for all things of which it is true.
func (s *session) warn(items []api.CheckedDefinition, sources []*defined) {
	var texts []string
	of := map[string][]string{}
	for i, item := range items {
		for _, w := range item.Warnings {
			text := s.say(w.Zh, w.En)
			if of[text] == nil {
				texts = append(texts, text)
			}
			of[text] = append(of[text], sources[i].what())
		}
	}
	const shown = 3
	for _, text := range texts {
		things := of[text]
		names := strings.Join(things[:min(len(things), shown)], ", ")
		if more := len(things) - shown; more > 0 {
			names += s.say(fmt.Sprintf(" 等 %d 个", len(things)), fmt.Sprintf(" and %d more", more))
		}
		s.note(names + ": " + text)
	}
}

// appliedForPeople lists what was done to each thing, or would be, and how much of it there is.
func (s *session) appliedForPeople(done []appliedItem, dryRun bool) error {
	words := map[string]string{
		"create": s.say("新建", "created"), "change": s.say("修改", "changed"), "keep": s.say("不变", "unchanged"), "left": s.say("未做", "not done"),
	}
	if dryRun {
		words["create"], words["change"] = s.say("将新建", "would create"), s.say("将修改", "would change")
	}
	counts := map[string]int{}
	var rows [][]string
	for _, item := range done {
		counts[item.Action]++
		rows = append(rows, []string{words[item.Action], item.Kind, item.Name, strings.Join(item.Fields, ", ")})
	}
	if err := s.table([]string{s.say("动作", "ACTION"), s.say("种类", "KIND"), s.say("名称", "NAME"), s.say("改动的字段", "CHANGED FIELDS")}, rows); err != nil {
		return err
	}
	var sums []string
	for _, action := range []string{"create", "change", "keep", "left"} {
		if n := counts[action]; n > 0 {
			sums = append(sums, words[action]+" "+strconv.Itoa(n))
		}
	}
	line := strings.Join(sums, s.say("，", ", "))
	if dryRun {
		line += s.say("；只是预演，什么都没有改", "; a dry run, nothing was changed")
	}
	_, err := fmt.Fprintln(s.out, line)
	return err
}

// definitionFiles lists the YAML files below a folder in a fixed order; a single file is itself.
func definitionFiles(root string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ext := filepath.Ext(path); !d.IsDir() && (ext == ".yaml" || ext == ".yml" || path == root) {
			files = append(files, path)
		}
		return nil
	})
	slices.Sort(files)
	if err == nil && len(files) == 0 {
		err = errors.New(root + " holds no .yaml file")
	}
	return files, err
}

// readFolder reads what a file defines: one or several documents.
func readFolder(file string) ([]*defined, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, unreadable(file, err)
	}
	var all []*defined
	for _, document := range parsed.Docs {
		if document.Body == nil {
			continue
		}
		var f folder
		if err := yaml.NodeToValue(document.Body, &f, yaml.DisallowUnknownField()); err != nil {
			return nil, unreadable(file, err)
		}
		for list, docs := range f.lists() {
			for i, doc := range docs {
				if doc == nil {
					doc = map[string]any{}
				}
				said(list, doc)
				all = append(all, &defined{file: file, body: document.Body, list: list, index: i, doc: doc})
			}
		}
	}
	return all, nil
}

// said takes from a definition what the server alone decides: what GET gives may stand in a file.
func said(list string, doc map[string]any) {
	drop := keptByServer
	switch list {
	case "namespaces":
		drop = ofNamespace
	case "tasks":
		drop = decidedByServer
		if sched, ok := doc["schedule"].(map[string]any); ok {
			delete(sched, "anchor")
		}
	}
	for _, key := range drop {
		if key != "name" {
			delete(doc, key)
		}
	}
}
