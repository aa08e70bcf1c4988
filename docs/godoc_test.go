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
// their fields and methods, functions, constants and variables. A constant may be told of
// in the comment of its group.
func TestEveryPublicNameIsDocumented(t *testing.T) {
	names := 0
	for _, dir := range publicPackages(t) {
		p := parsed(t, dir)
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
				for _, name := range silent(s.(*ast.TypeSpec), typ.Doc) {
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

// silent are the exported fields of a struct, embedded ones too, and methods of an
// interface, that nothing tells of: no comment of their own, no comment above others that
// names them, and none of the type that does.
func silent(s *ast.TypeSpec, about string) (names []string) {
	var fields *ast.FieldList
	switch typ := s.Type.(type) {
	case *ast.StructType:
		fields = typ.Fields
	case *ast.InterfaceType:
		fields = typ.Methods
	default:
		return nil
	}
	above := "" // the comment above this field, or the nearest one above those before it
	for _, f := range fields.List {
		if f.Doc != nil {
			above = f.Doc.Text()
		}
		named := f.Names
		if len(named) == 0 {
			named = []*ast.Ident{embedded(f.Type)}
		}
		for _, n := range named {
			if n.IsExported() && strings.TrimSpace(f.Doc.Text()+f.Comment.Text()) == "" && !regexp.MustCompile(`\b`+n.Name+`\b`).MatchString(about+above) {
				names = append(names, n.Name)
			}
		}
	}
	return names
}

// embedded is the name of a field that is declared by its type alone.
func embedded(typ ast.Expr) *ast.Ident {
	switch typ := typ.(type) {
	case *ast.StarExpr:
		return embedded(typ.X)
	case *ast.SelectorExpr:
		return typ.Sel
	case *ast.Ident:
		return typ
	}
	return ast.NewIdent("_") // a set of types
}

// publicPackages are the folders of those that others can import.
func publicPackages(t *testing.T) (dirs []string) {
	t.Helper()
	for _, root := range []string{"../pipeline", "../pipelines", "../model", "../memory", "../stages"} {
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
func parsed(t *testing.T, dir string) *doc.Package {
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
	return p
}
