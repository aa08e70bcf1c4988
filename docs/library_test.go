// Package docs_test keeps the pages in this folder true.
package docs_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the examples' code into the library guide")

// shown is a block of Go in the guide, with the line before it that says where it is from:
// a file of this repository, and names that are declared there.
var shown = regexp.MustCompile("(?m)^<!-- example: (\\S+) (.+) -->\n```go\n((?s:.*?))^```$")

// The code in the library guide is that of examples which are compiled and run.
// go test ./docs -update makes it so.
func TestLibraryGuideShowsExamples(t *testing.T) {
	const guide = "library.md"
	page, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	now := shown.ReplaceAllFunc(page, func(block []byte) []byte {
		blocks++
		m := shown.FindSubmatch(block)
		file, names := string(m[1]), strings.Fields(string(m[2]))
		var parts []string
		for _, name := range names {
			parts = append(parts, source(t, filepath.Join("..", file), name))
		}
		want := strings.Join(parts, "\n")
		if got := string(m[3]); got != want && !*update {
			t.Errorf("%s shows another %s than %s has; go test ./docs -update writes:\n%s", guide, m[2], file, want)
		}
		return []byte("<!-- example: " + file + " " + string(m[2]) + " -->\n```go\n" + want + "```")
	})
	if all := bytes.Count(page, []byte("\n```go\n")); blocks == 0 || blocks != all {
		t.Errorf("%d of %d blocks of Go say which example they are from", blocks, all)
	}
	if *update {
		if err := os.WriteFile(guide, now, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// source is a declaration as the file has it; of an example, what it does.
func source(t *testing.T, file, name string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, file, text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	at := func(p token.Pos) int { return files.Position(p).Offset }
	for _, d := range f.Decls {
		begin := d.Pos()
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.Name != name {
				continue
			}
			if strings.HasPrefix(name, "Example") {
				body := strings.Trim(string(text[at(d.Body.Lbrace)+1:at(d.Body.Rbrace)]), "\n")
				return strings.ReplaceAll("\n"+body, "\n\t", "\n")[1:] + "\n"
			}
			if d.Doc != nil {
				begin = d.Doc.Pos()
			}
		case *ast.GenDecl:
			if !declares(d, name) {
				continue
			}
			if d.Doc != nil {
				begin = d.Doc.Pos()
			}
		}
		return string(text[at(begin):at(d.End())]) + "\n"
	}
	t.Fatalf("%s declares no %s", file, name)
	return ""
}

func declares(d *ast.GenDecl, name string) bool {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.Name == name {
				return true
			}
		case *ast.ValueSpec:
			for _, n := range s.Names {
				if n.Name == name {
					return true
				}
			}
		}
	}
	return false
}
