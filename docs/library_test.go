// Package docs_test keeps the pages in this folder true.
package docs_test

import (
	"bytes"
	"errors"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the examples into README and the library guide")

// shown is a block of Go or YAML in a page, with the line before it that says where it is
// from: a file of this repository, and names that are declared there or, of a whole file,
// none.
var shown = regexp.MustCompile("(?m)^<!-- example: (\\S+)(.*) -->\n```(go|yaml)\n((?s:.*?))^```$")

// The code in README and in the library guide is that of examples which are compiled and
// run. go test ./docs -update makes it so.
func TestPagesShowExamples(t *testing.T) {
	for _, page := range []string{"library.md", "../README.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		blocks := 0
		now := shown.ReplaceAllFunc(text, func(block []byte) []byte {
			m := shown.FindSubmatch(block)
			file, names, language := string(m[1]), string(m[2]), string(m[3])
			if language == "go" {
				blocks++
			}
			want := example(t, filepath.Join("..", file), strings.Fields(names))
			if got := string(m[4]); got != want && !*update {
				t.Errorf("%s shows another%s than %s has; go test ./docs -update writes:\n%s", page, names, file, want)
			}
			return []byte("<!-- example: " + file + names + " -->\n```" + language + "\n" + want + "```")
		})
		if all := bytes.Count(text, []byte("\n```go\n")); blocks == 0 || blocks != all {
			t.Errorf("%s: %d of %d blocks of Go say which example they are from", page, blocks, all)
		}
		if *update {
			if err := os.WriteFile(page, now, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The program in README does what README says of it.
func TestREADMEsProgramRuns(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if out, err := exec.Command("go", "build", "-o", program, "./example").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for from, to := range map[string]string{"example/wide.yaml": "wide.yaml", "../testdata/photos/meadow.jpg": "photos/meadow.jpg", "../testdata/photos/fig.jpg": "photos/fig.jpg"} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to = filepath.Join(dir, to)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if want := "2 in 1 out map[aspect:map[too narrow:1]]\n"; err != nil || string(out) != want {
		t.Errorf("%v, %q; want %q", err, out, want)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "out", "*.jpg")); err != nil || len(files) != 1 {
		t.Errorf("wrote %q, %v", files, err)
	}
}

// example is what a page shows of a file: declarations, or all below the comment at its
// beginning.
func example(t *testing.T, file string, names []string) string {
	t.Helper()
	var parts []string
	for _, name := range names {
		parts = append(parts, source(t, file, name))
	}
	if len(names) > 0 {
		return strings.Join(parts, "\n")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if i := bytes.Index(text, []byte("package ")); i > 0 && strings.HasSuffix(file, ".go") {
		text = text[i:]
	}
	return string(text)
}

// source is a declaration as the file has it, a type's with its methods; of an example,
// what it does.
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
	found := ""
	for _, d := range f.Decls {
		begin := d.Pos()
		switch d := d.(type) {
		case *ast.FuncDecl:
			switch {
			case d.Recv != nil && len(d.Recv.List) == 1 && isNamed(d.Recv.List[0].Type, name):
				found += "\n"
			case d.Recv != nil || d.Name.Name != name:
				continue
			}
			if strings.HasPrefix(d.Name.Name, "Example") {
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
		found += string(text[at(begin):at(d.End())]) + "\n"
	}
	if found == "" {
		t.Fatalf("%s declares no %s", file, name)
	}
	return found
}

// isNamed says that a type, or what it points to, is the one with this name.
func isNamed(typ ast.Expr, name string) bool {
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.Name == name
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
