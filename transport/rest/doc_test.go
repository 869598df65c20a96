package rest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/engine/market"
)

// API.md states what the code enforces.
func TestDocumentIsTrue(t *testing.T) {
	text, err := os.ReadFile("API.md")
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	rows := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 {
			continue
		}
		if route := strings.Trim(cells[1], " `"); route != "" {
			section = route
		}
		for name := range strings.SplitSeq(cells[2], ",") {
			names := strings.Fields(strings.ReplaceAll(name, "`", ""))
			for i, n := range names {
				if i > 0 {
					n = strings.TrimSuffix(names[0], "_min") + n
				}
				rows[section+" "+n] = cells[3] + "|" + cells[4]
			}
		}
	}
	f := func(route string, params []string, wants map[string]string) {
		t.Helper()
		for _, p := range params {
			row, ok := rows[route+" "+p]
			if !ok || !strings.Contains(row, wants[p]) {
				t.Errorf("%s?%s: the document says %q, the code %q", route, p, row, wants[p])
			}
			delete(rows, route+" "+p)
		}
	}
	upTo := func(most, fallback int) string { return fmt.Sprintf("1…%d | %d", most, fallback) }
	usd, speed := "0…"+maxUSD.String()+" ", "0…"+maxVelocity.String()+" "
	names := func(list []string) string { return "`" + strings.Join(list, "`, `") + "`" }
	f("/tokens", listParams, map[string]string{
		"start": upTo(maxStart, 1), "limit": upTo(maxLimit, defaultLimit), "market_cap_min": usd, "market_cap_max": usd, "volume_24h_min": usd,
		"volume_24h_max": usd, "velocity_min": speed, "velocity_max": speed, "cap_class": names(classNames[1:]), "order": names(orderNames),
		"ids": fmt.Sprintf("up to %d ids", maxItems), "symbols": fmt.Sprintf("up to %d symbols of up to %d bytes", maxItems, maxSymbol), "search": fmt.Sprintf("1…%d bytes", maxSearch),
	})
	f("/tokens/{id}", tokenParams, map[string]string{"range": names(rangeNames), "detail": names(detailNames)})
	f("/tokens/{id}/history", historyParams, map[string]string{
		"granularity": names(granularityNames), "fields": names(historyFields), "limit": fmt.Sprintf("1…%d points a page | %d", maxPoints, defaultPoints),
	})
	f("/movers", moverParams, map[string]string{
		"period": names(periodNames), "direction": names(directionNames), "limit": fmt.Sprintf("1…%d for each direction | %d", maxMovers, defaultMovers),
	})
	delete(rows, "route parameter")
	delete(rows, "--- ---")
	for row := range rows {
		t.Errorf("the document has %s, the code has not", row)
	}
	for _, want := range []string{
		fmt.Sprintf("at most `rejected_kept` (%d)", market.MaxRejections), fmt.Sprintf("lists up to %d of them", maxFaults),
		fmt.Sprintf("at most %d points", niceWidth), fmt.Sprintf("At most %d history questions", defaultHistoryQueries), fmt.Sprintf("up to %d letters", maxSlug),
		"in at most " + strings.TrimSuffix(queryTime.String(), "s") + " s",
		fmt.Sprintf("At most %d whole markets are read at a time, and %d questions more", thenReads, thenWaits), fmt.Sprintf("a list is answered in at most %.0f s", thenTime.Seconds()),
		fmt.Sprintf("for up to %.0f s (%d MiB)", thenLife.Seconds(), thenBytes>>20), fmt.Sprintf("at most %d h older", market.PastLookBack/market.Hour),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the document lacks %q", want)
		}
	}
}
