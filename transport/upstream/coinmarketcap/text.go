package coinmarketcap

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/velocimeter/velocimeter/engine/market"
)

// Bounds on texts of a token, in bytes; longer ones are cut at a character.
const (
	maxName   = 256
	maxSymbol = 64
	maxSlug   = 256
	maxDetail = 200
)

// Clean returns text cut to limit bytes, without control, formatting and
// private characters (among them the ones that reverse the direction of text)
// and without surrounding space. What is already clean is returned as it is.
func Clean(text []byte, limit int) []byte {
	if len(text) <= limit && plainText(text) {
		return text
	}
	out := make([]byte, 0, min(len(text), limit))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if unicode.IsPrint(r) && r != utf8.RuneError {
			if len(out)+n > limit {
				break
			}
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return []byte(strings.TrimSpace(string(out)))
}

// plainText reports whether text is printable ASCII without surrounding space.
func plainText(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(text) == 0 || text[0] != ' ' && text[len(text)-1] != ' '
}

// ParseTime reads an RFC 3339 instant with Z or a numeric offset and any number
// of decimals, such as 2021-06-29T00:23:02.000Z; what is finer than a
// millisecond is dropped. Years outside 2009…2199 are refused: before that there
// was no token, and a wrong unit is not to be taken for a far future.
func ParseTime(text []byte) (market.Time, bool) {
	if len(text) < len("2006-01-02T15:04:05Z") || text[4] != '-' || text[7] != '-' ||
		text[10]|0x20 != 't' && text[10] != ' ' || text[13] != ':' || text[16] != ':' {
		return 0, false
	}
	year, ok1 := number(text[:4])
	month, ok2 := number(text[5:7])
	day, ok3 := number(text[8:10])
	hour, ok4 := number(text[11:13])
	minute, ok5 := number(text[14:16])
	second, ok6 := number(text[17:19])
	millis, rest := fraction(text[19:])
	offset, ok7 := zone(rest)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !ok7 || millis < 0 {
		return 0, false
	}
	if year < 2009 || year > 2199 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) ||
		hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	seconds := ((days(year, month, day)*24+hour)*60+minute-offset)*60 + second
	return market.Time(seconds*1000 + millis), true
}

func number(text []byte) (n int, ok bool) {
	for _, c := range text {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// fraction reads ".123…" to milliseconds and returns what follows; -1 where a
// point has no digits.
func fraction(text []byte) (millis int, rest []byte) {
	if text[0] != '.' {
		return 0, text
	}
	i, scale := 1, 100
	for ; i < len(text) && text[i]-'0' <= 9; i++ {
		millis += int(text[i]-'0') * scale
		scale /= 10
	}
	if i == 1 {
		return -1, text
	}
	return millis, text[i:]
}

// zone reads Z or ±hh:mm to minutes.
func zone(text []byte) (minutes int, ok bool) {
	if len(text) == 1 && text[0]|0x20 == 'z' {
		return 0, true
	}
	if len(text) != 6 || text[3] != ':' || text[0] != '+' && text[0] != '-' {
		return 0, false
	}
	h, ok1 := number(text[1:3])
	m, ok2 := number(text[4:6])
	if minutes = h*60 + m; text[0] == '-' {
		minutes = -minutes
	}
	return minutes, ok1 && ok2 && h < 24 && m < 60
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// days counts from 1970-01-01, in the proleptic Gregorian calendar; years are
// taken to begin in March, so that the leap day is their last.
func days(year, month, day int) int {
	if month <= 2 {
		year--
		month += 12
	}
	return 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - 719_468
}
