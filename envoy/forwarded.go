package envoy

import (
	"errors"
	"fmt"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// addProxies says who may connect where policies take the client's certificate from the x-forwarded-client-cert of a proxy in
// front. Whoever can write that header can name any certificate: so the listener then takes no connection but those of the
// named proxies, proved by a certificate of their own. It forwards their header as it is (FORWARD_ONLY), and never adds to
// it: Usher refuses a header with two elements, as only the proxies know which one is of the client.
func (b *bootstrap) addProxies(policies []v1alpha1.AuthPolicy, o Options) (problems []error) {
	var forwarded, others []string
	for _, p := range policies {
		switch {
		case p.Spec.Mode == v1alpha1.Shadow || len(p.Spec.Hosts) == 0:
		case p.Spec.ClientCertificate != nil:
			forwarded = append(forwarded, policyName(&p))
		default:
			others = append(others, policyName(&p))
		}
	}
	if len(forwarded) == 0 {
		if len(o.TrustedProxies) > 0 {
			problems = append(problems, errors.New("trusted proxies: no policy has clientCertificate, so that nobody is asked for a client's certificate but the client: expected none"))
		}
		return problems
	}
	for _, text := range o.TrustedProxies {
		name, err := parseSAN(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("trusted proxy %q: %w", text, err))
		}
		b.Proxies = append(b.Proxies, name)
	}
	if len(o.TrustedProxies) == 0 {
		problems = append(problems, fmt.Errorf("policy %q: clientCertificate needs the names of the proxies that are believed: expected --trusted-proxy-san", forwarded[0]))
	}
	if o.TLS == nil || o.TLS.ClientCAFile == "" {
		problems = append(problems, fmt.Errorf("policy %q: clientCertificate needs to know the proxies by their certificates: expected --tls-client-ca-file, with the authority of the proxies", forwarded[0]))
	}
	for _, name := range others {
		problems = append(problems, fmt.Errorf("policy %q has no clientCertificate, and policy %q has it: on one listener the proxy's certificate would be taken for the client's; "+
			"give both the field, or write two configurations", name, forwarded[0]))
	}
	return problems
}
