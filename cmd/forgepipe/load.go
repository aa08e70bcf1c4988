package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"log/slog"

	"github.com/spf13/pflag"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/memory/sim"
	"github.com/forgepipe/forgepipe/pipeline"
)

// readLimit bounds what is read of a pipeline file; the engine's own limit is
// lower and has a better message.
const readLimit = 8 << 20

// load reads and builds a pipeline; "-" is standard input. Its stages are placed on
// the host and those devices.
func (a *app) load(ctx context.Context, file string, set []string, devices []memory.Device, log *slog.Logger) (*pipeline.Pipeline, error) {
	return a.build(ctx, file, set, pipeline.Options{Devices: devices, Logger: log})
}

// look is load for who wants to know something of a pipeline and does not run it,
// which may need devices that are not here.
func (a *app) look(ctx context.Context, file string, set []string, log *slog.Logger) (*pipeline.Pipeline, error) {
	return a.build(ctx, file, set, pipeline.Options{Unplaced: true, Logger: log})
}

func (a *app) build(ctx context.Context, file string, set []string, o pipeline.Options) (*pipeline.Pipeline, error) {
	name, data, o, err := a.prepare(file, set, o)
	if err != nil {
		return nil, err
	}
	return pipeline.Load(ctx, name, data, o)
}

// prepare reads a pipeline, and adds to the options what all commands build one with.
func (a *app) prepare(file string, set []string, o pipeline.Options) (name string, data []byte, _ pipeline.Options, err error) {
	vars, err := parseSet(set)
	if err != nil {
		return "", nil, o, err
	}
	o.Registry, o.Vars = a.registry, pipeline.Vars{Set: vars, Env: os.LookupEnv}
	name, data, err = a.read(file)
	return name, data, o, err
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

// simulateFlag adds --simulate.
func simulateFlag(fl *pflag.FlagSet, cards *[]string) {
	fl.StringArrayVar(cards, "simulate", nil, "plan and run as if there were a GPU with so much memory, `gpu:SIZE[,speed=SHARE]`, and no other: networks run on the CPU inside it, at a share of its speed (0.5 takes twice as long; default 1); may be repeated")
}

// simulated are the cards of --simulate.
func simulated(cards []string) (devices []memory.Device, err error) {
	for i, c := range cards {
		config, err := parseCard(c)
		if err != nil {
			return nil, err
		}
		config.Name = fmt.Sprintf("sim:%d", i)
		d, err := sim.New(config)
		if err != nil {
			return nil, err
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// parseCard reads gpu:SIZE[,speed=SHARE].
func parseCard(card string) (c sim.Config, err error) {
	const hint = "for example --simulate gpu:8GiB, or gpu:8GiB,speed=0.5"
	size, options, more := strings.Cut(card, ",")
	size, ok := strings.CutPrefix(size, "gpu:")
	if c.Total, err = memory.ParseBytes(size); !ok || err != nil || c.Total <= 0 {
		return c, usagef(hint, "--simulate %q is no card", card)
	}
	if !more {
		return c, nil
	}
	for option := range strings.SplitSeq(options, ",") {
		name, value, _ := strings.Cut(option, "=")
		switch {
		case name != "speed":
			return c, usagef(hint, "--simulate %q: a card has no %q: it has a size, and a speed", card, name)
		case c.Speed != 0:
			return c, usagef(hint, "--simulate %q has more than one speed", card)
		}
		if c.Speed, err = strconv.ParseFloat(value, 64); err != nil || !(c.Speed > 0 && c.Speed <= 1) {
			return c, usagef(hint, "--simulate %q: the speed is a share of this CPU's, more than 0 and 1 at most, and not %q", card, value)
		}
	}
	return c, nil
}
