package policy

import (
	"sync/atomic"
	"time"
)

// Identity is who a verified token speaks for. It is immutable and shared between requests once a verifier has
// returned it; it must not be copied.
type Identity struct {
	Name        string // CEL's user.identity; never empty
	DisplayName string
	Permissions []string
	Claims      map[string]any
	Provider    string    // name of the IdentityProvider that vouched
	Expires     time.Time // the token's own end, without skew

	anonymous bool // nobody, where the policy lets nobody in; made by New alone

	// memo holds the identity headers of the policy that asked last: they depend on the identity alone.
	memo atomic.Pointer[headerMemo]
	// signed holds the last assertions, see Keep.
	signed [2]atomic.Pointer[Signed]
}

// valid reports whether it is somebody, or the nobody of a policy. The zero value is not.
func (id *Identity) valid() bool { return id != nil && (id.Name != "") != id.anonymous }

type headerMemo struct {
	policy  *Policy
	headers []Header
	err     error
}
