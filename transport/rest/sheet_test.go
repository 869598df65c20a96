package rest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// readSheet reads all of a text; mistakes come back as lines.
func readSheet(text string, g market.Granularity) (rows []SheetRow, gaps int, mistakes []string) {
	r := NewSheetReader(strings.NewReader(text), g)
	for {
		row, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return rows, r.Gaps(), mistakes
		case err != nil:
			mistakes = append(mistakes, err.Error())
		default:
			rows = append(rows, *row)
		}
	}
}

// A sheet reads back what it prints, in both forms, whatever the symbol is.
func TestSheetReadsWhatItPrints(t *testing.T) {
	for g := range market.NumGranularities {
		p := NewSheet(g)
		page, _ := twoPoints(market.HistoryQuery{})
		csv, lines := p.AppendHeader(nil), []byte(nil)
		at := market.Time(1_760_054_400_000)
		for id, symbol := range []string{"", "BTC", `E,"T"`, "a\r\nb", "Ж<&>\u2028", `\u0041"`} {
			for n := range page.Points {
				point := page.Points[n]
				point.Time = at.Add(market.Millis(n) * market.Day)
				csv = p.AppendCells(csv, market.ID(id+1), symbol, &point)
				lines = p.AppendLine(lines, market.ID(id+1), symbol, &point)
			}
			lines = p.AppendGap(lines, market.ID(id+1), symbol, market.Gap{From: 5, To: 10})
		}
		for form, text := range map[string]string{"csv": string(csv), "ndjson": string(lines), "csv with LF and BOM": "\ufeff" + strings.ReplaceAll(string(csv), "\r\n", "\n")} {
			rows, gaps, mistakes := readSheet(text, g)
			if len(mistakes) > 0 || len(rows) != 6*len(page.Points) || gaps != 6*strings.Count(form, "ndjson") {
				t.Fatalf("%s %s: %d rows, %d gaps: %v\n%s", g, form, len(rows), gaps, mistakes, text)
			}
			var again []byte
			if form == "ndjson" {
				for i, r := range rows {
					again = p.AppendLine(again, r.ID, r.Symbol, &r.Point)
					if i%2 == 1 {
						again = p.AppendGap(again, r.ID, r.Symbol, market.Gap{From: 5, To: 10})
					}
				}
			} else {
				again = p.AppendHeader(nil)
				for _, r := range rows {
					again = p.AppendCells(again, r.ID, r.Symbol, &r.Point)
				}
			}
			if form == "csv with LF and BOM" {
				continue // the line end within the symbol became another
			}
			if string(again) != text {
				t.Errorf("%s %s: printed\n%s, read back\n%s", g, form, text, again)
			}
		}
	}
}

const (
	barHeader = "id,symbol,time,count,price_open,price_high,price_low,price_close,price_mean,price_vwap,market_cap_last,market_cap_mean," +
		"volume_24h_last,volume_24h_mean,velocity_open,velocity_high,velocity_low,velocity_close,velocity_mean\n"
	barLine  = "1,BTC,2025-03-01T00:00:00.000Z,3,5,7,4,6,5.5,5.4,1000,990,100,99,0.1,0.2,0.05,0.1,0.1\n"
	barJSON  = `{"id":1,"symbol":"BTC","time":"2025-03-01T00:00:00.000Z","count":3,"price":{"open":5,"high":7,"low":4,"close":6,"mean":5.5,"vwap":5.4},"market_cap":{"last":1000,"mean":990},"volume_24h":{"last":100,"mean":99},"velocity":{"open":0.1,"high":0.2,"low":0.05,"close":0.1,"mean":0.1}}` + "\n"
	rawLines = "id,time,price,market_cap,volume_24h,velocity\n1,1740787200000,5,1000,100,0.1\n"
)

func TestSheetTakesFilesMadeByHand(t *testing.T) {
	f := func(text string, g market.Granularity, n int) {
		t.Helper()
		if rows, _, mistakes := readSheet(text, g); len(rows) != n || len(mistakes) > 0 {
			t.Errorf("%d rows, want %d: %v", len(rows), n, mistakes)
		}
	}
	f("", market.Granularity1h, 0)
	f(barHeader, market.Granularity1h, 0)
	f(barHeader+barLine, market.Granularity1h, 1)
	f(barJSON, market.Granularity1h, 1)
	f(rawLines, market.GranularityRaw, 1)
	f("velocity,id,price,time,volume_24h,market_cap\r\n0.1,7,5,2025-03-01T01:00:00+01:00,100,1000\r\n", market.GranularityRaw, 1)
	f("id,time,price,market_cap,volume_24h,velocity,flags,seq\n1,1740787200000,5,,,,simulated|stale,9\n", market.GranularityRaw, 1)
	f(`{ "velocity" : null, "id":1,"time":1740787200000 ,"price":5e0,"market_cap":null,"volume_24h":1E2 }`+"\r\n", market.GranularityRaw, 1)
	f(`{"velocity":0.1,"id":1,"time":1740787200000,"price":5,"market_cap":1000,"volume_24h":100,"flags":["simulated"],"symbol":null}`+"\n", market.GranularityRaw, 1)
	f(barHeader+strings.Replace(barLine, ",5,7,4,6,5.5,5.4,", ",,,,,,,", 1), market.Granularity1h, 1)
	rows, _, _ := readSheet("id,time,price,market_cap,volume_24h,velocity,flags\n1,1,5,,,,simulated\n1,2,5,,,,\n", market.GranularityRaw)
	if len(rows) != 2 || rows[0].Point.Flags != market.FlagSimulated || rows[1].Point.Flags != 0 {
		t.Errorf("flags of a row must not stay: %+v", rows)
	}
}

func TestSheetTellsMistakes(t *testing.T) {
	hour := market.Granularity1h
	f := func(text string, g market.Granularity, want string) {
		t.Helper()
		_, _, mistakes := readSheet(text, g)
		if len(mistakes) != 1 || !strings.Contains(mistakes[0], want) {
			t.Errorf("%.300q: %q, want %q", text, mistakes, want)
		}
	}
	csv := func(old, put, want string) {
		t.Helper()
		if !strings.Contains(barLine, old) {
			t.Fatalf("%q is not in the line", old)
		}
		f(barHeader+strings.Replace(barLine, old, put, 1), hour, want)
	}
	csv("1,BTC", "0,BTC", `line 2: id: "0" is not an id from 1`)
	csv("1,BTC", "4294967296,BTC", "is not an id from 1")
	csv("1,BTC", "+1,BTC", "is not an id from 1")
	csv("1,BTC", "bitcoin,BTC", "is not an id from 1")
	csv("BTC", strings.Repeat("B", 300), "symbol")
	csv("2025-03-01T00:00:00.000Z", "yesterday", `time: "yesterday" is neither RFC 3339`)
	csv("2025-03-01T00:00:00.000Z", "1/3/2025", "is neither RFC 3339")
	csv("2025-03-01T00:00:00.000Z", "1740787200", "is not the beginning of a stretch of 1h")
	csv("2025-03-01T00:00:00.000Z", "", "is neither RFC 3339")
	csv("2025-03-01T00:00:00.000Z", "2025-03-01T00:30:00.000Z", "another granularity")
	csv("Z,3,", "Z,0,", "count: \"0\" is 0")
	csv("Z,3,", "Z,-1,", "is not a whole number")
	csv("Z,3,", "Z,4294967296,", "is above 4294967295")
	csv("Z,3,", "Z,,", "missing a value")
	csv(",5,7,", ",NaN,7,", `price_open: "NaN" is not a number`)
	csv(",5,7,", ",Inf,7,", "is not a number")
	csv(",5,7,", ",1e400,7,", "outside of 1e-100 to 1e100")
	csv(",5,7,", ",1e-400,7,", "outside of 1e-100 to 1e100")
	csv(",5,7,", ",0x5,7,", "is not a number")
	csv(",5,7,", `,"5,5",7,`, "is not a number")
	csv(",5,7,", ",$5,7,", "is not a number")
	csv(",5,7,", ",1k,7,", "is not a number")
	csv(",5,7,", ", 5,7,", "is not a number")
	csv(",5,7,", ",-5,7,", "is negative")
	csv(",100,99,", ",-100,99,", `volume_24h_last: "-100" is negative`)
	csv(",5,7,", ",,7,", "give all of them, or none")
	csv(",7,4,", ",3,4,", "high 3 is below low 4")
	csv(",4,6,5.5", ",4,8,5.5", "close 8 is outside of 4 to 7")
	csv(",5,7,4", ",9,7,4", "open 9 is outside of 4 to 7")
	csv(",5.5,", ",9,", "mean 9 is outside of 4 to 7")
	csv(",1000,990,", ",1000,,", "one of last and mean is missing")
	csv(",100,99,", ",,99,", "one of last and mean is missing")
	csv(",5,7,4,6,5.5,5.4,", ",,,,,,5.4,", "vwap without prices")
	csv("Z,3,5,7,4,6,5.5,5.4,1000", "Z,1,5,7,4,6,5.5,5.4,2000", "velocity: 0.1 is not volume_24h / market_cap, 0.05")
	csv("BTC", "B\xffC", "not UTF-8")
	csv("0.1,0.1\n", "0.1\n", "the line has 18 cells, the header 19 columns")
	csv("0.1,0.1\n", "0.1,0.1,0\n", "more cells than the header has columns (19)")
	csv("BTC", `"BTC"x`, "symbol: holds a stray quote")
	csv("BTC", `B"TC`, "line 2: a quote is opened and not closed")
	csv("BTC", `B"T"C`, "stray quote")
	csv("0.1,0.1\n", "0.1,0.1", "no line end")
	f(barHeader+barLine+barLine, hour, "line 3: time: is that of line 2 again")
	f(barHeader+barLine+strings.Replace(barLine, "2025-03", "2025-02", 1), hour, "is before that of line 2; sort")
	f(barHeader+"2"+barLine[1:]+barLine, hour, "line 3: id: token 1 comes after token 2 of line 2; sort")
	f(strings.ReplaceAll(barHeader+barLine, ",", ";"), hour, "write commas")
	f(strings.ReplaceAll(barHeader+barLine, ",", "\t"), hour, "write commas")
	f("Id,time\n", hour, `unknown column "Id"; known are id, symbol`)
	f("id,id\n", hour, "column id twice")
	f("id,time\n", hour, "the header lacks count, price_open")
	f(barHeader, market.GranularityRaw, "of another granularity")
	f(rawLines, hour, "of another granularity")
	f(strings.Replace(rawLines, ",0.1\n", ",0.2\n", 1), market.GranularityRaw, "0.2 is not volume_24h / market_cap, 0.1")
	f(strings.Replace(rawLines, ",0.1\n", ",\n", 1), market.GranularityRaw, "null is not volume_24h / market_cap, 0.1")
	f("id,time,price,market_cap,volume_24h,velocity,flags\n1,1,5,,,,odd\n", market.GranularityRaw, `unknown flag "odd"`)
	f("\xff\xfei\x00d\x00", hour, "UTF-16")
	f(barHeader+strings.Repeat("1", 100<<10)+"\n", hour, "longer than 65536 bytes")
	f("{"+strings.Repeat(" ", 100<<10)+"}\n", hour, "longer than 65536 bytes")
	f("[1]\n", hour, "unknown column")
	f("PK\x03\x04\n", hour, "unknown column")
}

func TestSheetTellsMistakesOfJSON(t *testing.T) {
	f := func(old, put, want string) {
		t.Helper()
		if !strings.Contains(barJSON, old) {
			t.Fatalf("%q is not in the line", old)
		}
		_, _, mistakes := readSheet(strings.Replace(barJSON, old, put, 1), market.Granularity1h)
		if len(mistakes) != 1 || !strings.Contains(mistakes[0], want) {
			t.Errorf("%s for %s: %q, want %q", put, old, mistakes, want)
		}
	}
	f(`"count":3,`, ``, "the object lacks count")
	f(`"count":3,`, `"count":3,"count":3,`, "count: is there twice")
	f(`"count":3,`, `"Count":3,`, `Count: is unknown in a file of 1h; known are id, symbol`)
	f(`"count":3,`, `"count":"3",`, "count: \"3\" is a string")
	f(`"open":5,`, `"open":"5",`, "price.open: \"5\" is a string")
	f(`"open":5,`, `"open":"",`, "is a string")
	f(`"open":5,`, `"open":[],`, "is a string")
	f(`"open":5,`, `"open":{},`, "is not JSON at byte")
	f(`"open":5,`, `"open":NaN,`, `"NaN" is not a number`)
	f(`"open":5,`, `"open":05,`, "is not a number")
	f(`"open":5,`, `"open":true,`, "is not a number")
	f(`"open":5,`, `"open":,`, "a number, a string or null is expected")
	f(`"price":{"open":5,"high":7,"low":4,"close":6,"mean":5.5,"vwap":5.4}`, `"price":5`, "price: is unknown")
	f(`{"id":1`, `{"id":null`, "is not an id")
	f(`"BTC"`, `"B`+"\x01"+`"`, "is not JSON")
	f(`"BTC"`, `"\ud800`, "is not JSON")
	f(`"BTC"`, `"B\x"`, "is not JSON")
	f(`}}`, `}`, "is not JSON at byte")
	f(`}}`, `}}}`, "something follows the object")
	f(`}}`, `}} {}`, "something follows the object")
	f(`,"velocity"`, ` "velocity"`, ", or } is expected")
	f(`{"id"`, `{id`, "a member is expected")
	f(`"count":3,`, `"gap":3,`, "gap: is not")
	f(`"count":3,`, `"gap":{"from":1},`, "gap: is not")
	_, _, mistakes := readSheet(barJSON+"\n", market.Granularity1h)
	if len(mistakes) != 1 || !strings.Contains(mistakes[0], "line 2: is not an object") {
		t.Errorf("an empty line: %q", mistakes)
	}
}

// After a mistake the lines behind it are still read.
func TestSheetGoesOn(t *testing.T) {
	text := barHeader + "1,2\n" + barLine + "x\n" + "2" + barLine[1:]
	rows, _, mistakes := readSheet(text, market.Granularity1h)
	if len(rows) != 2 || len(mistakes) != 2 || !strings.HasPrefix(mistakes[1], "line 4:") {
		t.Errorf("%d rows, %q", len(rows), mistakes)
	}
	failing := io.MultiReader(strings.NewReader(barHeader), brokenReader{})
	r := NewSheetReader(failing, market.Granularity1h)
	for range 2 {
		if _, err := r.Next(); !errors.Is(err, errBroken) {
			t.Errorf("a failing reader: %v", err)
		}
	}
}

var errBroken = errors.New("broken")

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func TestSheetDifference(t *testing.T) {
	page, _ := twoPoints(market.HistoryQuery{})
	a, b := page.Points[0], page.Points[0]
	b.Price.Close, b.Cap.Mean = market.Null, market.FromInt(7)
	got := string(NewSheet(market.Granularity1h).AppendDifference(nil, &a, &b))
	want := "price_close " + a.Price.Close.String() + " there, none in the file, market_cap_mean " + a.Cap.Mean.String() + " there, 7 in the file"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever is read prints and reads back as the same, and memory stays bounded.
func FuzzSheetReader(f *testing.F) {
	f.Add([]byte(barHeader+barLine), uint8(4))
	f.Add([]byte(barJSON), uint8(4))
	f.Add([]byte(rawLines), uint8(0))
	f.Add([]byte(`{"id":1,"gap":{"from":1,"to":2}}`+"\n"), uint8(1))
	f.Add([]byte("id,symbol\n1,\"a\"\"b\n\"\n"), uint8(0))
	f.Add([]byte(strings.Replace(barJSON, "BTC", `\u0042\n`, 1)), uint8(6))
	f.Fuzz(func(t *testing.T, text []byte, grain uint8) {
		g := market.Granularity(grain) % market.NumGranularities
		p := NewSheet(g)
		r := NewSheetReader(bytes.NewReader(text), g)
		var line []byte
		for {
			row, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				continue
			}
			line = p.AppendLine(line[:0], row.ID, row.Symbol, &row.Point)
			back, err := NewSheetReader(bytes.NewReader(line), g).Next()
			if err != nil {
				t.Fatalf("%s was read and is refused as it prints: %v", line, err)
			}
			if again := p.AppendLine(nil, back.ID, back.Symbol, &back.Point); !bytes.Equal(line, again) {
				t.Fatalf("%s prints, reads and prints as %s", line, again)
			}
		}
	})
}

func BenchmarkSheetReader(b *testing.B) {
	for name, line := range map[string]string{"csv": barLine, "ndjson": barJSON} {
		b.Run(name, func(b *testing.B) {
			var text []byte
			if name == "csv" {
				text = append(text, barHeader...)
			}
			at := market.Time(1_740_787_200_000)
			for n := range 1000 {
				text = append(text, strings.Replace(line, "2025-03-01T00:00:00.000Z", string(at.Add(market.Millis(n)*market.Hour).AppendRFC3339(nil)), 1)...)
			}
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				r := NewSheetReader(bytes.NewReader(text), market.Granularity1h)
				n := 0
				for {
					if _, err := r.Next(); err != nil {
						break
					}
					n++
				}
				if n != 1000 {
					b.Fatal(n)
				}
			}
		})
	}
}
