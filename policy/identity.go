package policy

import "time"

// Identity is who a verified token speaks for. It is immutable and shared between requests once a verifier has
// returned it.
type Identity struct {
	Name        string // CEL's user.identity; never empty
	DisplayName string
	Permissions []string
	Claims      map[string]any
	Provider    string    // name of the IdentityProvider that vouched
	Expires     time.Time // the token's own end, without skew
}
