package manifest

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"

	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

// authority reads the certificates that a server is trusted by, which caRef at the path names. Whatever is in the PEM must be a certificate,
// so that nothing is left out unseen.
func (c *compiler) authority(o *Object, ref v1alpha1.SecretKeyRef, path ...any) []byte {
	text := c.secret(o, ref, "ca.crt", path...)
	if text == nil {
		return nil
	}
	at, n := o.at(path...), 0
	for rest := text; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			found := "found PEM of another type" // what a Secret holds is not shown, not even the name of a block
			if slices.Contains([]string{"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "PUBLIC KEY", "CERTIFICATE REQUEST"}, block.Type) {
				found = fmt.Sprintf("found PEM of type %q", block.Type)
			}
			c.add(at, found, "certificates", "a private key has no place here")
			return nil
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			c.add(at, fmt.Sprintf("found certificate %d, which cannot be read", n+1), "certificates in PEM", "")
			return nil
		}
	}
	if n == 0 {
		c.add(at, "found no certificate", "certificates in PEM", "-----BEGIN CERTIFICATE----- begins each")
	}
	return text
}
