package mesh

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// settingsToUsher are those of the DestinationRule of the check's Service, for its port; nil: there is none.
func (in *ingress) settingsToUsher() (*networking.ClientTLSSettings, error) {
	_, host, _ := strings.Cut(in.check.GetService(), "/")
	for _, rule := range in.rules {
		if rule.GetHost() != host {
			continue
		}
		for _, port := range rule.GetTrafficPolicy().GetPortLevelSettings() {
			if port.GetPort().GetNumber() == in.check.GetPort() {
				return port.GetTls(), nil
			}
		}
		return nil, fmt.Errorf("the DestinationRule of %s says nothing of port %d", host, in.check.GetPort())
	}
	return nil, nil
}

// socketToUsher is what istiod makes of them for a gateway (pilot/pkg/networking/core/cluster_tls.go), but that secrets come by
// their names alone, as there is nobody to ask for them.
func (in *ingress) socketToUsher() (*corev3.TransportSocket, error) {
	settings, err := in.settingsToUsher()
	if settings == nil || err != nil {
		return nil, err
	}
	context := &tlsv3.UpstreamTlsContext{Sni: settings.GetSni(), CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsParams:     &tlsv3.TlsParameters{TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3},
		AlpnProtocols: []string{"h2"},
	}}
	certificate, authority := "kubernetes://"+settings.GetCredentialName(), "kubernetes://"+settings.GetCredentialName()+"-cacert"
	switch settings.GetMode() {
	case networking.ClientTLSSettings_ISTIO_MUTUAL:
		certificate, authority = "default", "ROOTCA"
		context.Sni = "outbound_.9001_._." + in.check.GetService()
		context.CommonTlsContext.AlpnProtocols = []string{"istio-peer-exchange", "istio", "h2"}
	case networking.ClientTLSSettings_MUTUAL:
	case networking.ClientTLSSettings_SIMPLE:
		certificate = ""
	default:
		return nil, fmt.Errorf("a DestinationRule with TLS %v", settings.GetMode())
	}
	if certificate != "" {
		context.CommonTlsContext.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{{Name: certificate}}
	}
	validation := &tlsv3.CertificateValidationContext{}
	for _, name := range settings.GetSubjectAltNames() {
		validation.MatchSubjectAltNames = append(validation.MatchSubjectAltNames, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}}) //nolint:staticcheck // it is what istiod uses
	}
	context.CommonTlsContext.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: validation, ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: authority},
		},
	}
	return &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: anyOf(context)}}, nil
}
