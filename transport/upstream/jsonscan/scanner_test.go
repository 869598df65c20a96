package jsonscan_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/transport/upstream/jsonscan"
)

func check(text string) error {
	var s jsonscan.Scanner
	s.Reset([]byte(text))
	s.Skip()
	return s.End()
}

func TestSkip(t *testing.T) {
	f := func(text string, offset int, what string) {
		t.Helper()
		err := check(text)
		var e *jsonscan.Error
		switch {
		case what == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case what != "" && (!errors.As(err, &e) || e.Offset != offset || e.What != what):
			t.Errorf("%q: %v, want byte %d: %s", text, err, offset, what)
		}
	}
	ok := func(text string) { t.Helper(); f(text, 0, "") }
	ok(`{}`)
	ok(`[]`)
	ok(` [ { "a" : [ 1 , -0.5e+10 , "\u00e9\ud83d\ude00\\" , true, false, null ] } , [ ] , { } ] `)
	ok(`"a long string without escapes, é and 币安人生"`)
	ok(strings.Repeat("[", 32) + strings.Repeat("]", 32))
	f(``, 0, "unexpected end")
	f(`   `, 3, "unexpected end")
	f(`{"a":1`, 6, "unexpected end")
	f(`{"a"`, 4, "unexpected end")
	f(`{"a":`, 5, "unexpected end")
	f(`[1,`, 3, "unexpected end")
	f(`"abc`, 4, "unexpected end")
	f(`{} {}`, 3, "unexpected data after the end")
	f(`<html>`, 0, "unexpected '<'")
	f(`NaN`, 0, "unexpected 'N'")
	f(`[Infinity]`, 1, "unexpected 'I'")
	f(`[-Infinity]`, 2, "unexpected 'I'")
	f(`nul`, 0, "unexpected 'n'")
	f(`[1,]`, 3, "unexpected ']'")
	f(`[,1]`, 1, "unexpected ','")
	f(`[1 2]`, 3, "unexpected '2'")
	f(`{"a":1,}`, 7, "unexpected '}'")
	f(`{a:1}`, 1, "unexpected 'a'")
	f(`{"a" 1}`, 5, "unexpected '1'")
	f(`[1}`, 2, "unexpected '}'")
	f(`01`, 1, "leading zero")
	f(`-`, 1, "unexpected end")
	f(`1.`, 2, "unexpected end")
	f(`[1.]`, 3, "unexpected ']'")
	f(`1e`, 2, "unexpected end")
	f(`1e+`, 3, "unexpected end")
	f(`+1`, 0, "unexpected '+'")
	f("\"a\tb\"", 2, "control character in a string")
	f(`"\x"`, 1, "invalid escape")
	f(`"\ud800"`, 1, "invalid escape")
	f(`"\ude00\ud83d"`, 1, "invalid escape")
	f(`"\u12g4"`, 1, "invalid escape")
	f("\"\xff\"", 1, "invalid UTF-8")
	f("\xef\xbb\xbf{}", 0, "byte order mark")
	f("\xff\xfe{\x00}\x00", 0, "invalid UTF-8")
	f(strings.Repeat("[", 33), 32, "nested too deep")
	f(strings.Repeat(`{"a":`, 100_000), 32*5, "nested too deep")
}

func TestString(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		var s jsonscan.Scanner
		s.Reset([]byte(text))
		if got := string(s.String()); got != want || s.End() != nil {
			t.Errorf("%s: %q, %v; want %q", text, got, s.Err(), want)
		}
	}
	f(`""`, "")
	f(`"plain"`, "plain")
	f(`"0123456789abcdef0123456789"`, "0123456789abcdef0123456789")
	f(`"a\"b\\c\/d\b\f\n\r\t"`, "a\"b\\c/d\b\f\n\r\t")
	f(`"\u0041\u00e9\u20ac\uD83D\uDE00"`, "Aé€😀")
	f(`"ΤBTC"`, "ΤBTC")
}

func TestWalk(t *testing.T) {
	var s jsonscan.Scanner
	s.Reset([]byte(`{"a":1,"b\u0062":["x",null,{"y":2.50}],"c":{}}`))
	var out []string
	for ok := s.Enter(jsonscan.Object); ok; {
		var key []byte
		if key, ok = s.Key(); !ok {
			break
		}
		out = append(out, string(key))
		switch s.Kind() {
		case jsonscan.Number:
			out = append(out, string(s.Number()))
		case jsonscan.Array:
			s.Enter(jsonscan.Array)
			for s.More() {
				if s.SkipNull() {
					out = append(out, "null")
					continue
				}
				s.Skip()
			}
		default:
			s.Skip()
		}
	}
	if got, want := strings.Join(out, " "), "a 1 bb null c"; got != want || s.End() != nil {
		t.Errorf("walked %q, %v; want %q", got, s.Err(), want)
	}
}

func TestErrorsStick(t *testing.T) {
	var s jsonscan.Scanner
	s.Reset([]byte(`{"a":1}`))
	s.Fail("no good")
	if s.Enter(jsonscan.Object) || s.Kind() != jsonscan.Invalid || s.More() || s.String() != nil || s.Number() != nil {
		t.Error("the scanner goes on after an error")
	}
	s.Fail("later")
	if got := s.End().Error(); got != "byte 0: no good" {
		t.Errorf("error %q, want the first one", got)
	}
	s.Reset([]byte(`[]`))
	if s.Skip(); s.End() != nil {
		t.Error("an error survives Reset")
	}
}

// Whatever we accept, encoding/json accepts too; what it accepts beyond that
// differs only in the ways that the package comment names.
func FuzzScanner(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,2.5e-3,"\ud83d\ude00",null,true,false]}`, `[[[[]]]]`, `"\u0000"`, `-0`, `1e999`, "\"\xff\"", `{"a":1,"a":2}`, `{}x`, ` `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ours := check(string(data)) == nil
		theirs := json.Valid(data)
		if ours && !theirs {
			t.Fatalf("accepted %q, which is not JSON", data)
		}
		if theirs && !ours && utf8.Valid(data) && !deep(data) && !strings.Contains(string(data), `\u`) {
			t.Fatalf("refused %q: %v", data, check(string(data)))
		}
		var s jsonscan.Scanner
		s.Reset(data)
		if ours && s.Kind() == jsonscan.String {
			var want string
			if json.Unmarshal(data, &want) == nil && string(s.String()) != want {
				t.Fatalf("read %q as %q", data, s.String())
			}
		}
	})
}

func deep(data []byte) bool {
	return strings.Count(string(data), "[")+strings.Count(string(data), "{") > jsonscan.MaxDepth
}

func BenchmarkSkip(b *testing.B) {
	row := `{"id":1,"name":"Bitcoin","tags":["mineable","pow","sha-256","store-of-value"],"quote":{"USD":{"price":34639.39567221676,"market_cap":649289249853.1792}}}`
	data := []byte("[" + strings.Repeat(row+",", 999) + row + "]")
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	var s jsonscan.Scanner
	for b.Loop() {
		s.Reset(data)
		if s.Skip(); s.End() != nil {
			b.Fatal(s.Err())
		}
	}
}
