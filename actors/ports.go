package actors

import (
	"github.com/velocimeter/velocimeter/actors/fetchactor"
	"github.com/velocimeter/velocimeter/actors/journalactor"
	"github.com/velocimeter/velocimeter/actors/marketactor"
	"github.com/velocimeter/velocimeter/actors/shardactor"
)

// The ports that this room consumes, each declared by the actor that uses it.
type (
	// Fetcher asks a provider for its whole market.
	Fetcher = fetchactor.Fetcher
	// Feed yields a recording.
	Feed = fetchactor.Feed
	// Schedule decides when a provider is asked.
	Schedule = fetchactor.Schedule
	// Journal is the store as its single writer needs it.
	Journal = journalactor.Journal
	// Publisher is told every sealed tick.
	Publisher = marketactor.Publisher
	// Clock is engine time.
	Clock = marketactor.Clock
)

// What Status is made of.
type (
	// MarketStats describe the supervisor.
	MarketStats = marketactor.Stats
	// JournalStats describe the journal.
	JournalStats = journalactor.Stats
	// ProviderFigures describe one provider.
	ProviderFigures = fetchactor.Figures
	// Quarantined is a quote that its token could not take.
	Quarantined = shardactor.Quarantined
)
