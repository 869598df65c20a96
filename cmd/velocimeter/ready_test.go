package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
)

// A server that was killed before its first answer is not ready after the next
// start either: used seqs are no market.
func TestNotReadyWithoutATick(t *testing.T) {
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	defer provider.Close()
	settings := filepath.Join(t.TempDir(), "velocimeter.yaml")
	text := fmt.Sprintf("coinmarketcap:\n  base_url: %s\n  keys: [abcdefghijklmnop]\n", provider.URL)
	if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`REST +(http://[^/]+)`)
	data := t.TempDir()
	for start := range 2 {
		kid := startChild(t.Context(), t, data, "--config", settings)
		var public string
		kid.until("an address", func() bool {
			if m := address.FindStringSubmatch(kid.log.String()); m != nil {
				public = m[1]
			}
			return public != ""
		})
		for _, path := range []string{"/readyz", "/api/v1/tokens"} {
			resp, err := kid.client.Get(public + path)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("start %d: %s is %d without a tick", start+1, path, resp.StatusCode)
			}
		}
		kid.end(syscall.SIGKILL)
	}
}
