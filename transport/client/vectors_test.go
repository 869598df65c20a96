package client

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// vectorRows are rows as the vectors write them: values as in JSON.
type vectorRows map[market.ID]map[string]json.RawMessage

func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("../wire/testdata/vectors/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// compare checks every value that the vector tells of every row.
func (v vectorRows) compare(c *Channel) error {
	if c.Len() != len(v) {
		return fmt.Errorf("%d rows, want %d", c.Len(), len(v))
	}
	for id, want := range v {
		r, ok := c.Row(id)
		if !ok {
			return fmt.Errorf("token %d is missing", id)
		}
		for name, value := range want {
			var text bytes.Buffer
			json.Compact(&text, value)
			if f, ok := market.ParseField(name); ok && shown(r, f) != text.String() {
				return fmt.Errorf("token %d: %s is %s, want %s", id, name, shown(r, f), text.String())
			}
		}
	}
	return nil
}

func shown(r Row, f market.Field) string {
	same := row{texts: [3]string{r.Symbol(), r.FullName(), r.Slug()}}
	for f := range market.NumericFields.Fields() {
		same.vals[f] = r.Value(f)
	}
	return jsonValue(&same, f)
}

// TestReplicaVectors applies the sequences after which every client must hold
// the same rows. Two of them break an obligation of the server that this client
// does not insist on.
func TestReplicaVectors(t *testing.T) {
	var vectors []struct {
		Name     string
		Messages []json.RawMessage
		Channels map[uint64]struct {
			Seq  uint64
			Rows vectorRows
		}
		Error string
	}
	readVectors(t, "replica.json", &vectors)
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			fields := `{"fields":["price"]}`
			if strings.Contains(string(slices.Concat(v.Messages...)), `"flags"`) {
				fields = `{"fields":["price","flags"]}`
			}
			d := NewDecoder(Limits{})
			var err error
			for _, m := range v.Messages {
				text := strings.Replace(string(m), `"effective":{}`, `"effective":`+fields, 1)
				if _, err = d.Apply([]byte(text), false); err != nil {
					break
				}
			}
			_, gap := errors.AsType[*GapError](err)
			if v.Name != "ranked row without by" && (err != nil) != (v.Error != "") || gap != (v.Error == "gap") {
				t.Fatalf("error %v, want %q", err, v.Error)
			}
			for n, want := range v.Channels {
				c := d.Channel(n)
				if c == nil || c.Position() != want.Seq {
					t.Fatalf("channel %d: %+v, want position %d", n, c, want.Seq)
				}
				if err := want.Rows.compare(c); err != nil {
					t.Errorf("channel %d: %v", n, err)
				}
			}
		})
	}
}

// TestBinaryVectors applies binary messages to the rows before them.
func TestBinaryVectors(t *testing.T) {
	var vectors []struct {
		Name          string
		Effective     json.RawMessage
		Message       string
		Before, After struct {
			Seq  uint64
			Rows vectorRows
		}
	}
	readVectors(t, "binary.json", &vectors)
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			d := NewDecoder(Limits{})
			must(t, d, `{"type":"subscribed","sub":7,"ch":12,"recovered":false,"effective":`+string(v.Effective)+`}`)
			if v.Before.Rows != nil {
				must(t, d, v.Before.Rows.snapshot(v.Before.Seq))
				must(t, d, fmt.Sprintf(`{"type":"heartbeat","ch":12,"seq":%d}`, v.Before.Seq))
			}
			msg, err := hex.DecodeString(v.Message)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Apply(msg, true); err != nil {
				t.Fatal(err)
			}
			if c := d.Channel(12); c.Position() != v.After.Seq {
				t.Errorf("position %d, want %d", c.Position(), v.After.Seq)
			} else if err := v.After.Rows.compare(c); err != nil {
				t.Error(err)
			}
		})
	}
}

func (v vectorRows) snapshot(seq uint64) string {
	var rows []string
	for _, id := range slices.Sorted(maps.Keys(v)) {
		row := fmt.Sprintf(`{"id":%d`, id)
		for name, value := range v[id] {
			if name != "id" {
				row += fmt.Sprintf(",%q:%s", name, value)
			}
		}
		rows = append(rows, row+"}")
	}
	return fmt.Sprintf(`{"type":"snapshot","ch":12,"seq":%d,"source":"market","rows":[%s]}`, seq, strings.Join(rows, ","))
}
