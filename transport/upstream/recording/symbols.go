package recording

import (
	"strconv"
	"strings"
	"sync"

	"github.com/velocimeter/velocimeter/engine/market"
)

// lookup returns the CoinMarketCap id and slug of a symbol. Symbols are shared;
// the table has the well-known coin, and only where there is no doubt.
func lookup(symbol string) (id market.ID, slug string, ok bool) {
	e, ok := symbols()[symbol]
	return e.id, e.slug, ok
}

type entry struct {
	id   market.ID
	slug string
}

// symbols is the table, read on first use: most runs never replay a series.
var symbols = sync.OnceValue(func() map[string]entry {
	m := make(map[string]entry, 512)
	for line := range strings.Lines(symbolTable) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		id, err := strconv.ParseUint(f[1], 10, 31)
		if err != nil {
			panic("BUG: symbol table: " + line)
		}
		m[f[0]] = entry{id: market.ID(id), slug: f[2]}
	}
	return m
})

// symbolTable has a line a coin, by id: symbol, id, slug.
const symbolTable = `
BTC 1 bitcoin
LTC 2 litecoin
XRP 52 xrp
DOGE 74 dogecoin
VTC 99 vertcoin
DGB 109 digibyte
RDD 118 redd
DASH 131 dash
MONA 213 monacoin
XWC 268 whitecoin
MAID 291 maidsafecoin
XMR 328 monero
BCN 372 bytecoin-bcn
BTS 463 bitshares
XLM 512 stellar
SYS 541 syscoin
XVG 693 verge
NXS 789 nexus
USDT 825 tether
XEM 873 nem
HNC 1004 helleniccoin
ETH 1027 ethereum
SC 1042 siacoin
REP 1104 augur
DCR 1168 decred
LSK 1214 lisk
STEEM 1230 steem
WAVES 1274 waves
ARDR 1320 ardor
ETC 1321 ethereum-classic
STRAX 1343 stratis
NEO 1376 neo
ZEC 1437 zcash
GLM 1455 golem-network-tokens
GNT 1455 golem-network-tokens
MKR 1518 maker
KMD 1521 komodo
MLN 1552 enzyme
NANO 1567 nano
ARK 1586 ark
RLC 1637 rlc
GNO 1659 gnosis-gno
ANT 1680 aragon
QTUM 1684 qtum
BAT 1697 basic-attention-token
ZEN 1698 horizen
MIOTA 1720 iota
IOTA 1720 iota
BNT 1727 bancor
NMR 1732 numeraire
FUN 1757 funfair
SNT 1759 status
ERG 1762 ergo
EOS 1765 eos
STORJ 1772 storj
MCO 1776 crypto-com
GAS 1785 gas
PPT 1789 populous
OMG 1808 omg
CVC 1816 civic
VGX 1817 voyager-token
BCH 1831 bitcoin-cash
BNB 1839 binance-coin
DNT 1856 district0x
BTM 1866 bytom
DENT 1886 dent
ZRX 1896 0x
LRC 1934 loopring
TRX 1958 tron
MANA 1966 decentraland
LINK 1975 chainlink
KNC 1982 kyber-network
KIN 1993 kin
ADA 2010 cardano
XTZ 2011 tezos
REQ 2071 request
BTG 2083 bitcoin-gold
KCS 2087 kucoin-token
ICX 2099 icon
ENJ 2130 enjin-coin
POWR 2132 power-ledger
REV 2135 revain
ETN 2137 electroneum
DATA 2143 streamr
BCD 2222 bitcoin-diamond
UQC 2273 uquid-coin
FIL 2280 filecoin
STMX 2297 stormx
ELF 2299 aelf
WAXP 2300 wax
MED 2303 medibloc
UTK 2320 utrust
TEL 2394 telcoin
IOST 2405 iostoken
THETA 2416 theta
AGI 2424 singularitynet
AGIX 2424 singularitynet
TRAC 2467 origintrail
ZIL 2469 zilliqa
POLY 2496 polymath-network
CHSB 2499 swissborg
HT 2502 huobi-token
REN 2539 ren
TUSD 2563 trueusd
ONT 2566 ontology
TOMO 2570 tomochain
RVN 2577 ravencoin
SNX 2586 synthetix-network-token
LOOM 2588 loom-network
NPXS 2603 pundi-x
WAN 2606 wanchain
XDC 2634 xdc-network
CVT 2642 cybervein
XHV 2662 haven-protocol
HOT 2682 holo
NEXO 2694 nexo
CEL 2700 celsius
UBT 2758 unibright
MRPH 2763 morpheus-network
AVA 2776 travala
IOTX 2777 iotex
NKN 2780 nkn
MFT 2896 mainframe
SUSD 2927 susd
MVL 2982 mvl
VTHO 3012 vethor-token
VET 3077 vechain
INO 3085 ino-coin
INB 3116 insight-chain
THR 3144 thorecoin
QNT 3155 quant
ONG 3217 ontology-gas
NRG 3218 energi
GUSD 3306 gemini-dollar
PAX 3330 paxos-standard
ZB 3351 zb-token
TMTG 3356 the-midas-touch-gold
USDC 3408 usd-coin
META 3418 metadium
ABBC 3437 abbc-coin
DIVI 3441 divi
FTM 3513 fantom
BSV 3602 bitcoin-sv
CRO 3635 crypto-com-coin
LPT 3640 livepeer
HEDG 3662 hedgetrade
BTMX 3673 bitmax-token
RIF 3701 rsk-infrastructure-framework
WBTC 3717 wrapped-bitcoin
HXRO 3748 hxro
FET 3773 fetch
ANKR 3783 ankr
ATOM 3794 cosmos
BORA 3801 bora
CELR 3814 celer-network
TFUEL 3822 theta-fuel
ORBS 3835 orbs
BOTX 3873 botxcoin
IRIS 3874 irisnet
FX 3884 function-x
MATIC 3890 polygon
OKB 3897 okb
OCEAN 3911 ocean-protocol
GNY 3936 gny
ONE 3945 harmony
ARRR 3951 pirate-chain
LEO 3957 unus-sed-leo
RSR 3964 reserve-rights
EUM 3968 elitium
COTI 3992 coti
BTCB 4023 bitcoin-bep2
ALGO 4030 algorand
MX 4041 mx-token
AMPL 4056 ampleforth
CHZ 4066 chiliz
XCM 4105 coinmetro-token
PROM 4120 prometeus
SAPP 4121 sapphire
AKRO 4134 akropolis
RUNE 4157 thorchain
LUNC 4172 terra-luna
UOS 4189 ultra
NOIA 4191 syntropy
FTT 4195 ftx-token
WIN 4206 wink
KLAY 4256 klaytn
GT 4269 gatetoken
SXP 4279 swipe
BEST 4361 bitpanda-ecosystem-token
FLOW 4558 flow
HBAR 4642 hedera-hashgraph
BAND 4679 band-protocol
BUSD 4687 binance-usd
PAXG 4705 pax-gold
VLX 4747 velas
NU 4761 nucypher
HUSD 4779 husd
KAVA 4846 kava
STX 4847 stacks
DAI 4943 multi-collateral-dai
CKB 4948 nervos-network
HEX 5015 hex
OXT 5026 orchid
MWC 5031 mimblewimblecoin
KSM 5034 kusama
USDN 5068 neutrino-usd
EGR 5075 egoras
OGN 5117 origin-protocol
WRX 5161 wazirx
XAUT 5176 tether-gold
CTC 5198 creditcoin
HNS 5221 handshake
EWT 5268 energy-web-token
SOLO 5279 sologenic
ORC 5326 orbit-chain
LRG 5329 largo-coin
HIVE 5370 hive-blockchain
PRQ 5410 parsiq
SOL 5426 solana
CTSI 5444 cartesi
CCXX 5482 counos-x
JST 5488 just
TTT 5514 the-transfer-token
HTR 5552 hathor
ICH 5560 idea-chain-coin
KEEP 5566 keep-network
CELO 5567 celo
STAKE 5601 xdai
SCRT 5604 secret
ZLW 5614 zelwin
MATH 5616 math
UMA 5617 uma
ORN 5631 orion-protocol
AR 5632 arweave
HNT 5665 helium
IZE 5677 ize
RENDER 5690 render
SKL 5691 skale-network
COMP 5692 compound
BAL 5728 balancer
RENBTC 5777 renbtc
DRS 5796 doctors-coin
XOR 5802 sora
DFI 5804 defichain
AVAX 5805 avalanche
SWAP 5829 trustswap
NXM 5830 nxm
CIPHC 5844 cipher-core-token
YFI 5864 yearn-finance
CSPR 5899 casper
YFII 5957 yearn-finance-ii
TWT 5964 trust-wallet-token
SHIB 5994 shiba-inu
SRM 6187 serum
SAND 6210 the-sandbox
OMI 6432 ecomi
NEAR 6535 near-protocol
CRV 6538 curve-dao-token
DOT 6636 polkadot-new
GRT 6719 the-graph
KLV 6724 klever
SUSHI 6758 sushiswap
AXS 6783 axie-infinity
PHA 6841 phala-network
EGLD 6892 elrond-egld
HBTC 6941 huobi-btc
AMP 6945 amp
REEF 6951 reef
FRAX 6952 frax
BAKE 7064 bakerytoken
UNI 7083 uniswap
BRG 7096 bridge-oracle
UST 7129 terrausd
CAKE 7186 pancakeswap
WBNB 7192 wbnb
TITAN 7206 titanswap
POLS 7208 polkastarter
DODO 7224 dodo
INJ 7226 injective-protocol
DDX 7228 derivadao
ALPHA 7232 alpha-finance-lab
AAVE 7278 aave
XPRT 7281 persistence
XVS 7288 venus
YOUC 7321 youcash
DEXE 7326 dexe
CFX 7334 conflux-network
AKT 7431 akash-network
WOO 7501 wootrade
SFI 7617 saffron-finance
ROSE 7653 oasis-network
RFOX 7654 redfox-labs
BCHA 7686 bitcoin-cash-abc-2
EAURIC 7758 eauric
VAI 7824 vai
MIR 7857 mirror-protocol
BADGER 7859 badger-dao
FLR 7950 flare
vXVS 7960 venus-xvs
vBNB 7961 venus-bnb
vBTC 7962 venus-btc
LDO 8000 lido-dao
STETH 8085 steth
1INCH 8104 1inch
SFP 8119 safepal
NFTX 8191 nftx
ZKS 8202 zkswap
KSP 8296 klayswap-protocol
MDX 8335 mdex
JASMY 8425 jasmy
RAY 8526 raydium
MASK 8536 mask-network
FEI 8642 fei-protocol
MINA 8646 mina
XYM 8677 symbol
SAFEMOON 8757 safemoon
ANC 8857 anchor-protocol
BTCST 8891 btc-standard-hashrate-token
ICP 8916 internet-computer
TKO 9020 tokocrypto
TRIBE 9025 tribe
PUNDIX 9040 pundix-new
PENDLE 9481 pendle
LUSD 9566 liquity-usd
NFT 9816 apenft
CVX 9903 convex-finance
SUN 10529 sun-token
IMX 10603 immutable-x
XEC 10791 ecash
FLOKI 10804 floki-inu
BGB 11092 bitget-token-new
TON 11419 toncoin
OP 11840 optimism-ethereum
ARB 11841 arbitrum
WLD 13502 worldcoin-org
ENS 13855 ethereum-name-service
BTT 16086 bittorrent-new
APE 18876 apecoin-ape
LUNA 20314 terra-luna-v2
KAS 20396 kaspa
EURC 20641 euro-coin
SUI 20947 sui
ONDO 21159 ondo-finance
APT 21794 aptos
STRK 22691 starknet-token
TIA 22861 celestia
TAO 22974 bittensor
BONK 23095 bonk1
SEI 23149 sei
PEPE 24478 pepe
FDUSD 26081 first-digital-usd
ZRO 26997 layerzero
MNT 27075 mantle
PYUSD 27772 paypal-usd
SPX 28081 spx6900
PYTH 28177 pyth-network
POL 28321 polygon-ecosystem-token
DYDX 28324 dydx-chain
JTO 28541 jito
WIF 28752 dogwifhat
JUP 29210 jupiter-ag
AERO 29270 aerodrome-finance
VIRTUAL 29420 virtual-protocol
USDE 29470 ethena-usde
ETHFI 29814 ether-fi-ethfi
ENA 30171 ethena
EIGEN 30494 eigenlayer
HYPE 32196 hyperliquid
S 32684 sonic
KAIA 32880 kaia
FARTCOIN 33597 fartcoin
PENGU 34466 pudgy-penguins
TRUMP 35336 official-trump
PI 35697 pi
`
