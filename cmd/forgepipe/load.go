package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"log/slog"

	"github.com/forgepipe/forgepipe/pipeline"
)

// readLimit bounds what is read of a pipeline file; the engine's own limit is
// lower and has a better message.
const readLimit = 8 << 20

// load reads and builds a pipeline; "-" is standard input.
func (a *app) load(ctx context.Context, file string, set []string, log *slog.Logger) (*pipeline.Pipeline, error) {
	vars, err := parseSet(set)
	if err != nil {
		return nil, err
	}
	name, data, err := a.read(file)
	if err != nil {
		return nil, err
	}
	return pipeline.Load(ctx, name, data, pipeline.Options{
		Registry: a.registry,
		Vars:     pipeline.Vars{Set: vars, Env: os.LookupEnv},
		Logger:   log,
	})
}

func (a *app) read(file string) (name string, data []byte, err error) {
	if file == "-" {
		data, err := io.ReadAll(io.LimitReader(a.stdin, readLimit))
		if err != nil {
			return "", nil, fmt.Errorf("reading the pipeline from standard input: %w", err)
		}
		return "stdin", data, nil
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, usagef("", "there is no pipeline file %s", file)
	}
	if err != nil {
		return "", nil, usagef("", "opening the pipeline: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return "", nil, usagef("", "%s is a folder, not a pipeline file", file)
	}
	data, err = io.ReadAll(io.LimitReader(f, readLimit))
	if err != nil {
		return "", nil, fmt.Errorf("reading the pipeline %s: %w", file, err)
	}
	return file, data, nil
}

// parseSet reads the values of --set.
func parseSet(set []string) (map[string]string, error) {
	vars := map[string]string{}
	for _, s := range set {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, usagef("write --set NAME=VALUE", "--set %q has no name or no value", s)
		}
		vars[name] = value
	}
	return vars, nil
}
