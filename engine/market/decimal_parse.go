package market

// ParseDecimal reads a JSON number (RFC 8259 grammar, no surrounding space)
// without passing through binary floating point. More than 18 significant
// digits are rounded half-even and reported by rounded. Errors: ErrNotNumber,
// or ErrRange where the value is outside 1e±100.
func ParseDecimal(text []byte) (d Decimal, rounded bool, err error) {
	p := parser{text: text}
	if !p.number() {
		return Null, false, ErrNotNumber
	}
	if p.mant == 0 {
		return Decimal{}, false, nil
	}
	d, rounded, ok := p.round()
	if !ok {
		return Null, false, ErrRange
	}
	return d, rounded, nil
}

// parser accumulates up to 19 digits exactly and remembers what it dropped.
type parser struct {
	text   []byte
	at     int
	neg    bool
	mant   uint64
	kept   int  // significant digits in mant
	exp    int  // power of ten of the last digit in mant
	sticky bool // some dropped digit after the kept ones was not zero
}

func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func isDigit(c byte) bool { return c-'0' <= 9 }

func (p *parser) number() bool {
	if p.peek() == '-' {
		p.neg = true
		p.at++
	}
	if !isDigit(p.peek()) {
		return false
	}
	if p.peek() == '0' {
		p.at++
	} else {
		p.run(0)
	}
	if p.peek() == '.' {
		p.at++
		if !isDigit(p.peek()) {
			return false
		}
		p.run(-1)
	}
	return p.exponent() && p.at == len(p.text)
}

// run reads digits; step is 0 before the decimal point and -1 after it.
func (p *parser) run(step int) {
	for ; isDigit(p.peek()); p.at++ {
		c := p.text[p.at] - '0'
		if p.kept == 0 && c == 0 {
			p.exp += step
			continue
		}
		if p.kept < MaxDigits+1 {
			p.mant = p.mant*10 + uint64(c)
			p.kept++
			p.exp += step
			continue
		}
		p.sticky = p.sticky || c != 0
		p.exp += step + 1
	}
}

func (p *parser) exponent() bool {
	if c := p.peek(); c != 'e' && c != 'E' {
		return true
	}
	p.at++
	negative := p.peek() == '-'
	if c := p.peek(); c == '-' || c == '+' {
		p.at++
	}
	if !isDigit(p.peek()) {
		return false
	}
	e := 0
	for ; isDigit(p.peek()); p.at++ {
		if e < 1_000_000 {
			e = e*10 + int(p.text[p.at]-'0')
		}
	}
	if negative {
		e = -e
	}
	p.exp += e
	return true
}

// round brings the mantissa to 18 digits, strips zeros and checks the range.
func (p *parser) round() (d Decimal, rounded, ok bool) {
	m, e := p.mant, p.exp
	if p.kept > MaxDigits {
		last := m % 10
		m /= 10
		e++
		rounded = last != 0 || p.sticky
		if last > 5 || last == 5 && (p.sticky || m&1 == 1) {
			m++
		}
	}
	for m%10 == 0 {
		m /= 10
		e++
	}
	if e < -maxExp-MaxDigits || e > maxExp || digits(m)+e < -maxExp || digits(m)+e > maxExp {
		return Null, false, false
	}
	mant := int64(m)
	if p.neg {
		mant = -mant
	}
	return Decimal{Mant: mant, Exp: int8(e)}, rounded, true
}
