package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("no route") }

// TestTheQueryOfAURLIsNotShown: it may be a key of the provider's gateway.
func TestTheQueryOfAURLIsNotShown(t *testing.T) {
	for name, transport := range map[string]http.RoundTripper{
		"unreachable": refusing{},
		"no_json":     spoken(func(*http.Request) *http.Response { return &http.Response{StatusCode: 200, Body: http.NoBody} }),
		"status_500":  spoken(func(*http.Request) *http.Response { return &http.Response{StatusCode: 500, Body: http.NoBody} }),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zap.DebugLevel)
				c := config(t, tokentest.New(issuer))
				c.JWKSURI, c.Transport, c.Logger = issuer+"/keys?apikey=hush", transport, zap.New(core)
				j, err := NewJWT(c)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				j.Run(ctx)
				said := j.Status().Problem + fmt.Sprint(logs.All())
				if strings.Contains(said, "hush") || !strings.Contains(said, issuer+"/keys") || logs.Len() == 0 {
					t.Errorf("said %s", said)
				}
			})
		})
	}
}

// TestPlainHTTPIsNotFollowedElsewhere: allowHTTP is for a provider on loopback.
func TestPlainHTTPIsNotFollowedElsewhere(t *testing.T) {
	for _, c := range []struct {
		issuer, uri string
		want        bool
	}{
		{"http://127.0.0.1:8080", "http://127.0.0.1:8081/jwks", true},
		{"http://127.0.0.1:8080", "https://keys.test/jwks", true},
		{"http://127.0.0.1:8080", "http://169.254.169.254/latest", false},
		{"http://127.0.0.1:8080", "http://127.0.0.1@evil.test/", false},
		{"https://idp.test", "http://idp.test/jwks", false},
		{"https://idp.test", "http://127.0.0.1/jwks", false},
	} {
		c2 := config(t, tokentest.New(c.issuer))
		c2.AllowHTTP = true
		c2.Transport = spoken(func(*http.Request) *http.Response {
			body := fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, c.issuer, c.uri)
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(body))}
		})
		f, err := newFetcher(c2)
		if err != nil {
			t.Fatal(err)
		}
		if uri, err := f.discover(t.Context(), c.issuer); (err == nil && uri == c.uri) != c.want {
			t.Errorf("%s names %s: got %q, %v", c.issuer, c.uri, uri, err)
		}
	}
}
