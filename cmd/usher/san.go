package main

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Tags of a GeneralName (RFC 5280, section 4.2.1.6).
const (
	tagDNS = 2
	tagURI = 6
)

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// checkSAN takes exact names only: a pattern is how somebody else's certificate gets in.
func checkSAN(text string) error {
	if !strings.Contains(text, "://") {
		if text == "" || len(text) > 253 || strings.ContainsAny(text, "*/:@ \t") {
			return errors.New("expected a URI such as spiffe://mesh.example.com/envoy, or a DNS name without wildcard")
		}
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(text, "* #?") {
		return errors.New("expected a URI such as spiffe://mesh.example.com/envoy, or a DNS name without wildcard")
	}
	return nil
}

// allowedSAN returns nil if the certificate has one of the names, byte for byte as the authority signed it: a URL that is
// parsed and written again may be another one. A certificate with a SPIFFE id must have no other URI (X.509-SVID, section 2,
// https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md).
func allowedSAN(c *x509.Certificate, allowed []string) error {
	names, uris, err := namesOf(c)
	if err != nil {
		return err
	}
	if len(uris) > 1 && slices.ContainsFunc(uris, func(u string) bool { return strings.HasPrefix(strings.ToLower(u), "spiffe:") }) {
		return fmt.Errorf("the client's certificate has a SPIFFE id and %d more URIs, expected one", len(uris)-1)
	}
	all := append(uris, names...)
	for _, name := range all {
		if slices.Contains(allowed, name) {
			return nil
		}
	}
	return fmt.Errorf("the client's certificate is for %.200q, expected another name", all)
}

// namesOf are the DNS names and URIs of a certificate as they stand there.
func namesOf(c *x509.Certificate) (names, uris []string, err error) {
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		var sequence asn1.RawValue
		rest, err := asn1.Unmarshal(e.Value, &sequence)
		if err != nil || len(rest) > 0 || sequence.Tag != asn1.TagSequence {
			return nil, nil, errors.New("the client's certificate has broken names")
		}
		for rest := sequence.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return nil, nil, errors.New("the client's certificate has broken names")
			}
			switch {
			case name.Class != asn1.ClassContextSpecific:
			case name.Tag == tagDNS:
				names = append(names, string(name.Bytes))
			case name.Tag == tagURI:
				uris = append(uris, string(name.Bytes))
			}
		}
	}
	return names, uris, nil
}
