package mailbox

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/actors/guard"
)

// Data marks a message of the data lane. Bytes is its size for the limit, an
// estimate of what keeping it costs. Every other user message is control.
type Data interface{ Bytes() int }

// Newest marks data of which only the newest is wanted: where one of the same
// slot (≥ 0) waits already, it takes that one's place. A negative slot stands
// for ordinary data.
type Newest interface {
	Data
	Slot() int
}

// Limits bound the data lane. What would exceed either limit is refused,
// except that an empty lane takes any single message.
type Limits struct {
	Count int
	Bytes int
	// Refused is told what was not taken, on the sender's goroutine; may be nil.
	Refused func(msg any)
}

// Stats describe a Lanes mailbox.
type Stats struct {
	Count     int    // data messages waiting
	Bytes     int    // their size
	Conflated uint64 // replaced by a newer one, ever
	Refused   uint64 // over a limit, ever
}

// Lanes is a mailbox with three lanes. System messages come first, then
// control, then data; each lane keeps its order. The control lane has no limit
// of its own: what is sent there is bounded by construction (a few messages a
// tick). Safe for concurrent use.
type Lanes struct {
	guard      *guard.Guard
	limits     Limits
	invoker    actor.MessageInvoker
	dispatcher actor.Dispatcher
	runner     func() // m.run, made once

	mu        sync.Mutex
	system    queue
	control   queue
	data      queue
	bytes     int
	held      bool
	suspended bool
	running   bool
	conflated uint64
	refused   uint64
}

var _ actor.Mailbox = (*Lanes)(nil)

// NewLanes returns a mailbox for one actor.
func NewLanes(g *guard.Guard, l Limits) *Lanes {
	m := &Lanes{guard: g, limits: l}
	m.runner = m.run
	return m
}

// Producer returns m itself: one actor, one mailbox, so that its owner can hold
// the data lane and read its depth.
func (m *Lanes) Producer() actor.MailboxProducer { return func() actor.Mailbox { return m } }

// RegisterHandlers implements actor.Mailbox.
func (m *Lanes) RegisterHandlers(invoker actor.MessageInvoker, d actor.Dispatcher) {
	m.invoker, m.dispatcher = invoker, d
}

// Start implements actor.Mailbox.
func (m *Lanes) Start() {}

// UserMessageCount implements actor.Mailbox.
func (m *Lanes) UserMessageCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.control.len() + m.data.len()
}

// Stats returns the depth of the data lane and its counters.
func (m *Lanes) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{Count: m.data.len(), Bytes: m.bytes, Conflated: m.conflated, Refused: m.refused}
}

// Hold keeps the data lane back; system and control messages go on.
func (m *Lanes) Hold() {
	m.mu.Lock()
	m.held = true
	m.mu.Unlock()
}

// Release lets the data lane go on.
func (m *Lanes) Release() {
	m.mu.Lock()
	m.held = false
	m.scheduleLocked()
}

// PostUserMessage implements actor.Mailbox. It never waits.
func (m *Lanes) PostUserMessage(msg any) {
	m.mu.Lock()
	d, ok := msg.(Data)
	if !ok {
		m.control.push(msg)
		m.scheduleLocked()
		return
	}
	if m.replaceLocked(d) {
		m.mu.Unlock()
		return
	}
	n := d.Bytes()
	if m.data.len() > 0 && (m.data.len() >= m.limits.Count || m.bytes+n > m.limits.Bytes) {
		m.refused++
		m.mu.Unlock()
		if m.limits.Refused != nil {
			m.limits.Refused(msg)
		}
		return
	}
	m.data.push(msg)
	m.bytes += n
	m.scheduleLocked()
}

// replaceLocked puts d into the place of an older message of the same slot.
func (m *Lanes) replaceLocked(d Data) bool {
	newest, ok := d.(Newest)
	if !ok || newest.Slot() < 0 {
		return false
	}
	for i, waiting := range m.data.all() {
		if old, ok := waiting.(Newest); ok && old.Slot() == newest.Slot() {
			m.data.all()[i] = d
			m.bytes += d.Bytes() - old.Bytes()
			m.conflated++
			return true
		}
	}
	return false
}

// PostSystemMessage implements actor.Mailbox.
func (m *Lanes) PostSystemMessage(msg any) {
	m.mu.Lock()
	m.system.push(msg)
	m.scheduleLocked()
}

// scheduleLocked starts the runner if there is work for it, and unlocks.
func (m *Lanes) scheduleLocked() {
	start := !m.running && m.runnableLocked()
	m.running = m.running || start
	m.mu.Unlock()
	if start {
		m.dispatcher.Schedule(m.runner)
	}
}

func (m *Lanes) runnableLocked() bool {
	if m.invoker == nil {
		return false
	}
	if m.system.len() > 0 {
		return true
	}
	return !m.suspended && (m.control.len() > 0 || !m.held && m.data.len() > 0)
}

// run handles messages until there are none; a panic ends one round of it.
func (m *Lanes) run() {
	for m.round() {
		// The failed actor's own system messages (suspend, resume) come next.
	}
}

func (m *Lanes) round() (again bool) {
	var current any
	defer func() {
		if r := recover(); r != nil {
			m.guard.Panicked(nameOf(m.invoker), r)
			m.invoker.EscalateFailure(r, current)
			again = true
		}
	}()
	for {
		msg, system, ok := m.next()
		if !ok {
			return false
		}
		current = msg
		if system {
			m.invoker.InvokeSystemMessage(msg)
		} else {
			m.invoker.InvokeUserMessage(msg)
		}
	}
}

// next takes the next message; without one the runner is over, under the lock.
func (m *Lanes) next() (msg any, system, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.system.len() > 0 {
		msg = m.system.pop()
		switch msg.(type) {
		case *actor.SuspendMailbox:
			m.suspended = true
		case *actor.ResumeMailbox:
			m.suspended = false
		default:
			return msg, true, true
		}
	}
	switch {
	case m.suspended:
	case m.control.len() > 0:
		return m.control.pop(), false, true
	case !m.held && m.data.len() > 0:
		msg = m.data.pop()
		m.bytes -= msg.(Data).Bytes()
		return msg, false, true
	}
	m.running = false
	return nil, false, false
}
