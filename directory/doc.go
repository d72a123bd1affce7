// Package directory holds tenants, users, groups, service principals and applications, and answers who
// is a member of what.
//
// All of it lives in an immutable State that follows the change feed (see package feed). Reads are methods
// of State; writes are methods of Directory, which check every rule against the state at the head of
// the feed, while the store's write lock is held, and so need no constraint in the database.
//
// Passwords are secrets: they are not in State but read from the store when somebody signs in.
package directory
