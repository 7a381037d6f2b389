package attacktest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/go-json-experiment/json"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/usher-authz/usher/envoy/edit"
)

func requestOf(t *testing.T, text string) *Request {
	t.Helper()
	r := &Request{}
	if err := json.Unmarshal([]byte(text), r, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	return r
}

// encoded writes what a gate is asked in a form that can be compared.
func encoded(t *testing.T, text, encoding string) string {
	t.Helper()
	s, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	r, g := requestOf(t, text), &lab{suite: s, urls: MemoryURLs()}
	g.vars = func(string) (string, error) { return "T", nil }
	c, err := r.client(g, true)
	if err != nil {
		t.Fatal(err)
	}
	check, err := r.encode(g, c, encoding)
	if err != nil {
		t.Fatal(err)
	}
	http := check.GetAttributes().GetRequest().GetHttp()
	var lines []string
	for k, v := range http.GetHeaders() {
		lines = append(lines, k+"="+v)
	}
	slices.Sort(lines)
	for _, h := range http.GetHeaderMap().GetHeaders() {
		lines = append(lines, fmt.Sprintf("%s~%s%s", h.GetKey(), h.GetValue(), h.GetRawValue()))
	}
	return fmt.Sprintf("%s %s %s %s size=%d raw=%q body=%q [%s]", http.GetMethod(), http.GetScheme(), http.GetHost(), http.GetPath(),
		http.GetSize(), http.GetRawBody(), http.GetBody(), strings.Join(lines, " "))
}

func TestRequestsAreEncodedAsEnvoyDoes(t *testing.T) {
	for _, c := range []struct{ name, encoding, request, want string }{
		{"a_map_has_lower_case_names_and_pseudo_headers", "map", `{"method":"GET","host":"h","path":"/p?q","headers":[["Accept","x"],["authorization","{{token}}"]]}`,
			`GET https h /p?q size=0 raw="" body="" [:authority=h :method=GET :path=/p?q :scheme=https accept=x authorization=T]`},
		{"equal_names_are_joined_by_a_comma_without_a_space", "map", `{"method":"GET","host":"h","path":"/","headers":[["a","1"],["A","2"],["authorization","{{token}}"]]}`,
			`GET https h / size=0 raw="" body="" [:authority=h :method=GET :path=/ :scheme=https a=1,2 authorization=T]`},
		{"names_keep_their_case_where_asked", "map_keep_case", `{"method":"GET","host":"h","path":"/","headers":[["a","1"],["A","2"],["authorization","{{token}}"]]}`,
			`GET https h / size=0 raw="" body="" [:authority=h :method=GET :path=/ :scheme=https A=2 a=1 authorization=T]`},
		{"pseudo_headers_that_are_given_stay", "map", `{"method":"GET","host":"h","path":"/","headers":[[":path","/other"],["authorization","{{token}}"]]}`,
			`GET https h / size=0 raw="" body="" [:authority=h :method=GET :path=/other :scheme=https authorization=T]`},
		{"each_bad_byte_is_an_exclamation_mark", "map", `{"method":"GET","host":"h","path":"/","headers":[["a",{"$concat":["é",{"$hex":"fffe"},"b"]}],["authorization","{{token}}"]]}`,
			`GET https h / size=0 raw="" body="" [:authority=h :method=GET :path=/ :scheme=https a=é!!b authorization=T]`},
		{"a_list_joins_and_replaces_nothing", "raw", `{"method":"GET","host":"h","path":"/","headers":[["a","1"],["A","2"],["b",{"$hex":"ff"}],["authorization","{{token}}"]]}`,
			"GET https h / size=0 raw=\"\" body=\"\" [a~1 A~2 b~\xff authorization~T]"},
		{"the_token_is_added_where_nothing_holds_it", "raw", `{"method":"GET","host":"h","path":"/"}`,
			`GET https h / size=0 raw="" body="" [authorization~Bearer T]`},
		{"the_token_is_not_added_where_the_path_holds_it", "raw", `{"method":"GET","host":"h","path":"/?t={{token}}"}`,
			`GET https h /?t=T size=0 raw="" body="" []`},
		{"a_body_is_sent_raw_with_its_header", "raw", `{"method":"POST","host":"h","path":"/{{token}}","body":"ab"}`,
			`POST https h /T size=2 raw="ab" body="" [x-envoy-auth-partial-body~false]`},
		{"a_partial_body", "map", `{"method":"POST","host":"h","path":"/{{token}}","body":"ab","partial":true,"headers":[["x-envoy-auth-partial-body","false"]]}`,
			`POST https h /T size=2 raw="ab" body="" [:authority=h :method=POST :path=/T :scheme=https x-envoy-auth-partial-body=false,true]`},
		{"a_body_as_text", "raw", `{"method":"POST","host":"h","path":"/{{token}}","body":{"$hex":"41ff"},"body_as":"body"}`,
			`POST https h /T size=2 raw="" body="A!" [x-envoy-auth-partial-body~false]`},
		{"a_body_that_envoy_did_not_buffer", "raw", `{"method":"POST","host":"h","path":"/{{token}}","body_as":"absent","size":-1}`,
			`POST https h /T size=-1 raw="" body="" []`},
		{"both_forms_at_once", "map", `{"method":"GET","host":"h","path":"/","headers":[["a","1"]],"extra_raw_headers":[["b","{{token}}"]]}`,
			`GET https h / size=0 raw="" body="" [:authority=h :method=GET :path=/ :scheme=https a=1 b~T]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := encoded(t, c.request, c.encoding); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func option(name, value string, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: action}
}

func TestAnswersAreAppliedAsEnvoyDoes(t *testing.T) {
	const (
		unset     = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
		overwrite = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
		absent    = corev3.HeaderValueOption_ADD_IF_ABSENT
		existing  = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS
	)
	edited := &structpb.Struct{Fields: map[string]*structpb.Value{
		edit.PathKey: structpb.NewStringValue("/p?q=1"), edit.BodyKey: structpb.NewStringValue("{}"),
	}}
	for _, c := range []struct {
		name     string
		ok       *authv3.OkHttpResponse
		metadata *structpb.Struct
		how      reading
		want     string
		problems int
	}{
		{"overwriting_replaces_every_copy", &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option("A", "3", overwrite)}}, nil, overwrites, `/p?q=1 "body" [[b 9] [a 3]]`, 0},
		{"an_unset_action_overwrites_up_to_1.36", &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option("a", "3", unset)}}, nil, overwrites, `/p?q=1 "body" [[b 9] [a 3]]`, 0},
		{"an_unset_action_appends_in_1.37", &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option("a", "3", unset)}}, nil, appends, `/p?q=1 "body" [[a 1] [a 2] [b 9] [a 3]]`, 0},
		{"add_if_absent_yields", &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option("a", "3", absent), option("c", "3", absent)}}, nil, overwrites, `/p?q=1 "body" [[a 1] [a 2] [b 9] [c 3]]`, 0},
		{"overwrite_if_exists_adds_nothing", &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option("a", "3", existing), option("c", "3", existing)}}, nil, overwrites, `/p?q=1 "body" [[b 9] [a 3]]`, 0},
		{"removing_comes_last", &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option("a", "3", overwrite)}, HeadersToRemove: []string{"A"}}, nil, overwrites, `/p?q=1 "body" [[b 9]]`, 0},
		{"pseudo_headers_cannot_be_removed", &authv3.OkHttpResponse{HeadersToRemove: []string{":path", "host"}}, nil, overwrites, `/p?q=1 "body" [[a 1] [a 2] [b 9]]`, 2},
		{"another_path_needs_an_edit", &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option(":path", "/x", overwrite)}}, nil, overwrites, `/x "body" [[a 1] [a 2] [b 9]]`, 1},
		{"an_edit_is_unparked", &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option(":path", edit.ParkingPath, overwrite)}}, edited, overwrites, `/p?q=1 "{}" [[a 1] [a 2] [b 9] [content-length 2]]`, 0},
		{"an_edit_that_is_not_parked", &authv3.OkHttpResponse{}, edited, overwrites, `/p?q=1 "{}" [[a 1] [a 2] [b 9] [content-length 2]]`, 1},
		{"a_parked_request_without_its_edit", &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option(":path", edit.ParkingPath, overwrite)}}, nil, overwrites, edit.ParkingPath + ` "body" [[a 1] [a 2] [b 9]]`, 1},
		{"the_path_in_a_header", &authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{option(":path", edit.ParkingPath, overwrite), option("x", "/p?q=1", overwrite)}}, edited, overwrites, `/p?q=1 "{}" [[a 1] [a 2] [b 9] [x /p?q=1] [content-length 2]]`, 1},
		{"query_parameters", &authv3.OkHttpResponse{QueryParametersToRemove: []string{"q"}, QueryParametersToSet: []*corev3.QueryParameter{{Key: "r", Value: "a b"}}}, nil, overwrites, `/p?r=a+b "body" [[a 1] [a 2] [b 9]]`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := client{method: "POST", host: "h", path: "/p?q=1", headers: [][2]string{{"a", "1"}, {"A", "2"}, {"b", "9"}}, body: []byte("body")}
			u, problems := apply(from, &authv3.CheckResponse{
				HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: c.ok}, DynamicMetadata: c.metadata,
			}, c.how)
			if got := fmt.Sprintf("%s %q %v", u.Path, u.Body, u.Headers); got != c.want || len(problems) != c.problems {
				t.Errorf("got  %s, problems %q\nwant %s, %d problems", got, problems, c.want, c.problems)
			}
		})
	}
}

func TestPolicyOfAHost(t *testing.T) {
	s, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ host, name, want string }{
		{"api.test", "", "api"}, {"API.test:443", "", "api"}, {"x.open.test", "", "open"}, {"open.test", "", ""},
		{"shadow-only.test", "", ""}, {"api.test@x.open.test", "", ""}, {"nobody.test", "", ""}, {"api.test", "ops", "ops"},
		{"api.test", "shadow-only", ""}, {"", "", ""},
	} {
		got := ""
		if g := s.guardOf(c.host, c.name); g != nil {
			got = g.name
		}
		if got != c.want {
			t.Errorf("host %q, policy %q: got %q, want %q", c.host, c.name, got, c.want)
		}
	}
}
