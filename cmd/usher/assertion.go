package main

import (
	"net/http"
	"strings"
)

// assertionKeys serves the public keys that backends verify assertions by: /assertion/jwks.json has those of every policy, in a
// cluster of Usher's own namespace; /assertion/NAMESPACE/jwks.json those of another namespace, /assertion/POLICY/jwks.json those
// of one policy.
func assertionKeys(g *gate) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, ok := r.PathValue("path"), true
		if name == "jwks.json" {
			name = ""
		} else if name, ok = strings.CutSuffix(name, "/jwks.json"); name == "" {
			ok = false
		}
		state := g.current()
		if state == nil {
			answer(w, http.StatusServiceUnavailable, map[string]string{"error": "no manifests are in force yet"})
			return
		}
		var set []byte
		if ok {
			set = state.AssertionKeys(name)
		}
		if set == nil {
			answer(w, http.StatusNotFound, map[string]string{"error": "no policy or namespace of that name has an assertion"})
			return
		}
		// RFC 7517, section 8.5. A verifier that keeps the set longer learns of a new key late: a key is published before it
		// signs, see docs/assertion.md.
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Header().Set("Cache-Control", "public, max-age=60")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(set) // whoever asked has gone
	}
}
