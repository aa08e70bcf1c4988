package main

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/model/store"
)

type modelsConvertFlags struct {
	modelsFlags
	out       string
	half      bool
	gelu      string
	overwrite bool
}

func newModelsConvertCommand(a *app) *cobra.Command {
	var f modelsConvertFlags
	cmd := &cobra.Command{
		Use:   "convert NAME | FILE... --out FILE",
		Short: "Write the network of a checkpoint as an ONNX file",
		Long: `Recognise the network whose weights a checkpoint has (safetensors, or what
torch.save writes), and write it as an ONNX file, for other programs or other
machines. Weights that come in several files, such as those of LPIPS, are given
together. Stages need no conversion: they take the checkpoint itself.

Reading a checkpoint runs no code that is in it.`,
		Example: `  forgepipe models convert 4x.pth --out 4x.onnx
  forgepipe models convert clip.safetensors --gelu quick --out clip.onnx
  forgepipe models convert vgg16.pth lpips-vgg.pth --out lpips.onnx`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("see forgepipe models convert --help", "%s wants a checkpoint", commandName(cmd))
			case f.gelu != "" && f.gelu != string(arch.ExactGELU) && f.gelu != string(arch.QuickGELU):
				return usagef("", "--gelu wants exact or quick, not %q", f.gelu)
			case f.out == "":
				return usagef("for example --out net.onnx", "say with --out where the network goes")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return a.interruptible(cmd, func(ctx context.Context) error { return runModelsConvert(ctx, a, f, args) })
		},
	}
	f.add(cmd)
	cmd.Flags().StringVarP(&f.out, "out", "o", "", "the ONNX `FILE` that is written")
	cmd.Flags().BoolVar(&f.overwrite, "overwrite", false, "replace the file that is there")
	cmd.Flags().BoolVar(&f.half, "half", false, "write a network that computes in float16: half as large, for GPUs")
	cmd.Flags().StringVar(&f.gelu, "gelu", "", "the activation of CLIP, where its file does not tell: `exact|quick` (LAION's networks, OpenAI's)")
	return cmd
}

func runModelsConvert(ctx context.Context, a *app, f modelsConvertFlags, args []string) error {
	if _, err := os.Lstat(f.out); err == nil && !f.overwrite {
		return usagef("give another name, or --overwrite", "%s is there already", f.out)
	}
	var paths []string
	for _, what := range args {
		found, err := f.find(what)
		switch {
		case len(args) > 1 && found.Path != "": // the other file is said
			paths = append(paths, found.Path)
		case err != nil:
			return modelError(err)
		default:
			paths = append(append(paths, found.Path), found.Beside...)
		}
	}
	o := model.ConvertOptions{GELU: arch.GELU(f.gelu)}
	if f.half {
		o.Element = model.Float16
	}
	n, err := model.Convert(ctx, f.out, o, paths...)
	if err != nil {
		return err
	}
	h, err := model.ReadHeader(f.out, model.FileOptions{})
	if err != nil {
		return err
	}
	a.result.set(func(e *envelope) {
		e.Network = networkOf(store.Found{Path: f.out}, h)
		e.Files = []string{f.out}
	})
	about := n.Architecture
	if n.Details != "" {
		about += " (" + n.Details + ")"
	}
	a.screen.Printf("%s is %s: wrote %s", strings.Join(args, " and "), about, f.out)
	return nil
}
