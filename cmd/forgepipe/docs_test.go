package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/forgepipe/forgepipe/stages/standard"
)

// The documentation is run: what a page tells its readers to type works, exits as
// the page says, names flags and files that there are; and pipelines that it shows
// are right.

// notRun are the targets of the Makefile that the test does not run when a page
// names them, and why. That they exist is looked up.
var notRun = map[string]string{
	"bench-engine":   "a benchmark takes minutes, and changes RESULTS.md",
	"bench-governor": "a benchmark takes minutes, and changes RESULTS.md",
	"bench-hash":     "a benchmark takes minutes, and changes RESULTS.md",
	"bench-infer":    "a benchmark takes minutes, and changes RESULTS.md",
	"bench-tile":     "a benchmark takes minutes, and changes RESULTS.md",
	"bench-upscale":  "a benchmark takes minutes, and changes RESULTS.md",
	"build":          "the program under test is built already",
	"check":          "it checks all of the code, and installs a tool",
	"cuda-check":     "it gets CUDA's headers from PyPI",
	"fuzz":           "it takes a minute for each fuzz target",
	"gpu-bundle":     "it builds for minutes, and gets CUDA's headers from PyPI",
	"libs":           "apt-get installs packages, as root",
	"ort-blob":       "it gets packages from npm and PyPI",
	"soak":           "it takes an hour",
	"startup":        "it measures a built program",
	"test":           "it would run this test again",
}

// documentation are the pages, by their path in the repository.
func documentation(t *testing.T, repo string) map[string]string {
	t.Helper()
	pages := map[string]string{}
	read := func(file string) {
		data, err := os.ReadFile(filepath.Join(repo, file))
		if err != nil {
			t.Fatal(err)
		}
		pages[file] = string(data)
	}
	read("README.md")
	err := filepath.WalkDir(filepath.Join(repo, "docs"), func(name string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(name) == ".md" {
			rel, _ := filepath.Rel(repo, name)
			read(rel)
		}
		return err
	})
	if err != nil || len(pages) < 3 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	return pages
}

func repository(t *testing.T) string {
	t.Helper()
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func TestDocs(t *testing.T) {
	repo := repository(t)
	for file, text := range documentation(t, repo) {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			for _, wrong := range checkPage(t, repo, file, text) {
				t.Error(wrong)
			}
		})
	}
}

// What a page can have wrong is found.
func TestDocsCheckFinds(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a command that there is not", "Use `forgepipe rnu FILE`.\n", `x.md:1: "forgepipe rnu FILE" exits 2`},
		{"a flag that there is not", "```\nforgepipe run FILE --dry-rnu\n```\n", "x.md:2: "},
		{"a flag by itself that there is not", "one\n\nit takes\n`--dry-rnu`\n", "x.md:4: there is no flag --dry-rnu"},
		{"another exit code", "```sh\nforgepipe verify nowhere   # exits 1\n```\n", `x.md:2: "forgepipe verify nowhere   # exits 1" exits 2, not 1`},
		{"an exit code that is not said", "```\nforgepipe run nowhere\n```\n", "exits 2, not 0 or 4"},
		{"another output", "```console\n$ forgepipe lint pipeline.yaml\npipeline.yaml: fine\n```\n", `x.md:2: "forgepipe lint pipeline.yaml" does not print "pipeline.yaml: fine"`},
		{"a pipeline with an error", "```yaml\nsource: {images: {path: photos}}\nstages:\n  - tyle: {size: 9}\n```\n", `x.md:1: the pipeline is wrong (exit code 2)`},
		{"a link to no file", "See [this](nothing.md).\n", "x.md:1: the link nothing.md points at no file"},
		{"a link to no heading", "# One\n\nSee [this](#two).\n", "x.md:3: the link #two points at no heading"},
		{"a link to no heading of another page", "See [this](README.md#two).\n", "x.md:1: the link README.md#two points at no heading"},
		{"a target of make that there is not", "Say `make coffee`.\n", "x.md:1: the Makefile has no target coffee"},
		{"an example that is not there", "```\nforgepipe lint pipelines/none.yaml\n```\n", "exits 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			wrong := strings.Join(checkPage(t, repository(t), "x.md", tt.text), "\n")
			if !strings.Contains(wrong, tt.want) {
				t.Errorf("found %q, want %q", wrong, tt.want)
			}
		})
	}
	right := "# A heading, with: signs\n\nSee [this](#a-heading-with-signs), [that](README.md), `--dry-run` and `forgepipe pause`.\n\n" +
		"```\nforgepipe lint \\\n  FILE   # says ok\nforgepipe verify nowhere   # exits 2\n```\n\n" +
		"This is `mine.yaml`:\n\n```yaml\nsource: {images: {path: photos}}\nstages:\n  - write: {path: out/mine}\n```\n\n" +
		"```console\n$ forgepipe run mine.yaml\ndone in 7.3 s: 9 files written (9 B)\n  out  4\n```\n"
	if wrong := checkPage(t, repository(t), "x.md", right); wrong != nil {
		t.Errorf("a right page: %q", wrong)
	}
}

// What is not run is there.
func TestNotRunIsThere(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(repository(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for target := range notRun {
		if !hasTarget(makefile, target) {
			t.Errorf("the Makefile has no target %s: take it out of notRun", target)
		}
	}
}

// README lists every command, stage and source.
func TestREADMEListsEverything(t *testing.T) {
	readme := documentation(t, repository(t))["README.md"]
	for _, cmd := range commandTree().Commands() {
		if name := cmd.Name(); name != "help" && !strings.Contains(readme, "| `forgepipe "+name) {
			t.Errorf("no row of the table of commands begins with forgepipe %s", name)
		}
	}
	r := standard.Registry()
	for _, in := range slices.Concat(r.Sources(), r.Stages()) {
		if !strings.Contains(readme, "| `"+in.Name+"`") && !strings.Contains(readme, "| [`"+in.Name+"`]") {
			t.Errorf("no row of the table of stages begins with %s", in.Name)
		}
	}
}

func commandTree() *cobra.Command {
	root := newRootCommand(&app{registry: standard.Registry(), result: newResult(nil, false)})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// flags are the names of all flags of all commands.
func flags() map[string]bool {
	all := map[string]bool{"help": true}
	note := func(f *pflag.Flag) { all[f.Name] = true }
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(note)
		cmd.PersistentFlags().VisitAll(note)
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(commandTree())
	return all
}

var flagName = regexp.MustCompile(`^--([a-z][a-z-]*)`)

// checkPage returns what is wrong with a page, a line each.
func checkPage(t *testing.T, repo, file, text string) (wrong []string) {
	t.Helper()
	p := parsePage(text)
	complain := func(line int, format string, args ...any) {
		wrong = append(wrong, fmt.Sprintf("%s:%d: %s", file, line, fmt.Sprintf(format, args...)))
	}
	for _, l := range p.links {
		if problem := checkLink(repo, file, l.text, p); problem != "" {
			complain(l.line, "%s", problem)
		}
	}
	known := flags()
	for _, s := range p.spans {
		if m := flagName.FindStringSubmatch(s.text); m != nil && !known[m[1]] {
			complain(s.line, "there is no flag --%s", m[1])
		}
	}
	var w *workplace
	place := func() *workplace {
		if w == nil {
			w = newWorkplace(t, repo, text)
		}
		return w
	}
	for _, b := range p.blocks {
		if b.has("cases") { // of a pipeline
			place().keep(b)
		}
		// An example that is marked as that of a program has stages of its own; docs runs it.
		if !b.has("source", "stages") || strings.HasPrefix(b.intro, "<!-- example: ") {
			continue
		}
		if out, code := place().lint(b); code != 0 {
			complain(b.line, "the pipeline is wrong (exit code %d): %s", code, out)
		}
	}
	seen := map[string]bool{}
	for _, c := range p.commands() {
		if seen[c.text] && c.inline {
			continue
		}
		seen[c.text] = true
		if problem := place().try(c); problem != "" {
			complain(c.line, "%s", problem)
		}
	}
	return wrong
}

// checkLink says what is wrong with a link that stays in the repository.
func checkLink(repo, file, target string, p page) string {
	name, heading, _ := strings.Cut(target, "#")
	if strings.Contains(name, "://") || strings.HasPrefix(name, "mailto:") {
		return ""
	}
	anchors := p.anchors
	if name != "" {
		name = filepath.Join(filepath.Dir(file), name)
		data, err := os.ReadFile(filepath.Join(repo, name))
		info, statErr := os.Stat(filepath.Join(repo, name))
		switch {
		case statErr == nil && info.IsDir():
			return ""
		case err != nil:
			return fmt.Sprintf("the link %s points at no file", target)
		}
		anchors = parsePage(string(data)).anchors
	}
	if heading != "" && !anchors[heading] {
		return fmt.Sprintf("the link %s points at no heading", target)
	}
	return ""
}

func hasTarget(makefile []byte, target string) bool {
	return bytes.Contains(makefile, []byte("\n"+target+":"))
}
