package simulator

// listings answers /cryptocurrency/listings/latest.
func (c *call) listings() *fault {
	converts, f := c.conversions()
	if f != nil {
		return f
	}
	style := rowStyle{
		version: c.version, aux: parseAux(c.params.text("aux", defaultListingAux)),
		digits: c.market.cfg.Digits, converts: converts,
	}
	rows := c.table.selection(c.params)
	c.total = len(rows)
	rows = page(rows, c.params.integer("start", 1), c.params.integer("limit", 100))
	c.data = append(c.data, '[')
	for n, row := range rows {
		if n > 0 {
			c.data = append(c.data, ',')
		}
		c.data = style.appendRow(c.data, c.table, int(row))
	}
	c.data = append(c.data, ']')
	c.credits = creditsFor(len(rows), 200) + len(converts) - 1
	return nil
}

// quotesAux are the optional fields of quotes/latest by default.
const quotesAux = defaultListingAux + ",is_active,is_fiat"

// quotes answers /cryptocurrency/quotes/latest: v1 one coin a symbol (the
// largest), v2 an array of all that share it.
func (c *call) quotes() *fault {
	converts, f := c.conversions()
	if f != nil {
		return f
	}
	ch, f := c.choose()
	if f != nil {
		return f
	}
	style := rowStyle{
		version: c.version, richTags: c.version >= 2, aux: parseAux(c.params.text("aux", quotesAux)),
		digits: c.market.cfg.Digits, converts: converts,
	}
	c.appendByName(ch, c.version >= 2, func(dst []byte, row int) []byte { return style.appendRow(dst, c.table, row) })
	c.credits = creditsFor(ch.count, 100) + len(converts) - 1
	return nil
}
