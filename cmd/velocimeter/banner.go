package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
)

// banner says in a few lines what runs, where, and on what data.
func (a *app) banner(c *config.Loaded, h *house, public, admin net.Addr, took time.Duration) {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-8s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "velocimeter %s: token velocity = 24 h volume / market cap\n", fullVersion())
	line("market", "%s", h.feed.about)
	line("ingest", "%s", h.feed.ingest)
	s := ""
	if c.Certificate != nil {
		s = "s"
	}
	line("REST", "http%s://%s/api/v1/tokens", s, public)
	line("stream", "ws%s://%s/api/v1/stream", s, public)
	line("admin", "http://%s/metrics", admin)
	line("store", "%s, epoch %s, %s", filepath.Join(c.Data, h.feed.lineage), h.recovered.epoch, h.recovered.describe())
	line("ready", "listening after %s", took.Round(time.Millisecond))
	_, _ = fmt.Fprint(a.stdout, b.String())
}

func (r *recovered) describe() string {
	switch {
	case r.durable == 0:
		return "new"
	case r.clean:
		return fmt.Sprintf("%d tokens restored up to seq %d", r.tokens, r.durable)
	}
	return fmt.Sprintf("%d tokens recovered up to seq %d after an unclean stop", r.tokens, r.durable)
}
