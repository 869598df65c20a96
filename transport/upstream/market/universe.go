package simulator

import (
	_ "embed" // the table of well-known coins
	"math"
	"strconv"
	"strings"

	"github.com/velocimeter/velocimeter/engine/market"
)

// headTable lists well-known coins in the order of their size at the end of
// 2025: id, symbol, name, slug, sector, price, circulating and maximum supply,
// year added, platform id. Their paths are invented.
//
//go:embed head.csv
var headTable string

// universe knows which coin is listed in which slot at any time. A slot always
// holds exactly one listed coin; in a tenth of the slots beyond the head the
// coin is replaced now and then, by a new id.
type universe struct {
	seed  uint64
	slots []slot
	head  map[market.ID]*coin
	names uint64 // offset into the space of invented names
}

type slot struct {
	coin *coin // the newest generation asked for so far
	gen  int64
	life market.Millis // 0: the coin stays
	skew market.Time
}

func newUniverse(seed uint64, tokens int) *universe {
	u := &universe{seed: seed, slots: make([]slot, tokens), head: make(map[market.ID]*coin), names: hash2(seed, streamSlots-1)}
	lines := strings.Split(strings.TrimSpace(headTable), "\n")
	for i, line := range lines {
		c := u.headCoin(i, strings.Split(line, "|"))
		u.head[c.id] = c
		if i < tokens {
			u.slots[i].coin = c
		}
	}
	for i := len(lines); i < tokens; i++ {
		s := &u.slots[i]
		h := hash2(seed, streamSlots+uint64(i))
		if h%10 == 0 {
			s.life = market.Millis(between(mix(h), 15*24, 45*24)) * market.Hour
			s.skew = market.Time(unit(mix(h+1))*float64(s.life/market.Hour)) * market.Time(market.Hour)
		}
		s.coin = u.invent(i, s, 0)
	}
	return u
}

// at returns the coin that is listed in a slot at an instant.
func (u *universe) at(i int, t market.Time) *coin {
	s := &u.slots[i]
	if s.life == 0 {
		return s.coin
	}
	gen := int64(t+s.skew) / int64(s.life)
	if gen == s.gen {
		return s.coin
	}
	c := u.invent(i, s, gen)
	if gen > s.gen {
		s.coin, s.gen = c, gen
	}
	return c
}

// before returns the coin that the slot held before the one of t; nil if none.
func (u *universe) before(i int, t market.Time) *coin {
	s := &u.slots[i]
	if s.life == 0 {
		return nil
	}
	gen := int64(t+s.skew) / int64(s.life)
	if gen < 1 {
		return nil
	}
	return u.invent(i, s, gen-1)
}

func (u *universe) headCoin(i int, f []string) *coin {
	number := func(s string) float64 {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil && s != "" {
			panic("BUG: bad number in the table of coins: " + s)
		}
		return n
	}
	id := market.ID(number(f[0]))
	c := &coin{
		id: id, slot: int32(i), info: &market.Info{Symbol: f[1], Name: f[2], Slug: f[3]},
		stream: hash2(u.seed, streamSlots+uint64(i)), sector: sectorOf(f[4]),
		price: number(f[5]), supply: number(f[6]), maxSupply: number(f[7]),
		listed: 0, added: f[8] + "-07-13T00:00:00.000Z", platform: u.head[market.ID(number(f[9]))],
	}
	u.character(c, i)
	c.noVolume = false
	c.totalRatio = 1
	if c.maxSupply > c.supply {
		c.totalRatio = math.Min(c.maxSupply/c.supply, between(hash2(c.stream, 20), 1, 1.4))
	}
	switch id {
	case 1, 1027:
		c.beta, c.sectorBeta, c.volatility, c.growth = 1, 0.2, 0.15, 0.008
		c.totalRatio = 1
	case 5176, 4705: // gold
		c.beta, c.sectorBeta, c.volatility, c.turnover = 0.05, 0, 0.12, math.Log(0.08)
	}
	return c
}

func sectorOf(name string) uint8 {
	for i, s := range sectorNames {
		if s == name {
			return uint8(i)
		}
	}
	return 8 // rwa and whatever else: infrastructure
}

// invent makes the coin of a slot and generation beyond the table.
func (u *universe) invent(i int, s *slot, gen int64) *coin {
	stream := hash2(hash2(u.seed, streamSlots+uint64(i)), uint64(gen))
	draw := func(n uint64) uint64 { return hash2(stream, n) }
	c := &coin{slot: int32(i), stream: stream, sector: uint8(1 + draw(1)%(numSectors-1)), added: "2021-08-26T13:40:22.000Z"}
	if draw(2)%60 == 0 {
		c.sector = sectorStable
	}
	c.id = market.ID(40_000 + i)
	name := u.name(i, gen)
	slug := strings.ToLower(strings.ReplaceAll(name, " ", "-"))
	if s.life != 0 {
		c.id = market.ID(1_000_000 + (gen%10_000)*100_000 + int64(i))
		c.listed = market.Time(gen*int64(s.life)) - s.skew
		c.delisted = c.listed.Add(s.life)
		c.added = string(c.listed.AppendRFC3339(nil))
		slug += "-" + strconv.FormatInt(gen, 10)
	}
	c.info = &market.Info{Symbol: u.symbol(i, name, draw(3)), Name: name, Slug: slug}
	if draw(4)%10 < 6 {
		c.platform = u.head[[]market.ID{1027, 1839, 5426, 1027}[draw(5)%4]]
	}
	// The caps of rank 100 to 5,000 fall about with the power −1.7 of the rank.
	usd := 4e8*math.Pow(float64(i)/100, -1.7)*between(draw(6), 0.6, 1.5) + 3000*between(draw(7), 0.1, 3)
	c.price = math.Pow(10, between(draw(8), -6, 2.3))
	if c.stable() {
		c.price = 1
	}
	c.supply = usd / c.price
	u.character(c, i)
	return c
}

// character draws how a coin behaves.
func (u *universe) character(c *coin, rank int) {
	draw := func(n uint64) uint64 { return hash2(c.stream, n) }
	c.beta, c.sectorBeta, c.volatility = between(draw(21), 0.8, 1.5), between(draw(22), 0.3, 1), between(draw(23), 0.2, 0.9)
	c.turnover = math.Log(0.05) + 1.1*node(draw(24)) + 0.9*node(draw(25))
	if c.stable() {
		c.beta, c.sectorBeta, c.volatility, c.turnover = 0, 0, 0.003, math.Log(between(draw(26), 0.37, 0.55))
	}
	share := between(draw(27), 0.57, 0.73)
	if rank < 50 {
		share = 0.9
	}
	c.updateShare = uint64(share * math.MaxUint64)
	c.pairs = 3 + int(12000/math.Pow(float64(rank+1), 0.9)*between(draw(28), 0.5, 1.5))
	c.noVolume = draw(29)%1000 < 24 // 24 of 1,000 in the recording of 2021
	c.whole = draw(30)%2 == 0
	if draw(31)%5 < 2 {
		c.growth = between(draw(32), 0, 0.04)
	}
	if draw(36)%100 < 8 {
		c.selfSupply = math.Floor(c.supply * between(draw(37), 0.8, 1.3))
	}
	if c.maxSupply != 0 || rank < 100 {
		return
	}
	c.totalRatio = between(draw(33), 1, 1.8)
	if draw(34)%200 == 0 {
		c.totalRatio = 0.97 // circulating above total happens: 5 of 1,000
	}
	if draw(35)%100 < 56 {
		c.maxSupply = math.Ceil(c.supply * c.totalRatio * between(draw(38), 1, 1.5))
	}
}

var (
	nameStarts = strings.Fields("Al Ar Aq As Av Be Bi Bo Ca Ce Co Cy De Di Do Du El En Er Fa Fi Fo Ga Ge Go Ha He Hy In Io Ja Jo " +
		"Ka Ke Ko La Le Li Lu Ma Me Mi Mo Na Ne No Ob Om On Or Pa Pe Po Qu Ra Re Ro Sa Se So Ta Te To Ve")
	nameMiddles = strings.Fields("ba be bo da de di do fa fi ga go la le li lo lu ma me mi mo na ne ni no pa po ra re ri ro sa se si so " +
		"ta te ti to va ve vi vo xa xi ya yo za ze zi zo dra tra cle stra phi the chi gra kri nda nti rra lla mpa nte sko")
	nameEnds = strings.Fields("n r s x th m l nt sh ra na lia ro dex vo rix ")
	nameTail = []string{
		"", " Money", " Protocol", " Network", " Finance", " Token", " Chain", " AI",
		" Labs", " DAO", " Coin", " Swap", " Games", " World", " Cash", " Inu",
	}
)

// name maps (slot, generation) to one of 2^22 names. Different slots of one
// generation never share a name: an odd multiplier permutes the space.
func (u *universe) name(i int, gen int64) string {
	n := (uint64(i) + uint64(gen)*131_071) * 0x9e375
	n = (n + u.names) & (1<<22 - 1)
	end := n >> 12 & 15
	return nameStarts[n&63] + nameMiddles[n>>6&63] + nameEnds[end] + nameTail[n>>16&15] + strings.Repeat(" II", int(n>>20&1)) +
		strings.Repeat(" X", int(n>>21&1))
}

// symbol is made from the name; a few coins take one that another already has.
func (u *universe) symbol(i int, name string, h uint64) string {
	if h%64 == 0 {
		return u.slots[int(mix(h)%uint64(min(i, 100)))].coin.info.Symbol
	}
	word, rest, _ := strings.Cut(strings.ToUpper(name), " ")
	size := 3 + int(h>>8%3)
	s := word[:min(size, len(word))]
	if rest != "" && h>>16&1 == 0 {
		s += rest[:1]
	}
	return s
}
