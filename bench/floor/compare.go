//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"
)

// way is how a tick sends.
type way int

const (
	byWrite way = iota
	bySend
	byRing
	ways
)

func (w way) String() string { return [ways]string{"write(2)", "send(2)", "io_uring"}[w] }

// comparison notes what the ticks of each way cost, which take turns: the same
// connections, thread and minutes for all.
type comparison struct {
	beside int // a thread of the kernel whose time counts too, such as ksoftirqd
	thread [ways][]float64
	all    [ways][]float64 // from a tick to the next, all threads, and beside
	ticks  int
	conns  int // that all of them went to
	last   way
	since  time.Duration
}

const toldEvery = 60 // ticks

// begin comes before a tick, and ends the account of the one before.
func (c *comparison) begin() {
	now := clock(clockProcess) + runTime(c.beside)
	if c.conns > 0 && c.ticks > 0 {
		c.all[c.last] = append(c.all[c.last], perMessage(now-c.since, c.conns))
	}
	c.since = now
}

// end takes what a tick cost its thread, and tells the medians now and then.
func (c *comparison) end(w way, spent time.Duration, messages int) {
	if messages != c.conns {
		*c = comparison{beside: c.beside, conns: messages, since: c.since}
	}
	if messages == 0 {
		return
	}
	c.last = w
	c.thread[w] = append(c.thread[w], perMessage(spent, messages))
	if c.ticks++; c.ticks%toldEvery != 0 {
		return
	}
	for w := range ways {
		_, _ = fmt.Fprintf(os.Stdout, "%v, µs a message: %s of the thread, %s in all; %d messages a tick\n",
			w, summary(c.thread[w]), summary(c.all[w]), messages)
	}
}

func perMessage(d time.Duration, messages int) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(messages)
}

// summary returns the median, the quartiles and the number of samples.
func summary(costs []float64) string {
	costs = slices.Sorted(slices.Values(costs))
	if len(costs) == 0 {
		return "nothing"
	}
	n := len(costs)
	return fmt.Sprintf("%.2f (%.2f-%.2f, %d ticks)", costs[n/2], costs[n/4], costs[n*3/4], n)
}

// Clocks of clock_gettime.
const (
	clockProcess = 2
	clockThread  = 3
)

// clock returns processor time of the process or the calling thread, what
// interrupted it included.
func clock(which uintptr) time.Duration {
	var t syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, which, uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano())
}

// runTime returns how long a thread has run; 0 for none.
func runTime(pid int) (ran time.Duration) {
	if pid == 0 {
		return 0
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	_, _ = fmt.Sscan(string(b), (*int64)(&ran))
	return ran
}
