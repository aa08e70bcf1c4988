package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/forgepipe/forgepipe/memory"
	"github.com/forgepipe/forgepipe/model/store"
)

// fetching is replaced in tests, whose servers are on this machine.
var fetching = func() store.FetchOptions { return store.FetchOptions{} }

type modelsFetchFlags struct {
	modelsFlags
	maxSize string
	quiet   bool
}

func newModelsFetchCommand(a *app) *cobra.Command {
	var f modelsFetchFlags
	cmd := &cobra.Command{
		Use:   "fetch NAME...",
		Short: "Fetch networks into the store",
		Long: `Fetch networks into the store, from the addresses in the registry. Only https is
used, also where an address leads elsewhere; addresses that are not public are
refused; HTTPS_PROXY is honoured. A file is put in its place only when it has the
hash that the registry states. Where it states none, the hash of the first time is
recorded in models.lock, and compared ever after.

A network that is there is compared with its hash, and fetched again only when it
is damaged. Ctrl-C keeps what has come: the next time goes on there, but after a
start of the machine only where the hash is known. Two commands that fetch the same
network fetch it once. A file in its place that models.lock does not know is left
alone.`,
		Example: `  forgepipe models fetch clip-vit-b32
  forgepipe models fetch realesrgan-x4plus realesr-general-x4v3 --quiet
  HTTPS_PROXY=http://proxy:3128 forgepipe models fetch dinov2-small`,
		Args: someModels,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return runModelsFetch(cmd, a, f, args)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.maxSize, "max-size", memory.FormatBytes(store.DefaultMaxBytes), "the most `BYTES` of a file whose size the registry does not state")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print nothing but errors")
	return cmd
}

func runModelsFetch(cmd *cobra.Command, a *app, f modelsFetchFlags, names []string) error {
	limit, err := memory.ParseBytes(f.maxSize)
	if err != nil || limit <= 0 {
		return usagef("for example --max-size 20GiB", "--max-size %q is not a size", f.maxSize)
	}
	s, err := f.open()
	if err != nil {
		return err
	}
	o := fetching()
	o.MaxBytes = limit
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	sig := catch(cancel, func(string) {}, func(e *signalError) { a.end(commandName(cmd), e) })
	defer sig.close()
	all := []modelJSON{}
	defer func() { a.result.set(func(e *envelope) { e.Models = &all }) }()
	var failed []error
	for _, name := range names {
		j, err := a.fetch(ctx, s, name, o, f.quiet)
		if n := sig.signal(); n != 0 && err != nil {
			return &signalError{n} // its hint is to run again to go on
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		all = append(all, j)
	}
	if len(failed) == 1 {
		return modelError(failed[0])
	}
	return modelError(errors.Join(failed...))
}

// fetch fetches one network, and shows how far it is.
func (a *app) fetch(ctx context.Context, s *store.Store, name string, o store.FetchOptions, quiet bool) (modelJSON, error) {
	stop := func() {}
	if !quiet {
		o.Progress, stop = a.screen.Fetching()
	}
	rec, fetched, err := s.Fetch(ctx, name, o)
	stop()
	if err != nil {
		return modelJSON{}, err
	}
	j := modelNamed(s, name)
	j.Fetched = &fetched
	if !quiet {
		said := "is there, and right"
		if fetched {
			said = fmt.Sprintf("fetched %s from %s", memory.FormatBytes(rec.Bytes()), rec.Source)
		}
		a.screen.Printf("%s: %s", name, said)
	}
	return j, nil
}

func newModelsAddCommand(a *app) *cobra.Command {
	var f modelsFlags
	name := ""
	cmd := &cobra.Command{
		Use:   "add FILE",
		Short: "Add a network's file to the store",
		Long: `Copy a file of a network into the store, with the files beside it that hold its
weights, and record its hash. The name is --name, else that of the network in the
registry whose file is called so and has to be brought, else the file's without
its ending. Where the hash of that name is known, the file must have it.`,
		Example: `  forgepipe models add net.onnx --name mine
  forgepipe models add koniq_pretrained.pkl`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("see forgepipe models add --help", "%s wants one file, and got %d", commandName(cmd), len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return a.interruptible(cmd, func(ctx context.Context) error { return runModelsAdd(ctx, a, f, args[0], name) })
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&name, "name", "", "what pipelines call it: letters, digits, - and _ (`NAME`)")
	return cmd
}

func runModelsAdd(ctx context.Context, a *app, f modelsFlags, file, name string) error {
	s, err := f.open()
	if err != nil {
		return err
	}
	name, rec, err := s.Add(ctx, file, name)
	if err != nil {
		return modelError(err)
	}
	all := []modelJSON{modelNamed(s, name)}
	a.result.set(func(e *envelope) { e.Models = &all })
	a.screen.Printf("%s: added, %s, sha256 %s", name, memory.FormatBytes(rec.Bytes()), rec.Files[0].SHA256)
	return nil
}
