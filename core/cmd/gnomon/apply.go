package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// folder is what a YAML file of a folder of definitions holds.
type folder struct {
	Namespaces  []map[string]any `yaml:"namespaces"`
	Calendars   []map[string]any `yaml:"calendars"`
	Pools       []map[string]any `yaml:"pools"`
	Downstreams []map[string]any `yaml:"downstreams"`
	Tasks       []map[string]any `yaml:"tasks"`
}

func newApplyCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "apply FOLDER", Short: "Make namespaces, calendars, pools, downstreams and tasks what the YAML files of a folder say", Args: cobra.ExactArgs(1),
		Long: "Each file has namespaces:, calendars:, pools:, downstreams: and tasks:, lists of what the REST API takes. What others name\n" +
			"comes first, whatever file it stands in. Doing it twice changes nothing more. Nothing is removed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := definitionFiles(args[0])
			if err != nil {
				return &usageError{err}
			}
			var all []folder
			for _, file := range files {
				one, err := readFolder(file)
				if err != nil {
					return &usageError{err}
				}
				all = append(all, one)
			}
			return s.apply(cmd.Context(), files, all)
		},
	}
	s.flags(cmd)
	return cmd
}

// pending is one thing of a file that is to be applied.
type pending struct {
	file, what string
	do         func(ctx context.Context) error
	err        error
}

// apply puts everything, in an order in which each thing comes after what it names. A thing that names another of its own
// kind which is not there yet (a calendar made of others, a task after another) is tried again once the others are.
func (s *session) apply(ctx context.Context, files []string, all []folder) error {
	named := func(kind string) func(ctx context.Context, doc map[string]any) (string, error) {
		return func(ctx context.Context, doc map[string]any) (string, error) { return s.applyNamed(ctx, kind, doc) }
	}
	counts := []string{}
	for _, stage := range []struct {
		one, many string
		zh        string
		of        func(folder) []map[string]any
		put       func(ctx context.Context, doc map[string]any) (string, error)
	}{
		{"calendar", "calendars", "个日历", func(f folder) []map[string]any { return f.Calendars }, named("calendars")},
		{"pool", "pools", "个池", func(f folder) []map[string]any { return f.Pools }, named("pools")},
		{"downstream", "downstreams", "个下游", func(f folder) []map[string]any { return f.Downstreams }, named("downstreams")},
		{"namespace", "namespaces", "个命名空间", func(f folder) []map[string]any { return f.Namespaces }, s.applyNamespace},
		{"task", "tasks", "个任务", func(f folder) []map[string]any { return f.Tasks }, s.applyTask},
	} {
		var list []*pending
		for i, one := range all {
			for _, doc := range stage.of(one) {
				p := &pending{file: files[i]}
				p.do = func(ctx context.Context) (err error) {
					p.what, err = stage.put(ctx, maps.Clone(doc))
					return err
				}
				list = append(list, p)
			}
		}
		if err := settle(ctx, list); err != nil {
			return err
		}
		if n := len(list); n > 0 {
			counts = append(counts, s.say(strconv.Itoa(n)+" "+stage.zh, count(n, stage.one, stage.many)))
		}
	}
	if len(counts) == 0 {
		return s.nothing("文件中没有内容", "the files hold nothing")
	}
	_, err := fmt.Fprintln(s.out, s.say("已应用 ", "applied ")+strings.Join(counts, s.say("、", ", ")))
	return err
}

// settle carries out all of a list, trying what is refused again for as long as anything gets done.
func settle(ctx context.Context, list []*pending) error {
	for {
		var left []*pending
		for _, p := range list {
			if p.err = p.do(ctx); p.err != nil {
				var remote *remoteError
				if !errors.As(p.err, &remote) {
					return p.err
				}
				left = append(left, p)
			}
		}
		switch len(left) {
		case 0:
			return nil
		case len(list):
			return &placedError{left[0].file + ": " + left[0].what, left[0].err}
		}
		list = left
	}
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

func readFolder(file string) (folder, error) {
	var f folder
	text, err := os.ReadFile(file)
	if err != nil {
		return f, err
	}
	if err := yaml.UnmarshalWithOptions(text, &f, yaml.DisallowUnknownField()); err != nil {
		return f, fmt.Errorf("%s: %s", file, yaml.FormatError(err, false, false))
	}
	return f, nil
}

// applyNamespace puts one namespace; what names it in messages.
func (s *session) applyNamespace(ctx context.Context, ns map[string]any) (what string, err error) {
	name, _ := ns["name"].(string)
	for _, key := range ofNamespace {
		delete(ns, key)
	}
	var stored api.Namespace
	_, err = s.call(ctx, request{method: http.MethodPut, path: "/v1/namespaces/" + url.PathEscape(name), body: ns}, &stored)
	s.notes(stored.Warnings)
	return "namespace " + name, err
}

// applyNamed puts one thing that all namespaces share; what names it in messages.
func (s *session) applyNamed(ctx context.Context, kind string, doc map[string]any) (what string, err error) {
	name, _ := doc["name"].(string)
	for _, key := range keptByServer {
		delete(doc, key)
	}
	_, err = s.call(ctx, request{method: http.MethodPut, path: "/v1/" + kind + "/" + url.PathEscape(name), body: doc}, nil)
	return strings.TrimSuffix(kind, "s") + " " + name, err
}

// applyTask puts one task; what names it in messages.
func (s *session) applyTask(ctx context.Context, task map[string]any) (what string, err error) {
	namespace, _ := task["namespace"].(string)
	name, _ := task["name"].(string)
	what = "task " + namespace + "/" + name
	for _, key := range append(decidedByServer, "namespace", "name") {
		delete(task, key)
	}
	if sched, ok := task["schedule"].(map[string]any); ok {
		delete(sched, "anchor")
	}
	path, err := taskPath(namespace + "/" + name)
	if err != nil {
		return what, err
	}
	_, err = s.call(ctx, request{method: http.MethodPut, path: path, body: task}, nil)
	return what, err
}
