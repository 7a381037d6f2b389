package tokentest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
)

// Transport carries requests to providers in memory, by their issuers' hosts. A host that no provider has cannot be
// reached. It is safe for concurrent use.
func Transport(providers ...*Provider) http.RoundTripper {
	t := transport{}
	for _, p := range providers {
		t[must(url.Parse(p.Issuer)).Host] = p
	}
	return t
}

type transport map[string]*Provider

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	p := t[r.URL.Host]
	if p == nil {
		return nil, fmt.Errorf("no such host %q", r.URL.Host)
	}
	// The handler gets a request of its own, as from a socket.
	incoming := r.Clone(r.Context())
	incoming.RequestURI = r.URL.RequestURI()
	if incoming.Body == nil {
		incoming.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	p.ServeHTTP(recorder, incoming)
	if r.Body != nil {
		_ = r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	response := recorder.Result()
	response.Request = r
	return response, nil
}
