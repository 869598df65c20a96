package rest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// printed is a page of points and nothing else.
func printed(q *historyQuery, points []market.Point, m media) []byte {
	of := *q
	of.media = m
	b := historyBody{m: &moment{}, q: &of, page: market.HistoryPage{Points: points, Gaps: []market.Gap{{From: 1, To: 2}}}}
	b.ask = market.HistoryQuery{Granularity: q.granularity, Limit: len(points), To: market.Time(market.Day)}
	for i := range points {
		_ = b.add(&points[i])
	}
	return b.end("")
}

// anyPoint has numbers of every size, some of them alike.
func anyPoint(rng *rand.Rand) market.Point {
	last := market.Null
	number := func() market.Decimal {
		switch rng.IntN(8) {
		case 0:
			last = market.Null
		case 1:
			last = market.FromInt(0)
		case 2, 3, 4:
			last = market.NewDecimal(int64(rng.Uint64())>>rng.IntN(64), int8(rng.IntN(40)-25))
		}
		return last
	}
	bar := func() market.Bar {
		return market.Bar{Open: number(), High: number(), Low: number(), Close: number(), Mean: number()}
	}
	return market.Point{
		Time: market.Time(rng.Int64N(int64(maxTime))), Seq: rng.Uint64(), Count: rng.Uint32(), Price: bar(), VWAP: number(),
		Cap: bar(), Volume: bar(), Velocity: bar(), Flags: market.Flags(rng.Uint32() & 0xff),
	}
}

// plainly is the line of a point as the standard library prints it.
func plainly(q *historyQuery, p *market.Point) string {
	number := func(d market.Decimal) string {
		if d.IsNull() {
			return "null"
		}
		text := strconv.FormatInt(d.Mant, 10)
		if d.Exp >= 0 {
			return text + strings.Repeat("0", int(d.Exp))
		}
		sign := ""
		if text[0] == '-' {
			sign, text = "-", text[1:]
		}
		if n := -int(d.Exp); len(text) <= n {
			text = strings.Repeat("0", n+1-len(text)) + text
		}
		at := len(text) + int(d.Exp)
		return sign + text[:at] + "." + text[at:]
	}
	var b strings.Builder
	fmt.Fprintf(&b, `{"time":"%s"`, p.Time.Std().Format("2006-01-02T15:04:05.000Z"))
	if q.granularity == market.GranularityRaw {
		fmt.Fprintf(&b, `,"seq":%d`, p.Seq)
		for i, bar := range []market.Bar{p.Price, p.Cap, p.Volume, p.Velocity} {
			if q.fields>>i&1 != 0 {
				fmt.Fprintf(&b, `,"%s":%s`, historyFields[i], number(bar.Close))
			}
		}
		if q.fields&pastFlags != 0 {
			b.Write(appendFlags([]byte(`,"flags":`), p.Flags))
		}
		return b.String() + "}"
	}
	five := func(name string, bar market.Bar, more string) {
		fmt.Fprintf(&b, `,"%s":{"open":%s,"high":%s,"low":%s,"close":%s,"mean":%s%s}`, name,
			number(bar.Open), number(bar.High), number(bar.Low), number(bar.Close), number(bar.Mean), more)
	}
	fmt.Fprintf(&b, `,"count":%d`, p.Count)
	if q.fields&pastPrice != 0 {
		five("price", p.Price, `,"vwap":`+number(p.VWAP))
	}
	if q.fields&pastCap != 0 {
		fmt.Fprintf(&b, `,"market_cap":{"last":%s,"mean":%s}`, number(p.Cap.Close), number(p.Cap.Mean))
	}
	if q.fields&pastVolume != 0 {
		fmt.Fprintf(&b, `,"volume_24h":{"last":%s,"mean":%s}`, number(p.Volume.Close), number(p.Volume.Mean))
	}
	if q.fields&pastVelocity != 0 {
		five("velocity", p.Velocity, "")
	}
	return b.String() + "}"
}

// Whatever shortcuts printing takes, it prints what the standard library does.
func TestHistoryBodyPlainly(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	for range 400 {
		q := &historyQuery{granularity: market.Granularity(rng.IntN(int(market.NumGranularities))), fields: 1 + rng.IntN(pastAll)}
		points := make([]market.Point, 1+rng.IntN(40))
		var lines []string
		for i := range points {
			points[i] = anyPoint(rng)
			lines = append(lines, plainly(q, &points[i]))
		}
		if got, want := string(printed(q, points, mediaNDJSON)), strings.Join(lines, "\n")+"\n"; got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
		got, want := string(printed(q, points, mediaJSON)), `"points":[`+strings.Join(lines, ",")+`],"gaps":[{`
		if !strings.Contains(got, want) {
			t.Fatalf("got\n%s\nwithout\n%s", got, want)
		}
		csv := string(printed(q, points, mediaCSV))
		if rows := strings.Split(csv, "\r\n"); len(rows) != len(points)+2 {
			t.Fatalf("%d rows of %d points", len(rows), len(points))
		}
	}
}
