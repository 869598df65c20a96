package wire

import "github.com/velocimeter/velocimeter/engine/market"

func (d *decoder) update() *RequestError {
	if err := d.sub(); err != nil {
		return err
	}
	u := &d.r.Update
	for _, step := range []func(*Update) *RequestError{d.look, d.reselect, d.repace} {
		if err := step(u); err != nil {
			return err
		}
	}
	if !u.Reformats() && u.Rate == nil && u.Deadband == nil && u.Tokens == nil && u.Symbols == nil {
		return errorf(BadValue, "update needs something to change: tokens, symbols, view, fields, rate, deadband_bps, shape, digits, numbers")
	}
	return nil
}

func (d *decoder) repace(u *Update) (err *RequestError) {
	if u.Rate, err = d.rate(); err == nil {
		u.Deadband, err = d.deadband()
	}
	return err
}

func (d *decoder) reselect(u *Update) (err *RequestError) {
	tokens, symbols := d.get("tokens"), d.get("symbols")
	switch {
	case tokens != nil && symbols != nil:
		err = errorf(BadValue, "tokens excludes symbols")
	case tokens != nil:
		u.Tokens, err = tokenList(tokens, MaxTokens)
	case symbols != nil:
		u.Symbols, err = symbolList(symbols)
	}
	return err
}

// look reads what rows look like.
func (d *decoder) look(u *Update) *RequestError {
	if raw := d.get("view"); raw != nil {
		name, _ := text(raw)
		v, ok := market.ParseView(name)
		if !ok || d.get("fields") != nil {
			return errorf(BadValue, "view is quote, velocity or full, and excludes fields")
		}
		mask := ViewFormat(v).Fields
		u.View, u.Fields = &v, &mask
	}
	if raw := d.get("fields"); raw != nil {
		mask, err := fieldList(raw)
		if err != nil {
			return err
		}
		u.Fields = &mask
	}
	if d.encoding == EncodingBinary && (d.get("shape") != nil || d.get("numbers") != nil) {
		return errorf(BadValue, "shape and numbers belong to "+SubprotocolJSON)
	}
	var ok bool
	if u.Digits, ok = choose[Digits](d, "digits", "full", "compact"); !ok {
		return errorf(BadValue, "digits is full or compact")
	}
	if u.Numbers, ok = choose[Numbers](d, "numbers", "number", "string"); !ok {
		return errorf(BadValue, "numbers is number or string")
	}
	if u.Shape, ok = choose[Shape](d, "shape", "object", "array"); !ok {
		return errorf(BadValue, "shape is object or array")
	}
	return nil
}

func fieldList(raw []byte) (market.Mask, *RequestError) {
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
	return FieldsFormat(mask).Fields, err
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

// choose reads a choice whose numbers are constants of a type; nil for absent.
func choose[T ~uint8](d *decoder, name, first, second string) (*T, bool) {
	n, ok := d.choice(name, first, second)
	if !ok || d.get(name) == nil {
		return nil, ok
	}
	v := T(n)
	return &v, true
}
