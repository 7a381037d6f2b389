// Package revocation holds the list of a provider's tokens, sessions and users that were revoked before they expired. The
// list is in a server that speaks Redis' protocol; each process keeps a copy in memory, so that no request waits for it.
//
// The key of an entry is PREFIX ISSUER ":" KIND ":" VALUE, where ISSUER is the SHA-256 of the issuer in lower-case hex and
// KIND is jti, sid or sub. VALUE is whatever follows, so that no value can be taken for another key. The value of a sub is
// the Unix time up to which the user's tokens are revoked; that of the others does not matter. After an entry is set,
// KIND ":" VALUE is published on the channel PREFIX ISSUER. A process subscribes first and then reads all keys, and reads
// them again each minute: a message that was lost is made up for.
//
// An entry stays in memory until its time to live has passed, even if the server has lost it.
package revocation
