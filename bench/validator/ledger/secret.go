package ledger

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
)

// Canary is a secret that must never be seen again.
type Canary struct {
	name  string
	forms [][]byte
}

// NewCanary returns the forms in which a secret of at least 24 bytes would be
// recognised: any half of it, in hexadecimal or base64. Its last four
// characters may be shown.
func NewCanary(name, secret string) Canary {
	c := Canary{name: name}
	half := len(secret) / 2
	for _, part := range []string{secret[:half], secret[half/2 : half/2+half], secret[half : len(secret)-4]} {
		c.forms = append(c.forms, []byte(part), []byte(hex.EncodeToString([]byte(part))))
	}
	for shift := range 3 {
		text := secret[shift : len(secret)-4]
		whole := base64.StdEncoding.EncodeToString([]byte(text))
		c.forms = append(c.forms, []byte(whole[:len(whole)/2]))
	}
	return c
}

// Searched looks for the secrets in what somebody read.
func (b *Book) Searched(where string, data []byte, canaries []Canary) {
	for _, c := range canaries {
		found := ""
		for _, form := range c.forms {
			if i := bytes.Index(data, form); i >= 0 {
				found = "…" + string(data[max(0, i-40):i])
				break
			}
		}
		b.Check(Secret, found == "", "%s holds the secret %s, after %q", where, c.name, found)
	}
}
