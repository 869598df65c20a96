package packet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// show writes a packet down: type, attachments, namespace, id, name and data.
func show(p *Packet) string {
	id := "-"
	if p.HasID {
		id = fmt.Sprint(p.ID)
	}
	return fmt.Sprintf("%d %d %s %s %s %s", p.Type, p.Attachments, p.Namespace, id, p.Name, p.Data)
}

func TestParse(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		p, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := show(&p); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	f(`0`, `0 0 / -  `)
	f(`0/admin,`, `0 0 /admin -  `)
	f(`0/admin`, `0 0 /admin -  `)
	f(`0{"token":"x"}`, `0 0 / -  {"token":"x"}`)
	f(`0/admin,{"sid":"oSO0OpakMV_3jnilAAAA"}`, `0 0 /admin -  {"sid":"oSO0OpakMV_3jnilAAAA"}`)
	f(`1`, `1 0 / -  `)
	f(`1/admin,`, `1 0 /admin -  `)
	f(`2["foo"]`, `2 0 / - foo ["foo"]`)
	f(`2/admin,["bar"]`, `2 0 /admin - bar ["bar"]`)
	f(`212["foo"]`, `2 0 / 12 foo ["foo"]`)
	f(`2/admin,0["a",[1,{"b":null}]]`, `2 0 /admin 0 a ["a",[1,{"b":null}]]`)
	f(`29007199254740991["a"]`, `2 0 / 9007199254740991 a ["a"]`)
	f(`2[ "caf\u00e9\n" , 1]`, "2 0 / - café\n [ \"caf\\u00e9\\n\" , 1]")
	f(`2["\ud83d\ude00"]`, `2 0 / - 😀 ["\ud83d\ude00"]`)
	f(`2["a",{"_placeholder":true,"num":0}]`, `2 0 / - a ["a",{"_placeholder":true,"num":0}]`)
	f(`3/admin,13["bar"]`, `3 0 /admin 13  ["bar"]`)
	f(`30[]`, `3 0 / 0  []`)
	f(`4{"message":"Not authorized"}`, `4 0 / -  {"message":"Not authorized"}`)
	f(`4"no"`, `4 0 / -  "no"`)
	f(`50-["a"]`, `5 0 / - a ["a"]`)
	f(`51-["baz",{"_placeholder":true,"num":0}]`, `5 1 / - baz ["baz",{"_placeholder":true,"num":0}]`)
	f(`52-/admin,7["baz",{"num":1,"_placeholder":true},[{"_placeholder":true,"num":0}]]`,
		`5 2 /admin 7 baz ["baz",{"num":1,"_placeholder":true},[{"_placeholder":true,"num":0}]]`)
	f(`61-15["bar",{"_placeholder":true,"num":0}]`, `6 1 / 15  ["bar",{"_placeholder":true,"num":0}]`)
	f(`51-["a",{"_placeholder":false,"num":7},{"_placeholder":true,"num":0}]`,
		`5 1 / - a ["a",{"_placeholder":false,"num":7},{"_placeholder":true,"num":0}]`)
	f("2/"+strings.Repeat("n", MaxNamespace-1)+`,["a"]`, "2 0 /"+strings.Repeat("n", MaxNamespace-1)+` - a ["a"]`)
	f(`2["a",`+strings.Repeat("[", MaxDepth-1)+strings.Repeat("]", MaxDepth-1)+`]`,
		`2 0 / - a ["a",`+strings.Repeat("[", MaxDepth-1)+strings.Repeat("]", MaxDepth-1)+`]`)
}

func TestParseRefuses(t *testing.T) {
	f := func(text string, want error) {
		t.Helper()
		if p, err := Parse([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%s: got %v (%s), want %v", text, err, show(&p), want)
		}
	}
	place := func(members string) string { return `51-["a",{` + members + `}]` }
	f("", ErrType)
	f("7", ErrType)
	f("a", ErrType)
	f("-1", ErrType)
	f("2[\"\xff\"]", ErrText)
	f(`0["a"]`, ErrData)
	f(`0"a"`, ErrData)
	f(`0null`, ErrData)
	f(`0{`, ErrJSON)
	f(`0{}{}`, ErrJSON)
	f(`05`, ErrAckID)
	f(`1{}`, ErrData)
	f(`1/admin,[]`, ErrData)
	f(`2`, ErrData)
	f(`2{"a":1}`, ErrData)
	f(`2"a"`, ErrData)
	f(`2[]`, ErrEvent)
	f(`2[1]`, ErrEvent)
	f(`2[null]`, ErrEvent)
	f(`2[["a"]]`, ErrEvent)
	f(`2["connect"]`, ErrEvent)
	f(`2["connect_error"]`, ErrEvent)
	f(`2["disconnect"]`, ErrEvent)
	f(`2["disconnecting"]`, ErrEvent)
	f(`2["newListener"]`, ErrEvent)
	f(`2["removeListener"]`, ErrEvent)
	f(`2["__proto__"]`, ErrEvent)
	f(`2["c\u006fnnect"]`, ErrEvent)
	f(`2["\ud83d"]`, ErrEvent)
	f(`2["\ud83d\u0041"]`, ErrEvent)
	f(`2["\ude00\ud83d"]`, ErrEvent)
	f(`2["a"`, ErrJSON)
	f(`2["a",]`, ErrJSON)
	f(`2["a"]x`, ErrJSON)
	f(`2["a" 1]`, ErrJSON)
	f(`2["a",01]`, ErrJSON)
	f(`2["a",1.]`, ErrJSON)
	f(`2["a",1e]`, ErrJSON)
	f(`2["a",-]`, ErrJSON)
	f(`2["a",+1]`, ErrJSON)
	f(`2["a",NaN]`, ErrJSON)
	f(`2["a",undefined]`, ErrJSON)
	f(`2["a","\x"]`, ErrJSON)
	f(`2["a","\u00g0"]`, ErrJSON)
	f(`2["a","\u00`, ErrJSON)
	f("2[\"a\",\"\n\"]", ErrJSON)
	f(`2["a",{1:2}]`, ErrJSON)
	f(`2["a",{"b"}]`, ErrJSON)
	f(`2["a",{"b":1,}]`, ErrJSON)
	f(`2["a",`+strings.Repeat("[", MaxDepth)+strings.Repeat("]", MaxDepth)+`]`, ErrJSON)
	f(`2["a",`+strings.Repeat("[", 1e5), ErrJSON)
	f(`29007199254740992["a"]`, ErrAckID)
	f(`218446744073709551616["a"]`, ErrAckID)
	f(`2`+strings.Repeat("9", 1e4)+`["a"]`, ErrAckID)
	f(`200["a"]`, ErrAckID)
	f(`2-1["a"]`, ErrJSON)
	f(`21.5["a"]`, ErrJSON)
	f(`2/`+strings.Repeat("n", MaxNamespace)+`,["a"]`, ErrNamespace)
	f(`0/`+strings.Repeat("n", 10<<10), ErrNamespace)
	f(`3["a"]`, ErrAckID)
	f(`31`, ErrData)
	f(`31{}`, ErrData)
	f(`4`, ErrData)
	f(`4[]`, ErrData)
	f(`4 1`, ErrData)
	f(`44{}`, ErrAckID)
	f(`5`, ErrAttachments)
	f(`5-["a"]`, ErrAttachments)
	f(`51["a"]`, ErrAttachments)
	f(`51`, ErrAttachments)
	f(`51-`, ErrData)
	f(`501-["a"]`, ErrAttachments)
	f(`511-["a"]`, ErrAttachments)
	f(`5999999999-["a"]`, ErrAttachments)
	f(`5-1-["a"]`, ErrAttachments)
	f(`51.0-["a"]`, ErrAttachments)
	f(`51-["a"]`, ErrPlaceholder)
	f(`50-["a",{"_placeholder":true,"num":0}]`, ErrPlaceholder)
	f(`52-["a",{"_placeholder":true,"num":0}]`, ErrPlaceholder)
	f(`52-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]`, ErrPlaceholder)
	f(`52-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":2}]`, ErrPlaceholder)
	f(place(`"_placeholder":true,"num":-1`), ErrPlaceholder)
	f(place(`"_placeholder":true,"num":"x"`), ErrPlaceholder)
	f(place(`"_placeholder":true,"num":1e9`), ErrPlaceholder)
	f(place(`"_placeholder":true,"num":0.0`), ErrPlaceholder)
	f(place(`"_placeholder":true`), ErrPlaceholder)
	f(place(`"_placeholder":true,"num":0,"num":0`), ErrPlaceholder)
	f(place(`"_placeholder":true,"num":0,"x":1`), ErrPlaceholder)
	f(`52-["a",{"_placeholder":true,"num":0},{"\u005fplaceholder":true,"num":0}]`, ErrPlaceholder)
	f(`61-["a",{"_placeholder":true,"num":0}]`, ErrAckID)
}

func TestItems(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		p, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(bytes.Join(p.AppendItems(nil), []byte("|"))); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	f(`2["a"]`, ``)
	f(`2["a",1]`, `1`)
	f(`2[ "a" , {"b" : [1]} ,null, "x,y" ]`, `{"b" : [1]}|null|"x,y"`)
	f(`31["a",[2]]`, `"a"|[2]`)
	f(`31[]`, ``)
	f(`0{"a":1}`, ``)
}

func TestAppend(t *testing.T) {
	f := func(got []byte, want string) {
		t.Helper()
		if string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if _, err := Parse(got); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
	j := func(s string) []byte { return []byte(s) }
	f(AppendConnect(nil, "/", j(`{"sid":"x"}`)), `0{"sid":"x"}`)
	f(AppendConnect(nil, "/a", j(`{"sid":"x"}`)), `0/a,{"sid":"x"}`)
	f(AppendConnectError(nil, "/a", j(`{"message":"Invalid namespace"}`)), `4/a,{"message":"Invalid namespace"}`)
	f(AppendDisconnect(nil, "/"), `1`)
	f(AppendDisconnect(nil, "/a"), `1/a,`)
	f(AppendEvent(nil, "/", "drain", 0), `2["drain"]`)
	f(AppendEvent(nil, "/", "bulk_update", 813, j(`{"seq":813}`)), `2["bulk_update",{"seq":813},"813"]`)
	f(AppendEvent(nil, "/a", `"\`+"\n", 0, j(`1`), j(`[2]`)), `2/a,["\"\\\u000a",1,[2]]`)
	f(AppendEventID(nil, "/", 12, "foo"), `212["foo"]`)
	f(AppendAck(nil, "/", 7, j(`{"ok":true}`), j(`1`)), `37[{"ok":true},1]`)
	f(AppendAck(nil, "/a", 0), `3/a,0[]`)
	f(AppendBinaryEvent(nil, "/", 1, "baz", j(`{"_placeholder":true,"num":0}`)), `51-["baz",{"_placeholder":true,"num":0}]`)
	f(AppendBinaryAck(nil, "/a", 1, 15, j(`{"_placeholder":true,"num":0}`)), `61-/a,15[{"_placeholder":true,"num":0}]`)
}

func TestAssembler(t *testing.T) {
	// Each step is text, or binary behind '#'; the last one's outcome counts.
	f := func(wantErr error, want string, steps ...string) {
		t.Helper()
		a := Assembler{Most: 8}
		for i, step := range steps {
			var p Packet
			var done bool
			var err error
			buf := []byte(step)
			if step[0] == '#' {
				p, done, err = a.Binary(buf[1:])
			} else {
				p, done, err = a.Text(buf)
			}
			last := i == len(steps)-1
			switch {
			case !last && err != nil:
				t.Errorf("%q: %v", step, err)
			case last && !errors.Is(err, wantErr):
				t.Errorf("%q: %v, want %v", steps, err, wantErr)
			case done:
				got := show(&p) + " " + string(bytes.Join(p.Binaries, []byte("|")))
				if last && got != want {
					t.Errorf("%q: got %s, want %s", steps, got, want)
				}
			case last && want != "":
				t.Errorf("%q: not done", steps)
			}
			clear(buf) // it was lent only
		}
	}
	one := `51-["a",{"_placeholder":true,"num":0}]`
	two := `62-9[{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]`
	f(nil, `5 1 / - a ["a",{"_placeholder":true,"num":0}] xyz`, one, "#xyz")
	f(nil, `6 2 / 9  [{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}] x|y`, two, "#x", "#y")
	f(nil, `5 1 / - a ["a",{"_placeholder":true,"num":0}] x`, two, "#x", "#y", one, "#x")
	f(nil, "", one)
	f(ErrAwaited, "", one, `2["a"]`)
	f(ErrUnannounced, "", "#x")
	f(ErrUnannounced, "", `50-["a"]`, "#x")
	f(ErrUnannounced, "", one, "#x", "#y")
	f(ErrHeavy, "", one, "#123456789")
	f(ErrHeavy, "", two, "#12345678", "#9")
	f(ErrPlaceholder, "", `51-["a"]`)
}

func FuzzPacket(f *testing.F) {
	for _, seed := range []string{
		`0`, `0/admin,{"a":1}`, `1/x,`, `212["foo",1.5e3,null]`, `3/a,13["bar"]`, `4{"message":"x"}`,
		`51-["baz",{"_placeholder":true,"num":0}]`, `61-15["bar",{"_placeholder":true,"num":0}]`,
		`2["\ud83d\ude00\n",{"":[]}]`, `59-`, `2/,["a"]`, `2["\u005f"]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		if p.Data != nil && !json.Valid(p.Data) {
			t.Fatalf("data %q", p.Data)
		}
		args := p.AppendItems(nil)
		ns := string(p.Namespace)
		var out []byte
		switch p.Type {
		case Connect:
			out = AppendConnect(nil, ns, p.Data)
		case ConnectError:
			out = AppendConnectError(nil, ns, p.Data)
		case Disconnect:
			out = AppendDisconnect(nil, ns)
		case Event:
			if out = AppendEvent(nil, ns, p.Name, 0, args...); p.HasID {
				out = AppendEventID(nil, ns, p.ID, p.Name, args...)
			}
		case Ack:
			out = AppendAck(nil, ns, p.ID, args...)
		case BinaryEvent:
			out = AppendBinaryEvent(nil, ns, p.Attachments, p.Name, args...)
			p.HasID, p.ID = false, 0
		case BinaryAck:
			out = AppendBinaryAck(nil, ns, p.Attachments, p.ID, args...)
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("%q became %q: %v", text, out, err)
		}
		same := bytes.Equal(bytes.Join(again.AppendItems(nil), []byte{0}), bytes.Join(args, []byte{0}))
		p.Data, again.Data = nil, nil
		if show(&p) != show(&again) || !same {
			t.Fatalf("%q became %q", text, out)
		}
	})
}

// FuzzAssembler feeds packets cut at zero bytes; every other is an attachment.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte("51-[\"a\",{\"_placeholder\":true,\"num\":0}]\x00xyz\x002[\"b\"]"))
	f.Fuzz(func(t *testing.T, script []byte) {
		a := Assembler{Most: 16}
		for i, step := range bytes.Split(script, []byte{0}) {
			var p Packet
			var done bool
			if i%2 == 0 {
				p, done, _ = a.Text(step)
			} else {
				p, done, _ = a.Binary(step)
			}
			if done && len(p.Binaries) != p.Attachments {
				t.Fatalf("%d attachments of %d", len(p.Binaries), p.Attachments)
			}
			if len(a.waiting.Binaries) > MaxAttachments || a.bytes > a.Most && a.waiting.Attachments > 0 {
				t.Fatalf("%d attachments of %d bytes are kept", len(a.waiting.Binaries), a.bytes)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text := []byte(`212["subscribe_token",["BTC","ETH",1027],{"rate":5,"view":"quote"}]`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
