// Package token verifies access tokens: a [Credential] in, a *policy.Identity out.
//
// Its promise: a token is accepted only if the configured issuer made it, for this service, for now, and the sender is
// the one that it is bound to. Everything else is refused, and what cannot be known is never guessed:
//
//   - A bad token is a *policy.Refusal with Unauthenticated. A provider that cannot be asked, and of which nothing is known
//     that is still good, is one with Unavailable: never a 401, as it is not the client's fault.
//   - A JWT is taken apart strictly before any cryptography: one compact form, canonical base64url, JSON with one reading,
//     an algorithm from the allow-list, a key that belongs to the issuer and to that algorithm (RFC 8725). Issuer, audience
//     and expiry are always checked.
//   - Keys are fetched in the background only (Run), and held in memory. A JWK set that can be read is what the issuer says:
//     what it lacks is withdrawn, for tokens that were verified before too. Through an outage keys are good for 24 hours
//     after the last fetch that succeeded. Unknown key ids, however many, cause one fetch in ten seconds at most.
//   - An opaque token is asked about at its provider (RFC 7662), within Envoy's patience, once at a time, and the answer is
//     good for half a minute.
//   - cnf is always enforced: a client certificate (RFC 8705), a DPoP proof (RFC 9449), or both where both are asked for. One
//     that is not understood refuses the token.
//
// What was verified is remembered by the SHA-256 of its exact bytes, so that it costs no more than that the next time.
// No token, proof, secret or claim is in an error or a log.
//
// jose.go is the only file of Usher that knows a JOSE library: it reads JWKs and checks signatures with it. The rest of a
// token is read here, as that library is laxer than this promise.
package token
