package coinmarketcap

import (
	"context"
	"net/url"

	"github.com/velocimeter/velocimeter/engine/market"
	"github.com/velocimeter/velocimeter/engine/source"
	"github.com/velocimeter/velocimeter/transport/upstream/jsonscan"
)

// Entry is one token of the provider's map.
type Entry struct {
	ID     market.ID
	Symbol string
	Name   string
	Slug   string
	Rank   uint32 // 0 where it has none
	Active bool
}

// Map fetches the provider's active tokens. Rows without id or symbol are left
// out. Errors are as of Fetch.
func (c *Client) Map(ctx context.Context) (entries []Entry, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what := call{"/v1/cryptocurrency/map", url.Values{"listing_status": {"active"}}}
	err = c.rotate(ctx, what, func(data []byte) (failure *source.Error) {
		entries = nil
		return read(data, func(s *jsonscan.Scanner) {
			for ok := s.Enter(jsonscan.Array); ok && s.More() && len(entries) < MaxRows; {
				if e := readEntry(s); e.ID > 0 && e.Symbol != "" {
					entries = append(entries, e)
				}
			}
		})
	})
	return entries, err
}

func readEntry(s *jsonscan.Scanner) (e Entry) {
	members(s, func(key string) {
		switch key {
		case "id":
			e.ID = market.ID(max(readInt(s), 0))
		case "symbol":
			e.Symbol = readName(s, maxSymbol)
		case "name":
			e.Name = readName(s, maxName)
		case "slug":
			e.Slug = readName(s, maxSlug)
		case "rank", "cmc_rank":
			e.Rank = uint32(max(readInt(s), 0))
		case "is_active":
			e.Active = readInt(s) == 1
		default:
			s.Skip()
		}
	})
	return e
}

// KeyInfo is what the provider says about the plan of a key; 0 where missing.
type KeyInfo struct {
	PerMinute   int // requests
	PerMonth    int // credits
	MonthResets market.Time
	MinuteLeft  int // requests
	DayUsed     int // credits
	DayLeft     int // credits; often missing
	MonthUsed   int // credits
	MonthLeft   int // credits
}

// KeyInfo fetches plan and usage of the key in use. Errors are as of Fetch.
func (c *Client) KeyInfo(ctx context.Context) (info KeyInfo, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.rotate(ctx, call{"/v1/key/info", nil}, func(data []byte) *source.Error {
		info = KeyInfo{}
		return read(data, func(s *jsonscan.Scanner) {
			members(s, func(string) {
				members(s, func(key string) { info.member(s, key) })
			})
		})
	})
	return info, err
}

// member reads a member of plan or usage.
func (i *KeyInfo) member(s *jsonscan.Scanner, key string) {
	switch key {
	case "credit_limit_monthly":
		i.PerMonth = max(readInt(s), 0)
	case "credit_limit_monthly_reset_timestamp":
		if s.Kind() == jsonscan.String {
			i.MonthResets, _ = ParseTime(s.String())
			return
		}
		s.Skip()
	case "rate_limit_minute":
		i.PerMinute = max(readInt(s), 0)
	case "current_minute":
		usage(s, nil, &i.MinuteLeft)
	case "current_day":
		usage(s, &i.DayUsed, &i.DayLeft)
	case "current_month":
		usage(s, &i.MonthUsed, &i.MonthLeft)
	default:
		s.Skip()
	}
}

func usage(s *jsonscan.Scanner, used, left *int) {
	members(s, func(key string) {
		switch {
		case key == "credits_used" && used != nil:
			*used = max(readInt(s), 0)
		case key == "credits_left", key == "requests_left":
			*left = max(readInt(s), 0)
		default:
			s.Skip()
		}
	})
}

// read walks over an envelope and hands its data to fn.
func read(data []byte, fn func(*jsonscan.Scanner)) *source.Error {
	var s jsonscan.Scanner
	var a Answer
	s.Reset(data)
	members(&s, func(key string) {
		switch key {
		case "status":
			a.HasStatus = true
			readStatus(&s, &a.Status)
		case "data":
			a.HasData = true
			fn(&s)
		default:
			s.Skip()
		}
	})
	if err := s.End(); err != nil {
		return &source.Error{Kind: source.KindInvalidPayload, Detail: err.Error()}
	}
	return refusal(&a)
}

// members calls fn for every member of the object that comes next; fn has to
// read the value. Anything but an object is stepped over.
func members(s *jsonscan.Scanner, fn func(key string)) {
	if s.Kind() != jsonscan.Object {
		s.Skip()
		return
	}
	for ok := s.Enter(jsonscan.Object); ok; {
		var key []byte
		if key, ok = s.Key(); ok {
			fn(string(key))
		}
	}
}

func readName(s *jsonscan.Scanner, limit int) string {
	if s.Kind() != jsonscan.String {
		s.Skip()
		return ""
	}
	return string(Clean(s.String(), limit))
}
