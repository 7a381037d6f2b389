package token

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/usher-authz/usher/extauthz/egress"
	"github.com/usher-authz/usher/policy"
)

const (
	// fetchTimeout bounds a fetch of keys or of a discovery document, which no request waits for.
	fetchTimeout = 10 * time.Second
	// maxDocument bounds either in bytes.
	maxDocument = 1 << 20
)

// fetcher gets documents from a provider. It is immutable and safe for concurrent use.
type fetcher struct {
	http      *http.Client
	allowHTTP bool
}

func newFetcher(c Config) (*fetcher, error) {
	transport, err := transportOf(c, 5*time.Second, 2)
	if err != nil {
		return nil, err
	}
	return &fetcher{allowHTTP: c.AllowHTTP, http: &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: sameHost}}, nil
}

// transportOf returns the Config's transport, or one that takes no proxy from the environment, and TLS as Go's defaults have
// it: 1.2 or later, by the usual roots or just those of the Config.
func transportOf(c Config, connect time.Duration, connections int) (http.RoundTripper, error) {
	if c.Transport != nil {
		return c.Transport, nil
	}
	t := &http.Transport{
		DialContext:         egress.Dialer(connect, c.NoLocal).DialContext,
		TLSHandshakeTimeout: connect, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, IdleConnTimeout: 90 * time.Second,
	}
	if len(c.CA) > 0 {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(c.CA) {
			return nil, fmt.Errorf("provider %q: the CA has no certificate in PEM", c.Name)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return t, nil
}

// sameHost lets a provider redirect within its own host only: a redirect elsewhere would let whoever can cause one choose
// the keys, or where Usher calls.
func sameHost(next *http.Request, via []*http.Request) error {
	if len(via) > 3 || next.URL.Host != via[0].URL.Host || next.URL.Scheme != via[0].URL.Scheme {
		return errors.New("redirect to another host refused")
	}
	return nil
}

// document is what a provider answered, and for how long it says so.
type document struct {
	text  []byte        // nil: as before, by its etag
	etag  string        // of the text; empty: none
	fresh time.Duration // by Cache-Control; 0: it does not say
}

// get fetches a document: status 200 and within the size limit, or an error. With an etag of the text that is known, the
// answer may be that there is no other (RFC 9110, section 13.1.2).
func (f *fetcher) get(ctx context.Context, address, etag string) (document, error) {
	u, err := checkURL(address, f.allowHTTP)
	if err != nil {
		return document{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return document{}, err
	}
	request.Header.Set("Accept", "application/json")
	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}
	response, err := f.http.Do(request)
	if err != nil {
		return document{}, hinted(err)
	}
	defer func() { _ = response.Body.Close() }()
	d := document{etag: response.Header.Get("ETag"), fresh: freshness(response.Header)}
	if len(d.etag) > maxETag {
		d.etag = ""
	}
	if response.StatusCode == http.StatusNotModified && etag != "" {
		d.etag = etag
		return d, nil
	}
	if response.StatusCode != http.StatusOK {
		hint := ""
		if response.StatusCode == http.StatusNotFound && strings.HasSuffix(u.Path, discoveryPath) {
			hint = "; if the provider has no discovery, name its keys by jwt.jwksURI"
		}
		return document{}, fmt.Errorf("%s answered %d, expected 200%s", u.Host, response.StatusCode, hint)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err != nil {
		return document{}, hinted(err)
	}
	if len(text) > maxDocument {
		return document{}, fmt.Errorf("%s answered more than %d bytes", u.Host, maxDocument)
	}
	d.text = text
	return d, nil
}

// maxETag bounds the etag that is kept.
const maxETag = 256

// hinted says what to do about a certificate that is not trusted, and leaves out our own port, which is another each time:
// one problem has one text, so that it is logged once. It also leaves out the URL, whose query may hold a secret.
func hinted(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		op.Source = nil
	}
	var late net.Error
	if errors.As(err, &late) && late.Timeout() { // worded in many ways
		return errors.New("no answer in time")
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("%w; name the provider's own authority by caRef", err)
	}
	return err
}

// freshness is how long an answer says it is good for (RFC 9111, sections 5.2.2 and 4.2.3): max-age, less the age that it has
// already; 0 where it does not say, or says what has no one reading.
func freshness(h http.Header) time.Duration {
	var age, most int64
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return time.Nanosecond // as soon as the bounds let
		case "max-age":
			n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return 0
			}
			most = max(1, int64(n))
		}
	}
	if text := h.Get("Age"); text != "" {
		if n, err := strconv.ParseUint(text, 10, 31); err == nil {
			age = int64(n)
		}
	}
	if most == 0 {
		return 0
	}
	return max(time.Duration(most-age)*time.Second, time.Nanosecond)
}

// discoveryPath is from OpenID Connect Discovery 1.0, section 4.
const discoveryPath = "/.well-known/openid-configuration"

// notJSON says what a text is that is no strict JSON.
func notJSON(text []byte) string {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("<")) {
		return "an HTML page or XML, expected JSON"
	}
	return "not strict JSON"
}

// discover reads the issuer's metadata for its jwks_uri (OpenID Connect Discovery 1.0, section 4). The document must name
// the issuer that it was asked for (section 4.3), or somebody else's keys would be trusted.
func (f *fetcher) discover(ctx context.Context, issuer string) (string, error) {
	d, err := f.get(ctx, strings.TrimSuffix(issuer, "/")+discoveryPath, "")
	if err != nil {
		return "", fmt.Errorf("discover %q: %w", issuer, err)
	}
	v, err := policy.ParseValue(d.text)
	if err != nil {
		return "", fmt.Errorf("discover %q: the document is %s", issuer, notJSON(d.text))
	}
	document, ok := v.(map[string]any)
	if !ok {
		return "", fmt.Errorf("discover %q: the document is not a JSON object", issuer)
	}
	if stated, _ := document["issuer"].(string); stated != issuer {
		hint := "expected just the configured one"
		if strings.TrimSuffix(stated, "/") == strings.TrimSuffix(issuer, "/") {
			hint = "which differs by a slash at its end: configure it so"
		}
		return "", fmt.Errorf("discover %q: the document is for issuer %q, %s", issuer, excerpt(stated), hint)
	}
	uri, _ := document["jwks_uri"].(string)
	if _, err := checkURL(uri, f.allowHTTP && sameHTTPHost(issuer, uri)); err != nil {
		return "", fmt.Errorf("discover %q: jwks_uri %q: %w", issuer, shown(uri), err)
	}
	return uri, nil
}

// sameHTTPHost reports whether the issuer is on plain http, and the URL on the same host: what the manifest allows is http to
// where it says, a provider on loopback, and not wherever a document leads.
func sameHTTPHost(issuer, uri string) bool {
	a, err := url.Parse(issuer)
	if err != nil || a.Scheme != "http" {
		return false
	}
	b, err := url.Parse(uri)
	return err == nil && a.Hostname() == b.Hostname()
}

// keys fetches a JWK set; no keys and no error: it is the one with this etag still.
func (f *fetcher) keys(ctx context.Context, uri, etag string) ([]*key, document, error) {
	d, err := f.get(ctx, uri, etag)
	if err != nil {
		return nil, d, fmt.Errorf("fetch keys of %q: %w", shown(uri), err)
	}
	if d.text == nil {
		return nil, d, nil
	}
	keys, err := parseKeys(d.text)
	if err != nil {
		return nil, d, fmt.Errorf("fetch keys of %q: %w", shown(uri), err)
	}
	return keys, d, nil
}

// shown is a URL for messages, without its query, which may hold a secret.
func shown(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	return excerpt(uri)
}

// excerpt shortens what a provider said, for messages.
func excerpt(s string) string {
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
