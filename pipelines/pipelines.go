// Package pipelines holds pipelines to begin with, one for each of several goals:
// commented files that run as they are, and that forgepipe init writes.
package pipelines

import (
	"embed"
	"strings"
)

//go:embed *.yaml
var files embed.FS

// Goal is something that a pipeline of this package is for.
type Goal struct {
	Name  string // a word: tiles, pairs
	Short string // what the pipeline does, in a sentence
	// Flags are those of a first run, with DIR and the like where the user's own goes:
	// --set INPUT=DIR --set OUT=DIR.
	Flags string

	path, text string // within pipelines/
}

// Goals are all there are; those to begin with come first.
func Goals() []Goal {
	goals := []Goal{
		{Name: "quickstart", path: "quickstart.yaml"},
		{Name: "tiles", path: "tiles.yaml"},
		{Name: "pairs", path: "pairs.yaml"},
		{Name: "dedup", path: "hash-dedup.yaml"},
		{Name: "upscale", path: "upscale.yaml"},
		{Name: "filter", path: "filter.yaml"},
		{Name: "embed", path: "embed.yaml"},
		{Name: "score", path: "score.yaml"},
		{Name: "bhi", path: "bhi.yaml"},
		{Name: "sr-dataset", path: "sr-dataset.yaml"},
	}
	for i := range goals {
		goals[i].read()
	}
	return goals
}

// read takes a goal from the head of its file: the first line is a sentence, and the
// third the command that runs it.
func (g *Goal) read() {
	data, err := files.ReadFile(g.path)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	g.text = string(data)
	lines := strings.SplitN(g.text, "\n", 4)
	g.Short = strings.TrimPrefix(lines[0], "# ")
	_, g.Flags, _ = strings.Cut(lines[2], g.example()+" ")
}

// example is how the file calls itself.
func (g *Goal) example() string { return "pipelines/" + g.path }

// Text is the pipeline for a file of that name, which stands in the command in its
// head. The name must not have line ends.
func (g *Goal) Text(file string) string {
	return strings.Replace(g.text, g.example(), file, 1)
}
