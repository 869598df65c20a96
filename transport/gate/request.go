package gate

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"sync/atomic"

	"github.com/valyala/fasthttp"
)

// state is what the gate knows about a request while its handler runs.
type state struct {
	id     []byte
	params int
	close  bool // the request asked for it
	names  [maxParams]string
	values [maxParams][]byte
}

type stateKey struct{}

func stateOf(ctx *fasthttp.RequestCtx) *state {
	st, _ := ctx.UserValue(stateKey{}).(*state)
	return st
}

// RequestID returns the request's id, as the X-Request-Id header and a
// problem's instance show it; "" outside a request of a Server.
func RequestID(ctx *fasthttp.RequestCtx) string {
	if st := stateOf(ctx); st != nil {
		return string(st.id)
	}
	return ""
}

// Param returns the path segment that matched {name}, raw as sent, or nil. It
// is valid until the handler returns.
func Param(ctx *fasthttp.RequestCtx, name string) []byte {
	st := stateOf(ctx)
	if st == nil {
		return nil
	}
	for i := range st.params {
		if st.names[i] == name {
			return st.values[i]
		}
	}
	return nil
}

// idSource makes request ids: a random prefix of the process and a counter.
type idSource struct {
	prefix string
	next   *atomic.Uint64
}

func newIDSource() idSource {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails; see crypto/rand
	return idSource{prefix: hex.EncodeToString(b[:]) + "-", next: new(atomic.Uint64)}
}

// append takes the client's id where it is harmless, else makes one.
func (g idSource) append(dst, client []byte) []byte {
	if validID(client) {
		return append(dst, client...)
	}
	dst = append(dst, g.prefix...)
	return strconv.AppendUint(dst, g.next.Add(1), 36)
}

const maxID = 64

func validID(id []byte) bool {
	if len(id) == 0 || len(id) > maxID {
		return false
	}
	for _, c := range id {
		if !isAlnum(c) && c != '-' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c-'0' <= 9 || c|0x20 >= 'a' && c|0x20 <= 'z'
}
