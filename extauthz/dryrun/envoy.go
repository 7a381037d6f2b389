package dryrun

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"

	"github.com/usher-authz/usher/envoy/edit"
	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// This file is what Envoy does, with the configuration that `usher envoy` writes: it makes a check of a request, and carries
// the answer out.

// sent is a request as it is at Envoy when it asks.
type sent struct {
	request policytest.Request // without the token
	headers [][2]string        // lower-case names, with the token
}

// arrive adds to a request what its client and Envoy do: the token where the policy of the host has it, and the length of
// the body. A header that the request has already is not replaced, so that both are sent.
func (g *Gate) arrive(token string, r policytest.Request) sent {
	s := sent{request: r}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		s.headers = append(s.headers, [2]string{strings.ToLower(name), r.Headers[name]})
	}
	if len(r.Body) > 0 {
		s.headers = append(s.headers, [2]string{"content-length", strconv.Itoa(len(r.Body))})
	}
	if token == "" {
		return s
	}
	from := policy.TokenFrom{}
	host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
	if p := g.config.Policies.Match(host, r.Policy); p != nil {
		from = p.TokenFrom
	}
	switch {
	case from.Header != "":
		s.headers = append(s.headers, [2]string{from.Header, token})
	case from.Cookie != "":
		pair := from.Cookie + "=" + token
		if i := slices.IndexFunc(s.headers, func(h [2]string) bool { return h[0] == "cookie" }); i >= 0 {
			s.headers[i][1] += "; " + pair
		} else {
			s.headers = append(s.headers, [2]string{"cookie", pair})
		}
	default:
		scheme := "Bearer "
		if slices.ContainsFunc(s.headers, func(h [2]string) bool { return h[0] == "dpop" }) {
			scheme = "DPoP " // a proof goes with a token that is bound (RFC 9449, section 7.1)
		}
		s.headers = append(s.headers, [2]string{"authorization", scheme + token})
	}
	return s
}

// check makes the check, with encode_raw_headers.
func (s *sent) check() *authv3.CheckRequest {
	r := &s.request
	http := &authv3.AttributeContext_HttpRequest{
		Id: "1", Method: r.Method, Path: r.Path, Host: r.Host, Scheme: "https", Protocol: "HTTP/2", RawBody: r.Body, Size: int64(len(r.Body)),
		HeaderMap: &corev3.HeaderMap{},
	}
	headers := append([][2]string{{":authority", r.Host}, {":method", r.Method}, {":path", r.Path}, {":scheme", "https"}}, s.headers...)
	if len(r.Body) > 0 {
		headers = append(headers, [2]string{"x-envoy-auth-partial-body", "false"})
	}
	for _, h := range headers {
		http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
	}
	attrs := &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: r.RemoteAddress, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 40000}},
		}}},
		Request: &authv3.AttributeContext_Request{Http: http},
	}
	if r.Policy != "" {
		attrs.ContextExtensions = map[string]string{"policy": r.Policy}
	}
	return &authv3.CheckRequest{Attributes: attrs}
}

// carryOut does what an answer asks for. What Envoy could not do is a fault, and no answer.
func (s *sent) carryOut(response *authv3.CheckResponse, why *extauthz.Explanation) policytest.Answer {
	a := policytest.Answer{
		Outcome: why.Outcome, Policy: why.Policy, Route: why.Route, Rule: why.Rule, Reason: why.Reason, Operations: why.Trace.Operations,
		Verified: why.Identity != nil || why.Public,
	}
	for _, op := range why.Operations {
		if op.Resource != "" {
			a.Asked = append(a.Asked, op.Resource+":"+op.Action)
		}
	}
	ok := response.GetOkResponse()
	if (ok != nil) != (response.GetStatus().GetCode() == int32(codes.OK)) || (ok != nil) != (why.Outcome == policy.Allow) || ok == nil && response.GetDeniedResponse() == nil {
		a.Fault = "an answer that is neither an allow nor a denial"
		return a
	}
	if ok == nil {
		denied := response.GetDeniedResponse()
		a.Status, a.Message = int(denied.GetStatus().GetCode()), denied.GetBody()
		if v, err := policy.ParseValue([]byte(denied.GetBody())); err == nil && why.Outcome != policy.Answer {
			if text, ok := at(v, "detail").(string); ok {
				a.Message = text
			} else if text, ok := at(v, "error", "message").(string); ok { // JSON-RPC 2.0, section 5.1
				a.Message = text
			}
		}
		return a
	}
	a.Status, a.Backend, a.Removed = 200, s.request, ok.GetHeadersToRemove()
	if err := s.mutate(&a, ok); err != nil {
		a.Fault = err.Error()
		return a
	}
	if err := s.edit(&a, response); err != nil {
		a.Fault = err.Error()
	}
	return a
}

// mutate sets and removes headers and query parameters: Envoy removes after it sets.
func (s *sent) mutate(a *policytest.Answer, ok *authv3.OkHttpResponse) error {
	a.Backend.Headers = map[string]string{}
	for _, h := range s.headers {
		if old, twice := a.Backend.Headers[h[0]]; twice {
			h[1] = old + "," + h[1]
		}
		a.Backend.Headers[h[0]] = h[1]
	}
	for _, o := range ok.GetHeaders() {
		name, value := strings.ToLower(o.GetHeader().GetKey()), o.GetHeader().GetValue()
		switch {
		case o.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			return fmt.Errorf("header %s with append action %v", name, o.GetAppendAction())
		case name == ":path":
			a.Backend.Path = value
		case strings.HasPrefix(name, ":"):
			return fmt.Errorf("a change of %s", name)
		default:
			a.Backend.Headers[name] = value
		}
	}
	for _, name := range ok.GetHeadersToRemove() {
		delete(a.Backend.Headers, strings.ToLower(name))
	}
	if len(ok.GetQueryParametersToSet()) == 0 && len(ok.GetQueryParametersToRemove()) == 0 {
		return nil
	}
	path, raw, _ := strings.Cut(a.Backend.Path, "?")
	query, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("a change of a query that is malformed")
	}
	for _, q := range ok.GetQueryParametersToSet() {
		query.Set(q.GetKey(), q.GetValue())
	}
	for _, name := range ok.GetQueryParametersToRemove() {
		query.Del(name)
	}
	if a.Backend.Path = path; len(query) > 0 {
		a.Backend.Path += "?" + query.Encode()
	}
	return nil
}

// edit does what edit.lua does.
func (s *sent) edit(a *policytest.Answer, response *authv3.CheckResponse) error {
	fields := response.GetDynamicMetadata().GetFields()
	body, edited := fields[edit.BodyKey]
	parked := a.Backend.Path == edit.ParkingPath
	switch {
	case parked != edited:
		return fmt.Errorf("an edit without its parking, or a parking without its edit")
	case !edited:
		return nil
	}
	a.Edited = true
	a.Backend.Body = []byte(body.GetStringValue())
	a.Backend.Path = fields[edit.PathKey].GetStringValue()
	delete(a.Backend.Headers, "transfer-encoding")
	a.Backend.Headers["content-length"] = strconv.Itoa(len(a.Backend.Body))
	return nil
}
