package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// certificatesEvery is how often the files of --grpc-tls-* are read again. A mounted Secret changes by a symbolic link
	// two directories up, which reading sees and watching the file does not.
	certificatesEvery = 2 * time.Second
	// maxCertificates bounds each of those files.
	maxCertificates = 1 << 20
)

// tlsOptions are the flags of TLS between Envoy and Usher. The zero value is none.
type tlsOptions struct {
	certificate, key, clientCA string
	clientSANs                 []string
}

func (o tlsOptions) wanted() bool { return o.certificate != "" || o.key != "" }

// check finds flags that do not go together: none of them may look as if it did something.
func (o tlsOptions) check() error {
	switch {
	case (o.certificate == "") != (o.key == ""):
		return errors.New("--grpc-tls-cert and --grpc-tls-key: expected both or none")
	case o.clientCA != "" && !o.wanted():
		return errors.New("--grpc-client-ca: expected --grpc-tls-cert and --grpc-tls-key too")
	case len(o.clientSANs) > 0 && o.clientCA == "":
		return errors.New("--grpc-client-san: expected --grpc-client-ca too, or a name proves nothing")
	}
	for _, name := range o.clientSANs {
		if err := checkSAN(name); err != nil {
			return fmt.Errorf("--grpc-client-san %q: %w", name, err)
		}
	}
	return nil
}

// material is what the files hold at one moment.
type material struct {
	raw         [3][]byte
	certificate *tls.Certificate
	clients     *x509.CertPool // nil: no certificate is asked for
}

// certificates are the server's, and whom it trusts. They are replaced as a whole, for connections to come: those that are
// open stay. A change that is no good leaves the last good ones in place. For concurrent use.
type certificates struct {
	options tlsOptions
	log     *zap.Logger
	now     func() time.Time
	current atomic.Pointer[material]
	problem string // the last one of reload, which only watch calls
}

// newCertificates reads the files. Anything wrong with them is an error that says what.
func newCertificates(o tlsOptions, log *zap.Logger) (*certificates, error) {
	c := &certificates{options: o, log: log, now: time.Now}
	raw, err := c.read()
	if err != nil {
		return nil, err
	}
	m, err := c.parse(raw)
	if err != nil {
		return nil, err
	}
	c.current.Store(m)
	if info, err := os.Stat(o.key); err == nil && info.Mode().Perm()&0o004 != 0 {
		log.Warn("the key can be read by every user of this machine: chmod o-r", zap.String("file", o.key), zap.Stringer("mode", info.Mode().Perm()))
	}
	if o.clientCA == "" {
		log.Warn("TLS without --grpc-client-ca: whoever reaches the port may ask")
	} else if len(o.clientSANs) == 0 {
		log.Warn("--grpc-client-ca without --grpc-client-san: whoever has a certificate of that authority may ask", zap.String("file", o.clientCA))
	}
	return c, nil
}

func (c *certificates) read() (raw [3][]byte, err error) {
	for i, f := range []struct{ flag, path string }{
		{"--grpc-tls-cert", c.options.certificate}, {"--grpc-tls-key", c.options.key}, {"--grpc-client-ca", c.options.clientCA},
	} {
		if f.path == "" {
			continue
		}
		if raw[i], err = readBounded(f.path); err != nil {
			return raw, fmt.Errorf("%s: %w", f.flag, err)
		}
	}
	return raw, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCertificates+1))
	if err == nil && len(b) > maxCertificates {
		err = fmt.Errorf("%s: it is longer than %d bytes", path, maxCertificates)
	}
	return b, err
}

func (c *certificates) parse(raw [3][]byte) (*material, error) {
	pair, err := tls.X509KeyPair(raw[0], raw[1])
	if err != nil {
		return nil, fmt.Errorf("--grpc-tls-cert %s and --grpc-tls-key %s: %s", c.options.certificate, c.options.key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	if err := inTime(pair.Leaf, c.now()); err != nil {
		return nil, fmt.Errorf("--grpc-tls-cert %s: %w", c.options.certificate, err)
	}
	m := &material{raw: raw, certificate: &pair}
	if c.options.clientCA != "" {
		if m.clients, err = authorities(raw[2], c.now()); err != nil {
			return nil, fmt.Errorf("--grpc-client-ca %s: %w", c.options.clientCA, err)
		}
	}
	return m, nil
}

// authorities are the certificates of a file, at least one of which must be good for signing now.
func authorities(text []byte, now time.Time) (*x509.CertPool, error) {
	pool, good, last := x509.NewCertPool(), 0, errors.New("expected certificates as PEM, found none")
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("expected certificates only, found a %s", block.Type)
		}
		authority, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pool.AddCert(authority)
		switch err := inTime(authority, now); {
		case err != nil:
			last = err
		case !authority.IsCA:
			last = fmt.Errorf("the certificate of %q is no authority's", authority.Subject)
		default:
			good++
		}
	}
	if good == 0 {
		return nil, last
	}
	return pool, nil
}

func inTime(c *x509.Certificate, now time.Time) error {
	if now.After(c.NotAfter) {
		return fmt.Errorf("the certificate of %q expired at %s", c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(c.NotBefore) {
		return fmt.Errorf("the certificate of %q is good from %s on: check the clock", c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// watch reads the files again until ctx ends.
func (c *certificates) watch(ctx context.Context) {
	ticker := time.NewTicker(certificatesEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.reload()
		}
	}
}

// reload puts changed files in force. What is wrong with them is logged once.
func (c *certificates) reload() {
	raw, err := c.read()
	if err == nil {
		held := c.current.Load()
		if bytes.Equal(raw[0], held.raw[0]) && bytes.Equal(raw[1], held.raw[1]) && bytes.Equal(raw[2], held.raw[2]) {
			c.problem = ""
			return
		}
		var next *material
		if next, err = c.parse(raw); err == nil {
			c.problem = ""
			c.current.Store(next)
			c.log.Info("certificates are in force", zap.String("file", c.options.certificate), zap.Time("until", next.certificate.Leaf.NotAfter))
			return
		}
	}
	if err.Error() != c.problem {
		c.problem = err.Error()
		c.log.Warn("certificates are not good: the last good ones stay", zap.Error(err))
	}
}

// config is for one handshake after another: TLS 1.3, HTTP/2, and no session of an earlier one, which would pass by an
// authority that is trusted no more.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2"},
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if named := hello.SupportedProtos; len(named) > 0 && !slices.Contains(named, "h2") {
				return nil, fmt.Errorf("the client names the protocols %.50q, expected h2", named) // package tls would take http/1.1 for none
			}
			m := c.current.Load()
			config := &tls.Config{
				MinVersion:             tls.VersionTLS13,
				NextProtos:             []string{"h2"},
				Certificates:           []tls.Certificate{*m.certificate},
				SessionTicketsDisabled: true,
				Time:                   c.now,
			}
			if m.clients != nil {
				config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, m.clients
				config.VerifyConnection = c.allow
			}
			return config, nil
		},
	}
}

// allow looks for one of the allowed names in a certificate that is verified already.
func (c *certificates) allow(state tls.ConnectionState) error {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return errors.New("no verified certificate")
	}
	if len(c.options.clientSANs) == 0 {
		return nil
	}
	if err := allowedSAN(state.PeerCertificates[0], c.options.clientSANs); err != nil {
		return fmt.Errorf("--grpc-client-san: %w", err)
	}
	return nil
}
