package socketio

import (
	"slices"
	"strings"
	"testing"

	"github.com/velocimeter/velocimeter/transport/fanout"
)

// TestEvents plays events on one connection after the other: what stands before the
// colon is said, what comes of it stands behind.
func TestEvents(t *testing.T) {
	const effective = `,"effective":{"mode":"latest","rate":"tick","deadband_bps":0,"view":"quote","encoding":"json","shape":"object","digits":"full","numbers":"number","compression":"none"}`
	f := func(lines ...string) {
		t.Helper()
		virtually(t, Config{}, fanout.Config{}, func(r *rig) {
			p, _ := r.connect("")
			for i := 0; i < len(lines); i += 2 {
				got := strings.Replace(brief(t, p.say(lines[i])), effective, "…", 1)
				if got != lines[i+1] {
					t.Errorf("%s\n got %s\nwant %s", lines[i], got, lines[i+1])
				}
			}
		})
	}
	// One token, by id, symbol, slug, id in digits.
	f(
		`21["subscribe_token",3]`, `31[{"ok":true,"subscribed":[3],"unknown":[]…}]; token_update snapshot 3`,
		`22["subscribe_token",3]`, `32[{"ok":true,"subscribed":[3],"unknown":[]…}]`,
		`2["subscribe_token","S5"]`, `token_update snapshot 5`,
		`2["subscribe_token","token-6"]`, `token_update snapshot 6`,
		`2["subscribe_token","7"]`, `token_update snapshot 7`,
		`23["unsubscribe_token",["S5",6]]`, `33[{"ok":true,"unsubscribed":[5,6],"unknown":[]}]`,
		`24["unsubscribe_token",6]`, `34[{"ok":true,"unsubscribed":[],"unknown":[6]}]`,
		`25["unsubscribe_token","*"]`, `35[{"ok":true,"unsubscribed":["*"],"unknown":[]}]`,
		`26["unsubscribe_token",[3,"NOPE"]]`, `36[{"ok":true,"unsubscribed":[],"unknown":[3,"NOPE"]}]`,
	)
	// Lists grow, shrink and end.
	f(
		`21["subscribe_token",[1,2]]`, `31[{"ok":true,"subscribed":[1,2],"unknown":[]…}]; bulk_update snapshot 1 2`,
		`22["subscribe_token",["S2",9,"NOPE",999]]`, `32[{"ok":true,"subscribed":[2,9],"unknown":[999,"NOPE"]…}]; bulk_update snapshot 1 2 9`,
		`23["subscribe_token",[1,9]]`, `33[{"ok":true,"subscribed":[1,9],"unknown":[]…}]`,
		`2["unsubscribe_token",[2]]`, `bulk_update snapshot 1 9`,
		`24["subscribe_token",[1],{"rate":1}]`, `34[{"ok":true,"subscribed":[1],"unknown":[],"effective":{"mode":"latest","rate":1,"deadband_bps":0,"view":"quote","encoding":"json","shape":"object","digits":"full","numbers":"number","compression":"none"}}]; bulk_update snapshot 1`,
		`26["unsubscribe_token",2]`, `36[{"ok":true,"unsubscribed":[],"unknown":[2]}]`,
		`27["subscribe_token",[2],{"rate":1}]`, `37[{"ok":true,"subscribed":[2],"unknown":[],"effective":{"mode":"latest","rate":1,"deadband_bps":0,"view":"quote","encoding":"json","shape":"object","digits":"full","numbers":"number","compression":"none"}}]; bulk_update snapshot 1 2`,
		`28["unsubscribe_token",[1]]`, `38[{"ok":true,"unsubscribed":[1],"unknown":[]}]; bulk_update snapshot 9; bulk_update snapshot 2`,
		`2["subscribe_token",1]`, `token_update snapshot 1`,
		`25["unsubscribe_token",[1,2,9]]`, `35[{"ok":true,"unsubscribed":[1,2,9],"unknown":[]}]`,
	)
	// The market, and options that change.
	f(
		`21["subscribe_token","*"]`, `31[{"ok":true,"subscribed":["*"],"unknown":[]…}]; bulk_update snapshot 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20`,
		`22["subscribe_token","*",null]`, `32[{"ok":true,"subscribed":["*"],"unknown":[]…}]`,
		`23["unsubscribe_token",1]`, `33[{"ok":true,"unsubscribed":[],"unknown":[1]}]`,
		`2["subscribe_token","*",{"view":"velocity"}]`, `bulk_update snapshot 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20`,
		`2["subscribe_token",1]`, `token_update snapshot 1`,
		`2["subscribe_token",1,{"view":"full","digits":"compact","numbers":"string"}]`, `token_update snapshot 1`,
		`24["unsubscribe_token","*"]`, `34[{"ok":true,"unsubscribed":["*"],"unknown":[]}]`,
	)
	// Errors, acknowledged and not.
	f(
		`21["subscribe_token"]`, `31[{"ok":false,"code":"bad_value","message":"say which tokens: an id, a symbol, a list of them, or \"*\"","retry_ms":0,"unknown":[]}]`,
		`22["subscribe_token","NOPE"]`, `32[{"ok":false,"code":"unknown_token","message":"none of the asked tokens exists","retry_ms":0,"unknown":["NOPE"]}]`,
		`23["subscribe_token",[777,"NOPE"]]`, `33[{"ok":false,"code":"unknown_token","message":"none of the asked tokens exists","retry_ms":0,"unknown":[777,"NOPE"]}]`,
		`2["subscribe_token",[1,777]]`, `error_event; bulk_update snapshot 1`,
		`24["other",1]`, `34[{"ok":false,"code":"unknown_op","message":"unknown event \"other\"; served: subscribe_token, unsubscribe_token","retry_ms":0,"unknown":[]}]`,
	)
	for _, args := range []string{`null`, `true`, `0`, `-1`, `1.5`, `4294967296`, `{}`, `[]`, `[[1]]`, `["*"]`, `""`, `1,{"view":"x"}`, `1,{"rate":0}`, `1,{"bogus":1}`, `1,5`, `1,{},{}`} {
		virtually(t, Config{}, fanout.Config{}, func(r *rig) {
			p, _ := r.connect("")
			if got := p.say(`2["subscribe_token",` + args + `]`); len(got) != 1 || !strings.Contains(got[0], `"event":"subscribe_token"`) || !strings.Contains(got[0], `["error_event",{"code":"`) {
				t.Errorf("%s: %q", args, got)
			}
		})
	}
}

// TestBinary wants binary data refused, and the connection kept.
func TestBinary(t *testing.T) {
	virtually(t, Config{}, fanout.Config{}, func(r *rig) {
		p, _ := r.connect("")
		p.say(`51-9["subscribe_token",{"_placeholder":true,"num":0}]`)
		p.do(func() { p.client.Binary([]byte{1, 2, 3}) })
		told := `"code":"bad_value","message":"no event of this server takes binary data","retry_ms":0,`
		want := []string{`2["error_event",{` + told + `"event":"subscribe_token"}]`, `39[{"ok":false,` + told + `"unknown":[]}]`}
		if got := p.take(); !slices.Equal(got, want) || p.closed() {
			t.Errorf("got %q", got)
		}
	})
}
