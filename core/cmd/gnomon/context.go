package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ServerContext is how the command line finds the server on this machine and its token. The token itself stays in the
// file the server wrote.
type ServerContext struct {
	Server    string `json:"server"`     // "http://127.0.0.1:8080"
	TokenFile string `json:"token_file"` // path of a file that holds a token, mode 0600
}

// ContextPath gives the path of the context file: GNOMON_CONTEXT, else gnomon/context.json in the user's configuration
// folder.
func ContextPath() (string, error) {
	if path := os.Getenv("GNOMON_CONTEXT"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the user's configuration folder: %w; name a file with GNOMON_CONTEXT", err)
	}
	return filepath.Join(dir, "gnomon", "context.json"), nil
}

// WriteContext writes the context file, mode 0600, whole or not at all.
func WriteContext(path string, c ServerContext) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write the context file: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write the context file: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".context-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write the context file: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone already if the rename worked
	_, err = tmp.Write(append(text, '\n'))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the context file: %w", err)
	}
	return nil
}

// ReadContext reads the context file; ok is false if there is none.
func ReadContext(path string) (c ServerContext, ok bool, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return c, false, fmt.Errorf("read the context file %s: %w; remove it and start the server again", path, err)
	}
	return c, true, nil
}
