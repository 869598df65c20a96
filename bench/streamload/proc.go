//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// cpuOf returns the seconds that all threads of a process have run.
func cpuOf(pid int) (seconds float64) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, name := range tasks {
		if f := fieldsOf(name); len(f) > 0 {
			ns, _ := strconv.ParseFloat(f[0], 64)
			seconds += ns / 1e9
		}
	}
	return seconds
}

// coreOf returns the seconds that a core was busy, with interrupts and whatever
// else ran on it; 0 for none.
func coreOf(core int) (seconds float64) {
	if core < 0 {
		return 0
	}
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	_, line, _ := strings.Cut(string(b), fmt.Sprintf("\ncpu%d ", core))
	f := strings.Fields(line)
	for i := range min(len(f), 7) { // user, nice, system, idle, iowait, irq, softirq
		if i != 3 && i != 4 {
			ticks, _ := strconv.ParseFloat(f[i], 64)
			seconds += ticks / 100
		}
	}
	return seconds
}

// rssOf returns the resident bytes of a process.
func rssOf(pid int) float64 {
	f := fieldsOf(fmt.Sprintf("/proc/%d/statm", pid))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseFloat(f[1], 64)
	return pages * float64(os.Getpagesize())
}

func loadAverage() float64 {
	f := fieldsOf("/proc/loadavg")
	if len(f) == 0 {
		return 0
	}
	v, _ := strconv.ParseFloat(f[0], 64)
	return v
}

func fieldsOf(name string) []string {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

// kernelQueues returns what the kernel keeps for the server's ends of the given
// connections, by the clients' ports: memory (sk_wmem_queued, with its overhead),
// how many have any, and the largest.
func kernelQueues(addr string, ports map[string]bool) (memory, conns, most float64, err error) {
	_, port, _ := strings.Cut(addr, ":")
	out, err := exec.Command("ss", "-tmnOH", "state", "established", "( sport = :"+port+" )").Output()
	if err != nil {
		return 0, 0, 0, fmt.Errorf("cannot ask ss for the queues of port %s: %w", port, err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || !ports[fields[3][strings.LastIndexByte(fields[3], ':')+1:]] {
			continue
		}
		_, rest, _ := strings.Cut(line, "skmem:(")
		for part := range strings.SplitSeq(rest, ",") {
			if v, ok := strings.CutPrefix(part, "w"); ok {
				if n, _ := strconv.ParseFloat(v, 64); n > 0 {
					memory, conns, most = memory+n, conns+1, max(most, n)
				}
			}
		}
	}
	return memory, conns, most, nil
}
