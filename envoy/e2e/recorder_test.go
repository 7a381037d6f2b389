package e2e_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// marker is a header that tests put on their requests, to find them at the recorder. Usher's own look-ups lack it.
const marker = "X-Test-Marker"

// arrival is a request as it reached the backend.
type arrival struct {
	method, path string
	header       http.Header
	body         []byte
}

// recorder notes each request and hands it on to the LangGraph server.
type recorder struct {
	URL    string
	server *httptest.Server

	mu   sync.Mutex
	list []arrival
}

func newRecorder(backend string) (*recorder, error) {
	target, err := url.Parse(backend)
	if err != nil {
		return nil, err
	}
	r := &recorder{}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(p *httputil.ProxyRequest) { p.SetURL(target) },
		FlushInterval: -1,
		Transport:     &http.Transport{IdleConnTimeout: 2 * time.Second}, // as client
	}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		r.list = append(r.list, arrival{req.Method, req.URL.RequestURI(), req.Header.Clone(), body})
		r.mu.Unlock()
		req.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, req)
	}))
	r.URL = r.server.URL
	return r, nil
}

func (r *recorder) Close() { r.server.Close() }

// marked returns the arrivals with this marker, in order.
func (r *recorder) marked(mark string) []arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []arrival
	for _, a := range r.list {
		if a.header.Get(marker) == mark {
			list = append(list, a)
		}
	}
	return list
}

// marking is the header that marks a request.
func marking(mark string) http.Header { return http.Header{marker: {mark}} }
