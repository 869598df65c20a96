package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/velocimeter/velocimeter"

// listed is the part of `go list -json` that the laws are about.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func listPackages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", modulePath+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot list packages: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// room returns the top-level folder of a package of ours, "" for others.
func room(path string) string {
	rest, ours := strings.CutPrefix(path, modulePath+"/")
	if !ours {
		return ""
	}
	top, _, _ := strings.Cut(rest, "/")
	return top
}

// mayImport says which rooms a room may use besides itself.
var mayImport = map[string][]string{
	"engine":    {},
	"actors":    {"engine"},
	"transport": {"engine"},
	"persist":   {"engine"},
	"cmd":       {"engine", "actors", "transport", "persist"},
	"bench":     {"engine", "transport"},
}

// homes names the only room that may import a module.
var homes = map[string]string{
	"github.com/asynkron/protoactor-go": "actors",
	"github.com/valyala/fasthttp":       "transport",
	"github.com/fasthttp/websocket":     "transport",
	"github.com/cockroachdb/pebble":     "persist",
}

// impure are the standard packages through which a clock, the network or a
// disk would reach the engine.
var impure = []string{"net", "os", "log", "os/exec", "os/signal", "syscall", "net/http", "log/slog", "runtime/debug", "math/rand"}

func TestImportLaws(t *testing.T) {
	for _, p := range listPackages(t) {
		from := room(p.ImportPath)
		if _, known := mayImport[from]; !known {
			t.Errorf("%s: there is no room %q (architecture: actors, engine, transport, persist, cmd, bench)", p.ImportPath, from)
			continue
		}
		for _, dep := range p.Imports {
			checkImport(t, p.ImportPath, from, dep)
		}
	}
}

func checkImport(t *testing.T, pkg, from, dep string) {
	t.Helper()
	if to := room(dep); to != "" {
		if to != from && !slices.Contains(mayImport[from], to) {
			t.Errorf("%s imports %s: %s may not know %s; declare a port in %s and join them in cmd", pkg, dep, from, to, from)
		}
		return
	}
	for module, home := range homes {
		if (dep == module || strings.HasPrefix(dep, module+"/")) && from != home {
			t.Errorf("%s imports %s, which belongs to %s alone", pkg, dep, home)
		}
	}
	if from != "engine" {
		return
	}
	if first, _, _ := strings.Cut(dep, "/"); strings.Contains(first, ".") {
		t.Errorf("%s imports %s: the engine uses the standard library only", pkg, dep)
	}
	if slices.Contains(impure, dep) {
		t.Errorf("%s imports %s: the engine has no clock, network or disk; time is a parameter", pkg, dep)
	}
}

// Limits of the house; the linter has the same ones.
const (
	maxFileLines     = 500
	maxFunctionLines = 60
)

func TestSizeLimits(t *testing.T) {
	root := moduleRoot(t)
	eachGoFile(t, root, func(path string) {
		rel, _ := filepath.Rel(root, path)
		if n := codeLines(t, path); n > maxFileLines {
			t.Errorf("%s has %d lines of code, the limit is %d", rel, n, maxFileLines)
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line - 1; n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines, the limit is %d", rel, fn.Name.Name, n, maxFunctionLines)
			}
		}
	})
}

// The engine is told the time; it never asks for it.
func TestEngineHasNoClock(t *testing.T) {
	root := moduleRoot(t)
	eachGoFile(t, filepath.Join(root, "engine"), func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []string{"time.Now(", "time.Since(", "time.After(", "time.Tick(", "time.NewTimer(", "time.NewTicker(", "\tgo func", "rand.Int"} {
			if strings.Contains(string(text), call) {
				rel, _ := filepath.Rel(root, path)
				t.Errorf("%s calls %s", rel, strings.TrimSpace(call))
			}
		}
	})
}

func eachGoFile(t *testing.T, dir string, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && path != dir):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// codeLines counts lines that are neither blank nor only a comment.
func codeLines(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if line := strings.TrimSpace(sc.Text()); line != "" && !strings.HasPrefix(line, "//") {
			n++
		}
	}
	return n
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("cannot find go.mod above the test")
		}
		dir = parent
	}
}
