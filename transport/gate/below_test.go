package gate

import (
	"net"
	"testing"
)

// TestSwap puts another connection below TLS, which is reached from then on.
func TestSwap(t *testing.T) {
	first, other := net.Pipe()
	second, far := net.Pipe()
	t.Cleanup(func() {
		for _, c := range []net.Conn{first, other, second, far} {
			_ = c.Close()
		}
	})
	b := &below{first}
	if old := b.Swap(second); old != first || b.Unwrap() != second {
		t.Error("the connection below is not the new one")
	}
	go func() { _, _ = far.Write([]byte("x")) }()
	if n, err := b.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d bytes of the new connection: %v", n, err)
	}
}
