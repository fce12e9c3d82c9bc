package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../../.."
	module = "github.com/slipway-vm/slipway/"
)

// A file is one Go source file of the repository, whatever its build tags.
type file struct {
	path    string // from the repository's root, with slashes
	pkg     string // the directory of path
	syntax  *ast.File
	imports []string // those of this module without its prefix
	line    func(importIndex int) int
}

func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// files parses the head of every Go file of the repository.
func files(t *testing.T) []file {
	t.Helper()
	var all []file
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		syntax, err := parser.ParseFile(fset, path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f := file{path: filepath.ToSlash(rel), syntax: syntax}
		f.pkg = filepath.ToSlash(filepath.Dir(rel))
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, strings.TrimPrefix(imported, module))
		}
		f.line = func(i int) int { return fset.Position(syntax.Imports[i].Pos()).Line }
		all = append(all, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatalf("no Go files under %s", root)
	}
	return all
}
