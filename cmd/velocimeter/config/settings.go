package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Setting is one row of the table.
type Setting struct {
	Path    string // in the YAML file, dotted
	Flag    string
	Env     []string
	Default string
	Help    string
	Secret  bool
	List    bool // a YAML sequence, or a comma-separated text
	Bool    bool // the flag needs no value
	Used    Command
	set     func(*Config, string) error
}

// Command is a set of sub-commands that know a setting.
type Command uint8

// The sub-commands.
const (
	Serve Command = 1 << iota
	MarketServer
	ReplayFile
	RecordFile
	ExportFile
	ImportFile
	StoreTool  // verify, backup and restore
	BackupTool // backup
)

// everything is every command.
const everything = Serve | MarketServer | ReplayFile | RecordFile | ExportFile | ImportFile | StoreTool | BackupTool

// Settings returns the table. The slice must not be written to.
func Settings() []Setting { return table }

var table = buildTable()

func buildTable() []Setting {
	all := slices.Concat(serverSettings(), limitSettings(), storeSettings(), backupSettings(), integritySettings(), providerSettings(), marketSettings(), replaySettings(), engineSettings())
	for i := range all {
		s := &all[i]
		name := "VELOCIMETER_" + strings.ToUpper(strings.NewReplacer(".", "_").Replace(s.Path))
		s.Env = append([]string{name}, s.Env...)
	}
	return all
}

func serverSettings() []Setting {
	return []Setting{
		{
			Path: "listen", Flag: "listen", Default: "127.0.0.1:8080", Used: Serve, Help: "address of REST and streams",
			set: address(func(c *Config) *string { return &c.Listen }),
		},
		{
			Path: "admin_listen", Flag: "admin-listen", Default: "127.0.0.1:9090", Used: Serve | BackupTool, Help: "address of metrics, profiles, backups and integrity; keep it private",
			set: address(func(c *Config) *string { return &c.AdminListen }),
		},
		{
			Path: "tls.cert", Flag: "tls-cert", Used: Serve, Help: "PEM file of the certificate chain: REST and streams are then served over TLS",
			set: text(func(c *Config) *string { return &c.TLS.Cert }),
		},
		{
			Path: "tls.key", Flag: "tls-key", Used: Serve, Help: "PEM file of the certificate's private key",
			set: text(func(c *Config) *string { return &c.TLS.Key }),
		},
		{
			Path: "data", Flag: "data", Default: "./velocimeter-data", Used: Serve | ExportFile | ImportFile | StoreTool, Help: "folder of the store",
			set: text(func(c *Config) *string { return &c.Data }),
		},
		{
			Path: "log.level", Flag: "log-level", Default: "info", Used: everything, Help: "debug, info, warn or error",
			set: func(c *Config, v string) error { return parseLevel(v, &c.Log.Level) },
		},
		{
			Path: "log.format", Flag: "log-format", Default: "auto", Used: everything, Help: "text, json, or auto: text on a terminal",
			set: choice(func(c *Config) *string { return &c.Log.Format }, "auto", "text", "json"),
		},
		{
			Path: "allow_insecure_permissions", Default: "false", Bool: true, Used: Serve | RecordFile | ExportFile | ImportFile | StoreTool, Help: "let others read a configuration or key file that holds keys",
			set: boolean(func(c *Config) *bool { return &c.AllowInsecurePermissions }),
		},
	}
}

func limitSettings() []Setting {
	return []Setting{
		{
			Path: "limits.connections", Default: "20000", Used: Serve, Help: "stream connections at most",
			set: integer(func(c *Config) *int { return &c.Limits.Connections }, 1, 1_000_000),
		},
		{
			Path: "limits.connections_per_ip", Default: "1000", Used: Serve, Help: "stream connections of one IPv4 address or IPv6 /64; loopback is exempt",
			set: integer(func(c *Config) *int { return &c.Limits.ConnectionsPerIP }, 1, 1_000_000),
		},
		{
			Path: "limits.connections_per_key", Default: "1000", Used: Serve, Help: "stream connections with one key",
			set: integer(func(c *Config) *int { return &c.Limits.ConnectionsPerKey }, 1, 1_000_000),
		},
		{
			Path: "limits.count_loopback", Default: "false", Bool: true, Used: Serve, Help: "count loopback connections by address too, as behind a local proxy that tells no addresses",
			set: boolean(func(c *Config) *bool { return &c.Limits.Loopback }),
		},
		{
			Path: "limits.shared_channels", Default: "256", Used: Serve, Help: "stream channels that several connections share",
			set: integer(func(c *Config) *int { return &c.Limits.SharedChannels }, 1, 100_000),
		},
		{
			Path: "limits.subscriptions", Default: "256", Used: Serve, Help: "subscriptions of one connection",
			set: integer(func(c *Config) *int { return &c.Limits.Subscriptions }, 1, 100_000),
		},
		{
			Path: "limits.tokens", Default: "50000", Used: Serve, Help: "tokens in all token lists of one connection",
			set: integer(func(c *Config) *int { return &c.Limits.Tokens }, 1, 10_000_000),
		},
		{
			Path: "stream.io_uring", Default: "false", Bool: true, Used: Serve, Help: "gather the writes of a tick with io_uring where the system allows it (Linux 5.19), to save processor time; TLS connections are written to one by one",
			set: boolean(func(c *Config) *bool { return &c.Stream.IOUring }),
		},
	}
}

func storeSettings() []Setting {
	return []Setting{
		{
			Path: "store.sync_window", Flag: "sync-window", Default: "1s", Used: Serve, Help: "history is on disk after at most this long; 0 syncs every tick",
			set: duration(func(c *Config) *time.Duration { return &c.Store.SyncWindow }, 0, time.Minute),
		},
		{
			Path: "store.keep_ticks", Default: "2h", Used: Serve | ExportFile | ImportFile, Help: "how long every tick is kept",
			set: retention(func(c *Config) *time.Duration { return &c.Store.Ticks }, time.Hour),
		},
		{
			Path: "store.keep_1m", Default: "7d", Used: Serve | ExportFile | ImportFile, Help: "how long minutes are kept",
			set: retention(func(c *Config) *time.Duration { return &c.Store.Minutes }, 24*time.Hour),
		},
		{
			Path: "store.keep_5m", Default: "30d", Used: Serve | ExportFile | ImportFile, Help: "how long five-minute points are kept",
			set: retention(func(c *Config) *time.Duration { return &c.Store.FiveMinutes }, 24*time.Hour),
		},
		{
			Path: "store.keep_1h", Default: "400d", Used: Serve | ExportFile | ImportFile, Help: "how long hours are kept",
			set: retention(func(c *Config) *time.Duration { return &c.Store.Hours }, 24*time.Hour),
		},
		{
			Path: "store.keep_1d", Default: "forever", Used: Serve | ExportFile | ImportFile, Help: "how long days are kept",
			set: retention(func(c *Config) *time.Duration { return &c.Store.Days }, 24*time.Hour),
		},
		{
			Path: "store.min_free", Default: "256MiB", Used: Serve | ImportFile, Help: "free disk space below which history pauses; the stream goes on. It resumes by itself; 0 never pauses",
			set: size(func(c *Config) *int64 { return &c.Store.MinFree }, 0, 1<<40),
		},
		{
			Path: "store.ballast", Default: "64MiB", Used: Serve, Help: "room set aside in the data folder, given up when a write finds no space; 0 for none",
			set: size(func(c *Config) *int64 { return &c.Store.Ballast }, 0, 1<<40),
		},
		{
			Path: "store.on_damage", Default: "mend", Used: Serve | ImportFile, Help: "what a start, or an import, does about a damaged store: mend (keep it aside, go on with all that can be read) or stop (exit 74)",
			set: choice(func(c *Config) *string { return &c.Store.OnDamage }, "mend", "stop"),
		},
		{
			Path: "store.key_file", Flag: "store-key-file", Used: Serve | ExportFile | ImportFile | StoreTool, Help: "file of the keys that the store is encrypted with, one a line: the first for new files, the others to read older ones; `velocimeter store-key` makes one",
			set: text(func(c *Config) *string { return &c.Store.KeyFile }),
		},
		{
			Path: "store.key", Secret: true, Used: Serve | ExportFile | ImportFile | StoreTool, Help: "the same keys themselves, separated by commas or lines, instead of a file",
			set: text(func(c *Config) *string { return &c.Store.Key }),
		},
	}
}

func backupSettings() []Setting {
	return []Setting{
		{
			Path: "backup.dir", Flag: "backup-dir", Used: Serve | BackupTool, Help: "folder of the backups, best on another disk; backups in the data folder if not set",
			set: text(func(c *Config) *string { return &c.Backup.Dir }),
		},
		{
			Path: "backup.every", Default: "0", Used: Serve, Help: "time between two backups of the running server; 0: none but those asked for",
			set: pause(func(c *Config) *time.Duration { return &c.Backup.Every }, time.Minute, 366*24*time.Hour),
		},
		{
			Path: "backup.keep", Default: "7", Used: Serve, Help: "how many backups of a lineage are kept at most; the oldest go first",
			set: integer(func(c *Config) *int { return &c.Backup.Keep }, 1, 10_000),
		},
		{
			Path: "backup.max_age", Default: "0", Used: Serve, Help: "backups older than this go, but never the newest; 0: however old",
			set: pause(func(c *Config) *time.Duration { return &c.Backup.MaxAge }, time.Minute, maxRetention),
		},
	}
}

func integritySettings() []Setting {
	return []Setting{
		{
			Path: "integrity.every", Default: "1h", Used: Serve, Help: "time between two passes that check every stored record and compute served values again, at 2 % of a processor; 0: none but those asked for",
			set: pause(func(c *Config) *time.Duration { return &c.Integrity.Every }, time.Minute, 366*24*time.Hour),
		},
	}
}

func providerSettings() []Setting {
	return []Setting{
		{
			Path: "coinmarketcap.keys", Env: []string{"CMC_API_KEY"}, Secret: true, List: true, Used: Serve | RecordFile, Help: "API keys; without one the market is simulated",
			set: func(c *Config, v string) error { return parseKeys(v, &c.CoinMarketCap.Keys) },
		},
		{
			Path: "coinmarketcap.base_url", Default: "https://pro-api.coinmarketcap.com", Used: Serve | RecordFile, Help: "where the API is",
			set: func(c *Config, v string) error { return parseURL(v, &c.CoinMarketCap.BaseURL) },
		},
		{
			Path: "coinmarketcap.limit", Flag: "limit", Default: "500", Used: Serve | RecordFile, Help: "how many tokens to track, by rank",
			set: integer(func(c *Config) *int { return &c.CoinMarketCap.Limit }, 1, 20_000),
		},
		{
			Path: "coinmarketcap.interval", Flag: "interval", Default: "60s", Used: Serve | RecordFile, Help: "time between two polls; 200 tokens cost one credit",
			set: duration(func(c *Config) *time.Duration { return &c.CoinMarketCap.Interval }, time.Second, 24*time.Hour),
		},
		{
			Path: "coinmarketcap.day_credits", Default: "0", Used: Serve | RecordFile, Help: "credits to stay below in a day, at 95 %; polls become rarer as needed; 0: no budget",
			set: integer(func(c *Config) *int { return &c.CoinMarketCap.DayCredits }, 0, 1_000_000_000),
		},
		{
			Path: "coinmarketcap.month_credits", Default: "0", Used: Serve | RecordFile, Help: "the same for a month; the plan says how many there are",
			set: integer(func(c *Config) *int { return &c.CoinMarketCap.MonthCredits }, 0, 1_000_000_000),
		},
		{
			Path: "coinmarketcap.api", Default: "v1", Used: Serve | RecordFile, Help: "version of the listings endpoint: v1 or v3",
			set: choice(func(c *Config) *string { return &c.CoinMarketCap.API }, "v1", "v3"),
		},
	}
}

func marketSettings() []Setting {
	const simulated = Serve | MarketServer | RecordFile
	return []Setting{
		{
			Path: "market.listen", Flag: "listen", Default: "127.0.0.1:8090", Used: MarketServer, Help: "address of the CoinMarketCap-compatible API",
			set: address(func(c *Config) *string { return &c.Market.Listen }),
		},
		{
			Path: "market.plan", Flag: "plan", Default: "unlimited", Used: MarketServer, Help: "limits of a key: basic, builder, startup, growth, professional, enterprise or unlimited",
			set: choice(func(c *Config) *string { return &c.Market.Plan }, "basic", "builder", "startup", "growth", "professional", "enterprise", "unlimited"),
		},
		{
			Path: "market.tokens", Flag: "market-tokens", Default: "500", Used: simulated, Help: "tokens of the simulated market",
			set: integer(func(c *Config) *int { return &c.Market.Tokens }, 1, 100_000),
		},
		{
			Path: "market.tick", Flag: "market-tick", Default: "1s", Used: simulated, Help: "how often the simulated market moves",
			set: duration(func(c *Config) *time.Duration { return &c.Market.Tick }, 20*time.Millisecond, time.Hour),
		},
		{
			Path: "market.seed", Flag: "market-seed", Default: "42", Used: simulated, Help: "seed of the simulated market",
			set: func(c *Config, v string) error { return parseSeed(v, &c.Market.Seed) },
		},
		{
			Path: "market.digits", Flag: "market-digits", Default: "full", Used: simulated, Help: "full: 16-17 digits as CoinMarketCap prints; compact: 8 and 6",
			set: choice(func(c *Config) *string { return &c.Market.Digits }, "full", "compact"),
		},
		{
			Path: "market.dirt", Flag: "dirt", Default: "0", Used: simulated, Help: "share of damaged values in the simulated market, 0 to 1",
			set: number(func(c *Config) *float64 { return &c.Market.Dirt }, 0, 1),
		},
	}
}

func replaySettings() []Setting {
	return []Setting{
		{
			Path: "replay.file", Flag: "replay", Used: Serve | MarketServer, Help: "replay a recording instead: a listings answer or a series (.json, .jsonl, .gz)",
			set: text(func(c *Config) *string { return &c.Replay.File }),
		},
		{
			Path: "replay.speed", Flag: "speed", Default: "1", Used: Serve | MarketServer, Help: "multiple of the recording's pace, or max",
			set: func(c *Config, v string) error { return parseSpeed(v, &c.Replay.Speed) },
		},
		{
			Path: "replay.loop", Flag: "loop", Default: "false", Bool: true, Used: Serve | MarketServer, Help: "begin again when the recording ends",
			set: boolean(func(c *Config) *bool { return &c.Replay.Loop }),
		},
		{
			Path: "replay.from_start", Flag: "from-start", Default: "false", Bool: true, Used: Serve, Help: "forget where the last replay of this file stood",
			set: boolean(func(c *Config) *bool { return &c.Replay.FromStart }),
		},
	}
}

func engineSettings() []Setting {
	return []Setting{
		{
			Path: "engine.shards", Default: "0", Used: Serve, Help: "groups of tokens that compute side by side; 0: four per processor",
			set: integer(func(c *Config) *int { return &c.Engine.Shards }, 0, 1024),
		},
		{
			Path: "engine.trend_on", Default: "2", Used: Serve | ReplayFile, Help: "% of change at which a trend begins",
			set: number(func(c *Config) *float64 { return &c.Engine.TrendOn }, 0.001, 1000),
		},
		{
			Path: "engine.trend_off", Default: "1", Used: Serve | ReplayFile, Help: "% of change at which a trend ends",
			set: number(func(c *Config) *float64 { return &c.Engine.TrendOff }, 0.001, 1000),
		},
		{
			Path: "engine.snapshot_interval", Default: "60s", Used: Serve, Help: "time between two saved states; recovery replays about this much of live time",
			set: duration(func(c *Config) *time.Duration { return &c.Engine.SnapshotInterval }, time.Second, time.Hour),
		},
	}
}

func text(at func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if strings.TrimSpace(v) == "" {
			return errors.New("is empty")
		}
		*at(c) = v
		return nil
	}
}

func address(at func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		_, port, err := net.SplitHostPort(v)
		if err != nil {
			return fmt.Errorf("%q is no address; write host:port, such as 127.0.0.1:8080", v)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("port %q is not in 1…65535", port)
		}
		*at(c) = v
		return nil
	}
}

func choice(at func(*Config) *string, allowed ...string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if !slices.Contains(allowed, v) {
			return fmt.Errorf("%q is not one of %s", v, strings.Join(allowed, ", "))
		}
		*at(c) = v
		return nil
	}
}

func integer(at func(*Config) *int, low, high int) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("%q is no whole number", v)
		}
		if n < low || n > high {
			return fmt.Errorf("%d is not in %d…%d", n, low, high)
		}
		*at(c) = n
		return nil
	}
}

func number(at func(*Config) *float64, low, high float64) func(*Config, string) error {
	return func(c *Config, v string) error {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return fmt.Errorf("%q is no number", v)
		}
		if !(f >= low && f <= high) {
			return fmt.Errorf("%v is not in %v…%v", f, low, high)
		}
		*at(c) = f
		return nil
	}
}

func boolean(at func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v != "true" && v != "false" {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		*at(c) = v == "true"
		return nil
	}
}

func duration(at func(*Config) *time.Duration, low, high time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		d, err := parseDuration(v)
		if err != nil {
			return err
		}
		if d < low || d > high {
			return fmt.Errorf("%s is not in %s…%s", v, low, high)
		}
		*at(c) = d
		return nil
	}
}

// pause is a duration that may be 0, for none.
func pause(at func(*Config) *time.Duration, low, high time.Duration) func(*Config, string) error {
	some := duration(at, low, high)
	return func(c *Config, v string) error {
		if v == "0" {
			*at(c) = 0
			return nil
		}
		if err := some(c, v); err != nil {
			return fmt.Errorf("%w; or write 0 for none", err)
		}
		return nil
	}
}

func retention(at func(*Config) *time.Duration, low time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v == "forever" {
			*at(c) = 0
			return nil
		}
		d, err := parseDuration(v)
		if err != nil {
			return err
		}
		if d < low || d > maxRetention {
			return fmt.Errorf("%s is not in %s…36500d; or write forever", v, low)
		}
		*at(c) = d
		return nil
	}
}

// size takes bytes as in 268435456, 256MiB or 1GiB.
func size(at func(*Config) *int64, low, high int64) func(*Config, string) error {
	return func(c *Config, v string) error {
		digits, unit := v, int64(1)
		for i, suffix := range [...]string{"KiB", "MiB", "GiB"} {
			if d, ok := strings.CutSuffix(v, suffix); ok {
				digits, unit = d, 1<<(10*(i+1))
			}
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil {
			return fmt.Errorf("%q is no size; write 268435456, 512KiB, 256MiB or 1GiB", v)
		}
		if n > uint64(high/unit) || int64(n)*unit < low {
			return fmt.Errorf("%s is not in %d…%d bytes", v, low, high)
		}
		*at(c) = int64(n) * unit
		return nil
	}
}

const maxRetention = 36500 * 24 * time.Hour

// ParseDuration reads what time.ParseDuration reads, and days such as 7d; the
// error shows how.
func ParseDuration(v string) (time.Duration, error) { return parseDuration(v) }

// parseDuration reads what time.ParseDuration reads, and days such as 7d.
func parseDuration(v string) (time.Duration, error) {
	if v == "0" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(v, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, fmt.Errorf("%q is no duration; write 500ms, 60s, 5m, 2h or 7d", v)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration; write 500ms, 60s, 5m, 2h or 7d", v)
	}
	return d, nil
}

func parseLevel(v string, at *slog.Level) error {
	switch v {
	case "debug", "info", "warn", "error":
		return at.UnmarshalText([]byte(v))
	}
	return fmt.Errorf("%q is not one of debug, info, warn, error", v)
}

func parseSeed(v string, at *uint64) error {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no whole number from 0 to 2^64−1", v)
	}
	*at = n
	return nil
}

func parseSpeed(v string, at *float64) error {
	if v == "max" {
		*at = 0
		return nil
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || !(f >= 0.01 && f <= 1e6) {
		return fmt.Errorf("%q is neither max nor a number in 0.01…1000000", v)
	}
	*at = f
	return nil
}

func parseURL(v string, at *string) error {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return errors.New("is no http or https address without user, query and fragment")
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	if u.Scheme == "http" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("sends the key unencrypted: use https, or http on loopback only")
	}
	*at = strings.TrimRight(v, "/")
	return nil
}

// parseKeys reads a comma-separated list; it never quotes a key in an error.
func parseKeys(v string, at *[]string) error {
	keys := []string{}
	for i, k := range strings.Split(v, ",") {
		k = strings.TrimSpace(k)
		if len(k) < 8 || len(k) > 128 || strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("key %d is not 8 to 128 printable ASCII characters", i+1)
		}
		keys = append(keys, k)
	}
	*at = keys
	return nil
}
