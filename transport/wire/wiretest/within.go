package wiretest

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
)

// Of returns what the client holds of a subscription's channel, or nil.
func (r *Replica) Of(sub uint64) *Channel { return r.Channels[r.subs[sub]] }

// Within is Diff for a deadband: decimals may be as far from the board as it
// allows, and nothing else may.
func Within(b *market.Board, has func(market.ID) bool, f *wire.Format, rows map[market.ID]Row, bps int) error {
	return eachRow(b, has, rows, func(s *market.Snapshot, row Row) error {
		for field := range (f.Fields | market.FieldSource.Bit()).Fields() {
			got, want := row[field.String()], show(s, field, f)
			if field.Spec().Kind != market.KindDecimal || got == "null" || want == "null" {
				if got != want {
					return fmt.Errorf("%s is %s, not %s", field, got, want)
				}
				continue
			}
			if err := near(got, want, bps, f.Digits); err != nil {
				return fmt.Errorf("%s %w", field, err)
			}
		}
		return nil
	})
}

// near allows for the rounding of both sides beside the deadband.
func near(got, want string, bps int, d wire.Digits) error {
	a, err := strconv.ParseFloat(strings.Trim(got, `"`), 64)
	if err != nil {
		return err
	}
	b, err := strconv.ParseFloat(strings.Trim(want, `"`), 64)
	if err != nil {
		return err
	}
	slack := math.Abs(a) * 1e-12
	if d == wire.DigitsCompact {
		slack = math.Abs(a)*2e-5 + 0.02
	}
	if math.Abs(b-a) > float64(bps)/1e4*math.Abs(a)+slack {
		return fmt.Errorf("is %s, further than %d bps from %s", got, bps, want)
	}
	return nil
}
