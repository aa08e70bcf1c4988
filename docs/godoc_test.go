package docs_test

import (
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Everything that a program can see of the library says what it is: packages, types with
// their fields and methods, functions, constants and variables. A field may be told of in
// its type's comment, and a constant in that of its group.
func TestEveryPublicNameIsDocumented(t *testing.T) {
	names := 0
	for _, dir := range publicPackages(t) {
		p, set := parsed(t, dir)
		if p.Doc == "" {
			t.Errorf("%s: the package has no comment", dir)
		}
		missing := func(name string) { t.Errorf("%s: %s has no comment", dir, name) }
		values := func(all []*doc.Value) {
			for _, v := range all {
				for _, s := range v.Decl.Specs {
					spec := s.(*ast.ValueSpec)
					for _, n := range spec.Names {
						if names++; n.IsExported() && v.Doc == "" && spec.Doc == nil && spec.Comment == nil {
							missing(n.Name)
						}
					}
				}
			}
		}
		funcs := func(all []*doc.Func) {
			for _, f := range all {
				name := f.Name
				if f.Recv != "" {
					name = strings.TrimPrefix(f.Recv, "*") + "." + name
				}
				if names++; f.Doc == "" && !obvious[f.Name] {
					missing(name)
				}
			}
		}
		values(p.Consts)
		values(p.Vars)
		funcs(p.Funcs)
		for _, typ := range p.Types {
			if names++; typ.Doc == "" {
				missing(typ.Name)
			}
			values(typ.Consts)
			values(typ.Vars)
			funcs(typ.Funcs)
			funcs(typ.Methods)
			for _, s := range typ.Decl.Specs {
				for _, name := range silent(set, s.(*ast.TypeSpec), typ.Doc) {
					missing(typ.Name + "." + name)
				}
			}
		}
	}
	if names < 500 {
		t.Errorf("only %d names were looked at", names)
	}
}

// obvious are methods that say nothing of their own: of interfaces that everybody knows.
var obvious = map[string]bool{"Error": true, "Unwrap": true}

// silent are the exported fields of a struct, and methods of an interface, that neither
// they nor the type's other comments tell of. A comment above a field is for those
// directly below it as well.
func silent(set *token.FileSet, s *ast.TypeSpec, about string) (names []string) {
	var fields *ast.FieldList
	switch typ := s.Type.(type) {
	case *ast.StructType:
		fields = typ.Fields
	case *ast.InterfaceType:
		fields = typ.Methods
	default:
		return nil
	}
	for _, f := range fields.List {
		about += f.Doc.Text()
	}
	grouped := 0 // the line up to which a comment goes
	for _, f := range fields.List {
		told := f.Doc != nil || f.Comment != nil || set.Position(f.Pos()).Line == grouped+1
		if f.Doc != nil || set.Position(f.Pos()).Line == grouped+1 {
			grouped = set.Position(f.End()).Line
		}
		for _, n := range f.Names {
			if n.IsExported() && !told && !regexp.MustCompile(`\b`+n.Name+`\b`).MatchString(about) {
				names = append(names, n.Name)
			}
		}
	}
	return names
}

// publicPackages are the folders of those that others can import.
func publicPackages(t *testing.T) (dirs []string) {
	t.Helper()
	for _, root := range []string{"../pipeline", "../model", "../memory", "../stages"} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case !e.IsDir():
				return nil
			case e.Name() == "internal" || e.Name() == "testdata":
				return fs.SkipDir
			}
			files, err := filepath.Glob(filepath.Join(path, "*.go"))
			if len(files) > 0 {
				dirs = append(dirs, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dirs
}

// parsed is a package's documentation, of all its files whatever they are built for.
func parsed(t *testing.T, dir string) (*doc.Package, *token.FileSet) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, filepath.Join(dir, e.Name()), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(set, files, fmt.Sprintf("github.com/forgepipe/forgepipe/%s", strings.TrimPrefix(dir, "../")))
	if err != nil {
		t.Fatal(err)
	}
	return p, set
}
