package attacktest

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// client is a request as Envoy has it before the check: what an allowing answer is applied to.
type client struct {
	method, host, path, scheme string
	headers                    [][2]string // lower-case names, in order, without pseudo-headers
	body                       []byte
	partial                    bool
	bodySent                   bool // to the gate
}

// encodings returns the forms in which the request is sent, each in a run of its own.
func (r *Request) encodings() []string {
	switch {
	case r.Empty || r.NoHTTP:
		return []string{"map"}
	case r.Encode == "" || r.Encode == "both":
		return []string{"map", "raw"}
	}
	return []string{r.Encode}
}

// holdsToken reports whether the request places the token itself.
func (r *Request) holdsToken() bool {
	values := []Value{r.Path, r.Body, r.Raw}
	for _, list := range [][][2]Value{r.Headers, r.ExtraRawHeaders, r.H2} {
		for _, h := range list {
			values = append(values, h[1])
		}
	}
	for _, v := range values {
		if v.holds("{{token}}") {
			return true
		}
	}
	return false
}

// client fills the request in. token says whether a bearer token is to be added.
func (r *Request) client(g *lab, token bool) (client, error) {
	c := client{scheme: "https"}
	for _, f := range []struct {
		into *string
		from Value
	}{{&c.method, r.Method}, {&c.host, r.Host}, {&c.path, r.Path}, {&c.scheme, r.Scheme}} {
		if f.from.absent() {
			continue
		}
		text, err := g.text(f.from)
		if err != nil {
			return c, err
		}
		*f.into = text
	}
	var err error
	if c.headers, err = fillHeaders(g, r.Headers); err != nil {
		return c, err
	}
	if token && !r.holdsToken() {
		text, err := g.fill("Bearer {{token}}")
		if err != nil {
			return c, err
		}
		c.headers = append(c.headers, [2]string{"authorization", text})
	}
	if c.body, err = g.bytes(r.Body); err != nil {
		return c, fmt.Errorf("body: %w", err)
	}
	c.partial = r.Partial != nil && *r.Partial
	c.bodySent = r.BodyAs != "absent" && (len(c.body) > 0 || r.Partial != nil)
	return c, nil
}

func fillHeaders(g *lab, headers [][2]Value) ([][2]string, error) {
	var out [][2]string
	for _, h := range headers {
		name, err := g.text(h[0])
		if err != nil {
			return nil, err
		}
		value, err := g.text(h[1])
		if err != nil {
			return nil, fmt.Errorf("header %q: %w", name, err)
		}
		out = append(out, [2]string{name, value})
	}
	return out, nil
}

// sanitise replaces each bad byte of UTF-8 by an exclamation mark, as Envoy does in protobuf strings.
func sanitise(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			b.WriteByte('!')
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// encode writes the request as Envoy does: headers as a map (map, map_keep_case) or as a list (raw). It goes through
// the wire format, so that the gate gets what gRPC would hand it.
func (r *Request) encode(g *lab, c client, encoding string) (*authv3.CheckRequest, error) {
	if r.Empty {
		return &authv3.CheckRequest{}, nil
	}
	attrs := &authv3.AttributeContext{
		Source:      &authv3.AttributeContext_Peer{Address: address(r.SourceAddress, 40000)},
		Destination: &authv3.AttributeContext_Peer{Address: address("", 8443)},
		Request:     &authv3.AttributeContext_Request{Time: timestamppb.New(time.Now())},
	}
	check := &authv3.CheckRequest{Attributes: attrs}
	if err := r.peers(g, attrs); err != nil {
		return nil, err
	}
	if len(r.ContextExtensions) > 0 {
		attrs.ContextExtensions = map[string]string{}
		for k, v := range r.ContextExtensions {
			text, err := g.fill(v)
			if err != nil {
				return nil, err
			}
			attrs.ContextExtensions[k] = text
		}
	}
	if !r.MetadataContext.absent() {
		attrs.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{}}
		for _, m := range r.MetadataContext.members {
			text, err := g.json(m.value)
			if err != nil {
				return nil, err
			}
			s := &structpb.Struct{}
			if err := s.UnmarshalJSON(text); err != nil {
				return nil, fmt.Errorf("metadata_context: %w", err)
			}
			attrs.MetadataContext.FilterMetadata[m.name] = s
		}
	}
	if r.NoHTTP {
		return check, nil
	}
	http, err := r.http(g, c, encoding)
	if err != nil {
		return nil, err
	}
	attrs.Request.Http = http
	wire, err := proto.Marshal(check)
	if err != nil {
		return nil, fmt.Errorf("encode the check: %w", err)
	}
	out := &authv3.CheckRequest{}
	return out, proto.Unmarshal(wire, out)
}

func (r *Request) http(g *lab, c client, encoding string) (*authv3.AttributeContext_HttpRequest, error) {
	http := &authv3.AttributeContext_HttpRequest{
		Id: "1", Method: sanitise(c.method), Host: sanitise(c.host), Path: sanitise(c.path), Scheme: sanitise(c.scheme),
		Protocol: "HTTP/1.1", Size: int64(len(c.body)),
	}
	if !r.Protocol.absent() {
		text, err := g.text(r.Protocol)
		if err != nil {
			return nil, err
		}
		http.Protocol = text
	}
	if c.bodySent {
		if r.BodyAs == "body" {
			http.Body = sanitise(string(c.body))
		} else {
			http.RawBody = c.body
		}
	}
	if r.Size != nil {
		http.Size = *r.Size
	}
	headers := c.headers
	if c.bodySent {
		headers = append(headers[:len(headers):len(headers)], [2]string{"x-envoy-auth-partial-body", fmt.Sprint(c.partial)})
	}
	extra, err := fillHeaders(g, r.ExtraRawHeaders)
	if err != nil {
		return nil, err
	}
	if encoding == "raw" {
		extra = append(headers[:len(headers):len(headers)], extra...)
	} else {
		http.Headers = map[string]string{}
		for _, h := range headers {
			name := sanitise(h[0])
			if encoding == "map" {
				name = strings.ToLower(name)
			}
			value := sanitise(h[1])
			if old, ok := http.Headers[name]; ok {
				value = old + "," + value
			}
			http.Headers[name] = value
		}
		for _, h := range [][2]string{{":method", http.Method}, {":path", http.Path}, {":authority", http.Host}, {":scheme", http.Scheme}} {
			if _, given := http.Headers[h[0]]; !given {
				http.Headers[h[0]] = h[1]
			}
		}
	}
	if len(extra) > 0 {
		http.HeaderMap = &corev3.HeaderMap{}
		for _, h := range extra {
			http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: sanitise(h[0]), RawValue: []byte(h[1])})
		}
	}
	return http, nil
}

// peers fills in who is connected.
func (r *Request) peers(g *lab, attrs *authv3.AttributeContext) error {
	attrs.Source.Principal = r.SourcePrincipal
	for _, f := range []struct {
		into *string
		cert string
	}{{&attrs.Source.Certificate, r.SourceCertificate}, {&attrs.Destination.Certificate, r.DestinationCert}} {
		if f.cert == "" {
			continue
		}
		text, err := g.suite.keys.certForm(f.cert, "$cert_pem_url")
		if err != nil {
			return err
		}
		*f.into = string(text)
	}
	if !r.SourceCertificateText.absent() {
		text, err := g.text(r.SourceCertificateText)
		if err != nil {
			return err
		}
		attrs.Source.Certificate = text
	}
	return nil
}

func address(text string, port uint32) *corev3.Address {
	if text == "" {
		text = "192.0.2.1" // RFC 5737: for examples
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: text, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
