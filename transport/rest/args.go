package rest

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/gate"
)

// maxFaults bounds how many complaints one answer lists.
const maxFaults = 16

// args are the parameters of one request, decoded once. Readers complain into
// faults instead of returning errors, so that one answer names every mistake.
type args struct {
	values map[string]string
	faults []gate.ParamError
}

// parseArgs splits a raw query. A name must be one of allowed and may come
// once; a value must be non-empty, valid UTF-8 and free of control characters.
func parseArgs(raw string, allowed []string) *args {
	a := &args{}
	if raw == "" {
		return a
	}
	for pair := range strings.SplitSeq(raw, "&") {
		a.add(pair, allowed)
		if len(a.faults) >= maxFaults {
			break
		}
	}
	return a
}

func (a *args) add(pair string, allowed []string) {
	rawName, rawValue, _ := strings.Cut(pair, "=")
	name, ok := unescape(rawName)
	if !ok {
		name = rawName
	}
	if name == "" {
		a.fail("", "is empty: remove the stray '&' or '='")
		return
	}
	if !slices.Contains(allowed, name) {
		a.fail(gate.Echo(name), "is not a parameter of this route; it has: "+orNone(allowed))
		return
	}
	if _, repeated := a.values[name]; repeated {
		a.fail(name, "may be given only once")
		return
	}
	value, ok := unescape(rawValue)
	switch {
	case !ok || !clean(value):
		a.fail(name, "must be percent-encoded UTF-8 text without control characters")
	case value == "":
		a.fail(name, "must not be empty")
	}
	if a.values == nil {
		a.values = make(map[string]string, 4)
	}
	a.values[name] = value
}

func orNone(allowed []string) string {
	if len(allowed) == 0 {
		return "none"
	}
	return strings.Join(allowed, ", ")
}

// unescape decodes percent escapes and '+' as the space.
func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '+':
			out = append(out, ' ')
		case '%':
			if i+2 >= len(s) {
				return "", false
			}
			b, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			out = append(out, byte(b))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return string(out), true
}

func clean(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return false
		}
	}
	return true
}

// fail notes a complaint. reason reads after the parameter's name.
func (a *args) fail(param, reason string) {
	if len(a.faults) < maxFaults {
		a.faults = append(a.faults, gate.ParamError{Param: param, Reason: reason})
	}
}

// get returns a value that was given and is not known to be bad.
func (a *args) get(name string) (string, bool) {
	v, ok := a.values[name]
	return v, ok && v != "" && !a.failed(name)
}

func (a *args) has(name string) bool {
	_, ok := a.values[name]
	return ok
}

func (a *args) failed(name string) bool {
	return slices.ContainsFunc(a.faults, func(f gate.ParamError) bool { return f.Param == name })
}

// count reads a whole number from 1 to most in plain decimal digits.
func (a *args) count(name string, most, fallback int) int {
	text, ok := a.get(name)
	if !ok {
		return fallback
	}
	n, ok := parseInt(text)
	if !ok || n < 1 || n > int64(most) {
		a.fail(name, "must be a whole number from 1 to "+strconv.Itoa(most))
		return fallback
	}
	return int(n)
}

// parseInt reads digits without sign, leading zero or space, below 10^15.
func parseInt(text string) (int64, bool) {
	if text == "" || len(text) > 15 || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	n := int64(0)
	for i := range len(text) {
		c := text[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int64(c)
	}
	return n, true
}

// decimal reads a plain number from 0 to limit; Null where it is not given.
func (a *args) decimal(name string, limit market.Decimal) market.Decimal {
	text, ok := a.get(name)
	if !ok {
		return market.Null
	}
	d, rounded, err := market.ParseDecimal([]byte(text))
	if err != nil || len(text) > 64 || d.Mant < 0 || d.Cmp(limit) > 0 || rounded && d.Cmp(limit) == 0 {
		a.fail(name, "must be a number from 0 to "+limit.String())
		return market.Null
	}
	return d
}

// choice reads one of a closed set; the index of the fallback where not given.
func (a *args) choice(name string, allowed []string, fallback int) int {
	text, ok := a.get(name)
	if !ok {
		return fallback
	}
	if i := slices.Index(allowed, text); i >= 0 {
		return i
	}
	a.fail(name, "must be one of: "+strings.Join(allowed, ", "))
	return fallback
}

// list reads comma-separated items, at most limit of at most width bytes each.
func (a *args) list(name string, limit, width int) []string {
	text, ok := a.get(name)
	if !ok {
		return nil
	}
	if n := strings.Count(text, ",") + 1; n > limit {
		a.fail(name, "must have at most "+strconv.Itoa(limit)+" items, not "+strconv.Itoa(n))
		return nil
	}
	items := strings.Split(text, ",")
	for _, item := range items {
		if item == "" || len(item) > width {
			a.fail(name, "must be items of 1 to "+strconv.Itoa(width)+" bytes separated by single commas")
			return nil
		}
	}
	return items
}
