package pipelines_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/pipelines"
)

func Example() {
	for _, g := range pipelines.Goals() {
		if g.Name == "filter" {
			fmt.Println(g.Short)
			fmt.Println("forgepipe run mine.yaml", g.Flags)
		}
	}
	// Output:
	// Copies the images that are large enough, have enough detail and show few traces of compression.
	// forgepipe run mine.yaml --set INPUT=DIR --set OUT=DIR
}

// What a goal says of itself is read from the head of its file, and must be there. (The
// tests of the command and of stages/standard lint and run every one.)
func TestGoals(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, ".test.yaml") })
	if err != nil || len(files) != len(pipelines.Goals()) {
		t.Errorf("there are %d files for %d goals, %v", len(files), len(pipelines.Goals()), err)
	}
	for _, g := range pipelines.Goals() {
		text := g.Text("my file.yaml")
		if !strings.HasSuffix(g.Short, ".") || strings.HasPrefix(g.Short, "#") {
			t.Errorf("%s: its file does not begin with a sentence: %q", g.Name, g.Short)
		}
		if !strings.Contains(text, "\n#   forgepipe run my file.yaml "+g.Flags+"\n") || strings.Contains(text, "pipelines/") {
			t.Errorf("%s: its third line is not how it is run", g.Name)
		}
		vars, err := pipeline.Variables(g.Name, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range vars {
			if !strings.Contains(g.Flags, "--set "+v.Name+"=") {
				t.Errorf("%s: how it is run does not say %s", g.Name, v.Name)
			}
		}
		before := ""
		for line := range strings.Lines(text) {
			begins := !strings.HasPrefix(line, " ") && line != "\n" && line != "stages:\n" || strings.HasPrefix(line, "  - ")
			if begins && !strings.HasPrefix(line, "#") && !strings.HasPrefix(strings.TrimSpace(before), "#") {
				t.Errorf("%s: nothing explains the line %q", g.Name, line)
			}
			before = line
		}
	}
}
