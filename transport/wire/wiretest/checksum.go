package wiretest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Checksum is the checksum of a held row by the rules of PROTOCOL.md: what a
// client compares with the answer to a verify.
func (c *Channel) Checksum(id market.ID) (uint32, error) {
	row := c.Rows[id]
	if row == nil {
		return 0, fmt.Errorf("token %d is not held", id)
	}
	var out []byte
	for f := range (c.Format.Fields & market.NumericFields).Fields() {
		d, err := parse(f, row[f.String()])
		if err != nil {
			return 0, fmt.Errorf("token %d: %s: %w", id, f, err)
		}
		out = append(out, byte(d.Exp))
		out = binary.LittleEndian.AppendUint64(out, uint64(d.Mant))
	}
	return crc32.Checksum(out, crc32.MakeTable(crc32.Castagnoli)), nil
}

// parse turns the JSON text of a field back into its number.
func parse(f market.Field, text string) (market.Decimal, error) {
	switch f.Spec().Kind {
	case market.KindEnum:
		name := strings.Trim(strings.ReplaceAll(text, "null", ""), `"`)
		return market.Decimal{Mant: int64(slices.Index(market.EnumNames(f), name))}, nil
	case market.KindFlags:
		var names []string
		var bits int64
		err := json.Unmarshal([]byte(text), &names)
		for _, name := range names {
			bits |= 1 << slices.Index(market.FlagNames(), name)
		}
		return market.Decimal{Mant: bits}, err
	case market.KindDecimal, market.KindInteger, market.KindTime, market.KindText:
	}
	if text == "null" {
		return market.Null, nil
	}
	d, _, err := market.ParseDecimal([]byte(strings.Trim(text, `"`)))
	if err == nil && f.Spec().Kind != market.KindDecimal {
		mant, _ := d.Rescale(0)
		d = market.Decimal{Mant: mant}
	}
	return d, err
}
