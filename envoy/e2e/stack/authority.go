package stack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Authority signs certificates for a test.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// PEM is its own certificate.
	PEM []byte
}

// Pair is a certificate with its key, as PEM.
type Pair struct {
	Certificate, Key []byte
	Serial           *big.Int
}

// NewAuthority makes an authority of its own.
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate(name)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	return &Authority{c, key, encode("CERTIFICATE", der)}, err
}

// Serial is the serial number of its own certificate.
func (a *Authority) Serial() *big.Int { return a.certificate.SerialNumber }

// Issue signs a certificate, for a client and for a server, with these names: URIs have a "://".
func (a *Authority) Issue(names ...string) (Pair, error) { return a.issue(time.Now(), names) }

// IssueExpired signs one that was good until a minute ago.
func (a *Authority) IssueExpired(names ...string) (Pair, error) {
	return a.issue(time.Now().Add(-25*time.Hour-time.Minute), names)
}

func (a *Authority) issue(now time.Time, names []string) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	template, err := newTemplate("leaf")
	if err != nil {
		return Pair{}, err
	}
	template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(25*time.Hour)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	for _, name := range names {
		if !strings.Contains(name, "://") {
			template.DNSNames = append(template.DNSNames, name)
			continue
		}
		u, err := url.Parse(name)
		if err != nil {
			return Pair{}, err
		}
		template.URIs = append(template.URIs, u)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return Pair{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	return Pair{encode("CERTIFICATE", der), encode("PRIVATE KEY", private), template.SerialNumber}, err
}

func newTemplate(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(25 * time.Hour),
	}, err
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// TLS is the pair as crypto/tls takes it.
func (p Pair) TLS() (tls.Certificate, error) { return tls.X509KeyPair(p.Certificate, p.Key) }

// Files are what a Secret of type kubernetes.io/tls holds: the pair, and what the other side is verified against.
func (p Pair) Files(authorities ...*Authority) map[string][]byte {
	files := map[string][]byte{"tls.crt": p.Certificate, "tls.key": p.Key}
	for _, a := range authorities {
		files["ca.crt"] = append(files["ca.crt"], a.PEM...)
	}
	return files
}

// ReplaceFiles writes files into a directory, each by a rename, one after the other.
func ReplaceFiles(dir string, files map[string][]byte) error {
	for name, text := range files {
		next := filepath.Join(dir, name+".next")
		if err := os.WriteFile(next, text, 0o600); err != nil {
			return err
		}
		if err := os.Rename(next, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// MountFiles writes files into a directory as the kubelet does for a Secret: they are in a directory of their own, to which
// the symbolic link ..data leads, and all of them change at once when that is replaced.
func MountFiles(dir string, files map[string][]byte) error {
	version, err := os.MkdirTemp(dir, "..version-")
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(version, name), text, 0o600); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	data := filepath.Join(dir, "..data")
	old, _ := os.Readlink(data)
	if err := os.Symlink(filepath.Base(version), data+"_tmp"); err != nil {
		return err
	}
	if err := os.Rename(data+"_tmp", data); err != nil {
		return err
	}
	if old == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(dir, old))
}
