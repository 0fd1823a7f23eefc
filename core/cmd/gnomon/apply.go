package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

// folder is what a YAML file of a folder of definitions holds.
type folder struct {
	Namespaces []map[string]any `yaml:"namespaces"`
	Tasks      []map[string]any `yaml:"tasks"`
}

func newApplyCommand(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "apply FOLDER", Short: "Make namespaces and tasks what the YAML files of a folder say", Args: cobra.ExactArgs(1),
		Long: "Each file has namespaces: and tasks:, lists of what the REST API takes. Namespaces come first, whatever file they\n" +
			"stand in. Doing it twice changes nothing more. Nothing is removed.",
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
			for i, one := range all {
				for _, ns := range one.Namespaces {
					if what, err := s.applyNamespace(cmd.Context(), ns); err != nil {
						return &placedError{files[i] + ": " + what, err}
					}
				}
			}
			count := 0
			for i, one := range all {
				for _, task := range one.Tasks {
					if what, err := s.applyTask(cmd.Context(), task); err != nil {
						return &placedError{files[i] + ": " + what, err}
					}
					count++
				}
			}
			_, err = fmt.Fprintf(s.out, s.say("已应用 %d 个任务\n", "applied %d tasks\n"), count)
			return err
		},
	}
	s.flags(cmd)
	return cmd
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
		return f, fmt.Errorf("%s: %s", file, yaml.FormatError(err, false, true))
	}
	return f, nil
}

// applyNamespace puts one namespace; what names it in messages.
func (s *session) applyNamespace(ctx context.Context, ns map[string]any) (what string, err error) {
	name, _ := ns["name"].(string)
	delete(ns, "name")
	_, err = s.call(ctx, request{method: http.MethodPut, path: "/v1/namespaces/" + url.PathEscape(name), body: ns}, nil)
	return "namespace " + name, err
}

// applyTask puts one task; what names it in messages.
func (s *session) applyTask(ctx context.Context, task map[string]any) (what string, err error) {
	namespace, _ := task["namespace"].(string)
	name, _ := task["name"].(string)
	what = "task " + namespace + "/" + name
	for _, key := range append(decidedByServer, "namespace", "name") {
		delete(task, key)
	}
	path, err := taskPath(namespace + "/" + name)
	if err != nil {
		return what, err
	}
	_, err = s.call(ctx, request{method: http.MethodPut, path: path, body: task}, nil)
	return what, err
}
