package standard_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/standard"
)

// The cases of the example pipelines hold, as forgepipe test would run them.
func TestExampleCases(t *testing.T) {
	files, err := filepath.Glob("../../pipelines/*.test.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files of cases, %v", len(files), err)
	}
	for _, file := range files {
		cases, err := pipeline.LoadCases(t.Context(), file, pipeline.Options{Registry: standard.Registry()})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cases {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".test.yaml")+"/"+c.Name, func(t *testing.T) {
				r, err := c.Run(t.Context(), t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range r.Failures {
					t.Error(f)
				}
			})
		}
	}
}
