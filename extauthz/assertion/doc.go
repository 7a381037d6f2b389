// Package assertion signs what a policy's backend is told of a user: a JSON Web Token (RFC 7519) of type
// usher-assertion+jwt, by ES256 or EdDSA, for one audience, that never outlives the user's own token. It does no I/O.
//
// An assertion depends on the identity and the policy alone, never on the request: so one is kept with the identity, and
// signed anew at half of its lifetime. The memo is the identity's own, hence gone with it, and no other identity can get it.
package assertion
