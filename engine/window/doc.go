// Package window holds the rolling windows of one token: trends of the velocity
// over 1h, 4h, 12h, 24h and 7d, VWAPs over 1h, 24h and 7d, the volatility and
// the median velocity of 7 days. It knows no clock: now is the time of the
// newest sample, and every result is as of then. The formulas are those of the
// table of fields; the comments here say only what that leaves open.
//
// # What is retained
//
// With minute(t) = ⌊t / 1 min⌋ and now the newest sample's time, of all samples
// ever added a window retains
//
//   - fine: the last sample of each minute m with m > minute(now) − 1440;
//   - coarse: of what is older, up to minute(now) − 1440, the last sample of each
//     5 minutes (aligned to the hour), as long as t > now − 7d;
//   - the last sample with a velocity that left so at now − 7d: the 7d base.
//
// So what is retained, and every result but the two that remember their past
// (a direction's hysteresis and the EWMA of the volatility), is a function of the
// samples and now alone. A retained sample keeps its own time to the
// millisecond. Values are kept as float32; what is no value, negative or beyond
// 3.4e38 is kept as NaN, "none". A sample without a velocity does not count for
// trends and the median, one without price or volume not for VWAPs; still it
// replaces the sample before it in its minute or 5 minutes.
//
// The volatility is the exception: it takes the price of each sample as given,
// in float64, when the sample is added.
//
// # Layout and byte budget
//
// A closed sample is an entry of 14 bytes: three float32 and the millisecond in
// its minute as uint16. Minutes follow from the order; a run of empty ones is an
// entry of its own. In the coarse tier the minute within the 5 is in the three
// sign bits, which no value needs. The newest sample lives in the struct, where
// all that happens within a minute stays.
//
//	                    entries      bytes, Go's size class
//	fine    ≤ 1440, slab of 1462     20,480
//	coarse  ≤ 1743, slab of 1755     24,576
//	struct Window                       768
//	full                             45,824  = 44.8 KiB
//
// Slabs grow by doubling from 32 entries (448 bytes), the first with the second
// minute; they do not shrink. A token that was just born costs its struct.
//
// # Running sums
//
// Per period a window keeps n, Σt, Σt², Σv, Σtv, and Σpw, Σw, over the closed
// cells inside: a sample costs what enters and leaves, mostly nothing. The
// newest sample is added when a result is read, so samples of the same minute
// replace one another without trace. Rounding cannot pile up: sums are made anew
// from the cells at turns that depend on the samples alone (hourly for 1h, daily
// for 7d, spread over tokens by a hash of the first sample), after gaps of over
// an hour, and when they have shrunk so much that what left took their digits
// with it. Slopes of up to 17 samples are fitted to the cells themselves. State
// carries the sums to the bit: a restored window goes on exactly as the one that
// was saved.
//
// # What float32 costs
//
// A retained value is off by at most 6e-8 of itself. Against unrounded samples a
// change is off by less than 2e-5 percentage points where the velocity has not
// multiplied (published to 1e-4), a VWAP by less than 1e-7 of itself (7 digits),
// a slope over 1h by some 1e-8 of the velocity per hour. That is above the
// published 1e-9 for velocities over 0.1, which is why published values are
// defined as what a recomputation from the retained samples gives; running sums
// and cells agree to 1e-9. Flags, counts and directions follow the retained
// values everywhere.
package window
