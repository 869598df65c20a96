package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFileSize bounds the configuration file.
const maxFileSize = 1 << 20

// readFile flattens a YAML file into dotted paths. The file may hold mappings
// and scalars, and a sequence where a setting is a list; anchors, aliases, tags
// and several documents are refused: no setting needs them.
func readFile(src Sources) (map[string]Value, []error) {
	name := src.File
	if name == "" {
		return nil, nil
	}
	data, mode, err := readBounded(name)
	if err != nil {
		return nil, []error{fmt.Errorf("cannot read configuration %q (%s): %w", name, src.FileBy, err)}
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, []error{yamlError(name, err)}
	}
	f := flattener{name: name, values: map[string]Value{}}
	docs := 0
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if docs++; docs > 1 {
			f.bad(doc.Body, "", "a second document; the file holds one")
			break
		}
		f.node("", doc.Body)
	}
	if len(f.values) == 0 && len(f.problems) == 0 {
		f.problems = []error{fmt.Errorf("%s:1: the file holds no settings; leave it away to use the defaults", name)}
	}
	for i := range table {
		path := table[i].Path
		if v, ok := f.values[path]; ok && table[i].Secret && insecure(mode) && f.values["allow_insecure_permissions"].Text != "true" {
			f.problems = append(f.problems, fmt.Errorf("%s: %s: others can read this file (mode %04o): chmod 600 %s, or set allow_insecure_permissions: true", v.Origin, path, mode, name))
		}
	}
	return f.values, f.problems
}

// insecure reports whether others than the owner can read a file.
func insecure(mode os.FileMode) bool { return mode&0o077 != 0 && runtime.GOOS != "windows" }

func readBounded(name string) ([]byte, os.FileMode, error) {
	info, err := os.Stat(name)
	if err != nil {
		if pathErr, ok := errors.AsType[*os.PathError](err); ok {
			return nil, 0, pathErr.Err
		}
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.New("it is not a regular file") // opening a pipe would wait for a writer
	}
	fh, err := os.Open(name)
	if err != nil {
		return nil, 0, errors.New("it is not a readable file")
	}
	defer fh.Close() //nolint:errcheck // read only
	data, err := io.ReadAll(io.LimitReader(fh, maxFileSize+1))
	if err != nil {
		return nil, 0, errors.New("it is not a readable file")
	}
	if len(data) > maxFileSize {
		return nil, 0, errors.New("it is larger than 1 MiB")
	}
	if len(data) >= 3 && string(data[:3]) == "\xef\xbb\xbf" {
		data = data[3:]
	}
	return data, info.Mode().Perm(), nil
}

// yamlError puts the library's position in front, as everywhere else.
func yamlError(name string, err error) error {
	if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok && syntax.Token != nil {
		return fmt.Errorf("%s:%d: %s", name, syntax.Token.Position.Line, syntax.Message)
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("%s: %s", name, first)
}

type flattener struct {
	name     string
	values   map[string]Value
	problems []error
}

func (f *flattener) bad(n ast.Node, path, format string, args ...any) {
	line := 1
	if t := n.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	if path != "" {
		path += ": "
	}
	f.problems = append(f.problems, fmt.Errorf("%s:%d: %s%s", f.name, line, path, fmt.Sprintf(format, args...)))
}

func (f *flattener) node(path string, n ast.Node) {
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		f.bad(n, path, "anchors, aliases and tags are not understood")
	case *ast.MappingNode:
		for _, v := range n.Values {
			f.entry(path, v)
		}
	case *ast.MappingValueNode:
		f.entry(path, n)
	case *ast.SequenceNode:
		f.sequence(path, n)
	case *ast.NullNode:
		if path != "" {
			f.bad(n, path, "has no value; remove the line to use the default")
		}
	case ast.ScalarNode:
		f.scalar(path, n)
	default:
		f.bad(n, path, "a %s is not understood here", strings.ToLower(n.Type().String()))
	}
}

func (f *flattener) entry(path string, n *ast.MappingValueNode) {
	key, ok := n.Key.(ast.ScalarNode)
	if !ok {
		f.bad(n, path, "a key must be a plain word")
		return
	}
	name := strings.TrimSpace(key.GetToken().Value)
	if path != "" {
		name = path + "." + name
	}
	if _, known := find(name); !known && !isSection(name) {
		f.bad(n, name, "unknown setting%s", suggestion(name))
		return
	}
	f.node(name, n.Value)
}

func (f *flattener) scalar(path string, n ast.ScalarNode) {
	if _, known := find(path); !known {
		f.bad(n, path, "expected a mapping of settings")
		return
	}
	text := n.GetToken().Value
	if s, ok := n.(*ast.StringNode); ok {
		text = s.Value
	}
	if _, twice := f.values[path]; twice {
		f.bad(n, path, "is set twice")
		return
	}
	f.values[path] = Value{text, f.at(n)}
}

func (f *flattener) sequence(path string, n *ast.SequenceNode) {
	s, known := find(path)
	if !known || !s.List {
		f.bad(n, path, "a list is not understood here")
		return
	}
	var items []string
	for _, v := range n.Values {
		item, ok := v.(ast.ScalarNode)
		if !ok {
			f.bad(v, path, "a list holds plain values")
			return
		}
		text := item.GetToken().Value
		if strings.Contains(text, ",") {
			f.bad(v, path, "a value must not hold a comma")
			return
		}
		items = append(items, text)
	}
	f.values[path] = Value{strings.Join(items, ","), f.at(n)}
}

func (f *flattener) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.name, n.GetToken().Position.Line)
}

func isSection(path string) bool {
	for _, s := range table {
		if strings.HasPrefix(s.Path, path+".") {
			return true
		}
	}
	return false
}

// suggestion names the known setting nearest to a mistyped one.
func suggestion(path string) string {
	best, distance := "", 4
	for _, s := range table {
		if d := levenshtein(path, s.Path); d < distance {
			best, distance = s.Path, d
		}
	}
	if best == "" {
		return "; `velocimeter config print` lists the known ones"
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
