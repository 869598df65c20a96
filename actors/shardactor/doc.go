// Package shardactor hosts one shard of the market and is the parent of its
// token actors. A tick arrives as one Run message; the shard hands every quote
// inline to the quote's token actor and reports its part, whatever happens.
//
// A quote that makes its token panic is undone, so the token is exactly what
// it was. The token's actor is restarted by our own supervision and gets the
// quote a second time; if it panics again the quote is quarantined and the
// token keeps its last good state. A token that goes on failing is left alone
// for 0.1 s of engine time, then 0.2 s, … 30 s, for ever, with one attempt each
// time; it is never stopped for failing. Other tokens notice nothing.
package shardactor
