package attacktest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/usher-authz/usher/envoy/edit"
	"github.com/usher-authz/usher/extauthz/attacktest"
)

// bent is Usher with one fault. An interpreter that does not see the fault is worth nothing.
type bent struct {
	attacktest.Gate
	setup attacktest.Setup
	bend  func(*bent, *authv3.CheckRequest, *authv3.CheckResponse) (*authv3.CheckResponse, error)
	calls atomic.Int64
}

func (b *bent) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	answer, err := b.Gate.Check(ctx, r)
	if err != nil {
		return nil, err
	}
	return b.bend(b, r, answer)
}

type bend = func(*bent, *authv3.CheckRequest, *authv3.CheckResponse) (*authv3.CheckResponse, error)

// onAllow changes an allowing answer only, onDenial a denying one.
func onAllow(f func(*authv3.OkHttpResponse)) bend {
	return func(_ *bent, _ *authv3.CheckRequest, r *authv3.CheckResponse) (*authv3.CheckResponse, error) {
		if ok := r.GetOkResponse(); ok != nil {
			f(ok)
		}
		return r, nil
	}
}

func onDenial(f func(*bent, *authv3.CheckRequest, *authv3.DeniedHttpResponse)) bend {
	return func(b *bent, q *authv3.CheckRequest, r *authv3.CheckResponse) (*authv3.CheckResponse, error) {
		if d := r.GetDeniedResponse(); d != nil {
			f(b, q, d)
		}
		return r, nil
	}
}

func without(headers []*corev3.HeaderValueOption, name string) []*corev3.HeaderValueOption {
	return slices.DeleteFunc(headers, func(h *corev3.HeaderValueOption) bool { return h.GetHeader().GetKey() == name })
}

func bearer(q *authv3.CheckRequest) string {
	http := q.GetAttributes().GetRequest().GetHttp()
	value := http.GetHeaders()["authorization"]
	for _, h := range http.GetHeaderMap().GetHeaders() {
		if h.GetKey() == "authorization" {
			value = string(h.GetRawValue())
		}
	}
	return strings.TrimPrefix(value, "Bearer ")
}

// fetch calls a server as a gate that follows URLs would.
func (b *bent) fetch(address string) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		return
	}
	if response, err := b.setup.Transport.RoundTrip(request); err == nil {
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
}

func TestFaultsAreSeen(t *testing.T) {
	suite := load(t, own)
	product := newProduct(t, suite)
	outside := realTime(t, slack*60*time.Millisecond)
	for _, fault := range []struct {
		name string
		in   string // the case that must see it
		see  string // what must be said about it
		bend bend
	}{
		{"all_is_allowed", "alg-01-none", "status 200, expected [401]", func(*bent, *authv3.CheckRequest, *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}}, nil
		}},
		{"an_empty_answer_allows", "alg-01-none", "status 200, expected [401]", func(*bent, *authv3.CheckRequest, *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			return &authv3.CheckResponse{}, nil
		}},
		{"no_answer", "alg-01-none", "status", func(*bent, *authv3.CheckRequest, *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			return nil, nil
		}},
		{"all_is_denied", "ctl-01-good-rs256", "status 403, expected [200]", func(b *bent, q *authv3.CheckRequest, r *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			r.Status.Code = 7
			r.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 403}}}
			return r, nil
		}},
		{"an_RPC_error", "alg-01-none", "RPC error", func(*bent, *authv3.CheckRequest, *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			return nil, errors.New("unavailable")
		}},
		{"a_denial_without_a_status", "alg-01-none", "a denial with status 0", onDenial(func(_ *bent, _ *authv3.CheckRequest, d *authv3.DeniedHttpResponse) { d.Status = nil })},
		{"a_denial_that_redirects", "alg-01-none", "a denial with status 302", onDenial(func(_ *bent, _ *authv3.CheckRequest, d *authv3.DeniedHttpResponse) { d.Status.Code = 302 })},
		{"a_denial_with_200", "pol-15-host-only-shadow", "no empty search", onDenial(func(_ *bent, _ *authv3.CheckRequest, d *authv3.DeniedHttpResponse) { d.Status.Code = 200 })},
		{"an_answered_search_with_objects", "lgr-25-search-other-owner", "no empty search", onDenial(func(_ *bent, _ *authv3.CheckRequest, d *authv3.DeniedHttpResponse) { d.Body = `[{}]` })},
		{"no_challenge", "ctl-11-no-token", "without a challenge", onDenial(func(_ *bent, _ *authv3.CheckRequest, d *authv3.DeniedHttpResponse) {
			d.Headers = without(d.Headers, "www-authenticate")
		})},
		{"no_retry_after", "int-18-status-500", "without Retry-After", onDenial(func(_ *bent, _ *authv3.CheckRequest, d *authv3.DeniedHttpResponse) {
			d.Headers = without(d.Headers, "retry-after")
		})},
		{"a_fault_of_ours_as_401", "int-18-status-500", "status 401, expected [503]", onDenial(func(_ *bent, _ *authv3.CheckRequest, d *authv3.DeniedHttpResponse) { d.Status.Code = 401 })},
		{"an_error_in_a_bare_challenge", "ctl-11-no-token", "to lack \"error=\"", onDenial(func(_ *bent, _ *authv3.CheckRequest, d *authv3.DeniedHttpResponse) {
			for _, h := range d.Headers {
				h.Header.Value += ` error="invalid_token"`
			}
		})},
		{"headers_that_append", "idh-01-client-x-user-id", "another request where an unset append means append", onAllow(func(ok *authv3.OkHttpResponse) {
			for _, h := range ok.Headers {
				h.AppendAction = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
			}
		})},
		{"headers_that_yield", "idh-01-client-x-user-id", `the backend sees x-user-id: ["root"]`, onAllow(func(ok *authv3.OkHttpResponse) {
			for _, h := range ok.Headers {
				h.AppendAction = corev3.HeaderValueOption_ADD_IF_ABSENT
			}
		})},
		{"headers_set_and_removed", "ctl-01-good-rs256", "set 1 times and removed 1 times", onAllow(func(ok *authv3.OkHttpResponse) {
			ok.HeadersToRemove = append(ok.HeadersToRemove, "X-User-Id")
		})},
		{"a_client_header_left_in", "idh-05-x-auth-scheme", "x-auth-scheme", onAllow(func(ok *authv3.OkHttpResponse) {
			ok.HeadersToRemove = slices.DeleteFunc(ok.HeadersToRemove, func(n string) bool { return n == "x-auth-scheme" })
		})},
		{"an_underscore_left_in", "idh-07-underscore", "x_user_id", onAllow(func(ok *authv3.OkHttpResponse) {
			ok.HeadersToRemove = slices.DeleteFunc(ok.HeadersToRemove, func(n string) bool { return strings.Contains(n, "_") })
		})},
		{"a_second_value", "idh-18-claim-comma", "x-user-id", onAllow(func(ok *authv3.OkHttpResponse) {
			ok.Headers = append(ok.Headers, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: "x-user-id", Value: "b"}, AppendAction: corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD})
		})},
		{"text_that_reorders", "idh-19-claim-non-ascii", "control or reorder", onAllow(func(ok *authv3.OkHttpResponse) {
			ok.Headers = append(without(ok.Headers, "x-user-id"), &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: "x-user-id", Value: "a\u202eb"}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD})
		})},
		{"bytes_that_gRPC_cannot_send", "ctl-01-good-rs256", "encode the answer", onAllow(func(ok *authv3.OkHttpResponse) { ok.Headers[0].Header.Value = "\xff" })},
		{"a_new_method", "ctl-01-good-rs256", `sets ":method"`, onAllow(func(ok *authv3.OkHttpResponse) {
			ok.Headers = append(ok.Headers, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: ":method", Value: "DELETE"}})
		})},
		{"an_edit_that_is_not_parked", "bod-29-owner-other", "does not park", onAllow(func(ok *authv3.OkHttpResponse) { ok.Headers = without(ok.Headers, ":path") })},
		{"a_parked_request_without_an_edit", "bod-29-owner-other", "metadata lacks", func(_ *bent, _ *authv3.CheckRequest, r *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			r.DynamicMetadata = nil
			return r, nil
		}},
		{"no_edit_at_all", "bod-29-owner-other", `"bob" at /metadata/owner`, func(_ *bent, _ *authv3.CheckRequest, r *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			r.DynamicMetadata = nil
			r.GetOkResponse().Headers = without(r.GetOkResponse().Headers, ":path")
			return r, nil
		}},
		{"another_path_in_the_metadata", "bod-29-owner-other", "the metadata's path", func(_ *bent, _ *authv3.CheckRequest, r *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			r.DynamicMetadata.Fields[edit.PathKey] = structpb.NewStringValue("/threads/search")
			return r, nil
		}},
		{"an_edit_that_reorders", "lgr-47-stamp-keeps-the-rest", "body lacks", func(_ *bent, _ *authv3.CheckRequest, r *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			r.DynamicMetadata.Fields[edit.BodyKey] = structpb.NewStringValue(`{"metadata":{"owner":"alice","n":1.2345678901234567e22}}`)
			return r, nil
		}},
		{"an_edit_that_repeats_a_name", "lgr-48-stamp-run-escaped-key", "not strict JSON", func(_ *bent, _ *authv3.CheckRequest, r *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			r.DynamicMetadata.Fields[edit.BodyKey] = structpb.NewStringValue(`{"metadata":{"\u006fwner":"bob","owner":"alice"}}`)
			return r, nil
		}},
		{"a_search_that_is_not_narrowed", "lgr-24-search-unfiltered", "nothing at /metadata/owner", func(_ *bent, _ *authv3.CheckRequest, r *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			if r.DynamicMetadata != nil {
				r.DynamicMetadata.Fields[edit.BodyKey] = structpb.NewStringValue(`{}`)
			}
			return r, nil
		}},
		{"objects_of_others_told_from_missing_ones", "lgr-01-read-other", "the answer differs", onDenial(func(_ *bent, q *authv3.CheckRequest, d *authv3.DeniedHttpResponse) {
			d.Body += q.GetAttributes().GetRequest().GetHttp().GetPath()
		})},
		{"the_token_in_the_answer", "alg-01-none", "the answer holds a token", onDenial(func(_ *bent, q *authv3.CheckRequest, d *authv3.DeniedHttpResponse) { d.Body += bearer(q) })},
		{"the_payload_in_the_log", "alg-01-none", "the log holds a token's payload", onDenial(func(b *bent, q *authv3.CheckRequest, d *authv3.DeniedHttpResponse) {
			fmt.Fprintln(b.setup.Log, strings.Split(bearer(q), ".")[1])
		})},
		{"a_claim_in_the_answer", "iss-01-iss-other", "the answer holds a claim value", onDenial(func(_ *bent, _ *authv3.CheckRequest, d *authv3.DeniedHttpResponse) {
			d.Headers[0].Header.Value += " alice"
		})},
		{"a_claim_in_the_log", "idh-12-claim-crlf", "the log holds a claim value", func(b *bent, _ *authv3.CheckRequest, r *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			r.GetDeniedResponse().Status.Code = 401
			fmt.Fprintf(b.setup.Log, "{%q: %q}\n", "sub", "alice\r\nx-user-permissions: admin")
			return r, nil
		}},
		{"a_secret_in_the_log", "int-18-status-500", "the log holds the client's secret", onDenial(func(b *bent, _ *authv3.CheckRequest, _ *authv3.DeniedHttpResponse) {
			fmt.Fprintln(b.setup.Log, attacktest.ClientSecret)
		})},
		{"slow_answers", "int-18-status-500", "took 250ms, expected at most 200ms", onDenial(func(*bent, *authv3.CheckRequest, *authv3.DeniedHttpResponse) { time.Sleep(250 * time.Millisecond) })},
		{"expensive_answers", "ser-16-jwe-pbes2-p2c", "of real time", onDenial(func(*bent, *authv3.CheckRequest, *authv3.DeniedHttpResponse) { outside() })},
		{"a_URL_of_the_token_is_fetched", "kid-04-jku", "calls to canary, expected at most 0", onDenial(func(b *bent, _ *authv3.CheckRequest, _ *authv3.DeniedHttpResponse) {
			b.fetch(attacktest.MemoryURLs()["canary"] + "/jwks.json")
		})},
		{"a_host_of_the_inside_is_called", "jwk-04-link-local", "a call to http://169.254.169.254", onDenial(func(b *bent, _ *authv3.CheckRequest, _ *authv3.DeniedHttpResponse) {
			b.fetch("http://169.254.169.254/latest/meta-data")
		})},
		{"an_issuer_in_the_clear", "ctl-11-no-token", "a call to http://issuer-a.test", onDenial(func(b *bent, _ *authv3.CheckRequest, _ *authv3.DeniedHttpResponse) {
			b.fetch("http://issuer-a.test/jwks")
		})},
		{"a_fetch_for_each_unknown_key", "kid-21-flood-sequential", "calls to jwks.a, expected at most 2", onDenial(func(b *bent, _ *authv3.CheckRequest, _ *authv3.DeniedHttpResponse) {
			b.fetch(attacktest.MemoryURLs()["issuer.a"] + "/jwks")
		})},
		{"endless_documents_are_read", "jwk-13-jwks-huge", "bytes of one answer of jwks.a", onDenial(func(b *bent, _ *authv3.CheckRequest, _ *authv3.DeniedHttpResponse) {
			b.fetch(attacktest.MemoryURLs()["issuer.a"] + "/jwks")
		})},
	} {
		t.Run(fault.name, func(t *testing.T) {
			i := slices.IndexFunc(suite.Cases, func(c *attacktest.Case) bool { return c.ID == fault.in })
			if i < 0 {
				t.Fatalf("no case %s", fault.in)
			}
			var said bytes.Buffer
			start := func(s attacktest.Setup) (attacktest.Gate, error) {
				g, err := product.start(s)
				return &bent{Gate: g, setup: s, bend: fault.bend}, err
			}
			suite.Run(t, suite.Cases[i], attacktest.Options{Start: start, Slack: slack, Report: func(problem string) { fmt.Fprintln(&said, problem) }})
			if !strings.Contains(said.String(), fault.see) {
				t.Errorf("%s says:\n%s\nexpected it to say %q", fault.in, said.String(), fault.see)
			}
		})
	}
}

// realTime returns a function that takes as much real time, while a bubble's clock stands still: what it waits for is
// outside of the bubble.
func realTime(t *testing.T, d time.Duration) func() {
	begin, end := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(begin) })
	go func() {
		for range begin {
			<-time.After(d)
			end <- struct{}{}
		}
	}()
	return func() { begin <- struct{}{}; <-end }
}

func TestOrderIsSeen(t *testing.T) {
	suite := load(t, own)
	product := newProduct(t, suite)
	// A gate that denies every second request.
	start := func(s attacktest.Setup) (attacktest.Gate, error) {
		g, err := product.start(s)
		return &bent{Gate: g, setup: s, bend: func(b *bent, _ *authv3.CheckRequest, r *authv3.CheckResponse) (*authv3.CheckResponse, error) {
			if b.calls.Add(1)%2 == 0 && r.GetOkResponse() != nil {
				r.Status.Code = 7
				r.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 403}}}
			}
			return r, nil
		}}, err
	}
	cases := slices.DeleteFunc(slices.Clone(suite.Cases), func(c *attacktest.Case) bool { return c.Group != "control" })
	there, back := suite.Sweep(t, cases[:16], attacktest.Options{Start: start, Report: func(string) {}})
	if fmt.Sprint(there) == fmt.Sprint(back) {
		t.Error("a gate whose answers depend on the order passes for one whose answers do not")
	}
}
