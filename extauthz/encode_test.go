package extauthz

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/usher-authz/usher/envoy/edit"
	"github.com/usher-authz/usher/policy"
)

// generated is the response as the generated types hold it.
func (r *response) generated() *authv3.CheckResponse {
	options := func(list []policy.Header) (out []*corev3.HeaderValueOption) {
		for _, h := range list {
			out = append(out, &corev3.HeaderValueOption{
				Header: &corev3.HeaderValue{Key: h.Name, Value: h.Value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			})
		}
		return out
	}
	out := &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(r.code)}, DynamicMetadata: r.metadata}
	if r.code == codes.OK {
		out.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: options(r.headers), HeadersToRemove: r.remove, ResponseHeadersToAdd: options(r.toClient),
		}}
	} else {
		out.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: r.status}, Headers: options(r.headers), Body: r.body,
		}}
	}
	return out
}

// sameWriting fails unless the response is written so that the generated decoder reads what was meant, in no more bytes
// than the generated encoder takes; and is not written where that refuses to.
func sameWriting(t *testing.T, r *response) {
	t.Helper()
	want := r.generated()
	encoded, ok := r.encode()
	if bytes, err := proto.Marshal(want); (err == nil) != ok || ok && len(bytes) != len(encoded) {
		t.Fatalf("written: %v, %d bytes; the generated encoder: %v, %d bytes", ok, len(encoded), err, len(bytes))
	}
	if !ok {
		return
	}
	got := &authv3.CheckResponse{}
	if err := proto.Unmarshal(encoded, got); err != nil || !proto.Equal(got, want) {
		t.Fatalf("%x: %v, %v, want %v", encoded, err, got, want)
	}
}

func TestEvery_answer_is_written_as_the_generated_types_write_it(t *testing.T) {
	headers := []policy.Header{{Name: "x-user-id", Value: "alice"}, {Name: "x-empty", Keep: true}, {Name: "x-none"}, {Name: "x-long", Value: strings.Repeat("a", 4096)}, {Name: "x-é", Value: "é"}}
	remove := []string{"authorization", "dpop", "", strings.Repeat("n", 300)}
	answers := map[string]answer{
		"an allow":       {outcome: policy.Allow},
		"headers":        {outcome: policy.Allow, set: headers, remove: remove},
		"a path":         {outcome: policy.Allow, set: headers, path: "/a?b"},
		"an edit":        {outcome: policy.Allow, set: headers, remove: remove, edit: edit.Metadata("/threads", []byte(`{"metadata":{"owner":"é"}}`))},
		"a large edit":   {outcome: policy.Allow, edit: edit.Metadata("/threads", []byte(strings.Repeat("0123456789", 1<<17)))},
		"a nonce":        {outcome: policy.Allow, nonce: "n", set: headers},
		"a document":     {outcome: policy.Answer, body: `{"resource":"https://api.test"}`, document: true},
		"an empty one":   {outcome: policy.Answer},
		"a denied nonce": {outcome: policy.Unauthenticated, scheme: "DPoP", nonce: "n", challenge: `error="use_dpop_nonce"`},
		"a large body":   {outcome: policy.Forbidden, refusal: strings.Repeat("<é>", 1<<15)},
		"scopes":         {outcome: policy.InsufficientScope, scopes: []string{"a", "b"}, metadata: "https://api.test/m"},
	}
	for o := range policy.Outcome(20) {
		answers["outcome "+o.String()] = answer{outcome: o, detail: "No."}
	}
	for name, a := range answers {
		t.Run(name, func(t *testing.T) {
			r := a.response()
			sameWriting(t, &r)
			if allows := r.code == codes.OK; allows != (a.outcome == policy.Allow) {
				t.Errorf("lets the request pass: %v", allows)
			}
		})
	}
}

// What cannot be a string of proto3 must not be sent, as Envoy would take the answer for a failure of the service, which
// failure_mode_allow turns into a pass.
func TestAn_answer_that_is_not_UTF8_is_our_own_fault(t *testing.T) {
	bad := "a\xff"
	for name, a := range map[string]answer{
		"value":    {outcome: policy.Allow, set: []policy.Header{{Name: "cookie", Value: bad}}},
		"name":     {outcome: policy.Allow, set: []policy.Header{{Name: bad, Value: "x"}}},
		"removed":  {outcome: policy.Allow, remove: []string{bad}},
		"nonce":    {outcome: policy.Allow, nonce: bad},
		"body":     {outcome: policy.Answer, body: bad},
		"metadata": {outcome: policy.Allow, edit: edit.Metadata("/", []byte(bad))},
	} {
		t.Run(name, func(t *testing.T) {
			r := a.response()
			sameWriting(t, &r)
			if encoded, err := a.encode(); err == nil || encoded != nil {
				t.Errorf("written: %x, %v", encoded, err)
			}
		})
	}
	// A cookie beside the one with the token, with a byte that is no text, on its way through a whole check.
	s, m := serverFor(t, func(p *policy.Source) {
		p.TokenFrom = policy.TokenFrom{Cookie: "session", Origins: []string{"https://chat.example.com"}}
	})
	if r := do(t, s, ask("GET", "/items", false, [2]string{"cookie", "session=" + m.mint(t, nil) + "; theme=\xff"})); statusOf(r) != 503 {
		t.Errorf("got %v, want 503", r)
	}
	if outcomes, panics := s.Counts(); outcomes[policy.Undecided] != 1 || panics != 0 {
		t.Errorf("counted %v, %d panics", outcomes, panics)
	}
}

func TestAn_answer_that_cannot_be_read_lets_nothing_pass(t *testing.T) {
	for _, encoded := range [][]byte{nil, {}, {0}, {0x1a, 5}} {
		if r := readResponse(encoded); statusOf(r) != 503 {
			t.Errorf("%x: %v, want 503", encoded, r)
		}
	}
}

func FuzzEncode(f *testing.F) {
	f.Add(0, 200, "x-user-id", "alice", "authorization", "n", "body", true)
	f.Add(7, 403, "", "", "", "", "", false)
	f.Add(16, -1, "a\xff", strings.Repeat("é", 100), "b", strings.Repeat("c", 200), strings.Repeat("d", 20000), true)
	f.Fuzz(func(t *testing.T, code, status int, name, value, removed, nonce, body string, edited bool) {
		r := response{
			code: codes.Code(uint32(code) & 31), status: typev3.StatusCode(int32(status)), body: body, remove: []string{removed, name, removed},
			headers: []policy.Header{{Name: name, Value: value}, {Name: removed, Value: body}}, toClient: []policy.Header{{Name: nonce, Value: nonce}},
		}
		if edited {
			r.metadata = edit.Metadata(name, []byte(body))
		}
		sameWriting(t, &r)
	})
}
