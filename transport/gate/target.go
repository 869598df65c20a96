package gate

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// maxHost bounds the Host header in bytes: a DNS name and a port.
const maxHost = 260

// checkHost wants name, address or [v6], and optionally :port in 1…65535.
func checkHost(h *fasthttp.RequestHeader) *violation {
	host := h.Host()
	if len(host) == 0 {
		if string(h.Protocol()) == "HTTP/1.0" {
			return nil
		}
		return vHost
	}
	if len(host) > maxHost {
		return vHost
	}
	name, port := splitHost(host)
	if !validPort(port) || !validHostName(name) {
		return vHost
	}
	return nil
}

// splitHost returns the name, with brackets for v6, and ":port" or nothing.
func splitHost(host []byte) (name, port []byte) {
	if host[0] == '[' {
		end := bytes.IndexByte(host, ']')
		return host[:end+1], host[end+1:]
	}
	if i := bytes.IndexByte(host, ':'); i >= 0 {
		return host[:i], host[i:]
	}
	return host, nil
}

func validPort(port []byte) bool {
	if len(port) == 0 {
		return true
	}
	if port[0] != ':' || len(port) < 2 || len(port) > 6 {
		return false
	}
	n := 0
	for _, c := range port[1:] {
		if c-'0' > 9 {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n >= 1 && n <= 65535
}

func validHostName(name []byte) bool {
	if len(name) == 0 {
		return false
	}
	if name[0] == '[' {
		if len(name) < 4 {
			return false
		}
		for _, c := range name[1 : len(name)-1] {
			if !isHex(c) && c != ':' && c != '.' {
				return false
			}
		}
		return true
	}
	for _, c := range name {
		if !isAlnum(c) && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return c-'0' <= 9 || c|0x20 >= 'a' && c|0x20 <= 'f' }

// checkTarget refuses everything in the path that could be normalised into
// another path, and keys in the query. The query's values are the routes' business.
// The absolute form is refused too, though RFC 9112 section 3.2.2 has servers take
// it: it names a host that a proxy in front may not have looked at.
func checkTarget(target, method []byte) *violation {
	if len(target) == 1 && target[0] == '*' && string(method) == "OPTIONS" {
		return nil
	}
	if len(target) == 0 || target[0] != '/' {
		return vTarget
	}
	path, query, _ := bytes.Cut(target, []byte{'?'})
	if !validPath(path) {
		return vPath
	}
	for _, c := range query {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return vQuery
		}
	}
	return checkQueryKeys(query)
}

func validPath(path []byte) bool {
	for i, c := range path {
		switch {
		case isAlnum(c) || c == '-' || c == '_' || c == '~' || c == ',' || c == ':' || c == '@':
		case c == '/':
			if i+1 < len(path) && path[i+1] == '/' {
				return false
			}
		case c == '.':
			if dotSegment(path, i) {
				return false
			}
		case c == '%':
			if !validEscape(path[i:]) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// dotSegment reports whether the dot at i begins a segment "." or "..".
func dotSegment(path []byte, i int) bool {
	if path[i-1] != '/' {
		return false
	}
	rest := path[i+1:]
	if len(rest) > 0 && rest[0] == '.' {
		rest = rest[1:]
	}
	return len(rest) == 0 || rest[0] == '/'
}

// validEscape admits %XX of printable ASCII that has no meaning in a path.
func validEscape(s []byte) bool {
	if len(s) < 3 || !isHex(s[1]) || !isHex(s[2]) {
		return false
	}
	c := unhex(s[1])<<4 | unhex(s[2])
	return c > ' ' && c < 0x7f && c != '/' && c != '\\' && c != '.' && c != '%' && c != ';' && c != '#' && c != '?'
}

func unhex(c byte) byte {
	if c-'0' <= 9 {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// checkQueryKeys refuses credentials in the query, escaped names included. The
// value is never looked at, logged or echoed.
func checkQueryKeys(query []byte) *violation {
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte{'&'})
		name, _, _ := bytes.Cut(pair, []byte{'='})
		if isKeyName(name) {
			return vKeyInURL
		}
	}
	return nil
}

// isKeyName matches api_key, api-key, apikey, key, x-api-key and
// cmc_pro_api_key in any case, with or without percent escapes.
func isKeyName(name []byte) bool {
	var buf [20]byte
	n := 0
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '%' && i+2 < len(name) && isHex(name[i+1]) && isHex(name[i+2]) {
			c = unhex(name[i+1])<<4 | unhex(name[i+2])
			i += 2
		}
		if c == '_' || c == '-' {
			continue
		}
		if n == len(buf) {
			return false
		}
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		buf[n] = c
		n++
	}
	switch string(buf[:n]) {
	case "apikey", "key", "xapikey", "xcmcproapikey", "cmcproapikey":
		return true
	}
	return false
}
