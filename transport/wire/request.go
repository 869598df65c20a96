package wire

import (
	"slices"
	"strconv"
	"strings"

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
)

var ops = map[string]Op{"subscribe": OpSubscribe, "unsubscribe": OpUnsubscribe, "list": OpList, "ping": OpPing}

// laterOps are operations of the protocol that this server does not serve yet.
var laterOps = []string{"auth", "update", "verify"}

// opMembers lists, per operation, the members beside op and id.
var opMembers = map[Op][]string{
	OpSubscribe: {
		"tokens", "symbols", "all", "top", "view", "fields", "mode", "rate", "deadband_bps", "shape", "digits", "numbers", "since",
	},
	OpUnsubscribe: {"sub"},
	OpList:        nil,
	OpPing:        nil,
}

// Request is one decoded client message.
type Request struct {
	Op    Op
	ID    string // as sent; HasID tells "" from none
	HasID bool

	Sub uint64 // unsubscribe

	// subscribe: exactly one of All, Tokens, Symbols.
	All     bool
	Tokens  []market.ID
	Symbols []string
	Format  Format
	Since   bool // a position was sent; it is answered with recovered false
}

// DecodeRequest reads one client message. On an error the request holds the id
// where there was a valid one, so that the answer can echo it.
func DecodeRequest(text []byte) (Request, *RequestError) {
	var r Request
	s := scanner{text: text}
	members := s.document()
	if s.err != "" {
		return r, errorf(BadMessage, s.err)
	}
	d := decoder{members: members, r: &r}
	if err := d.id(); err != nil {
		return r, err
	}
	if err := d.op(); err != nil {
		return r, err
	}
	if err := d.known(); err != nil {
		return r, err
	}
	switch r.Op {
	case OpSubscribe:
		return r, d.subscribe()
	case OpUnsubscribe:
		return r, d.unsubscribe()
	default:
		return r, nil
	}
}

type decoder struct {
	members []member
	r       *Request
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
	if slices.Contains(laterOps, name) {
		return errorf(NotSupported, "op "+name+" is not served yet; served: subscribe, unsubscribe, list, ping")
	}
	return errorf(UnknownOp, "unknown op "+quoted(name)+"; served: subscribe, unsubscribe, list, ping")
}

func (d *decoder) known() *RequestError {
	for _, m := range d.members {
		if m.name != "op" && m.name != "id" && !slices.Contains(opMembers[d.r.Op], m.name) {
			return errorf(UnknownMember, "unknown member "+quoted(m.name))
		}
	}
	return nil
}

func (d *decoder) unsubscribe() *RequestError {
	n, ok := integer(d.get("sub"), 1<<53-1)
	if !ok {
		return errorf(BadValue, "sub is the number that the acknowledgement told")
	}
	d.r.Sub = n
	return nil
}

func (d *decoder) subscribe() *RequestError {
	for _, step := range []func() *RequestError{d.selection, d.format, d.pace, d.since} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) selection() *RequestError {
	n := 0
	for _, name := range []string{"tokens", "symbols", "all", "top"} {
		if d.get(name) != nil {
			n++
		}
	}
	if n != 1 {
		return errorf(BadValue, "exactly one of tokens, symbols, all is needed")
	}
	if d.get("top") != nil {
		return errorf(NotSupported, "top is not served yet; served: tokens, symbols, all")
	}
	if raw := d.get("all"); raw != nil {
		if d.r.All = string(raw) == "true"; !d.r.All {
			return errorf(BadValue, "all is true or absent")
		}
		return nil
	}
	if raw := d.get("tokens"); raw != nil {
		return d.tokens(raw)
	}
	return d.symbols(d.get("symbols"))
}

func (d *decoder) tokens(raw []byte) *RequestError {
	ids := make([]market.ID, 0, min(len(raw)/2+1, MaxTokens))
	var err *RequestError
	ok := each(raw, func(v []byte) bool {
		n, good := integer(v, 1<<32-1)
		if !good || n == 0 {
			err = errorf(BadValue, "tokens holds CoinMarketCap ids, whole numbers above 0")
		} else if ids = append(ids, market.ID(n)); len(ids) > MaxTokens {
			err = errorf(TooMany, "at most 10000 tokens in one message")
		}
		return err == nil
	})
	if err == nil && (!ok || len(ids) == 0) {
		err = errorf(BadValue, "tokens is a list of at least one id")
	}
	slices.Sort(ids)
	d.r.Tokens = slices.Compact(ids)
	return err
}

const maxSymbol = 64

func (d *decoder) symbols(raw []byte) *RequestError {
	var err *RequestError
	ok := each(raw, func(v []byte) bool {
		sym, good := text(v)
		if !good || sym == "" || len(sym) > maxSymbol {
			err = errorf(BadValue, "symbols holds strings of 1 to 64 bytes")
		} else if d.r.Symbols = append(d.r.Symbols, sym); len(d.r.Symbols) > MaxTokens {
			err = errorf(TooMany, "at most 10000 symbols in one message")
		}
		return err == nil
	})
	if err == nil && (!ok || len(d.r.Symbols) == 0) {
		err = errorf(BadValue, "symbols is a list of at least one symbol")
	}
	return err
}

func (d *decoder) format() *RequestError {
	f := &d.r.Format
	*f = ViewFormat(market.ViewQuote)
	if raw := d.get("view"); raw != nil {
		name, _ := text(raw)
		v, ok := market.ParseView(name)
		if !ok || d.get("fields") != nil {
			return errorf(BadValue, "view is quote, velocity or full, and excludes fields")
		}
		*f = ViewFormat(v)
	}
	if raw := d.get("fields"); raw != nil {
		if err := d.fields(raw); err != nil {
			return err
		}
	}
	if c, ok := d.choice("digits", "full", "compact"); !ok {
		return errorf(BadValue, "digits is full or compact")
	} else if c == 1 {
		f.Digits = DigitsCompact
	}
	if c, ok := d.choice("numbers", "number", "string"); !ok {
		return errorf(BadValue, "numbers is number or string")
	} else if c == 1 {
		f.Numbers = NumbersString
	}
	switch c, ok := d.choice("shape", "object", "array"); {
	case !ok:
		return errorf(BadValue, "shape is object or array")
	case c == 1:
		return errorf(NotSupported, "shape array is not served yet; served: object")
	}
	return nil
}

func (d *decoder) fields(raw []byte) *RequestError {
	var mask market.Mask
	var err *RequestError
	ok := each(raw, func(v []byte) bool {
		name, _ := text(v)
		f, good := market.ParseField(name)
		if !good {
			err = errorf(BadValue, "unknown field "+quoted(name)+"; see /api/v1/schema")
			return false
		}
		mask |= f.Bit()
		return true
	})
	if err == nil && (!ok || mask == 0) {
		err = errorf(BadValue, "fields is a list of at least one field name")
	}
	d.r.Format = FieldsFormat(mask)
	return err
}

// pace reads mode, rate and deadband; only every tick's newest value is served.
func (d *decoder) pace() *RequestError {
	switch c, ok := d.choice("mode", "latest", "every"); {
	case !ok:
		return errorf(BadValue, "mode is latest or every")
	case c == 1:
		return errorf(NotSupported, "mode every is not served yet; served: latest")
	}
	if raw := d.get("rate"); raw != nil {
		name, isText := text(raw)
		switch {
		case isText && name == "tick":
		case isText && name != "auto", !isText && !numeric(raw):
			return errorf(BadValue, "rate is a number of updates a second, auto or tick")
		default:
			return errorf(NotSupported, "rate is not served yet; served: tick, every tick, which is the default")
		}
	}
	if raw := d.get("deadband_bps"); raw != nil {
		switch dec, _, err := market.ParseDecimal(raw); {
		case err != nil || dec.Mant < 0:
			return errorf(BadValue, "deadband_bps is a number of basis points, 0 or more")
		case dec.Mant > 0:
			return errorf(NotSupported, "deadband_bps is not served yet; served: 0, which is the default")
		}
	}
	return nil
}

func (d *decoder) since() *RequestError {
	raw := d.get("since")
	if raw == nil {
		return nil
	}
	bad := errorf(BadValue, `since is {"epoch":"...","seq":0}`)
	s := scanner{text: raw}
	if s.peek() != '{' {
		return bad
	}
	members, _ := s.object(1)
	in := decoder{members: members}
	epoch, isText := text(in.get("epoch"))
	_, isSeq := integer(in.get("seq"), 1<<53-1)
	if len(members) != 2 || !isText || len(epoch) > MaxID || !isSeq {
		return bad
	}
	d.r.Since = true
	return nil
}

// choice reads an optional member that is one of two words.
func (d *decoder) choice(name, first, second string) (int, bool) {
	raw := d.get(name)
	if raw == nil {
		return 0, true
	}
	switch word, _ := text(raw); word {
	case first:
		return 0, true
	case second:
		return 1, true
	}
	return 0, false
}

// The readers below work on raw values whose grammar is already checked.

func text(raw []byte) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	s := scanner{text: raw}
	return s.str()
}

func numeric(raw []byte) bool {
	_, _, err := market.ParseDecimal(raw)
	return err == nil
}

// integer reads a whole number without sign, fraction or exponent.
func integer(raw []byte, most uint64) (uint64, bool) {
	if len(raw) == 0 || len(raw) > len("18446744073709551615") || strings.ContainsAny(string(raw), "-+.eE\"") {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw), 10, 64)
	return n, err == nil && n <= most
}

// each calls fn with every raw element of a list until fn returns false. It
// reports whether raw is a list.
func each(raw []byte, fn func(v []byte) bool) bool {
	if len(raw) == 0 || raw[0] != '[' {
		return false
	}
	s := scanner{text: raw, at: 1}
	for s.space(); s.peek() != ']' && s.at < len(raw); s.space() {
		from := s.at
		if !s.value(1) {
			return false
		}
		if !fn(raw[from:s.at]) {
			return true
		}
		s.space()
		s.accept(',')
	}
	return true
}
