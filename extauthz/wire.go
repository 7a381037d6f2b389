package extauthz

import (
	"errors"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
)

// A CheckRequest is read by hand, one pass over its bytes, where it is written as Envoy writes it. The hand-written reader
// refuses nothing: whatever is out of the ordinary (a field or a wire type that it does not know, a message in two parts that
// must be merged, text that is not UTF-8, a message cut short) is left to the generated decoder, which refuses the check, or
// reads it, and writes what is needed of it as Envoy would have. So there is one reading of every message, the generated
// decoder's. FuzzWire holds the two against each other.

// message is what a decision may need of a CheckRequest, as it stood there: what counts of it, and what is malformed, is for
// decode to say. Its strings are parts of the CheckRequest, which must not outlive the check; only target is a copy of its own, as what
// is known of an object is kept by its path.
type message struct {
	http      bool // there is an HttpRequest
	method    string
	target    string // path
	authority string // host
	scheme    string
	bodyText  string // body
	rawBody   string
	source    string // the peer's address, if it is a socket's
	policy    string // named by context_extensions
	unsent    bool   // context_extensions say that Envoy sends no bodies
	headers   headers

	certificateText string // the peer's, as it was sent
}

// errUnread says that a message could not be read though the generated decoder reads it: a bug.
var errUnread = errors.New("the check cannot be read")

// read takes a CheckRequest. Of one that cannot be read nothing is left but its text.
func (m *message) read(text string) error {
	*m = message{}
	if !m.check(text) {
		*m = message{}
		plain, err := rewrite(text)
		if err != nil {
			return err
		}
		if !m.check(plain) {
			*m = message{}
			return errUnread
		}
	}
	for name, value := range m.headers.joined {
		m.headers.note(name, value)
	}
	m.target = strings.Clone(m.target)
	return nil
}

// wireText is a CheckRequest as it comes over the wire. One that cannot is no message.
func wireText(check *authv3.CheckRequest) string {
	out, err := proto.Marshal(check)
	if err != nil {
		return "\x00" // a field without a number
	}
	return string(out)
}

// rewrite has the generated code read a CheckRequest, and write what is needed of it.
func rewrite(text string) (string, error) {
	var check authv3.CheckRequest
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), &check); err != nil {
		return "", err
	}
	if a := check.Attributes; a != nil {
		a.Destination, a.MetadataContext, a.RouteMetadataContext, a.TlsSession = nil, nil, nil, nil
		if a.Source != nil {
			a.Source.Labels = nil
			if a.Source.GetAddress().GetSocketAddress() == nil {
				a.Source.Address = nil
			}
		}
	}
	out, err := proto.Marshal(&check)
	return string(out), err
}
