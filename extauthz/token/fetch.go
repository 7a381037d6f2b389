package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

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

func newFetcher(transport http.RoundTripper, allowHTTP bool) *fetcher {
	if transport == nil {
		transport = defaultTransport(5*time.Second, 2)
	}
	return &fetcher{allowHTTP: allowHTTP, http: &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: sameHost}}
}

// defaultTransport takes no proxy from the environment, and TLS as Go's defaults have it: 1.2 or later.
func defaultTransport(connect time.Duration, connections int) *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: connect}).DialContext,
		TLSHandshakeTimeout: connect, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections, IdleConnTimeout: 90 * time.Second,
	}
}

// sameHost lets a provider redirect within its own host only: a redirect elsewhere would let whoever can cause one choose
// the keys, or where Usher calls.
func sameHost(next *http.Request, via []*http.Request) error {
	if len(via) > 3 || next.URL.Host != via[0].URL.Host || next.URL.Scheme != via[0].URL.Scheme {
		return errors.New("redirect to another host refused")
	}
	return nil
}

// get fetches a document: status 200 and within the size limit, or an error.
func (f *fetcher) get(ctx context.Context, address string) ([]byte, error) {
	u, err := checkURL(address, f.allowHTTP)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := f.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d, expected 200", u.Host, response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxDocument {
		return nil, fmt.Errorf("%s answered more than %d bytes", u.Host, maxDocument)
	}
	return text, nil
}

// discover reads the issuer's metadata for its jwks_uri (OpenID Connect Discovery 1.0, section 4). The document must name
// the issuer that it was asked for (section 4.3), or somebody else's keys would be trusted.
func (f *fetcher) discover(ctx context.Context, issuer string) (string, error) {
	text, err := f.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", fmt.Errorf("discover %q: %w", issuer, err)
	}
	v, err := policy.ParseValue(text)
	if err != nil {
		return "", fmt.Errorf("discover %q: the document is not strict JSON", issuer)
	}
	document, ok := v.(map[string]any)
	if !ok {
		return "", fmt.Errorf("discover %q: the document is not a JSON object", issuer)
	}
	if stated, _ := document["issuer"].(string); stated != issuer {
		return "", fmt.Errorf("discover %q: the document is for issuer %q, expected just the configured one", issuer, excerpt(stated))
	}
	uri, _ := document["jwks_uri"].(string)
	if _, err := checkURL(uri, f.allowHTTP); err != nil {
		return "", fmt.Errorf("discover %q: jwks_uri %q: %w", issuer, excerpt(uri), err)
	}
	return uri, nil
}

// keys fetches a JWK set.
func (f *fetcher) keys(ctx context.Context, uri string) ([]*key, error) {
	text, err := f.get(ctx, uri)
	if err != nil {
		return nil, fmt.Errorf("fetch keys of %q: %w", excerpt(uri), err)
	}
	keys, err := parseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("fetch keys of %q: %w", excerpt(uri), err)
	}
	return keys, nil
}

// excerpt shortens what a provider said, for messages.
func excerpt(s string) string {
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
