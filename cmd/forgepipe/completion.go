package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/model/store"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/pipelines"
	"github.com/forgepipe/forgepipe/stages/compare/sheet"
	"github.com/forgepipe/forgepipe/stages/dedup/groups"
	"github.com/forgepipe/forgepipe/stages/dedup/moves"
)

// pipelineEndings are those of pipeline files.
var pipelineEndings = []string{"yaml", "yml"}

// shells are those that complete commands.
var shells = []string{"bash", "zsh", "fish"}

func newCompletionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash | zsh | fish",
		Short: "Print the script with which a shell completes commands",
		Long: `Print the script with which bash, zsh or fish completes what is typed: commands and
flags, pipeline files, the goals of init, and after --set the variables of the
pipeline. In bash this needs the package bash-completion.`,
		Example: `  source <(forgepipe completion bash)
  forgepipe completion bash > ~/.local/share/bash-completion/completions/forgepipe
  forgepipe completion zsh > "${fpath[1]}/_forgepipe"
  forgepipe completion fish > ~/.config/fish/completions/forgepipe.fish`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return usagef("see forgepipe completion --help", "completion wants the name of a shell: %s", strings.Join(shells, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return runCompletion(a, cmd.Root(), args[0])
		},
	}
}

func runCompletion(a *app, root *cobra.Command, shell string) error {
	var script bytes.Buffer
	var err error
	switch shell {
	case "bash":
		err = root.GenBashCompletionV2(&script, true)
	case "zsh":
		err = root.GenZshCompletion(&script)
	case "fish":
		err = root.GenFishCompletion(&script, true)
	}
	if err != nil {
		return fmt.Errorf("making the script for %s: %w", shell, err)
	}
	if a.result.json {
		a.result.set(func(e *envelope) { e.Text = script.String() })
		return nil
	}
	_, err = io.Copy(a.stdout, &script)
	return err
}

// completeArguments says of every command what can be completed: its arguments, and the
// values of its flags.
func (a *app) completeArguments(root *cobra.Command) {
	arguments := map[string]cobra.CompletionFunc{
		"run": first(pipelineFiles), "graph": first(pipelineFiles), "lint": pipelineFiles, "test": pipelineFiles,
		"report": placeThenFiles, "restore": restoreArguments, "compare": twoFiles,
		"verify": first(pipelineFiles), "pause": first(pipelineFiles), "resume": first(pipelineFiles),
		"memory info": first(pipelineFiles), "memory watch": first(pipelineFiles), "memory clear": first(pipelineFiles),
		"memory advise": first(pipelineFiles),
		"sweep":         first(pairsFiles),
		"init":          initArguments, "man": first(folders), "describe": first(a.stageNames),
		"completion":    first(words(shells...)),
		"models fetch":  modelNames(func(m store.Model) bool { return m.Fetchable() && m.Path == "" }),
		"models verify": modelNames(func(m store.Model) bool { return m.Record != nil }),
		"models rm":     modelNames(func(m store.Model) bool { return m.Record != nil || m.Partial > 0 }),
		"models add":    first(modelFiles), "models inspect": first(modelsOrFiles), "models convert": modelsOrFiles,
	}
	values := map[string]cobra.CompletionFunc{
		"set": a.variables, "state": folders, "to": folders, "folder": folders, "models": folders, "simulate": words("gpu:8GiB", "gpu:12GiB", "gpu:16GiB", "gpu:24GiB", "gpu:80GiB"),
	}
	var each func(cmd *cobra.Command)
	each = func(cmd *cobra.Command) {
		name := commandName(cmd)
		if cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
			if f, ok := arguments[name]; ok {
				cmd.ValidArgsFunction = f
			}
		}
		for flag, f := range values {
			complete(cmd, flag, f)
		}
		switch name {
		case "run":
			complete(cmd, "cache", folders)
			complete(cmd, "cache-limit", words("2GiB", "10GiB"))
			complete(cmd, "sample", words("200"))
		case "models add":
			complete(cmd, "name", modelNames(func(m store.Model) bool { return !m.Fetchable() && m.Path == "" }))
		case "models inspect":
			complete(cmd, "device", words("host", "gpu:0"))
			complete(cmd, "batch", words("1,2,4,8"))
			complete(cmd, "size", words("128,256,512"))
			complete(cmd, "threads", words("1", "2", "4", "8"))
		case "models convert":
			complete(cmd, "gelu", words(string(arch.ExactGELU), string(arch.QuickGELU)))
			complete(cmd, "out", anyFile)
		case "models fetch":
			complete(cmd, "max-size", words("20GiB"))
		case "graph":
			complete(cmd, "format", words(graphFormats...))
		case "report":
			complete(cmd, "kind", words(endKinds()...))
			complete(cmd, "stage", a.endedStages)
		case "compare":
			for flag, all := range map[string][]string{"format": sheet.Formats, "layout": sheet.Layouts, "transition": sheet.Transitions, "filter": sheet.Filters} {
				complete(cmd, flag, words(all...))
			}
			complete(cmd, "out", anyFile)
			complete(cmd, "lpips", words("lpips-vgg", "lpips-alex"))
			for flag, example := range map[string]string{"max-side": "480", "position": "0.5", "region": "0,0,96,96", "seconds": "4", "fps": "25", "speed": "2", "suffix": "x4", "lpips-size": "224"} {
				complete(cmd, flag, words(example))
			}
		case "sweep":
			complete(cmd, "step", pairsSteps)
			complete(cmd, "from", words("0.9"))
			complete(cmd, "steps", words("11"))
		case "restore":
			complete(cmd, "from", a.trashTimes)
			complete(cmd, "prune", words("30d", "7d", "12h"))
		}
		for _, sub := range cmd.Commands() {
			each(sub)
		}
	}
	each(root)
}

// complete completes a flag's values, where the command has the flag and does not say
// itself how.
func complete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if _, has := cmd.GetFlagCompletionFunc(flag); !has && cmd.Flags().Lookup(flag) != nil {
		_ = cmd.RegisterFlagCompletionFunc(flag, f) // it is there, and has none
	}
}

// first completes the first argument only.
func first(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(cmd, args, begun)
	}
}

// pipelineFiles has the shell complete pipeline files, and folders on the way to them.
func pipelineFiles(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return pipelineEndings, cobra.ShellCompDirectiveFilterFileExt
}

// placeThenFiles are the place of a run store, and then files that may have any name;
// with --state, which says the place, only these.
func placeThenFiles(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 && !cmd.Flags().Changed("state") {
		return pipelineFiles(cmd, args, begun)
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// restoreArguments are those of placeThenFiles, and the place may be a record as well.
func restoreArguments(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	all, what := placeThenFiles(cmd, args, begun)
	if len(all) > 0 {
		all = append(slices.Clone(all), "jsonl")
	}
	return all, what
}

func anyFile(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// twoFiles are files or folders of any name.
func twoFiles(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) < 2 {
		return anyFile(cmd, args, begun)
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// modelFiles has the shell complete files of networks.
func modelFiles(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return []cobra.Completion{"onnx", "pth", "pt", "pkl", "safetensors"}, cobra.ShellCompDirectiveFilterFileExt
}

// pairsFiles has the shell complete files of pairs.
func pairsFiles(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return []cobra.Completion{"parquet", "jsonl"}, cobra.ShellCompDirectiveFilterFileExt
}

// pairsSteps are those of the file of pairs that was typed.
func pairsSteps(_ *cobra.Command, args []string, _ string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		if p, err := groups.ReadPairs(args[0]); err == nil {
			defer func() { _ = p.Close() }() // nothing was written
			for _, s := range p.Header.Steps {
				if s.Sweepable() {
					all = append(all, s.Step)
				}
			}
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

func folders(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func words(all ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
}

// initArguments are a goal, and then a file that may have any name.
func initArguments(_ *cobra.Command, args []string, _ string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) == 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	if len(args) == 0 {
		for _, g := range pipelines.Goals() {
			all = append(all, cobra.CompletionWithDesc(g.Name, g.Short))
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// stageNames are the sources and stages that there are.
func (a *app) stageNames(*cobra.Command, []string, string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
	for _, in := range slices.Concat(a.registry.Sources(), a.registry.Stages()) {
		all = append(all, cobra.CompletionWithDesc(in.Name, in.Short))
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// variables are those of the pipelines in the arguments that --set has not given yet,
// as NAME=; behind it comes what the shell completes by itself, files.
func (a *app) variables(cmd *cobra.Command, args []string, begun string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
	if strings.Contains(begun, "=") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	given, _ := cmd.Flags().GetStringArray("set") // none where it is missing
	given = slices.Clone(given)
	for _, file := range args {
		if file == "-" {
			continue
		}
		_, data, err := a.read(file)
		if err != nil {
			continue
		}
		vars, _ := pipeline.Variables(file, data) // of a file that is no YAML none
		for _, v := range vars {
			if slices.ContainsFunc(given, func(s string) bool { return strings.HasPrefix(s, v.Name+"=") }) {
				continue
			}
			given = append(given, v.Name+"=")
			about := "has a default"
			if v.Required {
				about = "must be given"
			}
			all = append(all, cobra.CompletionWithDesc(v.Name+"=", about))
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func endKinds() []string {
	all := make([]string, len(pipeline.EndKinds))
	for i, k := range pipeline.EndKinds {
		all[i] = string(k)
	}
	return all
}

// storeOf reads what was typed of the place of a run store.
func storeOf(cmd *cobra.Command, args []string) (place string, f storeFlags) {
	f.set, _ = cmd.Flags().GetStringArray("set") // none where they are missing
	f.state, _ = cmd.Flags().GetString("state")
	place, _ = f.split(args)
	return place, f
}

// endedStages are those in which something ended. Where no store is found there are none.
func (a *app) endedStages(cmd *cobra.Command, args []string, _ string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
	const nothingElse = cobra.ShellCompDirectiveNoFileComp
	place, f := storeOf(cmd, args)
	dir, err := a.findStore(cmd.Context(), place, f, hasStore)
	if err != nil {
		return nil, nothingElse
	}
	h, err := pipeline.OpenHistory(cmd.Context(), dir)
	if err != nil {
		return nil, nothingElse
	}
	defer func() { _ = h.Close() }()
	counts, _ := h.Counts(cmd.Context()) // of a damaged store none
	for _, c := range counts {
		if c.Stage != "" && !slices.Contains(all, c.Stage) {
			all = append(all, c.Stage)
		}
	}
	return all, nothingElse
}

// trashTimes are the times of runs that moved files to the trash.
func (a *app) trashTimes(cmd *cobra.Command, args []string, _ string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
	place, f := storeOf(cmd, args)
	if isRecord(place, f) {
		_ = moves.List(cmd.Context(), place, moves.RestoreOptions{}, func(e moves.Entry) error {
			if !slices.Contains(all, e.Run) {
				all = append(all, e.Run)
			}
			return nil
		})
	} else if dir, err := a.findStore(cmd.Context(), place, f, hasStore, hasTrash); err == nil {
		// What a damaged trash still tells is offered.
		_ = pipeline.Trash(cmd.Context(), dir, func(t pipeline.Trashed) error {
			if !slices.Contains(all, t.From) {
				all = append(all, t.From)
			}
			return nil
		})
	}
	return all, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
