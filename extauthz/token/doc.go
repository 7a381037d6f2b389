// Package token verifies bearer tokens: a [Credential] in, a *policy.Identity out.
//
// A token is taken apart strictly before any cryptography: one compact form, canonical base64url, JSON with one reading,
// an algorithm from an allow-list, a key that belongs to the issuer and to that algorithm (RFC 8725). Keys are fetched
// in the background only, never because a request asks for them, and are held in memory. A bad token is a *policy.Refusal
// Unauthenticated; a provider whose keys are not there is Unavailable, never 401.
//
// jose.go is the only file of Usher that knows a JOSE library.
package token
