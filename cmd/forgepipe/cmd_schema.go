package main

import (
	"github.com/spf13/cobra"
)

func newSchemaCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of pipeline files",
		Long: `Print the JSON Schema (draft-07) of pipeline files. Editors with a YAML language
server complete and check a pipeline by it whose first line names the schema:

  # yaml-language-server: $schema=pipeline.schema.json`,
		Example: "  forgepipe schema > pipeline.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.begun = true
			return runSchema(a)
		},
	}
}

func runSchema(a *app) error {
	schema, err := a.registry.Schema(nil)
	if err != nil {
		return err
	}
	if a.result.json {
		a.result.set(func(e *envelope) { e.Schema = schema })
		return nil
	}
	_, err = a.stdout.Write(schema)
	return err
}
