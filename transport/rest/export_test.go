package rest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

func TestPast(t *testing.T) {
	page, _ := twoPoints(market.HistoryQuery{})
	for g := range market.NumGranularities {
		p := NewSheet(g)
		q := &historyQuery{granularity: g, fields: pastAll}
		csv, lines, wantLines := p.AppendHeader(nil), []byte(nil), ""
		for i := range page.Points {
			csv = p.AppendCells(csv, 1027, "E,\"T\"", &page.Points[i])
			lines = p.AppendLine(lines, 1027, "E\"T", &page.Points[i])
			wantLines += `{"id":1027,"symbol":"E\"T",` + string(q.appendPoint(nil, &page.Points[i])[1:]) + "\n"
		}
		want := strings.Split(string(printed(q, page.Points, mediaCSV)), "\r\n")
		for i, line := range strings.Split(string(csv), "\r\n") {
			front := `1027,"E,""T""",`
			switch i {
			case 0:
				front = "id,symbol,"
			case len(want) - 1:
				front = ""
			}
			if line != front+want[i] {
				t.Errorf("%s: line %d is %q, want %q", g, i, line, front+want[i])
			}
		}
		if string(lines) != wantLines {
			t.Errorf("%s: got\n%s\nwant\n%s", g, lines, wantLines)
		}
		gap := p.AppendGap(nil, 7, "", market.Gap{From: 0, To: 1000})
		if string(gap) != `{"id":7,"symbol":null,"gap":{"from":"1970-01-01T00:00:00.000Z","to":"1970-01-01T00:00:01.000Z"}}`+"\n" || !json.Valid(gap) {
			t.Errorf("gap %s", gap)
		}
	}
	if from, to := NewSheet(market.Granularity5m).Stretch(299_999, 300_001); from != 0 || to != 600_000 {
		t.Errorf("stretch %d, %d", from, to)
	}
}
