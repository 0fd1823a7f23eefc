package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// read gives what a file holds; - is standard input.
func (s *session) read(file string) ([]byte, error) {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(s.in)
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, &usageError{err}
	}
	return text, nil
}

// readDocument reads one YAML or JSON document.
func (s *session) readDocument(file string) (map[string]any, error) {
	text, err := s.read(file)
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, unreadable(file, err)
	}
	if doc == nil {
		return nil, refusedFile(file, core.Text{Zh: "文件是空的", En: "it is empty"})
	}
	return doc, nil
}

// readNamed reads the document of a thing that is named on the command line: what the file calls it must be the same.
func (s *session) readNamed(file, name string) (map[string]any, error) {
	doc, err := s.readDocument(file)
	if other, said := doc["name"]; err == nil && said && other != name {
		err = refusedFile(file, core.Text{
			Zh: fmt.Sprintf("其中 name 是 %v，命令行写的是 %s；请改成一致，或从文件里去掉 name", other, name),
			En: fmt.Sprintf("its name is %v, the command line says %s; make them the same, or leave name out of the file", other, name),
		})
	}
	return doc, err
}

// readAny reads a JSON or YAML document of any form as JSON.
func (s *session) readAny(file string) (json.RawMessage, error) {
	text, err := s.read(file)
	if err != nil {
		return nil, err
	}
	raw, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, unreadable(file, err)
	}
	return raw, nil
}

// refusedFile says that what a file holds cannot be taken. That there is no such file is a mistake of usage instead.
func refusedFile(file string, why core.Text) *core.Error {
	return core.Invalid("read "+file, core.Finding{Path: file, Message: why})
}

// unreadable says in both languages, and with the place, why YAML or JSON cannot be read.
func unreadable(file string, err error) *core.Error {
	found, ok := errors.AsType[yaml.Error](err)
	if !ok {
		return refusedFile(file, core.Text{Zh: err.Error(), En: err.Error()})
	}
	why := core.Text{Zh: "YAML 语法有误：" + found.GetMessage(), En: found.GetMessage()}
	switch e := found.(type) {
	case *yaml.TypeError:
		want := formOf(e.DstType)
		why = core.Text{Zh: "这里须是" + want.Zh, En: want.En + " belongs here"}
	case *yaml.UnexpectedNodeTypeError:
		want := core.Text{Zh: e.Expected.YAMLName(), En: e.Expected.YAMLName()}
		switch e.Expected {
		case ast.MappingType:
			want = formOf(reflect.TypeFor[map[string]any]())
		case ast.SequenceType:
			want = formOf(reflect.TypeFor[[]any]())
		}
		why = core.Text{Zh: "这里须是" + want.Zh, En: want.En + " belongs here"}
	default:
		for _, m := range mistakes {
			if m.form.MatchString(why.En) {
				why.Zh = m.form.ReplaceAllString(why.En, m.zh)
				break
			}
		}
	}
	if at := found.GetToken(); at != nil {
		place := fmt.Sprintf("[%d:%d] ", at.Position.Line, at.Position.Column)
		why = core.Text{Zh: place + why.Zh, En: place + why.En}
	}
	return refusedFile(file, why)
}

// formOf says what a Go type is in a file.
func formOf(t reflect.Type) core.Text {
	switch t.Kind() {
	case reflect.Map, reflect.Struct:
		return core.Text{Zh: "字段（名称: 值）", En: "a mapping (name: value)"}
	case reflect.Slice:
		return core.Text{Zh: "列表（- 项）", En: "a list (- item)"}
	case reflect.String:
		return core.Text{Zh: "文字", En: "text"}
	default:
		return core.Text{Zh: "另一种值", En: "another kind of value"}
	}
}

// mistakes are those that people make most, in the words of the YAML library, with how each is said in Chinese.
var mistakes = []struct {
	form *regexp.Regexp
	zh   string
}{
	{regexp.MustCompile(`^unknown field (".*")$`), "没有字段 $1；请检查拼写"},
	{regexp.MustCompile(`^mapping key (".*") already defined at (\[\d+:\d+\])$`), "字段 $1 在 $2 已经写过"},
	{regexp.MustCompile(`^mapping value is not allowed in this context$`), "这里不能写“名称: 值”；请检查缩进"},
	{regexp.MustCompile(`^non-map value is specified$`), "这里须写“名称: 值”；请检查缩进"},
	{regexp.MustCompile(`^unexpected key name$`), "“名称: 值”没有写完；请检查冒号和缩进"},
	{regexp.MustCompile(`^found (?:a tab character|character '\t').*$`), "缩进不能用制表符，请用空格"},
	{regexp.MustCompile(`^(?:sequence end token '\]' not found|',' or '\]' must be specified)$`), "缺少 ] 或逗号"},
	{regexp.MustCompile(`^(?:could not find flow mapping end token '\}'|',' or '\}' must be specified)$`), "缺少 } 或逗号"},
	{regexp.MustCompile(`^could not find end character of (?:double|single)-quoted text$`), "引号没有成对"},
}
