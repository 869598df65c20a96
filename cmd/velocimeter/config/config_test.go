package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/velocimeter/velocimeter/cmd/velocimeter/config"
)

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "velocimeter.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func env(pairs map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := pairs[name]; return v, ok }
}

func TestDefaults(t *testing.T) {
	c, err := config.Load(config.Sources{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:8080" || c.AdminListen != "127.0.0.1:9090" || c.Data != "./velocimeter-data" ||
		c.Market.Tokens != 500 || c.Market.Tick != time.Second || c.Store.Days != 0 || c.Store.Minutes != 7*24*time.Hour || len(c.CoinMarketCap.Keys) != 0 {
		t.Errorf("defaults are %+v", c.Config)
	}
}

func TestPrecedence(t *testing.T) {
	file := write(t, "market:\n  tokens: 10\n  seed: 10\n  tick: 10s\nlog: {level: debug}\n")
	vars := env(map[string]string{"VELOCIMETER_MARKET_SEED": "20", "VELOCIMETER_MARKET_TICK": "20s"})
	c, err := config.Load(config.Sources{File: file, Env: vars, Flags: map[string]string{"market-tick": "30s"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Market.Tokens != 10 || c.Market.Seed != 20 || c.Market.Tick != 30*time.Second || c.Log.Level != -4 {
		t.Errorf("got %+v, %v", c.Market, c.Log)
	}
	if got := c.Values["market.tokens"].Origin; got != file+":2" {
		t.Errorf("origin %q", got)
	}
}

func TestKeys(t *testing.T) {
	f := func(want string, vars map[string]string, file string) {
		t.Helper()
		c, err := config.Load(config.Sources{File: write(t, file), Env: env(vars)})
		if err != nil || strings.Join(c.CoinMarketCap.Keys, "|") != want {
			t.Errorf("keys %v, %v", c, err)
		}
	}
	f("aaaaaaaa", map[string]string{"CMC_API_KEY": "aaaaaaaa"}, "log: {level: info}")
	f("bbbbbbbb|cccccccc|dddddddd", map[string]string{"COINMARKETCAP_KEY_1": "bbbbbbbb", "COINMARKETCAP_KEY_2": "cccccccc", "COINMARKETCAP_KEY_4": "dddddddd"}, "log: {level: info}")
	f("eeeeeeee|ffffffff", nil, "coinmarketcap:\n  keys: [eeeeeeee, ffffffff]\n")
	f("gggggggg", nil, "coinmarketcap:\n  keys: gggggggg\n")
}

func TestErrorsNameTheirPlace(t *testing.T) {
	f := func(file, want string) {
		t.Helper()
		name := write(t, file)
		_, err := config.Load(config.Sources{File: name})
		if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), strings.ReplaceAll(want, "FILE", name)) {
			t.Errorf("%q gives %v; want %q", file, err, want)
		}
	}
	f("listen: nowhere\n", "FILE:1: listen: \"nowhere\" is no address")
	f("# x\nlisten: localhost:99999\n", "FILE:2: listen: port \"99999\" is not in 1…65535")
	f("market:\n  tokens: 0\n", "FILE:2: market.tokens: 0 is not in 1…100000")
	f("market:\n  tokens: many\n", "FILE:2: market.tokens: \"many\" is no whole number")
	f("market:\n  tokens: [1]\n", "FILE:2: market.tokens: a list is not understood here")
	f("market:\n  tokns: 5\n", "FILE:2: market.tokns: unknown setting; did you mean market.tokens?")
	f("market: 5\n", "FILE:1: market: expected a mapping")
	f("nonsense: 5\n", "FILE:1: nonsense: unknown setting")
	f("listen:\n", "FILE:1: listen: has no value")
	f("", "FILE:1: the file holds no settings")
	f("# nothing\n", "FILE:1: the file holds no settings")
	f("replay:\n  speed: 2\n", "FILE:2: replay.speed: needs a replay.file")
	f("listen: a:1\nlisten: b:2\n", "FILE:2: mapping key \"listen\" already defined")
	f("listen: &x a:1\n", "FILE:1: listen: anchors, aliases and tags are not understood")
	f("a: [\n", "FILE:1: ")
	f("log:\n  level: loud\n", "FILE:2: log.level: \"loud\" is not one of debug, info, warn, error")
	f("store:\n  keep_1m: 1s\n", "FILE:2: store.keep_1m: 1s is not in 24h")
	f("store:\n  sync_window: soon\n", "FILE:2: store.sync_window: \"soon\" is no duration")
	f("store:\n  min_free: 1.5GiB\n", "FILE:2: store.min_free: \"1.5GiB\" is no size; write 268435456")
	f("store:\n  ballast: -1\n", "FILE:2: store.ballast: \"-1\" is no size")
	f("store:\n  ballast: 9999999999GiB\n", "FILE:2: store.ballast: 9999999999GiB is not in 0…1099511627776 bytes")
	f("coinmarketcap:\n  base_url: http://example.com\n", "FILE:2: coinmarketcap.base_url: sends the key unencrypted")
	f("coinmarketcap:\n  base_url: https://u:p@example.com\n", "FILE:2: coinmarketcap.base_url: is no http or https address")
	f("coinmarketcap:\n  keys: short\n", "FILE:2: coinmarketcap.keys: key 1 is not 8 to 128")
	f("admin_listen: 127.0.0.1:8080\n", "admin_listen: is the same address as listen")
	f("engine:\n  trend_off: 3\n", "FILE:2: engine.trend_off: 3 is above engine.trend_on")
	f("replay:\n  loop: true\n", "FILE:2: replay.loop: needs a replay.file")
	f("listen: a:1\n---\nlisten: b:1\n", "a second document")
	f(strings.Repeat("#", 2<<20), "larger than 1 MiB")
	if _, err := config.Load(config.Sources{File: "no-such-file.yaml", FileBy: "--config"}); err == nil || !strings.Contains(err.Error(), `cannot read configuration "no-such-file.yaml" (--config): no such file`) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := config.Load(config.Sources{File: t.TempDir()}); err == nil {
		t.Error("a folder was read")
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := config.Load(config.Sources{
		File: write(t, "market:\n  tokens: 0\n  tick: 0s\n"), Flags: map[string]string{"speed": "fast"}, Env: env(map[string]string{"VELOCIMETER_LISTEN": "x"}),
	})
	for _, want := range []string{":2: market.tokens", ":3: market.tick", "--speed: replay.speed", "VELOCIMETER_LISTEN: listen"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
}

func TestSecretsStayHidden(t *testing.T) {
	const canary = "canary-0123456789-canary"
	c, err := config.Load(config.Sources{Env: env(map[string]string{"CMC_API_KEY": canary})})
	if err != nil {
		t.Fatal(err)
	}
	if out := strings.Join(c.Origins(), "\n"); strings.Contains(out, canary) || !strings.Contains(out, "***nary") {
		t.Errorf("printed:\n%s", out)
	}
	for _, bad := range []string{canary + "\x00", canary + " x", canary + strings.Repeat("y", 200)} {
		if _, err := config.Load(config.Sources{Env: env(map[string]string{"CMC_API_KEY": bad})}); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("error %v", err)
		}
	}
}

func TestMistypedVariables(t *testing.T) {
	f := func(pair string, ok bool) {
		t.Helper()
		if _, err := config.Load(config.Sources{Environ: []string{"PATH=/bin", pair}}); (err == nil) != ok {
			t.Errorf("%s: %v", pair, err)
		}
	}
	f("VELOCIMETER_LISTEN=127.0.0.1:1", true)
	f("VELOCIMETER_CONFIG=x", true)
	f("VELOCIMETER_LISTN=127.0.0.1:1", false)
	f("VELOCIMETER_NOPE=1", false)
	f("VELOCIMETER_SERVICE_HOST=10.0.0.1", true)
	f("VELOCIMETER_PORT_8080_TCP=tcp://10.0.0.1:8080", true)
	f("VELOCIMETER_PORT=tcp://10.0.0.1:8080", true)
}

// A file with keys is nobody else's to read.
func TestKeyFilePermissions(t *testing.T) {
	name := write(t, "coinmarketcap:\n  keys: abcdefgh12345678\n")
	f := func(mode os.FileMode, want string) {
		t.Helper()
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		_, err := config.Load(config.Sources{File: name})
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "abcdefgh")) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	f(0o600, "")
	f(0o400, "")
	f(0o644, ":2: coinmarketcap.keys: others can read this file (mode 0644)")
	f(0o640, "mode 0640")
	name = write(t, "allow_insecure_permissions: true\ncoinmarketcap:\n  keys: abcdefgh12345678\n")
	f(0o644, "")
}

// A printed configuration is a configuration file that says the same.
func TestPrintedFileReadsBack(t *testing.T) {
	c, err := config.Load(config.Sources{Flags: map[string]string{"listen": "127.0.0.1:1234", "dirt": "0.25", "market-tick": "2s"}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.Load(config.Sources{File: write(t, strings.Join(c.Origins(), "\n"))})
	if err != nil {
		t.Fatal(err)
	}
	for path, v := range c.Values {
		if again.Values[path].Text != v.Text {
			t.Errorf("%s: %q reads back as %q", path, v.Text, again.Values[path].Text)
		}
	}
}

func FuzzYAML(f *testing.F) {
	f.Add([]byte("market:\n  tokens: 5\n"))
	f.Add([]byte("a: &b [*b]\n<<: *b\n"))
	f.Add([]byte("coinmarketcap: {keys: [a, b]}\n? x\n: y"))
	f.Fuzz(func(t *testing.T, text []byte) {
		name := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(config.Sources{File: name}); err != nil && !errors.Is(err, config.ErrInvalid) {
			t.Fatal(err)
		}
	})
}
