//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"
)

// result is one run, as it is printed.
type result struct {
	Label, Mode, Proto                   string
	N, Tokens, Rep                       int
	Seconds                              float64
	Rows, Messages                       int64
	RowsPerMessage, BytesPerRow          float64
	BytesPerMessage                      float64
	BaseCPU, CPU                         float64 // seconds a second, without connections and with them
	PerMRows, PerMMessages               float64 // seconds of the server for a million, whole process
	AddedPerMRows, AddedPerMMessages     float64 // less what it costs without connections
	GeneratorCPU                         float64
	CoreCPU                              float64 `json:",omitempty"` // seconds a second of the core, whoever ran
	P50, P90, P99, Most                  float64 // ms from received_at to arrival
	RSSPerConn                           float64 // bytes of growth
	Gaps, Snapshots, Bad                 int64
	Refused, Dropped                     int
	ConnectSeconds, ConnectCPU           float64 // until all were subscribed, and the server's seconds for each
	Load                                 float64
	StalledConns, KernelConns            int      `json:",omitempty"`
	KernelPerStalled, KernelMost         float64  `json:",omitempty"`
	RSSPerStalled                        float64  `json:",omitempty"`
	Recovered, Whole                     int      `json:",omitempty"`
	OldestPosition, NewestPosition       uint64   `json:",omitempty"`
	DownSeconds, BackSeconds, BackMedian float64  `json:",omitempty"`
	RestBefore, RestKept, RestFresh      *outcome `json:",omitempty"`
}

func (l *load) result(rep int) *result {
	c := l.cfg
	return &result{
		Label: c.label, Mode: c.mode, Proto: c.proto, N: c.n, Tokens: c.tokens, Rep: rep, Load: loadAverage(),
		ConnectSeconds: l.connectSeconds, ConnectCPU: l.connectCPU,
	}
}

func (r *result) print() {
	b, _ := json.Marshal(r)
	_, _ = fmt.Fprintln(os.Stdout, string(b))
	_, _ = fmt.Fprintf(os.Stderr, "%s %s %s n=%d: %d messages, %.1f rows each, %.1f B/row, %.1f B/message | server %.3f (without connections %.3f) s/s, %.3f s/1M rows (added %.3f), %.2f s/1M messages (added %.2f), generator %.2f s/s | p50 %.1f p99 %.1f max %.1f ms | RSS %.0f B/conn | gaps %d bad %d refused %d dropped %d load %.1f\n",
		r.Label, r.Mode, r.Proto, r.N, r.Messages, r.RowsPerMessage, r.BytesPerRow, r.BytesPerMessage, r.CPU, r.BaseCPU,
		r.PerMRows, r.AddedPerMRows, r.PerMMessages, r.AddedPerMMessages, r.GeneratorCPU, r.P50, r.P99, r.Most, r.RSSPerConn, r.Gaps, r.Bad, r.Refused, r.Dropped, r.Load)
}

// start measures the server alone, connects and warms up. It returns the
// server's memory before and its processor time without connections.
func (l *load) start() (rss, cpu float64, err error) {
	pid := l.cfg.pid
	if l.cfg.base > 0 {
		from := cpuOf(pid)
		<-time.After(l.cfg.base)
		cpu = (cpuOf(pid) - from) / l.cfg.base.Seconds()
	}
	if err := l.populate(); err != nil {
		return 0, 0, err
	}
	rss = rssOf(pid)
	from, begin := cpuOf(pid), time.Now()
	if err := l.connectAll(90 * time.Second); err != nil {
		return 0, 0, err
	}
	l.connectSeconds = time.Since(begin).Seconds()
	l.connectCPU = (cpuOf(pid) - from - cpu*l.connectSeconds) / float64(len(l.conns))
	l.runFor(l.cfg.warm)
	return rss, cpu, nil
}

// measure reads for the measured time and fills r.
func (l *load) measure(r *result) {
	cpu, own, core, begin := cpuOf(l.cfg.pid), ownCPU(), coreOf(l.cfg.core), time.Now()
	l.runFor(l.cfg.dur)
	r.Seconds = time.Since(begin).Seconds()
	spent, own := cpuOf(l.cfg.pid)-cpu, ownCPU()-own
	r.CoreCPU = (coreOf(l.cfg.core) - core) / r.Seconds
	t := &l.received
	r.Rows, r.Messages, r.Gaps, r.Snapshots, r.Bad = t.rows, t.messages, t.gaps, t.snapshots, t.bad
	r.Refused, r.Dropped = l.refused, l.dropped
	r.CPU, r.GeneratorCPU = spent/r.Seconds, own/r.Seconds
	rows, messages, added := float64(max(t.rows, 1)), float64(max(t.messages, 1)), spent-r.BaseCPU*r.Seconds
	r.RowsPerMessage, r.BytesPerRow, r.BytesPerMessage = rows/messages, float64(t.bytes)/rows, float64(t.bytes)/messages
	r.PerMRows, r.PerMMessages = spent/rows*1e6, spent/messages*1e6
	r.AddedPerMRows, r.AddedPerMMessages = added/rows*1e6, added/messages*1e6
	r.P50, r.P90, r.P99, r.Most = t.latency.quantile(0.5), t.latency.quantile(0.9), t.latency.quantile(0.99), float64(t.latency.most)/1000
}

func ownCPU() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// idle tells the memory of connections that subscribed and are left alone.
func idle(l *load) error { return paced(l) }

// paced tells what serving costs while the server's market moves.
func paced(l *load) error {
	rss, cpu, err := l.start()
	if err != nil {
		return err
	}
	for rep := 1; rep <= l.cfg.reps; rep++ {
		r := l.result(rep)
		r.BaseCPU = cpu
		l.measure(r)
		r.RSSPerConn = (rssOf(l.cfg.pid) - rss) / float64(l.cfg.n)
		r.print()
	}
	return nil
}

// stall tells what connections that do not read do to the others.
func stall(l *load) error {
	rss, cpu, err := l.start()
	if err != nil {
		return err
	}
	r := l.result(0)
	r.BaseCPU = cpu
	l.measure(r)
	before := rssOf(l.cfg.pid)
	r.RSSPerConn = (before - rss) / float64(l.cfg.n)
	r.print()
	ports := make(map[string]bool)
	for _, c := range l.conns[:int(float64(l.cfg.n)*l.cfg.share)] {
		ports[c.stopReading()] = true
	}
	stalled := len(ports)
	for rep := 1; rep <= l.cfg.reps; rep++ {
		r := l.result(rep)
		r.BaseCPU = cpu
		l.measure(r)
		r.StalledConns = stalled
		r.RSSPerStalled = (rssOf(l.cfg.pid) - before) / float64(stalled)
		memory, conns, most, err := kernelQueues(l.cfg.addr, ports)
		if err != nil {
			return err
		}
		r.KernelPerStalled, r.KernelConns, r.KernelMost = memory/float64(stalled), int(conns), most
		r.print()
		_, _ = fmt.Fprintf(os.Stderr, "  %d stalled: RSS %.0f B, kernel %.0f B each (%d connections with queues, the largest %.0f B)\n",
			stalled, r.RSSPerStalled, r.KernelPerStalled, r.KernelConns, r.KernelMost)
	}
	return nil
}
