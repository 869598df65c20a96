package ws

import (
	"bytes"
	"flag"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

var idleConns = flag.Int("idle", 500, "connections of TestIdleMemory; two descriptors each")

// TestIdleMemory says what an idle connection costs, with its session and without,
// and bounds its heap. The clients are bare descriptors: their memory is the kernel's.
func TestIdleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("measures memory")
	}
	f := func(name, addr string, most float64) {
		t.Helper()
		warm := dialBare(t, addr, 50)
		heap, rss := footprint(t)
		fds := dialBare(t, addr, *idleConns)
		heapThen, rssThen := footprint(t)
		n := float64(len(fds))
		t.Logf("%s: %.0f B of heap and %.0f B of RSS for each of %d connections, %d goroutines",
			name, float64(heapThen-heap)/n, float64(rssThen-rss)/n, len(fds), runtime.NumGoroutine())
		if each := float64(heapThen-heap) / n; each > most {
			t.Errorf("%s: %.0f B of heap for each connection", name, each)
		}
		for _, fd := range append(fds, warm...) {
			_ = syscall.Close(fd)
		}
	}
	t.Run("with session", func(t *testing.T) {
		f("with session", newRig(t, Config{}, fanout.Config{Handshakes: 1e6}).addr, 2<<10)
	})
	t.Run("without session", func(t *testing.T) {
		f("without session", echoServer(t, Config{}, echoLimits), 1<<10)
	})
	t.Run("goroutines, with session", func(t *testing.T) {
		f("goroutines, with session", newRig(t, Config{Goroutines: true}, fanout.Config{Handshakes: 1e6}).addr, 8<<10)
	})
}

func footprint(t *testing.T) (heap, rss int64) {
	t.Helper()
	for range 3 {
		runtime.GC()
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
			rss = n << 10
		}
	}
	return int64(m.HeapAlloc), rss
}

// dialBare opens connections and reads what comes at first.
func dialBare(t *testing.T, addr string, n int) (fds []int) {
	t.Helper()
	to, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	at := &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}
	buf := make([]byte, 4<<10)
	for range n {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Connect(fd, at); err != nil {
			t.Fatal(err)
		}
		if _, err := syscall.Write(fd, []byte(handshake+"\r\n")); err != nil {
			t.Fatal(err)
		}
		if k, err := syscall.Read(fd, buf); err != nil || !bytes.Contains(buf[:k], []byte("101 ")) {
			t.Fatalf("%s %v", buf[:max(k, 0)], err)
		}
		fds = append(fds, fd)
	}
	return fds
}
