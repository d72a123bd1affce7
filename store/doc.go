// Package store keeps the state of a server in one SQL database: SQLite in the data directory, or
// PostgreSQL for several replicas. It implements feed.Log and knows nothing of what the records mean.
//
//	head      one row      the epoch, the newest revision, and the horizon
//	records   kind, key    tenant, body; revision and seq of the last change (body NULL: deleted)
//	secrets   kind, key    the same, and when the secret expires
//	migrations             which of migrations/*.sql were applied, with their checksums
//
// Records are their own change feed: each row carries the revision that last changed it and its place seq
// in that change, so what changed after a position is the rows with a greater revision, in that order, and
// never more than the state itself. A deleted record stays as a row without a body until Prune drops it and
// moves the horizon: whoever stands before the horizon may have missed a deletion and must load again.
//
//	revision   1      4          7   9      head
//	           ├──────┼──────────┼───┼───────┤
//	                  horizon    └───┴───────┴── Since(7): rows changed at 8 and later
//
// A writer holds the head from the start of its transaction to its commit: on SQLite by BEGIN IMMEDIATE, on
// PostgreSQL by the lock of the head's row. Therefore revisions become visible in order. Readers of more than
// one statement read one snapshot.
//
// The queries and the migrations are the same for both engines; what differs stands in the type engine and
// in sqlite.go and postgres.go. The contract is package storetest, which runs on both.
package store
