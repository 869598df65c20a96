package main

import (
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// signatures walks exported declarations for types of guarded modules.
type signatures struct {
	pkg    *types.Package
	banned func(path string) bool
	deep   func(path string) bool // whose named types are looked into
	seen   map[types.Type]bool
	found  []string
}

// exported walks everything that other packages can see of the package.
func (s *signatures) exported() []string {
	scope := s.pkg.Scope()
	for _, name := range scope.Names() {
		if o := scope.Lookup(name); o.Exported() {
			s.walk(name, o.Type())
		}
	}
	slices.Sort(s.found)
	return slices.Compact(s.found)
}

// walk is long because it has a case for each kind of type.
func (s *signatures) walk(at string, t types.Type) {
	if s.seen[t] {
		return
	}
	s.seen[t] = true
	switch t := t.(type) {
	case *types.Alias:
		s.walk(at, types.Unalias(t))
	case *types.Named:
		s.named(at, t)
	case interface{ Elem() types.Type }: // pointer, slice, array, channel, map
		if m, ok := t.(*types.Map); ok {
			s.walk(at, m.Key())
		}
		s.walk(at, t.Elem())
	case *types.Tuple:
		for v := range t.Variables() {
			s.walk(at, v.Type())
		}
	case *types.Signature:
		s.walk(at, t.Params())
		s.walk(at, t.Results())
	case *types.Struct:
		for v := range t.Fields() {
			if v.Exported() {
				s.walk(at+"."+v.Name(), v.Type())
			}
		}
	case *types.Interface:
		for m := range t.Methods() {
			s.walk(at+"."+m.Name(), m.Type())
		}
	}
}

func (s *signatures) named(at string, t *types.Named) {
	o := t.Obj()
	for arg := range t.TypeArgs().Types() {
		s.walk(at, arg)
	}
	switch {
	case o.Pkg() == nil: // error, comparable
		return
	case s.banned(o.Pkg().Path()):
		s.found = append(s.found, at+" mentions "+o.Pkg().Path()+"."+o.Name())
		return
	case !s.deep(o.Pkg().Path()):
		return
	}
	s.walk(at, t.Underlying())
	for m := range t.Methods() {
		if m.Exported() {
			s.walk(at+"."+m.Name(), m.Type())
		}
	}
}

// A module's types stay in its room also where an inferred type or an alias
// would carry them out without an import; protoactor's do not even leave
// actors, whose root package is all that cmd sees.
func TestExportedSignatures(t *testing.T) {
	files := make(map[string]string)
	for _, p := range listPackages(t, "-export", "-deps", modulePath+"/...") {
		files[p.ImportPath] = p.Export
	}
	imports := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(files[path]) })
	f := func(path string, banned, deep func(string) bool) []string {
		t.Helper()
		pkg, err := imports.Import(path)
		if err != nil {
			t.Fatal(err)
		}
		s := signatures{pkg: pkg, banned: banned, deep: deep, seen: make(map[types.Type]bool)}
		return s.exported()
	}
	for path := range files {
		from := room(path)
		if from == "" || filepath.Base(path) == "velocimeter" { // not ours, or a command
			continue
		}
		abroad := func(dep string) bool { home := homeOf(dep); return home != "" && home != from }
		for _, leak := range f(path, abroad, func(dep string) bool { return dep == path }) {
			t.Errorf("%s: %s, which belongs to its room alone", path, leak)
		}
	}
	guarded := func(dep string) bool { return homeOf(dep) != "" }
	for _, leak := range f(modulePath+"/actors", guarded, func(dep string) bool { return room(dep) == "actors" }) {
		t.Errorf("actors: %s, which is not for cmd to see", leak)
	}
	// The walk sees what is there: the gate's handlers speak fasthttp.
	if found := f(modulePath+"/transport/gate", guarded, func(dep string) bool { return room(dep) == "transport" }); !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, "fasthttp") }) {
		t.Errorf("the gate's use of fasthttp was not found: %q", found)
	}
}
