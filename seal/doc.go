// Package seal keeps the secrets of a store encrypted at rest. It stands between the feed and the store: whoever writes
// and reads secrets sees plaintext, the database sees none.
//
//	master key ──wraps──▶ data key ──encrypts──▶ body of every secret
//	a file, the           one at a time; kept     XChaCha20-Poly1305 with a random nonce,
//	environment or        wrapped in the          bound to kind, key, tenant and expiry
//	a KMS plugin          database
//
// The data key is a record of its own among the secrets. It is replaced, in one transaction together with every body, when
// it has come of age, when the master key changes and on command. So there is never more than one data key in
// force, a process killed at any moment leaves a database that one master key opens, and who kept an old master key or an
// old data key can read nothing that was sealed later.
//
// A nonce of 192 bits may be drawn at random as often as one likes, so nobody has to count over all replicas and restarts how often
// a data key was used, which AES-GCM's 96 bits would ask for.
//
// What this does not give: a database that somebody can write to can be set back to an earlier state of itself, and which
// secrets there are, of which kind and size, is not hidden.
package seal
