package gate

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// Handler answers one request. The context and every byte slice taken from it
// belong to the handler only until it returns.
type Handler func(ctx *fasthttp.RequestCtx)

// Route binds a handler to a method and a path. The gate answers HEAD for every
// GET route that is not Endless, OPTIONS for every path that has no route of it, and
// 405 with Allow for other methods.
type Route struct {
	Method string // GET, POST, PUT, PATCH, DELETE or OPTIONS
	// Path is matched exactly, byte for byte; a segment {name} matches one
	// non-empty segment that Param(ctx, name) returns. Literal segments win.
	Path string
	// Name is the route's label in metrics and logs; "" takes the Path.
	Name  string
	Serve Handler
	// Endless says that the answer to GET has no end, so that there is no HEAD of it.
	Endless bool
	// Oversize is told of a request whose Content-Length is above MaxBody, once its
	// answer, which is 413, stands; nil where nobody needs to know.
	Oversize Handler
	// Hidden keeps the path out of the list that an unknown path is answered with.
	Hidden bool
}

// maxSegments bounds the depth of a routed path.
const maxSegments = 8

// maxParams bounds the {name} segments of a path.
const maxParams = 4

// node is one segment of the route tree.
type node struct {
	literal map[string]*node
	wild    *node
	param   string // name of the wild child's parameter
	leaf    *leaf
}

// leaf is a path with at least one route.
type leaf struct {
	path    string
	params  []string
	methods map[string]*endpoint
	allow   string
}

// endpoint is one method of a path.
type endpoint struct {
	serve   Handler
	large   Handler // Route.Oversize
	meter   *routeMeter
	endless bool
}

// router finds endpoints by path; immutable once built.
type router struct {
	root  node
	exact map[string]*leaf // paths without parameters: one lookup
	hint  string           // for who asks for an unknown path: those that there are
}

var methodOrder = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}

func newRouter(routes []Route, meter func(name string) *routeMeter) (*router, error) {
	r := &router{exact: make(map[string]*leaf)}
	for _, rt := range routes {
		if err := r.add(rt, meter); err != nil {
			return nil, err
		}
	}
	for _, l := range r.leaves(&r.root, nil) {
		l.seal()
		if len(l.params) == 0 {
			r.exact[l.path] = l
		}
	}
	r.hint = hintOf(routes)
	return r, nil
}

func hintOf(routes []Route) string {
	var paths []string
	for _, rt := range routes {
		if !rt.Hidden && !slices.Contains(paths, rt.Path) {
			paths = append(paths, rt.Path)
		}
	}
	if paths == nil {
		return "nothing is served here"
	}
	slices.Sort(paths)
	return "use one of: " + strings.Join(paths, ", ")
}

func (r *router) add(rt Route, meter func(name string) *routeMeter) error {
	if rt.Serve == nil || !strings.HasPrefix(rt.Path, "/") || !knownMethod(rt.Method) || rt.Method == http.MethodHead {
		return fmt.Errorf("cannot add route %q: method, path and handler are required", rt.Method+" "+rt.Path)
	}
	n, params := &r.root, []string(nil)
	for seg := range strings.SplitSeq(rt.Path[1:], "/") {
		if name, ok := paramName(seg); ok {
			params = append(params, name)
			n = n.wildcard(name)
		} else {
			n = n.child(seg)
		}
	}
	if len(params) > maxParams || strings.Count(rt.Path, "/") > maxSegments {
		return fmt.Errorf("cannot add route %q: path is too deep", rt.Path)
	}
	if n.leaf == nil {
		n.leaf = &leaf{path: rt.Path, params: params, methods: make(map[string]*endpoint)}
	}
	if n.leaf.methods[rt.Method] != nil {
		return fmt.Errorf("cannot add route %q: it exists already", rt.Method+" "+rt.Path)
	}
	name := rt.Name
	if name == "" {
		name = rt.Path
	}
	n.leaf.methods[rt.Method] = &endpoint{serve: rt.Serve, large: rt.Oversize, meter: meter(name), endless: rt.Endless}
	return nil
}

func knownMethod(m string) bool {
	return slices.Contains(methodOrder, m) || m == http.MethodOptions
}

func paramName(seg string) (string, bool) {
	if len(seg) > 2 && seg[0] == '{' && seg[len(seg)-1] == '}' {
		return seg[1 : len(seg)-1], true
	}
	return "", false
}

func (n *node) child(seg string) *node {
	if n.literal == nil {
		n.literal = make(map[string]*node)
	}
	c := n.literal[seg]
	if c == nil {
		c = new(node)
		n.literal[seg] = c
	}
	return c
}

func (n *node) wildcard(name string) *node {
	if n.wild == nil {
		n.wild, n.param = new(node), name
	}
	return n.wild
}

func (r *router) leaves(n *node, out []*leaf) []*leaf {
	if n.leaf != nil {
		out = append(out, n.leaf)
	}
	for _, c := range n.literal {
		out = r.leaves(c, out)
	}
	if n.wild != nil {
		out = r.leaves(n.wild, out)
	}
	return out
}

// seal derives HEAD from a GET that ends and writes the Allow header down.
func (l *leaf) seal() {
	if get := l.methods["GET"]; get != nil && !get.endless {
		l.methods["HEAD"] = get
	}
	var allow []string
	for _, m := range methodOrder {
		if l.methods[m] != nil {
			allow = append(allow, m)
		}
	}
	l.allow = strings.Join(append(allow, "OPTIONS"), ", ")
}

// find returns the leaf of a path, or nil, and fills st with its parameters.
// The parameters alias path.
func (r *router) find(path []byte, st *state) *leaf {
	if l := r.exact[string(path)]; l != nil {
		return l
	}
	if len(path) == 0 || path[0] != '/' {
		return nil
	}
	st.params = 0
	return r.root.match(path[1:], st)
}

// match walks literal segments first and falls back to the wildcard.
func (n *node) match(rest []byte, st *state) *leaf {
	seg, tail, more := cut(rest)
	if c := n.literal[string(seg)]; c != nil {
		if l := c.next(tail, more, st); l != nil {
			return l
		}
	}
	if n.wild == nil || len(seg) == 0 || st.params == maxParams {
		return nil
	}
	st.names[st.params], st.values[st.params] = n.param, seg
	st.params++
	l := n.wild.next(tail, more, st)
	if l == nil {
		st.params--
	}
	return l
}

func (n *node) next(tail []byte, more bool, st *state) *leaf {
	if !more {
		return n.leaf
	}
	return n.match(tail, st)
}

func cut(rest []byte) (seg, tail []byte, more bool) {
	for i, c := range rest {
		if c == '/' {
			return rest[:i], rest[i+1:], true
		}
	}
	return rest, nil, false
}
