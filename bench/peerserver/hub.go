package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// Sizes of the workload: at most maxTopics, and at most maxMerged waiting ticks
// share a write.
const (
	maxTopics = 100_000
	maxMerged = 16
)

// updateTail is what every update of 200 bytes ends in.
const updateTail = `,"v24":"123456789.12","mc":"98765432109.87","c1h":"-0.12","c24":"1.23","c7d":"-4.56","cs":"19876543","r":"17","x":"012345678901"}`

// hub keeps the subscribers and the frames of the ticks that wait.
type hub struct {
	mu    sync.Mutex
	conns []*conn

	// frames[t] are the frames of topic t, one after another: subscribers of one
	// topic share them as they are, however many ticks are merged.
	frames [][]byte
	ticks  int
	batch  []fanout.Chunk
}

// subscribe adds the topics of a client's message.
func (h *hub) subscribe(c *conn, body []byte) {
	var ask struct {
		Topics []string `json:"topics"`
	}
	_ = json.Unmarshal(body, &ask)
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.topics == nil {
		h.conns = append(h.conns, c)
	}
	for _, name := range ask.Topics {
		if t, err := strconv.Atoi(strings.TrimPrefix(name, "t")); err == nil && t >= 0 && t < maxTopics {
			c.topics = append(c.topics, int32(t))
		}
	}
}

func (h *hub) leave(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.conns, c); i >= 0 {
		h.conns[i] = h.conns[len(h.conns)-1]
		h.conns = h.conns[:len(h.conns)-1]
	}
}

// tick makes the frames of "T <seq> <ns> <first> <count>".
func (h *hub) tick(command []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := bytes.Fields(command)
	if len(f) != 5 || len(f[1]) != 10 || len(f[2]) != 19 {
		return
	}
	first, _ := strconv.Atoi(string(f[3]))
	count, _ := strconv.Atoi(string(f[4]))
	if first < 0 || count < 0 || first+count > maxTopics {
		return
	}
	for len(h.frames) < first+count {
		h.frames = append(h.frames, make([]byte, 0, 256))
	}
	for t := first; t < first+count; t++ {
		h.frames[t] = appendUpdate(appendHead(h.frames[t], 200), t, f[1], f[2])
	}
	if h.ticks++; h.ticks == maxMerged {
		h.write()
	}
}

// flush writes the ticks that wait.
func (h *hub) flush() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ticks > 0 {
		h.write()
	}
}

// write sends each connection what its topics have; mu is held.
func (h *hub) write() {
	for _, c := range h.conns {
		h.batch = h.batch[:0]
		size := 0
		for _, t := range c.topics {
			if int(t) < len(h.frames) && len(h.frames[t]) > 0 {
				h.batch = append(h.batch, fanout.Chunk{Bytes: h.frames[t]})
				size += len(h.frames[t])
			}
		}
		if size > 0 {
			c.send(h.batch, size)
		}
	}
	for t := range h.frames {
		h.frames[t] = h.frames[t][:0]
	}
	h.ticks = 0
}

// appendUpdate appends the reference update of 200 bytes.
func appendUpdate(dst []byte, topic int, seq, ns []byte) []byte {
	dst = append(dst, `{"t":"t`...)
	for unit := maxTopics / 10; unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+topic/unit%10))
	}
	dst = append(append(dst, `","q":"`...), seq...)
	dst = append(append(dst, `","n":"`...), ns...)
	dst = append(append(dst, `","p":"0.`...), seq[4:]...)
	return append(append(dst, '"'), updateTail...)
}
