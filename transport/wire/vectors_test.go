package wire_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

var update = flag.Bool("update", false, "write testdata/vectors/messages.json and binary.json anew")

func load(t testing.TB, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

type requestVector struct {
	Message, Code, ID string
	Binary            bool // on the binary sub-protocol
}

func TestRequestVectors(t *testing.T) {
	var all []requestVector
	load(t, "requests.json", &all)
	for _, v := range all {
		e := wire.EncodingJSON
		if v.Binary {
			e = wire.EncodingBinary
		}
		r, err := wire.DecodeRequest([]byte(v.Message), e)
		code := ""
		if err != nil {
			code = string(err.Code)
		}
		if code != v.Code || r.ID != v.ID {
			t.Errorf("%s: %v, id %q", v.Message, err, r.ID)
		}
	}
}

func TestReplicaVectors(t *testing.T) {
	var all []struct {
		Name     string
		Messages []json.RawMessage
		Channels map[string]struct {
			Seq  uint64
			Rows map[market.ID]map[string]json.RawMessage
		}
		Error string
	}
	load(t, "replica.json", &all)
	if len(all) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range all {
		r, err := wiretest.NewReplica(), error(nil)
		for _, m := range v.Messages {
			if _, err = r.Apply(m); err != nil {
				break
			}
		}
		if v.Error != "" || err != nil {
			if err == nil || v.Error == "" || !strings.Contains(err.Error(), v.Error) {
				t.Errorf("%s: %v", v.Name, err)
			}
			continue
		}
		for no, want := range v.Channels {
			n, _ := strconv.ParseUint(no, 10, 64)
			got := r.Channels[n]
			if got.Pos != want.Seq || len(got.Rows) != len(want.Rows) {
				t.Errorf("%s: channel %s at %d with %d rows", v.Name, no, got.Pos, len(got.Rows))
				continue
			}
			for id, row := range want.Rows {
				for name, value := range row {
					if got.Rows[id][name] != string(value) || len(got.Rows[id]) != len(row) {
						t.Errorf("%s: token %d %s is %s", v.Name, id, name, got.Rows[id][name])
					}
				}
			}
		}
	}
}

// examples are one message of each type, as the encoder writes it.
func examples() map[string]string {
	quote, part := wire.ViewFormat(market.ViewQuote), wire.FieldsFormat(market.MaskOf(market.FieldPrice, market.FieldVelocity))
	part.Digits, part.Numbers = wire.DigitsCompact, wire.NumbersString
	array := quote
	array.Shape, array.Digits = wire.ShapeArray, wire.DigitsCompact
	req := func(id string) *wire.Request { return &wire.Request{ID: id, HasID: true, Sub: 7} }
	text := func(b []byte) string { return string(b) }
	return map[string]string{
		"hello": text(wire.AppendHello(nil, &wire.Hello{
			Epoch: "k3", Seq: 812, ServerTime: 1763661600123, HeartbeatMS: 15000, Source: market.SourceMarket, Simulated: true,
			Limits: wire.Limits{Subscriptions: 256, Tokens: 50000, MessagesPerSecond: 20},
		})),
		"subscribed": text(wire.AppendSubscribed(nil, req("1"), &wire.Subscription{Sub: 7, Channel: 12, Tokens: 2, Format: quote},
			[]market.ID{999999}, nil, nil)),
		"subscribed by symbol": text(wire.AppendSubscribed(nil, req("2"), &wire.Subscription{Sub: 8, Channel: 13, Tokens: 1, Format: part, Every: true},
			nil, []string{"NOPE"}, []wire.Ambiguous{{Symbol: "BTC", Taken: 1, Others: []market.ID{31469, 31652}}})),
		"subscribed ranked": text(wire.AppendSubscribed(nil, nil, &wire.Subscription{
			Sub: 9, Channel: 14, Tokens: 50, Format: array, Rate: wire.Rate1, Auto: true,
			Top: &wire.Top{By: market.FieldVelocity, N: 50}, Compression: wire.CompressionDeflate,
		}, nil, nil, nil)),
		"updated": text(wire.AppendSubscribed(nil, req("2"), &wire.Subscription{
			Sub: 7, Channel: 15, Tokens: 2, Format: quote, Rate: wire.Rate1, Deadband: 5, Recovered: true, From: 12,
		}, nil, nil, nil)),
		"unsubscribed":      text(wire.AppendUnsubscribed(nil, req("3"))),
		"subscriptions":     text(wire.AppendSubscriptions(nil, req("4"), []wire.Subscription{{Sub: 7, Channel: 12, Tokens: 2, Format: quote}})),
		"pong":              text(wire.AppendPong(nil, req("6"), 1763661600123)),
		"checksums":         text(wire.AppendChecksums(nil, req("5"), 12, 813, []wire.TokenSum{{ID: 1, Sum: wire.Checksum(bitcoin(), &quote)}})),
		"error":             text(wire.AppendError(nil, req("1"), &wire.RequestError{Code: wire.UnknownToken, Text: "none of the asked tokens exists"}, 0)),
		"heartbeat":         text(wire.AppendHeartbeat(nil, 1763661615123)),
		"channel heartbeat": text(wire.AppendChannelHeartbeat(nil, wire.EncodingJSON, 12, 829)),
		"stale":             text(wire.AppendStale(nil, 12, []market.ID{1}, 190000)),
		"effective":         text(wire.AppendEffectiveChange(nil, 9, 16, 14, wire.RateHalf)),
		"drain":             text(wire.AppendDrain(nil, 5000, 3120)),
		"snapshot":          example(&quote, true, 0, market.AllFields),
		"delta":             example(&quote, false, 812, market.MaskOf(market.FieldPrice, market.FieldVolume24h), 1839),
		"delta of arrays":   example(&array, false, 812, market.MaskOf(market.FieldPrice, market.FieldVolume24h), 1839),
		"heal":              example(&quote, false, 813, market.AllFields),
	}
}

// example is a data message about bitcoin.
func example(f *wire.Format, snapshot bool, prev uint64, mask market.Mask, removed ...market.ID) (out string) {
	p := wire.Parts{Head: wire.HeadOf(boardAt(812), 12), Emit: func(part []byte, _ bool) { out += string(part) }}
	if p.Head.Snapshot = snapshot; !snapshot {
		p.Head.Seq, p.Head.Prev = 813, prev
	}
	p.Row(wire.AppendRow(nil, bitcoin(), mask, f, market.SourceMarket))
	p.End(removed)
	return out
}

func boardAt(seq uint64) *market.Board {
	return &market.Board{Epoch: "k3", Seq: seq, Source: market.SourceMarket, Simulated: true, SourceTime: 1763661599000, ReceivedAt: 1763661599100}
}

// bitcoin is a token with something in every kind of field.
func bitcoin() *market.Snapshot {
	s := &market.Snapshot{ID: 1, Info: &market.Info{Symbol: "BTC", Name: "Bitcoin", Slug: "bitcoin"}}
	for f := range market.NumericFields.Fields() {
		if f.Spec().Kind == market.KindDecimal {
			s.Put(f, market.Null)
		}
	}
	put := func(f market.Field, text string) {
		d, _, err := market.ParseDecimal([]byte(text))
		if err != nil {
			panic("BUG: " + text)
		}
		s.Put(f, d)
	}
	put(market.FieldPrice, "64010.2345678912")
	put(market.FieldMarketCap, "1261234567890.12")
	put(market.FieldVolume24h, "31000000000.75")
	put(market.FieldPercentChange1h, "-0.1234")
	put(market.FieldPercentChange24h, "1.555")
	put(market.FieldVelocity, "0.024579123")
	s.Put(market.FieldRank, market.Decimal{Mant: 1})
	s.Put(market.FieldSource, market.Decimal{Mant: int64(market.SourceMarket)})
	s.Put(market.FieldFlags, market.Decimal{Mant: int64(market.FlagRounded | market.FlagSimulated)})
	return s
}

// TestMessageVectors compares the encoder with the vectors, and PROTOCOL.md
// with both: it shows every one of them word for word.
func TestMessageVectors(t *testing.T) {
	got := examples()
	if *update {
		raw, _ := json.MarshalIndent(got, "", "  ")
		if err := os.WriteFile(filepath.Join("testdata", "vectors", "messages.json"), append(raw, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var want map[string]string
	load(t, "messages.json", &want)
	doc, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range got {
		if want[name] != text {
			t.Errorf("%s:\n got %s\nwant %s", name, text, want[name])
		}
		if !strings.Contains(string(doc), "\n"+text+"\n") {
			t.Errorf("PROTOCOL.md does not show %s:\n%s", name, text)
		}
		if !json.Valid([]byte(text)) {
			t.Errorf("%s is not JSON", name)
		}
	}
	if len(want) != len(got) {
		t.Errorf("%d vectors for %d messages", len(want), len(got))
	}
}

// TestDocument holds PROTOCOL.md to the code: requests that decode, tables that
// are the ones in Go.
func TestDocument(t *testing.T) {
	doc, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	text, n := string(doc), 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, `{"op"`) {
			n++
			_, err := wire.DecodeRequest([]byte(line), wire.EncodingJSON)
			if err != nil && !strings.HasPrefix(line, `{"op":"auth"`) {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	if n < 5 {
		t.Errorf("%d requests in PROTOCOL.md", n)
	}
	var table strings.Builder
	for _, e := range wire.ErrorCodes() {
		table.WriteString("| `" + string(e.Code) + "` | " + e.Meaning + " |\n")
	}
	if !strings.Contains(text, "\n"+table.String()) {
		t.Errorf("PROTOCOL.md lacks the table of errors:\n%s", table.String())
	}
	table.Reset()
	for _, c := range wire.CloseCodes() {
		back := "no"
		if c.Reconnect {
			back = "yes"
		}
		table.WriteString("| " + strconv.Itoa(int(c.Code)) + " | " + back + " | " + c.Meaning + " |\n")
	}
	if !strings.Contains(text, "\n"+table.String()) {
		t.Errorf("PROTOCOL.md lacks the table of close codes:\n%s", table.String())
	}
}
