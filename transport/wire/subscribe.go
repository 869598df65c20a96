package wire

import (
	"slices"
	"strconv"

	"github.com/velocimeter/velocimeter/engine/market"
)

// sortFields are what ranked subscriptions may be ordered by: the numeric sort
// keys of REST.
var sortFields = market.MaskOf(
	market.FieldMarketCap, market.FieldVolume24h, market.FieldVelocity, market.FieldPrice, market.FieldRank,
	market.FieldPercentChange1h, market.FieldPercentChange24h, market.FieldPercentChange7d,
	market.FieldChange1h, market.FieldChange4h, market.FieldChange12h, market.FieldChange24h, market.FieldChange7d,
)

func (d *decoder) subscribe() *RequestError {
	for _, step := range []func() *RequestError{d.selection, d.format, d.pace, d.contradictions, d.since} {
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
		return errorf(BadValue, "exactly one of tokens, symbols, all, top is needed")
	}
	if raw := d.get("all"); raw != nil {
		if d.r.All = string(raw) == "true"; !d.r.All {
			return errorf(BadValue, "all is true or absent")
		}
		return nil
	}
	var err *RequestError
	switch {
	case d.get("top") != nil:
		return d.top(d.get("top"))
	case d.get("tokens") != nil:
		d.r.Tokens, err = tokenList(d.get("tokens"), MaxTokens)
	default:
		d.r.Symbols, err = symbolList(d.get("symbols"))
	}
	return err
}

func (d *decoder) top(raw []byte) *RequestError {
	in, ok := fixedObject(raw, 2)
	name, _ := text(in.get("by"))
	by, known := market.ParseField(name)
	n, whole := integer(in.get("n"), MaxTop)
	if !ok || !whole || n == 0 {
		return errorf(BadValue, `top is {"by":"velocity","n":50}, n from 1 to 1000`)
	}
	if !known || !sortFields.Has(by) {
		return errorf(BadValue, "top: by is one of the numeric sort keys of /api/v1/tokens, not "+quoted(name))
	}
	d.r.Top = &Top{By: by, N: int(n)}
	return nil
}

func tokenList(raw []byte, most int) ([]market.ID, *RequestError) {
	ids := make([]market.ID, 0, min(len(raw)/2+1, most))
	var err *RequestError
	ok := each(raw, func(v []byte) bool {
		n, good := integer(v, 1<<32-1)
		if !good || n == 0 {
			err = errorf(BadValue, "tokens holds CoinMarketCap ids, whole numbers above 0")
		} else if ids = append(ids, market.ID(n)); len(ids) > most {
			err = errorf(TooMany, "at most "+strconv.Itoa(most)+" tokens in one such message")
		}
		return err == nil
	})
	if err == nil && (!ok || len(ids) == 0) {
		err = errorf(BadValue, "tokens is a list of at least one id")
	}
	slices.Sort(ids)
	return slices.Compact(ids), err
}

const maxSymbol = 64

func symbolList(raw []byte) (symbols []string, err *RequestError) {
	ok := each(raw, func(v []byte) bool {
		sym, good := text(v)
		if !good || sym == "" || len(sym) > maxSymbol {
			err = errorf(BadValue, "symbols holds strings of 1 to 64 bytes")
		} else if symbols = append(symbols, sym); len(symbols) > MaxTokens {
			err = errorf(TooMany, "at most 10000 symbols in one message")
		}
		return err == nil
	})
	if err == nil && (!ok || len(symbols) == 0) {
		err = errorf(BadValue, "symbols is a list of at least one symbol")
	}
	return symbols, err
}

// format reads what rows look like; what a subscribe does not say has a default.
func (d *decoder) format() *RequestError {
	var u Update
	if err := d.look(&u); err != nil {
		return err
	}
	f := ViewFormat(market.ViewQuote)
	f.Encoding = d.encoding
	f.Fields |= d.r.Top.mask()
	d.r.Format = u.Format(f, d.r.Top)
	return nil
}

func (d *decoder) contradictions() *RequestError {
	r := d.r
	switch {
	case r.Every && (r.Rate != RateTick || r.Deadband > 0):
		return errorf(BadValue, "mode every sends every tick: it excludes rate and deadband_bps")
	case r.Top != nil && r.Deadband > 0:
		return errorf(BadValue, "top excludes deadband_bps")
	case r.Top != nil && r.Every:
		return errorf(BadValue, "top excludes mode every")
	}
	return nil
}

// pace reads mode, rate and deadband of a subscribe.
func (d *decoder) pace() *RequestError {
	mode, ok := d.choice("mode", "latest", "every")
	if !ok {
		return errorf(BadValue, "mode is latest or every")
	}
	d.r.Every = mode == 1
	rate, err := d.rate()
	if err != nil {
		return err
	}
	band, err := d.deadband()
	if err != nil {
		return err
	}
	if rate != nil {
		d.r.Rate = *rate
	}
	if band != nil {
		d.r.Deadband = *band
	}
	return nil
}

func (d *decoder) rate() (*Rate, *RequestError) {
	raw := d.get("rate")
	if raw == nil {
		return nil, nil
	}
	r := RateTick
	if name, isText := text(raw); isText {
		switch name {
		case "tick":
		case "auto":
			r = RateAuto
		default:
			return nil, errorf(BadValue, "rate is a number of updates a second, auto or tick")
		}
		return &r, nil
	}
	asked, ok := number(raw)
	if !ok {
		return nil, errorf(BadValue, "rate is a number of updates a second, auto or tick")
	}
	if r, ok = FloorRate(asked); !ok {
		return nil, errorf(BadValue, "rate is at least 0.1 updates a second")
	}
	return &r, nil
}

func (d *decoder) deadband() (*int, *RequestError) {
	raw := d.get("deadband_bps")
	if raw == nil {
		return nil, nil
	}
	asked, ok := number(raw)
	if !ok || asked.Mant < 0 {
		return nil, errorf(BadValue, "deadband_bps is a number of basis points, 0 or more")
	}
	band := FloorDeadband(asked)
	return &band, nil
}

func (d *decoder) since() *RequestError {
	raw := d.get("since")
	if raw == nil {
		return nil
	}
	in, ok := fixedObject(raw, 2)
	epoch, isText := text(in.get("epoch"))
	seq, isSeq := integer(in.get("seq"), 1<<53-1)
	if !ok || !isText || len(epoch) > MaxID || !isSeq {
		return errorf(BadValue, `since is {"epoch":"...","seq":0}`)
	}
	d.r.Since = &Position{Epoch: epoch, Seq: seq}
	return nil
}

// fixedObject reads a value that is an object of n members.
func fixedObject(raw []byte, n int) (decoder, bool) {
	s := scanner{text: raw}
	if s.peek() != '{' {
		return decoder{}, false
	}
	members, ok := s.object(1)
	return decoder{members: members}, ok && len(members) == n
}
