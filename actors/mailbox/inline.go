package mailbox

import (
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/velocimeter/velocimeter/actors/guard"
)

// Inline is the mailbox of an actor that works on its sender's goroutine. A
// user message is handled before PostUserMessage returns, or not at all: it is
// refused while the actor is suspended after a panic, and while it handles
// another message. The sender learns from the actor's own effect whether its
// message was handled. System messages are never refused; those that arrive
// meanwhile wait for the current message.
type Inline struct {
	invoker   actor.MessageInvoker
	guard     *guard.Guard
	busy      atomic.Bool
	suspended bool         // touched by the goroutine that holds busy
	waiting   atomic.Int32 // len(system), readable without mu
	mu        sync.Mutex
	system    []any
}

var _ actor.Mailbox = (*Inline)(nil)

// NewInline returns the producer of inline mailboxes that Props need.
func NewInline(g *guard.Guard) actor.MailboxProducer {
	return func() actor.Mailbox { return &Inline{guard: g} }
}

// RegisterHandlers implements actor.Mailbox; the dispatcher is not used.
func (m *Inline) RegisterHandlers(invoker actor.MessageInvoker, _ actor.Dispatcher) {
	m.invoker = invoker
}

// Start implements actor.Mailbox.
func (m *Inline) Start() {}

// UserMessageCount implements actor.Mailbox: nothing ever waits.
func (m *Inline) UserMessageCount() int { return 0 }

// PostUserMessage implements actor.Mailbox.
func (m *Inline) PostUserMessage(msg any) {
	if !m.busy.CompareAndSwap(false, true) {
		return
	}
	if !m.suspended {
		m.user(msg)
	}
	// Fast path: nobody posted a system message meanwhile.
	if m.waiting.Load() == 0 {
		m.busy.Store(false)
		if m.waiting.Load() == 0 || !m.busy.CompareAndSwap(false, true) {
			return
		}
	}
	m.settle()
}

// PostSystemMessage implements actor.Mailbox.
func (m *Inline) PostSystemMessage(msg any) {
	m.mu.Lock()
	m.system = append(m.system, msg)
	m.waiting.Store(int32(len(m.system)))
	m.mu.Unlock()
	if m.busy.CompareAndSwap(false, true) {
		m.settle()
	}
}

// settle handles the system messages and gives busy back.
func (m *Inline) settle() {
	for {
		msg, ok := m.pop()
		if !ok {
			return
		}
		switch msg.(type) {
		case *actor.SuspendMailbox:
			m.suspended = true
		case *actor.ResumeMailbox:
			m.suspended = false
		default:
			m.lifecycle(msg)
		}
	}
}

// pop returns the oldest system message; without one it gives busy back under
// the lock, so that no poster can be left behind.
func (m *Inline) pop() (any, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.system) == 0 {
		m.system = nil
		m.busy.Store(false)
		return nil, false
	}
	msg := m.system[0]
	m.system[0] = nil
	m.system = m.system[1:]
	m.waiting.Store(int32(len(m.system)))
	return msg, true
}

func (m *Inline) user(msg any) {
	defer func() {
		if r := recover(); r != nil {
			m.escalate(r, msg)
		}
	}()
	m.invoker.InvokeUserMessage(msg)
}

func (m *Inline) lifecycle(msg any) {
	defer func() {
		if r := recover(); r != nil {
			m.escalate(r, msg)
		}
	}()
	m.invoker.InvokeSystemMessage(msg)
}

// escalate keeps the stack, suspends the actor and tells its parent.
func (m *Inline) escalate(reason, msg any) {
	m.guard.Panicked(nameOf(m.invoker), reason)
	m.invoker.EscalateFailure(reason, msg)
}

func nameOf(invoker actor.MessageInvoker) string {
	if c, ok := invoker.(interface{ Self() *actor.PID }); ok && c.Self() != nil {
		return c.Self().GetId()
	}
	return "unknown"
}
