// Package market is the vocabulary of the house: what a token, a quote, a
// field, a number, a published snapshot and a sealed tick are. It holds no
// policy. Every other room speaks in these types, so their names and ids are
// permanent; the table of fields is the one that clients see at /api/v1/schema.
package market
