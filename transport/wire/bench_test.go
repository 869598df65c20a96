package wire

import (
	"strconv"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// quoteMoves are what of view quote changes with a poll.
var quoteMoves = market.MaskOf(market.FieldPrice, market.FieldMarketCap, market.FieldVolume24h, market.FieldPercentChange1h, market.FieldPercentChange24h)

// BenchmarkRow encodes rows of view quote with five changed fields.
func BenchmarkRow(b *testing.B) {
	rows, old := benchRows()
	for _, digits := range []Digits{DigitsCompact, DigitsFull} {
		format := ViewFormat(market.ViewQuote)
		format.Digits = digits
		for _, shape := range []Shape{ShapeArray, ShapeObject} {
			format.Shape = shape
			b.Run("json/"+shape.String()+"/"+digits.String(), func(b *testing.B) {
				bench(b, func(dst []byte, i int) []byte {
					return AppendRow(dst, rows[i], quoteMoves, &format, market.SourceCoinMarketCap)
				})
			})
		}
		b.Run("binary/differences/"+digits.String(), func(b *testing.B) {
			bench(b, func(dst []byte, i int) []byte {
				return AppendBinary(dst, rows[i], old[i], quoteMoves, &format, market.SourceCoinMarketCap)
			})
		})
		b.Run("binary/absolute/"+digits.String(), func(b *testing.B) {
			bench(b, func(dst []byte, i int) []byte {
				return AppendBinary(dst, rows[i], nil, quoteMoves, &format, market.SourceCoinMarketCap)
			})
		})
	}
}

// BenchmarkFullRow encodes whole rows of view full, full digits, and takes
// their checksums.
func BenchmarkFullRow(b *testing.B) {
	rows, _ := benchRows()
	format := ViewFormat(market.ViewFull)
	b.Run("json", func(b *testing.B) {
		bench(b, func(dst []byte, i int) []byte {
			return AppendRow(dst, rows[i], market.AllFields, &format, market.SourceCoinMarketCap)
		})
	})
	b.Run("binary", func(b *testing.B) {
		bench(b, func(dst []byte, i int) []byte {
			return AppendBinary(dst, rows[i], nil, market.AllFields, &format, market.SourceCoinMarketCap)
		})
	})
	b.Run("checksum", func(b *testing.B) {
		bench(b, func(dst []byte, i int) []byte {
			return append(dst, byte(Checksum(rows[i], &format)))
		})
	})
}

const numBenchRows = 1 << 10

// benchRows makes tokens with numbers of 16 digits, as they are and as they
// were a little before.
func benchRows() (rows, old []*market.Snapshot) {
	for i := range numBenchRows {
		s := &market.Snapshot{ID: market.ID(i + 1), Info: &market.Info{Symbol: "TOK" + strconv.Itoa(i), Name: "Token number " + strconv.Itoa(i), Slug: "token-" + strconv.Itoa(i)}}
		for f := range market.NumericFields.Fields() {
			switch spec := f.Spec(); {
			case spec.Kind != market.KindDecimal:
				s.Put(f, market.Decimal{Mant: 1})
			case spec.Scale == market.ScaleAsProvider:
				s.Put(f, market.NewDecimal(1_000_000_000_000_001+int64(i+1)*7_654_321_098_765_432%8_000_000_000_000_000, int8(-i%12)))
			default:
				s.Put(f, market.NewDecimal(int64(i+1)*98765432109%1_000_003, spec.Scale))
			}
		}
		was := *s
		for f := range quoteMoves.Fields() {
			v := s.Value(f)
			was.Put(f, market.NewDecimal(v.Mant-v.Mant/int64(3000+i)-int64(i%7), v.Exp))
		}
		rows, old = append(rows, s), append(old, &was)
	}
	return rows, old
}

func bench(b *testing.B, encode func(dst []byte, i int) []byte) {
	b.Helper()
	b.ReportAllocs()
	buf := make([]byte, 0, 4<<10)
	n, size := 0, 0
	for b.Loop() {
		buf = encode(buf[:0], n%numBenchRows)
		n++
		size += len(buf)
	}
	b.ReportMetric(float64(size)/float64(n), "B/row")
}
