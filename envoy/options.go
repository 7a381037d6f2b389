package envoy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Options are what the policies do not say: addresses and limits. The zero value is the safe default of each.
type Options struct {
	// ListenAddress is the IP and port where clients connect. No IP means every one. Default 127.0.0.1:8080, as without
	// TLS tokens would travel in the clear.
	ListenAddress string
	// UsherAddress is where `usher serve` answers checks: host:port or unix:///path. Default 127.0.0.1:9001.
	UsherAddress string
	// UsherTLS is TLS between Envoy and Usher. Nil means none, which is for a Unix socket or a loopback address.
	UsherTLS *UsherTLS
	// UsherSAN is the name that Usher's certificate must have: a URI such as spiffe://mesh/usher, or a DNS name. Default: the
	// name in UsherAddress; where that is an IP address or a socket, UsherSAN is needed.
	UsherSAN string
	// AdminAddress is the IP and port of Envoy's admin pages, which let whoever reaches them stop it. Default: none.
	AdminAddress string
	// BackendURL is where the requests of policies without spec.backend go.
	BackendURL string
	// BackendCAFile holds the certificates, as PEM, that https backends are verified against, as Envoy's own machine
	// names it. Default /etc/ssl/certs/ca-certificates.crt.
	BackendCAFile string
	// MaxRequestBytes is the largest body that Envoy sends to Usher. Default 4 MiB. A longer one is cut off there, and
	// refused by Usher with 413 where the decision depends on it.
	MaxRequestBytes uint32
	// CheckTimeout is how long Envoy waits for Usher before it answers 503. Default 200 ms, and as much again for each
	// MiB of MaxRequestBytes: the body is sent to Usher, and comes back if it is edited.
	CheckTimeout time.Duration
	// TrustedHops is the number of own proxies in front of this one, whose x-forwarded-for is believed. Default 0.
	TrustedHops uint32
	// TLS of the listener. Nil means none.
	TLS *TLS
	// TrustedProxies are the names, each a URI such as spiffe://mesh/edge or a DNS name, of which a proxy in front must have
	// one in its certificate to be believed what it says about client certificates. They are for policies with
	// clientCertificate, which need them: nobody else can connect then.
	TrustedProxies []string
	// Kubernetes is for the objects of a mesh, which read of the fields above UsherAddress (default usher.usher.svc:9001),
	// UsherSAN, BackendURL, MaxRequestBytes, CheckTimeout and TrustedHops.
	Kubernetes Kubernetes
}

// TLS names PEM files, as Envoy's own machine names them.
type TLS struct {
	CertificateFile string
	KeyFile         string
	// ClientCAFile holds the certificates that client certificates are verified against. Empty: none is asked for.
	ClientCAFile string
}

const (
	defaultListen       = "127.0.0.1:8080"
	defaultUsher        = "127.0.0.1:9001"
	defaultCAFile       = "/etc/ssl/certs/ca-certificates.crt"
	defaultRequestBytes = 4 << 20
	baseCheckTimeout    = 200 * time.Millisecond // and as much for each MiB

	// editRoom is how much longer than max_request_bytes an edit may make a body, and how much of a longer one may have
	// come by the time it is cut off.
	editRoom = 1 << 20
	// maxRequestBytes keeps Envoy's buffers for one request in bounds, and the sums below within 32 bits.
	maxRequestBytes = 256 << 20
)

// san is a subject alternative name that a certificate must have.
type san struct {
	Type string // DNS or URI
	Name string
}

// parseSAN takes exact names only: a pattern is how somebody else's certificate gets in.
func parseSAN(text string) (san, error) {
	if _, err := netip.ParseAddr(text); err != nil && isName(text) {
		return san{"DNS", text}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(text, "* ") {
		return san{}, errors.New("expected a URI such as spiffe://mesh.example.com/edge, or a DNS name without wildcard")
	}
	return san{"URI", text}, nil
}

// address is an IP and a port where Envoy listens.
type address struct {
	Host string
	Port uint16
}

func parseListen(text string) (address, error) {
	host, port, err := splitHostPort(text)
	if err != nil {
		return address{}, err
	}
	switch host {
	case "":
		host = "0.0.0.0"
	case "localhost":
		host = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return address{}, errors.New("expected an IP address and a port")
	}
	return address{host, port}, nil
}

// endpoint is where Envoy connects to.
type endpoint struct {
	Pipe  string // path of a Unix socket; empty: none
	Host  string
	Port  uint16
	Named bool // Host is a name, not an IP
}

func parseEndpoint(text string) (endpoint, error) {
	if path, ok := strings.CutPrefix(text, "unix://"); ok {
		// Linux holds 108 bytes with the final zero.
		if !strings.HasPrefix(path, "/") || len(path) > 107 {
			return endpoint{}, errors.New("expected unix:// and an absolute path of at most 107 bytes")
		}
		return endpoint{Pipe: path}, nil
	}
	host, port, err := splitHostPort(text)
	if err != nil {
		return endpoint{}, err
	}
	return newEndpoint(host, port)
}

func newEndpoint(host string, port uint16) (endpoint, error) {
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		return endpoint{Host: ip.String(), Port: port}, nil
	}
	if !isName(host) {
		return endpoint{}, fmt.Errorf("%q is no host name", host)
	}
	return endpoint{Host: strings.ToLower(host), Port: port, Named: true}, nil
}

func splitHostPort(text string) (string, uint16, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, errors.New("expected host:port")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", 0, errors.New("expected a port between 1 and 65535")
	}
	return host, uint16(n), nil
}

// backend is a cluster of a policy.
type backend struct {
	endpoint
	Name   string // its URL, with port
	TLS    bool
	CAFile string
}

func parseBackend(text, caFile string) (backend, error) {
	u, err := url.Parse(text)
	if err == nil && u.User != nil {
		return backend{}, errors.New("it carries a user name, expected none") // and what else it carries is not shown
	}
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return backend{}, fmt.Errorf("%q: expected http://HOST or https://HOST without a path", text)
	}
	b := backend{TLS: u.Scheme == "https", CAFile: caFile}
	port := u.Port()
	switch {
	case port == "" && b.TLS:
		port = "443"
	case port == "":
		port = "80"
	}
	address := net.JoinHostPort(u.Hostname(), port)
	if b.endpoint, err = parseEndpoint(address); err != nil {
		return backend{}, err
	}
	b.Name = u.Scheme + "://" + strings.ToLower(address)
	return b, nil
}

// isName reports whether text is a host name (RFC 1123, section 2.1), as Envoy's DNS resolver and its virtual hosts take
// one. An underscore is accepted, as names of services have it.
func isName(text string) bool {
	if text == "" || len(text) > 253 {
		return false
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i] | 0x20
			if !(c >= 'a' && c <= 'z' || label[i] >= '0' && label[i] <= '9' || label[i] == '-' || label[i] == '_') {
				return false
			}
		}
	}
	return true
}
