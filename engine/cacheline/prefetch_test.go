package cacheline_test

import (
	"bytes"
	"testing"

	"github.com/velocimeter/velocimeter/engine/cacheline"
)

// big is some memory that does not begin or end with a line.
type big [3*cacheline.Size + 5]byte

// A request must neither change what it asks for nor fault, whatever it is
// given: its callers pass the last element of a slice, and pointers to nothing.
func TestPrefetchChangesNothing(t *testing.T) {
	all := make([]big, 64)
	for i := range all {
		for j := range all[i] {
			all[i][j] = byte(i + j)
		}
	}
	for i := range all {
		cacheline.Prefetch(&all[i])
		cacheline.PrefetchFirst(&all[i], 1+i*7)
		cacheline.PrefetchFirst(&all[i], 0)
	}
	for i := range all {
		var want big
		for j := range want {
			want[j] = byte(i + j)
		}
		if !bytes.Equal(all[i][:], want[:]) {
			t.Fatalf("element %d changed", i)
		}
	}
}

func TestPrefetchOfNothing(*testing.T) {
	cacheline.Prefetch[big](nil)
	cacheline.PrefetchFirst[byte](nil, 1<<20)
	cacheline.Prefetch(&struct{}{})
}
