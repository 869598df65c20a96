// Package cacheline asks the processor for memory before it is needed. A market
// of 100,000 tokens is far larger than any cache, and a tick goes through it in
// an order that no processor guesses.
package cacheline

import "unsafe"

// Size is what one request brings, in bytes.
const Size = 64

// Prefetch asks for all of *p and returns at once. It changes nothing, may be
// ignored, and takes any pointer, nil too.
func Prefetch[T any](p *T) {
	prefetch(unsafe.Pointer(p), int(unsafe.Sizeof(*p)))
}

// PrefetchFirst is Prefetch for the first n bytes of *p, at least one.
func PrefetchFirst[T any](p *T, n int) { prefetch(unsafe.Pointer(p), n) }
