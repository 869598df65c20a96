//go:build amd64 || arm64

package cacheline

import "unsafe"

// prefetch asks for the lines that hold the n bytes from p on.
//
//go:noescape
func prefetch(p unsafe.Pointer, n int)
