package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/velocimeter/velocimeter"

// listed is the part of `go list -json` that the laws are about.
type listed struct {
	ImportPath, Export                 string
	Imports, TestImports, XTestImports []string
}

// listPackages lists the module's packages, or what args say.
func listPackages(t *testing.T, args ...string) []listed {
	t.Helper()
	if args == nil {
		args = []string{modulePath + "/..."}
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Export,Imports,TestImports,XTestImports"}, args...)...)
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

// benchMayImport is what of transport the benchmarks may use: they are clients.
var benchMayImport = []string{"transport/client", "transport/wire", "transport/fanout"}

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
		imports := p.Imports
		if from == "bench" { // which is made of tests
			imports = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		}
		for _, dep := range imports {
			if why := unlawful(from, dep); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, dep, why)
			}
		}
	}
}

// unlawful says why a package of the room from may not import dep; "" if it may.
func unlawful(from, dep string) string {
	if to := room(dep); to != "" {
		sub := strings.TrimPrefix(dep, modulePath+"/")
		within := func(dir string) bool { return sub == dir || strings.HasPrefix(sub, dir+"/") }
		switch {
		case to != from && !slices.Contains(mayImport[from], to):
			return fmt.Sprintf("%s may not know %s; declare a port in %s and join them in cmd", from, to, from)
		case from == "bench" && to == "transport" && !slices.ContainsFunc(benchMayImport, within):
			return fmt.Sprintf("bench may know %s only; the server is the binary, a child process", strings.Join(benchMayImport, ", "))
		}
		return ""
	}
	if home := homeOf(dep); home != "" && from != home {
		return "it belongs to " + home + " alone"
	}
	if from != "engine" {
		return ""
	}
	if first, _, _ := strings.Cut(dep, "/"); strings.Contains(first, ".") {
		return "the engine uses the standard library only"
	}
	if slices.Contains(impure, dep) {
		return "the engine has no clock, network or disk; time is a parameter"
	}
	return ""
}

// homeOf returns the room that a package of a guarded module belongs to.
func homeOf(dep string) string {
	for module, home := range homes {
		if dep == module || strings.HasPrefix(dep, module+"/") {
			return home
		}
	}
	return ""
}

func TestUnlawful(t *testing.T) {
	f := func(from, dep string, lawful bool) {
		t.Helper()
		if why := unlawful(from, dep); lawful != (why == "") {
			t.Errorf("%s imports %s: lawful %v, got %q", from, dep, lawful, why)
		}
	}
	f("actors", modulePath+"/engine/tick", true)
	f("actors", modulePath+"/transport/wire", false)
	f("transport", modulePath+"/persist", false)
	f("engine", modulePath+"/actors", false)
	f("engine", "net/http", false)
	f("engine", "golang.org/x/sys/unix", false)
	f("engine", "math/rand/v2", true)
	f("persist", "github.com/cockroachdb/pebble/v2/vfs", true)
	f("cmd", "github.com/cockroachdb/pebble/v2", false)
	f("cmd", modulePath+"/transport/ws", true)
	f("bench", modulePath+"/transport/wire/wiretest", true)
	f("bench", modulePath+"/transport/wireless", false)
	f("bench", modulePath+"/transport/gate", false)
	f("bench", modulePath+"/engine/market", true)
	f("bench", modulePath+"/actors", false)
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

// chance is what a package under engine may use of math/rand/v2: sources that
// are seeded by the caller.
var chance = []string{"New", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "Source", "PCG", "ChaCha8", "Zipf"}

// clocks is what it may not use of time.
var clocks = []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Sleep", "Timer", "Ticker", "Local"}

// impureUses lists the places where a file starts a goroutine, asks for the
// time or draws from a source that nobody seeded.
func impureUses(fset *token.FileSet, file *ast.File) (found []string) {
	add := func(n ast.Node, what string) {
		found = append(found, fmt.Sprintf("line %d: %s", fset.Position(n.Pos()).Line, what))
	}
	names := make(map[string]string)
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		if path != "time" && path != "math/rand/v2" {
			continue
		}
		name := map[string]string{"time": "time", "math/rand/v2": "rand"}[path]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "." {
			add(spec, "import of "+path+" without a name")
		}
		names[name] = path
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			add(n, "go statement")
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok || x.Obj != nil { // a variable of that name
				return true
			}
			path := names[x.Name]
			if path == "time" && slices.Contains(clocks, n.Sel.Name) || path == "math/rand/v2" && !slices.Contains(chance, n.Sel.Name) {
				add(n, path+"."+n.Sel.Name)
			}
		}
		return true
	})
	return found
}

// The engine is told the time; it never asks for it.
func TestEngineIsPure(t *testing.T) {
	root := moduleRoot(t)
	files := 0
	eachGoFile(t, filepath.Join(root, "engine"), func(path string) {
		files++
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, use := range impureUses(fset, file) {
			rel, _ := filepath.Rel(root, path)
			t.Errorf("%s, %s: the engine has no goroutine, clock or chance of its own", rel, use)
		}
	})
	if files == 0 {
		t.Error("no file of the engine was read")
	}
}

func TestImpureUses(t *testing.T) {
	f := func(body string, want int) {
		t.Helper()
		fset := token.NewFileSet()
		head := "package p\nimport (\"time\"; clk \"time\"; \"math/rand/v2\")\nvar g func()\n"
		file, err := parser.ParseFile(fset, "p.go", head+body, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := impureUses(fset, file); len(got) != want {
			t.Errorf("%s: %d findings %q, want %d", body, len(got), got, want)
		}
	}
	f("func a() { go g() }", 1)
	f("func a() { go func() {}() }", 1)
	f("var now = time.Now", 1)
	f("var now = clk.Now()", 1)
	f("func a(t time.Time) { time.Until(t); time.AfterFunc(1, g) }", 2)
	f("var n = rand.N(3) + rand.IntN(4)", 2)
	f("var r = rand.New(rand.NewPCG(1, 2))", 0)
	f("var d = 3 * time.Millisecond; func a(ms int64) time.Time { return time.UnixMilli(ms).UTC() }", 0)
	f("type c struct{ Now int }; func a(time c) int { return time.Now }", 0)
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
