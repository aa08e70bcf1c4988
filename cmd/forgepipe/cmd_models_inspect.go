package main

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/model/measure"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/model/store"
)

type modelsInspectFlags struct {
	modelsFlags
	measure bool
	batch   []int
	size    []int
	device  string
	threads int
	output  string
}

// networkJSON is what an ONNX file says of itself.
type networkJSON struct {
	Path       string            `json:"path"`
	Name       string            `json:"name,omitempty"` // in the store
	Preset     string            `json:"preset,omitempty"`
	Inputs     []portJSON        `json:"inputs"`
	Outputs    []portJSON        `json:"outputs"`
	Parameters int64             `json:"parameters"`
	Weights    int64             `json:"weights"` // bytes
	Operators  map[string]int    `json:"operators"`
	Opsets     []opsetJSON       `json:"opsets"`
	Producer   string            `json:"producer"`
	Version    string            `json:"producer_version"`
	IRVersion  int64             `json:"ir_version"`
	Beside     []onnx.External   `json:"beside,omitempty"` // files that hold weights
	Metadata   map[string]string `json:"metadata"`
	Measured   *[]measure.Point  `json:"measured,omitempty"`
}

type portJSON struct {
	Name  string   `json:"name"`
	Type  string   `json:"type"`
	Shape []int64  `json:"shape"` // -1 is any; null: the number of axes is not told
	Axes  []string `json:"axes"`  // the names of those
}

type opsetJSON struct {
	Domain  string `json:"domain"`
	Version int64  `json:"version"`
}

func newModelsInspectCommand(a *app) *cobra.Command {
	var f modelsInspectFlags
	cmd := &cobra.Command{
		Use:   "inspect NAME | FILE",
		Short: "Look into a network's file, and measure what it takes",
		Long: `Say what a network's file, or one of the store, tells of it: inputs and outputs,
operators, weights, who made it. It is not run for that. A checkpoint (safetensors,
pth) is recognised by its weights: its architecture and its sizes are said.

With --measure it is loaded and run, on the CPU or on --device, with every batch
of --batch and every size of --size: how much memory that took at most, and the
time for a picture. A batch for which there is not enough memory is a line that
says so.`,
		Example: `  forgepipe models inspect net.onnx
  forgepipe models inspect clip-vit-b32 --measure --batch 1,2,4,8
  forgepipe models inspect 4xNomos2-hq-mosr --measure --size 128,256 --device gpu:0`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("see forgepipe models inspect --help", "%s wants one network, and got %d", commandName(cmd), len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			a.begun = true
			return a.interruptible(cmd, func(ctx context.Context) error { return runModelsInspect(ctx, a, f, args[0]) })
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.measure, "measure", false, "run it, and say how much memory and time that takes")
	cmd.Flags().IntSliceVar(&f.batch, "batch", nil, "how many pictures at once, several with commas: `N,...` (default: as many as it wants, or 1)")
	cmd.Flags().IntSliceVar(&f.size, "size", nil, "the sides of pictures: `PIXELS,...` (default: what it wants, or 256)")
	cmd.Flags().StringVar(&f.device, "device", "host", "where it runs: host, or `gpu:0`")
	cmd.Flags().IntVar(&f.threads, "threads", 1, "how many threads compute on the CPU (`N`)")
	cmd.Flags().StringVar(&f.output, "output", "", "which output is computed: `NAME` (default: all)")
	return cmd
}

const (
	mostBatch = 4096
	mostSide  = 1 << 16
)

func (f *modelsInspectFlags) check(cmd *cobra.Command) error {
	if !f.measure {
		for _, name := range []string{"batch", "size", "device", "threads", "output"} {
			if cmd.Flags().Changed(name) {
				return usagef("", "--%s is for --measure", name)
			}
		}
	}
	outside := func(most int) func(int) bool { return func(n int) bool { return n < 1 || n > most } }
	number, isGPU := strings.CutPrefix(f.device, "gpu:")
	_, err := strconv.ParseUint(number, 10, 16)
	switch {
	case slices.ContainsFunc(f.batch, outside(mostBatch)):
		return usagef("for example --batch 1,2,4,8", "--batch wants numbers from 1 to %d", mostBatch)
	case slices.ContainsFunc(f.size, outside(mostSide)):
		return usagef("for example --size 128,256", "--size wants numbers from 1 to %d", mostSide)
	case f.threads < 1:
		return usagef("", "--threads wants a number from 1 on, not %d", f.threads)
	case f.device != "host" && (!isGPU || err != nil):
		return usagef("for example --device gpu:0", "--device wants host or a GPU, not %q", f.device)
	}
	return nil
}

func runModelsInspect(ctx context.Context, a *app, f modelsInspectFlags, what string) error {
	found, err := f.find(what)
	if err != nil {
		return modelError(err)
	}
	h, err := model.ReadHeader(found.Path, model.FileOptions{Beside: found.Beside, Preset: found.Preset})
	if err != nil {
		return err
	}
	found.Preset = cmp.Or(found.Preset, h.Metadata[arch.PresetKey])
	n := networkOf(found, h)
	a.result.set(func(e *envelope) { e.Network = n })
	if !a.result.json {
		if _, err := io.WriteString(a.stdout, terminal.Network(found.Path, h)); err != nil {
			return err
		}
	}
	if !f.measure {
		return nil
	}
	points, err := a.measure(ctx, f, found, h)
	if err != nil {
		return err
	}
	if a.result.json {
		a.result.set(func(*envelope) { n.Measured = &points })
		return nil
	}
	_, err = io.WriteString(a.stdout, "\n"+terminal.Measured(points, h.WeightBytes))
	return err
}

func (a *app) measure(ctx context.Context, f modelsInspectFlags, found store.Found, h *onnx.Header) ([]measure.Point, error) {
	spec, _ := model.Preset(found.Preset) // none is as good as an unknown one
	if spec.Resize == model.NoResize {    // who cuts pictures to the network's size is not here
		spec.Resize = ""
	}
	outputs := []string{f.output}
	if f.output == "" { // all of them
		outputs = nil
		for _, p := range h.Outputs {
			outputs = append(outputs, p.Name)
		}
	}
	file, err := model.Open(found.Path, model.FileOptions{Spec: spec, Outputs: outputs, Beside: found.Beside, Preset: found.Preset})
	if err != nil {
		return nil, err
	}
	if r, err := model.OpenRuntime(""); err != nil {
		return nil, &environmentError{Err: err, Hint: "see forgepipe doctor"}
	} else if strings.HasPrefix(f.device, "gpu:") {
		if err := r.CUDA(); err != nil {
			return nil, &environmentError{Err: err, Hint: "see forgepipe doctor"}
		}
	}
	o := measure.Options{
		Session: model.SessionOptions{Device: f.device, Threads: f.threads, Log: a.screen.Logger(warnings(false))},
		Batches: f.batch, Sides: f.size,
		Each: func(p measure.Point) { a.screen.Printf("measured a batch of %d, %d x %d", p.Batch, p.Width, p.Height) },
	}
	a.screen.Printf("measuring %s on %s", found.Path, f.device)
	return measure.Run(ctx, file, o)
}

func networkOf(found store.Found, h *onnx.Header) *networkJSON {
	n := &networkJSON{
		Path: found.Path, Name: found.Name, Preset: found.Preset, Inputs: portsOf(h.Inputs), Outputs: portsOf(h.Outputs),
		Parameters: h.Parameters, Weights: h.WeightBytes, Operators: h.Ops, Opsets: []opsetJSON{},
		Producer: h.Producer, Version: h.ProducerVersion, IRVersion: h.IRVersion, Beside: h.External, Metadata: h.Metadata,
	}
	for _, o := range h.Opsets {
		n.Opsets = append(n.Opsets, opsetJSON(o))
	}
	return n
}

func portsOf(ports []onnx.Port) []portJSON {
	all := []portJSON{}
	for _, p := range ports {
		all = append(all, portJSON{p.Name, p.Type.String(), p.Shape, p.Axes})
	}
	return all
}
