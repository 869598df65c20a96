package rest

import (
	"strings"
)

// coding is a content coding, best first.
type coding uint8

const (
	brotliCoding coding = iota
	zstdCoding
	gzipCoding
	numCompressed
	identity   = numCompressed
	noCoding   = identity + 1 // nothing acceptable
	numCodings = identity + 1
)

var codingNames = [numCodings]string{"br", "zstd", "gzip", "identity"}

// maxAccept bounds how much of an Accept header is read, in bytes.
const maxAccept = 1024

// pickCoding reads Accept-Encoding (RFC 9110, 12.5.3). The highest weight wins;
// among equals the better compression does, and identity comes last.
func pickCoding(header string) coding {
	if header == "" {
		return identity
	}
	var q [numCodings]int // weight in thousandths + 1; 0 not mentioned
	star := 0
	for item := range strings.SplitSeq(header[:min(len(header), maxAccept)], ",") {
		name, weight, ok := weighted(item)
		if !ok {
			continue
		}
		if name == "*" {
			star = weight + 1
		}
		for c, n := range codingNames {
			if strings.EqualFold(name, n) || n == "gzip" && strings.EqualFold(name, "x-gzip") {
				q[c] = weight + 1
			}
		}
	}
	return bestCoding(q, star)
}

func bestCoding(q [numCodings]int, star int) coding {
	best, weight := noCoding, 1
	for c := range numCodings {
		w := q[c]
		if w == 0 {
			w = star
		}
		if w == 0 && c == identity {
			w = 2 // acceptable unless refused, but the least wanted
		}
		if w > weight {
			best, weight = c, w
		}
	}
	return best
}

// weighted splits "name;q=0.5"; a malformed weight makes the item void.
func weighted(item string) (name string, thousandths int, ok bool) {
	name, params, _ := strings.Cut(item, ";")
	name = strings.Trim(name, " \t")
	thousandths = 1000
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		key, value, _ := strings.Cut(strings.Trim(p, " \t"), "=")
		if strings.EqualFold(key, "q") {
			if thousandths, ok = parseWeight(value); !ok {
				return "", 0, false
			}
		}
	}
	return name, thousandths, name != ""
}

// parseWeight reads 0, 1, 0.xxx or 1.000.
func parseWeight(s string) (int, bool) {
	if s == "" || len(s) > 5 || s[0] != '0' && s[0] != '1' || len(s) > 1 && s[1] != '.' {
		return 0, false
	}
	n := int(s[0]-'0') * 1000
	for i, unit := 2, 100; i < len(s); i, unit = i+1, unit/10 {
		if s[i]-'0' > 9 {
			return 0, false
		}
		n += int(s[i]-'0') * unit
	}
	return n, n <= 1000
}

// media is a media type that a route can answer in.
type media uint8

const (
	mediaJSON media = iota
	mediaCSV
	mediaNDJSON
	noMedia
)

var (
	mediaNames = [...]string{"application/json", "text/csv", "application/x-ndjson"}
	mediaTypes = [...]string{"application/json", "text/csv; charset=utf-8; header=present", "application/x-ndjson"}
)

// plainAccept reports whether the header surely admits JSON, without parsing.
func plainAccept(header []byte) bool {
	switch string(header) {
	case "", "*/*", "application/json":
		return true
	}
	return false
}

// pickMedia reads Accept for a route that offers the first n media types: the
// highest weight wins, the more precise range counts, JSON wins among equals.
func pickMedia(header string, n media) media {
	if header == "" {
		return mediaJSON
	}
	best, weight := noMedia, 0
	for m := range n {
		if w := mediaWeight(header[:min(len(header), maxAccept)], mediaNames[m]); w > weight {
			best, weight = m, w
		}
	}
	return best
}

// mediaWeight returns the weight of the most precise range that covers name.
func mediaWeight(header, name string) int {
	group, _, _ := strings.Cut(name, "/")
	precision, weight := 0, 0
	for item := range strings.SplitSeq(header, ",") {
		pattern, w, ok := weighted(item)
		if !ok {
			continue
		}
		p := 0
		switch {
		case strings.EqualFold(pattern, name), name == mediaNames[mediaNDJSON] && strings.EqualFold(pattern, "application/ndjson"):
			p = 3
		case strings.EqualFold(pattern, group+"/*"):
			p = 2
		case pattern == "*/*":
			p = 1
		}
		if p > precision || p == precision && p > 0 && w > weight {
			precision, weight = p, w
		}
	}
	return weight
}
