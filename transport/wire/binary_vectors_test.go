package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/transport/wire"
	"github.com/velocimeter/velocimeter/transport/wire/wiretest"
)

// binaryVector is one binary message with what a client holds before and after.
type binaryVector struct {
	Name      string          `json:"name"`
	Effective json.RawMessage `json:"effective"`
	Before    held            `json:"before"`
	Message   string          `json:"message"` // hex
	After     held            `json:"after"`
}

type held struct {
	Seq  uint64                                   `json:"seq"`
	Rows map[market.ID]map[string]json.RawMessage `json:"rows"`
}

func heldOf(c *wiretest.Channel) held {
	h := held{Seq: c.Pos, Rows: make(map[market.ID]map[string]json.RawMessage)}
	for id, row := range c.Rows {
		h.Rows[id] = make(map[string]json.RawMessage)
		for name, v := range row {
			h.Rows[id][name] = json.RawMessage(v)
		}
	}
	return h
}

// replicaOf is a client that holds h and may be sent differences.
func replicaOf(t testing.TB, effective []byte, h *held) *wiretest.Replica {
	t.Helper()
	r := wiretest.NewReplica()
	r.Resume = &wiretest.Channel{Rows: make(map[market.ID]wiretest.Row), Pos: h.Seq, Whole: h.Seq > 0}
	for id, row := range h.Rows {
		r.Resume.Rows[id] = make(wiretest.Row)
		for name, v := range row {
			r.Resume.Rows[id][name] = string(v)
		}
	}
	hello := `{"type":"subscribed","sub":1,"ch":12,"tokens":0,"unknown":[],"ambiguous":[],"recovered":true,"effective":` + string(effective) + `}`
	if _, err := r.Apply([]byte(hello)); err != nil {
		t.Fatal(err)
	}
	if h.Seq > 0 {
		if _, err := r.ApplyBinary(wire.AppendChannelHeartbeat(nil, wire.EncodingBinary, 12, h.Seq)); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// scene makes one vector after the other; each goes on where the last ended.
type scene struct {
	t      *testing.T
	format wire.Format
	held   held
	tokens map[market.ID]*market.Snapshot
	seq    uint64
	all    []binaryVector
}

// effective cuts the member out of an acknowledgement.
func (s *scene) effective() []byte {
	ack := wire.AppendSubscribed(nil, nil, &wire.Subscription{Format: s.format}, nil, nil, nil)
	_, out, _ := bytes.Cut(ack, []byte(`"effective":`))
	return out[:len(out)-1]
}

// add encodes what changes make of the tokens: a snapshot where the scene was
// empty, whole rows for tokens that it had not.
func (s *scene) add(name string, absolute bool, source market.Source, changes []*market.Snapshot, removed ...market.ID) {
	s.t.Helper()
	board := boardAt(s.seq + 1)
	board.Source = source
	head := wire.HeadOf(board, 12)
	head.Encoding, head.Absolute, head.Prev, head.Snapshot = wire.EncodingBinary, absolute, s.seq, s.held.Seq == 0
	var message []byte
	p := wire.Parts{Head: head, Emit: func(part []byte, _ bool) { message = append(message, part...) }}
	for _, now := range changes {
		mask, old := market.AllFields, s.tokens[now.ID]
		if old != nil {
			mask = changed(old, now)
		}
		if absolute {
			old = nil
		}
		p.RowOf(now.ID, wire.AppendBinary(nil, now, old, mask, &s.format, source))
		s.tokens[now.ID] = now
	}
	p.End(removed)
	s.message(name, message)
}

// heal repeats the position with a whole row.
func (s *scene) heal(name string, token *market.Snapshot) {
	s.t.Helper()
	head := wire.HeadOf(boardAt(s.seq), 12)
	head.Encoding, head.Absolute, head.Prev = wire.EncodingBinary, true, s.seq
	p := wire.Parts{Head: head, Emit: func(part []byte, _ bool) { s.message(name, part) }}
	p.RowOf(token.ID, wire.AppendBinary(nil, token, nil, market.AllFields, &s.format, market.SourceMarket))
	p.End(nil)
}

func (s *scene) message(name string, message []byte) {
	s.t.Helper()
	v := binaryVector{Name: name, Effective: s.effective(), Before: s.held, Message: hex.EncodeToString(message)}
	r := replicaOf(s.t, v.Effective, &s.held)
	if _, err := r.ApplyBinary(message); err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	s.held = heldOf(r.Channels[12])
	s.seq = s.held.Seq
	v.After = s.held
	s.all = append(s.all, v)
}

func changed(a, b *market.Snapshot) (mask market.Mask) {
	for f := range market.NumericFields.Fields() {
		if a.Value(f) != b.Value(f) {
			mask |= f.Bit()
		}
	}
	if a.Info.Name != b.Info.Name {
		mask |= market.FieldName.Bit()
	}
	return mask
}

// with returns a copy of a token with other values, given as field, text.
func with(s *market.Snapshot, values ...any) *market.Snapshot {
	out := *s
	for i := 0; i < len(values); i += 2 {
		d := market.Null
		if text, _ := values[i+1].(string); text != "null" {
			d, _, _ = market.ParseDecimal([]byte(text))
		}
		f, _ := values[i].(market.Field)
		if f.Spec().Kind != market.KindDecimal && !d.IsNull() {
			m, _ := d.Rescale(0)
			d = market.Decimal{Mant: m}
		}
		out.Put(f, d)
	}
	return &out
}

func binaryExamples(t *testing.T) []binaryVector {
	const m = market.SourceMarket
	quote, full := wire.ViewFormat(market.ViewQuote), wire.ViewFormat(market.ViewFull)
	quote.Encoding, full.Encoding = wire.EncodingBinary, wire.EncodingBinary
	quote.Digits = wire.DigitsCompact
	s := &scene{t: t, format: quote, seq: 811, tokens: make(map[market.ID]*market.Snapshot)}
	btc := bitcoin()
	lite := with(btc, market.FieldPrice, "null", market.FieldSource, "3", market.FieldFlags, "0", market.FieldRank, "20")
	lite.ID, lite.Info = 2, &market.Info{Symbol: "LTC", Name: "Litecoin", Slug: "litecoin"}
	s.add("compact: snapshot of two tokens, one of another source and with a price of null", true, m, []*market.Snapshot{btc, lite})
	btc = with(btc, market.FieldPrice, "64012.1", market.FieldVolume24h, "30999000000", market.FieldPercentChange1h, "-0.2")
	s.add("compact: delta of differences", false, m, []*market.Snapshot{btc})
	btc = with(btc, market.FieldPrice, "9999.87654321", market.FieldPercentChange24h, "null")
	lite = with(lite, market.FieldPrice, "85.1", market.FieldSource, "2")
	s.add("compact: a finer value, a value that becomes null, a first value", false, m, []*market.Snapshot{btc, lite})
	btc = with(btc, market.FieldPrice, "10000.9", market.FieldFreshness, "1", market.FieldFlags, "8192")
	s.add("compact: absolute delta, all of another source than it says", true, market.SourceCoinLore, []*market.Snapshot{btc})
	eth := with(btc, market.FieldPrice, "3001.5", market.FieldRank, "2")
	eth.ID, eth.Info = 1027, &market.Info{Symbol: "ETH", Name: "Ethereum", Slug: "ethereum"}
	s.add("compact: a whole row in a delta of differences, another token removed", false, m, []*market.Snapshot{eth}, 2)
	s.heal("compact: a repeat of the position", eth)
	eth = with(eth, market.FieldPrice, "0", market.FieldVolume24h, "0")
	s.add("compact: two zeros", false, m, []*market.Snapshot{eth})
	eth = with(eth, market.FieldPrice, "0.00001234", market.FieldVolume24h, "5")
	s.add("compact: differences from zero", false, m, []*market.Snapshot{eth})
	s.message("channel heartbeat", wire.AppendChannelHeartbeat(nil, wire.EncodingBinary, 12, 829))

	all := s.all
	s = &scene{t: t, format: full, seq: 812, tokens: make(map[market.ID]*market.Snapshot)}
	s.add("full: snapshot", true, m, []*market.Snapshot{btc})
	btc = with(btc, market.FieldPrice, "10000.95", market.FieldMarketCap, "1261234567891.5", market.FieldVelocity, "0.02457913", market.FieldRank, "10", market.FieldSourceTime, "1763661599000")
	s.add("full: a finer price, a coarser cap, a published scale, integers", false, m, []*market.Snapshot{btc})
	btc = with(btc, market.FieldPrice, "0", market.FieldSource, "3", market.FieldVelocityMethod, "1", market.FieldDirection1h, "2")
	btc.Info = &market.Info{Symbol: "BTC", Name: "Bitcoin é", Slug: "bitcoin"}
	s.add("full: zero, source as a field, enumerations, a name", false, m, []*market.Snapshot{btc})
	btc = with(btc, market.FieldPrice, "7")
	s.add("full: difference from zero", false, m, []*market.Snapshot{btc})
	return append(all, s.all...)
}

// TestBinaryVectors compares the encoder with the vectors and takes each to a
// client.
func TestBinaryVectors(t *testing.T) {
	got, path := binaryExamples(t), filepath.Join("testdata", "vectors", "binary.json")
	if *update {
		raw, err := json.MarshalIndent(got, "", " ")
		if err == nil {
			err = os.WriteFile(path, append(raw, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var want []binaryVector
	load(t, "binary.json", &want)
	if len(got) != len(want) {
		t.Fatalf("%d vectors for %d messages", len(want), len(got))
	}
	for i, v := range want {
		if v.Name != got[i].Name || v.Message != got[i].Message {
			t.Errorf("%s:\n got %s\nwant %s", v.Name, got[i].Message, v.Message)
		}
		r := replicaOf(t, v.Effective, &v.Before)
		message, err := hex.DecodeString(v.Message)
		if err == nil {
			_, err = r.ApplyBinary(message)
		}
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		after, _ := json.Marshal(heldOf(r.Channels[12]))
		expected, _ := json.Marshal(v.After)
		if !bytes.Equal(after, expected) {
			t.Errorf("%s: client holds\n%s\nwant\n%s", v.Name, after, expected)
		}
	}
	doc, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	if spaced := spacedHex(want[1].Message); !strings.Contains(strings.ReplaceAll(string(doc), "\n", " "), spaced) {
		t.Errorf("PROTOCOL.md does not show the delta of differences:\n%s", spaced)
	}
}

// spacedHex separates the bytes of a message.
func spacedHex(message string) string {
	var pairs []string
	for pair := range slices.Chunk([]byte(message), 2) {
		pairs = append(pairs, string(pair))
	}
	return strings.Join(pairs, " ")
}
