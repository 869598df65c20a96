// Package config turns flags, environment, a YAML file and defaults into one
// validated Config. Every setting is a row of one table, so that the four
// sources, the help text and `config print` can never disagree. Problems name
// where the value came from (file and line, flag or variable), what is wrong
// and what is allowed; all of them are reported at once.
package config

import (
	"log/slog"
	"time"
)

// Config is the whole configuration of the program.
type Config struct {
	Listen        string // host:port of the public listener
	AdminListen   string // host:port of the admin listener
	TLS           TLS
	Data          string // folder of the store
	Log           Log
	CoinMarketCap CoinMarketCap
	Market        Market
	Replay        Replay
	Store         Store
	Backup        Backup
	Integrity     Integrity
	Engine        Engine
	Limits        Limits
	Stream        Stream

	AllowInsecurePermissions bool
}

// TLS names the files of the public listener's certificate; both or none.
type TLS struct{ Cert, Key string }

// Log says what is logged and how.
type Log struct {
	Level  slog.Level
	Format string // auto, text or json; auto is text on a terminal
}

// CoinMarketCap configures the provider. Without a key the embedded market is used.
type CoinMarketCap struct {
	Keys     []string
	BaseURL  string
	Limit    int // tokens to track
	Interval time.Duration
	API      string // v1 or v3
	// DayCredits and MonthCredits are what polling may cost; 0 for no budget.
	DayCredits, MonthCredits int
}

// Market configures the embedded market.
type Market struct {
	Listen string // of `velocimeter market`
	Plan   string // limits of the keys of `velocimeter market`
	Tokens int
	Tick   time.Duration
	Seed   uint64
	Digits string  // full or compact
	Dirt   float64 // 0…1
}

// Replay configures the replay of a recording; File is "" when live.
type Replay struct {
	File      string
	Speed     float64 // multiple of real time; 0 means as fast as possible
	Loop      bool
	FromStart bool
}

// Store configures durability and retention; a retention of 0 means for ever.
type Store struct {
	SyncWindow                               time.Duration
	Ticks, Minutes, FiveMinutes, Hours, Days time.Duration
	MinFree, Ballast                         int64 // bytes
	KeyFile, Key                             string
	OnDamage                                 string
}

// Backup configures copies of the store.
type Backup struct {
	Dir    string        // "": backups in the data folder
	Every  time.Duration // 0: only when asked for
	Keep   int
	MaxAge time.Duration // 0: however old
}

// Integrity configures the passes in which the program checks itself.
type Integrity struct {
	Every time.Duration // 0: only when asked for
}

// Engine configures the computing core.
type Engine struct {
	Shards            int     // 0: four per processor
	TrendOn, TrendOff float64 // %, the hysteresis of the trend direction
	SnapshotInterval  time.Duration
}

// Stream configures how streams are written.
type Stream struct {
	IOUring bool // where the system allows it
}

// Limits bound what clients may take.
type Limits struct {
	Connections       int // WebSocket connections in all
	ConnectionsPerIP  int
	ConnectionsPerKey int
	Loopback          bool // ConnectionsPerIP counts loopback too
	SharedChannels    int
	Subscriptions     int // of one connection
	Tokens            int // over all token lists of one connection
}
