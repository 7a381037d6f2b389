package manifest

import (
	"fmt"
	"strings"
)

// forwardedHeader is the one header that a certificate can be forwarded in, as Envoy writes it.
const forwardedHeader = "x-forwarded-client-cert"

// clientCertificate says whether the client's certificate is the one that a proxy before Envoy forwards.
func (c *compiler) clientCertificate(o *Object) bool {
	switch text := o.AuthPolicy.Spec.ClientCertificate.ForwardedHeader; {
	case strings.EqualFold(text, forwardedHeader):
	case text == "":
		c.missing(o, forwardedHeader, "spec", "clientCertificate", "forwardedHeader")
	default:
		c.add(o.at("spec", "clientCertificate", "forwardedHeader"), fmt.Sprintf("found header %q", text), forwardedHeader, didYouMean(text, []string{forwardedHeader}))
	}
	return true
}
