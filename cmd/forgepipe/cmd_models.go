package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/cmd/forgepipe/internal/terminal"
	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model/store"
)

// modelsFlags are those of all commands about the store of models.
type modelsFlags struct {
	dir string
}

func (f *modelsFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "models", "", "`FOLDER` of the store of models (default: $"+store.Variable+", or the user's data folder)")
}

// open opens the store.
func (f *modelsFlags) open() (*store.Store, error) {
	dir := f.dir
	if dir == "" {
		var err error
		if dir, err = store.DefaultDir(); err != nil {
			return nil, &environmentError{Err: err, Hint: "or give --models FOLDER"}
		}
	}
	return store.Open(dir)
}

// find is the file that is meant: that of a path, or of a name in the store.
func (f *modelsFlags) find(what string) (store.Found, error) {
	if store.IsPath(what) {
		return store.Find(what)
	}
	s, err := f.open()
	if err != nil {
		return store.Found{}, err
	}
	return s.Find(what)
}

func newModelsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "models",
		Short: "Fetch, add and look into networks",
		Long: `Keep networks in a store, where pipelines find them by name:
embed: {model: clip-vit-b32}. The built-in registry says where
public networks are, how large they are, which hash they have and under which
licence they stand, as far as a source states it.

The store is a folder: the one that $FORGEPIPE_MODELS or --models names, else
forgepipe/models in the user's data folder. A file registry.json in it, of the
form of model/store/registry.json, adds networks of one's own. models.lock in it
records the hash of every file: what is fetched later must be the same.

Nothing is fetched but by forgepipe models fetch.`,
		Example: `  forgepipe models list
  forgepipe models fetch clip-vit-b32
  forgepipe models inspect clip-vit-b32
  forgepipe models verify`,
		SuggestionsMinimumDistance: 2,

		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newModelsListCommand(a), newModelsFetchCommand(a), newModelsAddCommand(a), newModelsInspectCommand(a), newModelsConvertCommand(a), newModelsVerifyCommand(a), newModelsRmCommand(a))
	return cmd
}

func newModelsListCommand(a *app) *cobra.Command {
	var f modelsFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the networks that are known, and those that are in the store",
		Long: `List the networks that the registry and the store know: what they are for, the
format and the size of their files, the licence as its source states it, and
whether they are in the store.

"unknown" means that no source states it; the size and the hash are then
recorded when the file is first fetched. "bring the file" is for files that are
behind a page where one has to consent: forgepipe models fetch NAME says where.`,
		Example: "  forgepipe models list\n  forgepipe models list --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.begun = true
			return runModelsList(a, f)
		},
	}
	f.add(cmd)
	return cmd
}

func runModelsList(a *app, f modelsFlags) error {
	s, err := f.open()
	if err != nil {
		return err
	}
	list, err := s.List()
	if err != nil {
		return err
	}
	if a.result.json {
		all := []modelJSON{}
		for _, m := range list {
			all = append(all, modelOf(m))
		}
		a.result.set(func(e *envelope) { e.Models = &all })
		return nil
	}
	if _, err = io.WriteString(a.stdout, terminal.Models(list)); err == nil {
		a.screen.Printf("the store is %s", s.Dir())
	}
	return err
}

// modelJSON is a network as the registry and the store know it.
type modelJSON struct {
	store.Entry
	State   string     `json:"state"`             // for people
	Path    string     `json:"path,omitempty"`    // of its file, where it is in the store
	Partial int64      `json:"partial,omitempty"` // bytes of a file that was not fetched to its end
	Source  string     `json:"source,omitempty"`  // where the file in the store is from
	Time    *time.Time `json:"time,omitempty"`    // since when
	Fetched *bool      `json:"fetched,omitempty"` // by this command: false says that it was there
	Freed   *int64     `json:"freed,omitempty"`   // by this command, in bytes
	Fault   string     `json:"fault,omitempty"`   // verify: what is wrong with a file
	Mend    string     `json:"mend,omitempty"`    // and what to do about that
}

func modelOf(m store.Model) modelJSON {
	j := modelJSON{Entry: m.Entry, State: terminal.ModelState(m), Path: m.Path, Partial: m.Partial}
	if m.Record != nil {
		f := m.Record.Files[0]
		j.Size, j.SHA256, j.Source, j.Time = f.Size, f.SHA256, m.Record.Source, &m.Record.Time
	}
	return j
}

// forgotten is the state of a network that neither the registry nor the store knows any
// more.
const forgotten = "forgotten"

// modelNamed is a network as it is in the store now.
func modelNamed(s *store.Store, name string) modelJSON {
	list, _ := s.List() // what changed it has just read that
	for _, m := range list {
		if m.Name == name {
			return modelOf(m)
		}
	}
	return modelJSON{Entry: store.Entry{Name: name}, State: forgotten}
}

// modelError gives errors of the store their exit codes and hints.
func modelError(err error) error {
	var (
		unknown *store.UnknownError
		missing *store.MissingError
		bring   *store.BringError
	)
	switch {
	case errors.As(err, &unknown):
		return usagef("see forgepipe models list", "%w", err)
	case errors.As(err, &missing), errors.As(err, &bring):
		return &environmentError{Err: err}
	}
	return err
}

// modelNames completes the names of networks that keep takes.
func modelNames(keep func(store.Model) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
		f := modelsFlags{}
		f.dir, _ = cmd.Flags().GetString("models") // it is there
		s, err := f.open()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, _ := s.List() // of a damaged store none
		for _, m := range list {
			if keep(m) {
				all = append(all, cobra.CompletionWithDesc(m.Name, terminal.ModelState(m)))
			}
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

// modelsOrFiles completes networks that are in the store, and where none begins so, files.
func modelsOrFiles(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	all, _ := modelNames(func(m store.Model) bool { return m.Path != "" })(cmd, args, begun)
	return all, cobra.ShellCompDirectiveDefault
}

func newModelsVerifyCommand(a *app) *cobra.Command {
	var f modelsFlags
	cmd := &cobra.Command{
		Use:   "verify [NAME...]",
		Short: "Compare the files of the store with their hashes",
		Long: `Read the files of the networks that are named, or of all that are in the store,
and compare them with the hashes in models.lock. Nothing is fetched or removed.

The exit code is 0 when all is right, and 1 when files are missing or others than
those that were fetched or added; what mends that is said.`,
		Example: "  forgepipe models verify\n  forgepipe models verify clip-vit-b32 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return a.interruptible(cmd, func(ctx context.Context) error { return runModelsVerify(ctx, a, f, args) })
		},
	}
	f.add(cmd)
	return cmd
}

func runModelsVerify(ctx context.Context, a *app, f modelsFlags, names []string) error {
	s, err := f.open()
	if err != nil {
		return err
	}
	verdicts, err := s.Verify(ctx, names...)
	if err != nil {
		return modelError(err)
	}
	all, wrong := []modelJSON{}, 0
	for _, v := range verdicts {
		j := modelNamed(s, v.Name)
		if v.Path != "" {
			j.Path = v.Path
		}
		if v.Fault != nil {
			j.Fault, j.Mend = v.Fault.Error(), v.Mend
			a.screen.Printf("%s: %s: %s", v.Name, j.Fault, j.Mend)
			wrong++
		}
		all = append(all, j)
	}
	a.result.set(func(e *envelope) { e.Models = &all })
	a.screen.Printf("%d files: %d right, %d not (store %s)", len(verdicts), len(verdicts)-wrong, wrong, s.Dir())
	if wrong > 0 {
		return &wrongModelsError{wrong}
	}
	return nil
}

func newModelsRmCommand(a *app) *cobra.Command {
	var f modelsFlags
	var o store.RemoveOptions
	cmd := &cobra.Command{
		Use:   "rm NAME...",
		Short: "Remove networks from the store",
		Long: `Remove the files of networks from the store, and what there is of those that were
not fetched to their end. Files elsewhere stay, also those that were added from
there. The hash of one that can be fetched stays recorded, so that the next fetch
gets the same file; --forget removes that too.`,
		Example: "  forgepipe models rm clip-vit-b32\n  forgepipe models rm --forget ic9600",
		Args:    someModels,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return a.interruptible(cmd, func(ctx context.Context) error { return runModelsRm(ctx, a, f, o, args) })
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&o.Forget, "forget", false, "forget the recorded hash too, so that the next fetch may get another file")
	return cmd
}

func runModelsRm(ctx context.Context, a *app, f modelsFlags, o store.RemoveOptions, names []string) error {
	s, err := f.open()
	if err != nil {
		return err
	}
	all := []modelJSON{}
	defer func() { a.result.set(func(e *envelope) { e.Models = &all }) }()
	for _, name := range names {
		before := modelNamed(s, name)
		freed, err := s.Remove(ctx, name, o)
		if err != nil {
			return modelError(err)
		}
		j := modelNamed(s, name)
		if j.State == forgotten {
			j.Entry = before.Entry
		}
		j.Freed = &freed
		all = append(all, j)
		a.screen.Printf("%s: %s freed", name, memory.FormatBytes(freed))
	}
	return nil
}

// someModels wants names of networks.
func someModels(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("see forgepipe models list", "%s wants the name of a network", commandName(cmd))
	}
	return nil
}
