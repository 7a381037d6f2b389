// Package wycheproof runs the signature vectors of C2SP/wycheproof (Apache-2.0) against extauthz/token. It is a module of
// its own, as the vectors are 109 MB and no part of the product. Their version is pinned in go.mod.
package wycheproof
