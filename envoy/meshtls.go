package envoy

import (
	"errors"
	"fmt"
)

// tlsToUsher reports whether the mesh's connections to Usher are TLS of ours.
func (k *Kubernetes) tlsToUsher() bool {
	return k.UsherCA != "" || k.UsherClientSecret != "" || k.UsherInMesh
}

// addUsherTLS adds who Usher is to the mesh's gateway. Which kind of object holds what for it, each mesh says.
func (m *mesh) addUsherTLS(o Options) (problems []error) {
	if o.UsherTLS != nil {
		problems = append(problems, errors.New("TLS to Usher: files are for a bootstrap: a mesh takes them from objects"))
	}
	if !m.tlsToUsher() {
		if o.UsherSAN != "" {
			problems = append(problems, fmt.Errorf("usher's SAN %q: without --usher-tls-ca nothing is verified: expected both or neither", o.UsherSAN))
		}
		return problems
	}
	if m.Service.Outside {
		return problems // which is a problem already
	}
	name, err := usherSAN(o.UsherSAN, endpoint{Host: m.Service.Host, Named: true})
	if err != nil {
		problems = append(problems, err)
	}
	m.UsherTLS = &usherTLS{SNI: m.Service.Host, SAN: name}
	return problems
}

// checkUsherTLS says what Envoy Gateway cannot do for it.
func (g *gateway) checkUsherTLS() (problems []error) {
	if g.UsherClientSecret != "" && g.UsherCA == "" {
		problems = append(problems, errors.New("TLS to Usher: a client certificate without what Usher's is verified against: expected --usher-tls-ca"))
	}
	if g.UsherClientSecret != "" && g.GatewayClass == "" {
		problems = append(problems, fmt.Errorf("TLS to Usher: the client certificate is a field of the Gateway: expected --gateway-class, so that it is written; "+
			"for a Gateway that is there, leave --usher-tls-client-secret out and set its spec.tls.backend.clientCertificateRef to %s", g.UsherClientSecret))
	}
	return problems
}

// UsherTLSMode is the mode of Istio's ClientTLSSettings.
func (i *istio) UsherTLSMode() string {
	switch {
	case i.UsherInMesh:
		return "ISTIO_MUTUAL"
	case i.UsherClientSecret != "":
		return "MUTUAL"
	}
	return "SIMPLE"
}

// UsherCredential is the Secret that Istio reads for it.
func (i *istio) UsherCredential() string {
	if i.UsherClientSecret != "" {
		return i.UsherClientSecret
	}
	return i.UsherCA
}

// checkUsherTLS says what Istio cannot do for it.
func (i *istio) checkUsherTLS(o Options) (problems []error) {
	if i.UsherInMesh {
		if i.UsherCA != "" || i.UsherClientSecret != "" {
			problems = append(problems, errors.New("TLS to Usher: in the mesh, Istio gives both sides their certificates: expected --usher-in-mesh without --usher-tls-ca and --usher-tls-client-secret"))
		}
		if o.UsherSAN == "" {
			problems = append(problems, errors.New("TLS to Usher: Istio's certificates have no DNS name: expected --usher-tls-san, such as spiffe://cluster.local/ns/usher/sa/usher"))
		}
	}
	if s := i.UsherClientSecret; s != "" && i.UsherCA != "" && i.UsherCA != s && i.UsherCA != s+"-cacert" {
		problems = append(problems, fmt.Errorf("usher CA %q: Istio reads the client secret's own ca.crt, or the secret of the same name with -cacert: expected one of the two, or none", i.UsherCA))
	}
	return problems
}
