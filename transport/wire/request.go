package wire

import (
	"slices"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Op is what a client message asks for.
type Op uint8

// The operations that are served.
const (
	OpSubscribe Op = iota + 1
	OpUnsubscribe
	OpList
	OpPing
	OpUpdate
	OpVerify
)

var ops = map[string]Op{
	"subscribe": OpSubscribe, "update": OpUpdate, "unsubscribe": OpUnsubscribe, "list": OpList, "verify": OpVerify, "ping": OpPing,
}

const servedOps = "served: subscribe, update, unsubscribe, list, verify, ping"

// opMembers lists, per operation, the members beside op and id.
var opMembers = map[Op][]string{
	OpSubscribe: {
		"tokens", "symbols", "all", "top", "view", "fields", "mode", "rate", "deadband_bps", "shape", "digits", "numbers", "since",
	},
	OpUpdate: {
		"sub", "tokens", "symbols", "view", "fields", "rate", "deadband_bps", "shape", "digits", "numbers",
	},
	OpUnsubscribe: {"sub"},
	OpList:        nil,
	OpVerify:      {"sub", "tokens", "heal"},
	OpPing:        nil,
}

// Request is one decoded client message.
type Request struct {
	Op    Op
	ID    string // as sent; HasID tells "" from none
	HasID bool

	Sub  uint64   // update, unsubscribe, verify
	Subs []uint64 // unsubscribe: where set, all of these instead; no message has it

	// subscribe: exactly one of All, Tokens, Symbols, Top. verify: Tokens.
	All      bool
	Tokens   []market.ID // ascending, each once
	Symbols  []string    // as sent
	Top      *Top
	Format   Format
	Every    bool // mode every, else latest
	Rate     Rate
	Deadband int       // class, basis points
	Since    *Position // nil where none was sent
	Single   bool      // the one token's own events are asked for; no message has it

	Update Update // update
	Heal   bool   // verify: whole rows are to come before the checksums
}

// Top is what a ranked subscription selects.
type Top struct {
	By market.Field // the biggest first, for rank the smallest
	N  int          // 1 to MaxTop
}

// Position is a place in a lineage that a client claims to have reached.
type Position struct {
	Epoch string
	Seq   uint64
}

// Update is what an update asks for; nil leaves a thing as it is. At least one
// thing is asked for, and at most one of Tokens and Symbols.
type Update struct {
	Rate     *Rate
	Deadband *int        // class, basis points
	Tokens   []market.ID // ascending, each once
	Symbols  []string
	Fields   *market.Mask // of a view or a list, texts included
	View     *market.View // the name of Fields where it is a view's
	Digits   *Digits
	Numbers  *Numbers
	Shape    *Shape
}

// Reformats reports whether something of the format is asked for.
func (u *Update) Reformats() bool {
	return u.Fields != nil || u.Digits != nil || u.Numbers != nil || u.Shape != nil
}

// Format returns what becomes of a format; top is the subscription's, or nil.
func (u *Update) Format(f Format, top *Top) Format {
	if u.Fields != nil {
		f.Fields, f.View, f.Named = *u.Fields, 0, u.View != nil
		if u.View != nil {
			f.View = *u.View
		}
		f.Fields |= top.mask()
	}
	if u.Digits != nil {
		f.Digits = *u.Digits
	}
	if u.Numbers != nil {
		f.Numbers = *u.Numbers
	}
	if u.Shape != nil {
		f.Shape = *u.Shape
	}
	return f
}

// mask returns the field that ranked rows always have.
func (t *Top) mask() market.Mask {
	if t == nil {
		return 0
	}
	return t.By.Bit()
}

// DecodeRequest reads one client message of a connection with encoding e. On an
// error the request holds the id where there was a valid one, so that the
// answer can echo it.
func DecodeRequest(text []byte, e Encoding) (Request, *RequestError) {
	var r Request
	s := scanner{text: text}
	members := s.document()
	if s.err != "" {
		return r, errorf(BadMessage, s.err)
	}
	d := decoder{members: members, r: &r, encoding: e}
	for _, step := range []func() *RequestError{d.id, d.op, d.known} {
		if err := step(); err != nil {
			return r, err
		}
	}
	switch r.Op {
	case OpSubscribe:
		return r, d.subscribe()
	case OpUpdate:
		return r, d.update()
	case OpUnsubscribe:
		return r, d.sub()
	case OpVerify:
		return r, d.verify()
	default:
		return r, nil
	}
}

type decoder struct {
	members  []member
	r        *Request
	encoding Encoding
}

// get returns the raw value of a member, or nil.
func (d *decoder) get(name string) []byte {
	for _, m := range d.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

func (d *decoder) id() *RequestError {
	raw := d.get("id")
	if raw == nil {
		return nil
	}
	id, ok := text(raw)
	if !ok || len([]rune(id)) > MaxID {
		return errorf(BadMessage, "id is a string of at most 64 characters")
	}
	d.r.ID, d.r.HasID = id, true
	return nil
}

func (d *decoder) op() *RequestError {
	name, ok := text(d.get("op"))
	if !ok {
		return errorf(BadMessage, "op is missing or not a string")
	}
	if d.r.Op = ops[name]; d.r.Op != 0 {
		return nil
	}
	if name == "auth" {
		return errorf(NotSupported, "this server takes no keys; "+servedOps)
	}
	return errorf(UnknownOp, "unknown op "+quoted(name)+"; "+servedOps)
}

func (d *decoder) known() *RequestError {
	for _, m := range d.members {
		if m.name != "op" && m.name != "id" && !slices.Contains(opMembers[d.r.Op], m.name) {
			return errorf(UnknownMember, "unknown member "+quoted(m.name))
		}
	}
	return nil
}

func (d *decoder) sub() *RequestError {
	n, ok := integer(d.get("sub"), 1<<53-1)
	if !ok {
		return errorf(BadValue, "sub is the number that the acknowledgement told")
	}
	d.r.Sub = n
	return nil
}

func (d *decoder) verify() *RequestError {
	if err := d.sub(); err != nil {
		return err
	}
	switch raw := string(d.get("heal")); raw {
	case "", "false":
	case "true":
		d.r.Heal = true
	default:
		return errorf(BadValue, "heal is true or false")
	}
	var err *RequestError
	d.r.Tokens, err = tokenList(d.get("tokens"), MaxVerify)
	return err
}
