package token

import (
	"context"
	"errors"
	"fmt"
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
