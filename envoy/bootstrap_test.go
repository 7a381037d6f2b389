package envoy_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/usher-authz/usher/envoy"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite testdata/*.yaml")

func policy(name string, change ...func(*v1alpha1.AuthPolicySpec)) v1alpha1.AuthPolicy {
	p := v1alpha1.AuthPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.AuthPolicySpec{
			Hosts: []string{name + ".example.com"}, API: v1alpha1.API{Preset: "langgraph"},
			Backend: &v1alpha1.Backend{URL: "http://langgraph." + name + ".svc:8000"},
		},
	}
	for _, f := range change {
		f(&p.Spec)
	}
	return p
}

func shadow(s *v1alpha1.AuthPolicySpec) { s.Mode = v1alpha1.Shadow }

func routes(s *v1alpha1.AuthPolicySpec) {
	s.API = v1alpha1.API{Routes: []v1alpha1.Route{{Method: "GET", Path: "/healthz", Public: true}}}
}

func withHosts(hosts ...string) func(*v1alpha1.AuthPolicySpec) {
	return func(s *v1alpha1.AuthPolicySpec) { s.Hosts = hosts }
}

func withBackend(url string) func(*v1alpha1.AuthPolicySpec) {
	return func(s *v1alpha1.AuthPolicySpec) { s.Backend = &v1alpha1.Backend{URL: url} }
}

func withCORS(c v1alpha1.CORS) func(*v1alpha1.AuthPolicySpec) {
	return func(s *v1alpha1.AuthPolicySpec) { s.CORS = &c }
}

// cases take every branch of the template, so that what is checked below is checked of all of it.
var cases = []struct {
	name     string
	policies []v1alpha1.AuthPolicy
	options  envoy.Options
}{
	{
		"defaults",
		[]v1alpha1.AuthPolicy{policy("agents", withCORS(v1alpha1.CORS{AllowOrigins: []string{"https://chat.example.com"}}))},
		envoy.Options{},
	},
	{
		"everything",
		[]v1alpha1.AuthPolicy{
			policy("watcher", shadow, withHosts("agents.example.com")),
			policy("orders", routes, withHosts("orders.example.com", "*.Shop.example.com"), withBackend("https://Orders.example.net"), withCORS(v1alpha1.CORS{
				AllowOrigins: []string{"https://shop.example.com", "http://localhost:3000"}, AllowMethods: []string{"GET"},
				AllowHeaders: []string{"authorization"}, MaxAge: &metav1.Duration{Duration: time.Hour},
			})),
			policy("agents", withBackend("https://[2001:db8::1]:8443")),
			policy("rest", withHosts("*"), withBackend("https://orders.example.net:443/")),
			policy("by-name-only", withHosts()),
		},
		envoy.Options{
			ListenAddress: ":8443", UsherAddress: "unix:///run/usher.sock", AdminAddress: "127.0.0.1:9901", MaxRequestBytes: 8192,
			CheckTimeout: 1500 * time.Millisecond, TrustedHops: 2, BackendCAFile: "/etc/envoy/ca.pem",
			TLS: &envoy.TLS{CertificateFile: "/etc/envoy/tls.crt", KeyFile: "/etc/envoy/tls.key", ClientCAFile: "/etc/envoy/clients.pem"},
		},
	},
	{
		"a_name_for_usher_and_one_backend_for_all",
		[]v1alpha1.AuthPolicy{policy("agents", withHosts("127.0.0.1", "[::1]"), func(s *v1alpha1.AuthPolicySpec) { s.Backend = nil })},
		envoy.Options{
			UsherAddress: "usher.gate.svc.cluster.local:9001", BackendURL: "http://127.0.0.1:8000",
			TLS: &envoy.TLS{CertificateFile: "/etc/envoy/tls.crt", KeyFile: "/etc/envoy/tls.key"},
		},
	},
	{
		"behind_a_proxy_that_forwards_certificates",
		[]v1alpha1.AuthPolicy{policy("agents", forwardedCertificate), policy("watcher", shadow)},
		envoy.Options{
			TLS:            &envoy.TLS{CertificateFile: "/etc/envoy/tls.crt", KeyFile: "/etc/envoy/tls.key", ClientCAFile: "/etc/envoy/proxies.pem"},
			TrustedProxies: []string{"spiffe://mesh.example.com/edge", "edge.example.com"}, TrustedHops: 1,
		},
	},
	{"tls_to_usher", []v1alpha1.AuthPolicy{policy("agents")}, mutual},
	{
		"tls_to_usher_by_its_address",
		[]v1alpha1.AuthPolicy{policy("agents")},
		envoy.Options{UsherAddress: "Usher.gate.svc:9001", UsherTLS: &envoy.UsherTLS{CAFile: "/etc/usher-ca/ca.crt", SDSDirectory: "/etc/envoy"}},
	},
}

// mutual has both sides prove who they are.
var mutual = envoy.Options{
	UsherAddress: "usher.gate.svc:9001", UsherSAN: "spiffe://mesh.example.com/ns/usher/sa/usher",
	UsherTLS: &envoy.UsherTLS{
		CAFile: "/etc/usher-tls/ca.crt", CertificateFile: "/etc/usher-tls/tls.crt", KeyFile: "/etc/usher-tls/tls.key", SDSDirectory: "/etc/envoy",
	},
}

func forwardedCertificate(s *v1alpha1.AuthPolicySpec) {
	s.ClientCertificate = &v1alpha1.ClientCertificate{ForwardedHeader: "x-forwarded-client-cert"}
}

func TestBootstrap(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := envoy.Bootstrap(c.policies, c.options)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", c.name+".yaml")
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s: run with -update and read the diff", file)
			}
			again, err := envoy.Bootstrap(c.policies, c.options)
			if err != nil || !bytes.Equal(got, again) {
				t.Errorf("a second time it is another one (%v)", err)
			}
			validate(t, parse(t, got))
		})
	}
}

// parse reads a bootstrap as Envoy does: a name that no message has is an error.
func parse(t *testing.T, text []byte) *bootstrapv3.Bootstrap {
	t.Helper()
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	b := &bootstrapv3.Bootstrap{}
	if err := protojson.Unmarshal(asJSON, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// validate applies the rules that Envoy's protos state for each message, in Any or not.
func validate(t *testing.T, m proto.Message) {
	t.Helper()
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			t.Errorf("%s: %v", m.ProtoReflect().Descriptor().FullName(), err)
		}
	}
	each(t, m, func(m proto.Message) {
		if any, ok := m.(*anypb.Any); ok {
			inside, err := any.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			validate(t, inside)
		}
	})
}

// each calls f for every message within m.
func each(t *testing.T, m proto.Message, f func(proto.Message)) {
	t.Helper()
	visit := func(v protoreflect.Value) {
		f(v.Message().Interface())
		each(t, v.Message().Interface(), f)
	}
	m.ProtoReflect().Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case d.IsMap() && d.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { visit(v); return true })
		case d.IsList() && d.Message() != nil:
			for i := range v.List().Len() {
				visit(v.List().Get(i))
			}
		case !d.IsMap() && !d.IsList() && d.Message() != nil:
			visit(v)
		}
		return true
	})
}

func TestBootstrapSaysEverythingThatIsWrongAtOnce(t *testing.T) {
	_, err := envoy.Bootstrap([]v1alpha1.AuthPolicy{
		policy("a", withHosts("a b", "*.*", "x.example.com", "-a.example", "[::1", "*")),
		policy("b", withHosts("X.example.com", "*"), withBackend("ftp://x")),
		policy("c", withBackend("http://x/path")),
		policy("d", func(s *v1alpha1.AuthPolicySpec) { s.Backend = nil }),
		policy("e", withCORS(v1alpha1.CORS{AllowOrigins: []string{"*"}})),
		policy("f", withCORS(v1alpha1.CORS{AllowOrigins: []string{"https://x.example/"}})),
		policy("g", withCORS(v1alpha1.CORS{AllowOrigins: []string{"https://x.example"}, AllowHeaders: []string{"*"}})),
		policy("h", withCORS(v1alpha1.CORS{})),
		policy("i", withBackend("http://user:secret@x")),
		policy("j", forwardedCertificate),
	}, envoy.Options{
		ListenAddress: "example.com:80", UsherAddress: "unix://run", AdminAddress: "9901", MaxRequestBytes: 1 << 30,
		CheckTimeout: -time.Second, TLS: &envoy.TLS{}, TrustedProxies: []string{"*.example.com"},
		UsherTLS: &envoy.UsherTLS{KeyFile: "/k", SDSDirectory: "envoy"}, UsherSAN: "spiffe://mesh.example.com/*",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`"a b"`, `"*.*"`, `"-a.example"`, `"[::1"`, `"X.example.com" is guarded by policy "a"`, `"*" is guarded by policy "a"`, `"ftp://x"`,
		`"http://x/path"`, `policy "d": no spec.backend.url`, `policy "e": spec.cors.allowOrigins: "*"`, `policy "f"`, `policy "g"`, `policy "h"`,
		`policy "i"`, `policy "j": clientCertificate needs to know the proxies`,
		`policy "c" has no clientCertificate, and policy "j" has it`, `trusted proxy "*.example.com"`, `listen address "example.com:80"`, `"unix://run"`, `"9901"`, "largest request body", "check timeout", "TLS:",
		"expected --usher-tls-ca-file", "--usher-tls-key-file: expected both or neither", `SDS directory "envoy"`, `usher's SAN "spiffe://mesh.example.com/*"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %s:\n%v", want, err)
		}
	}
	if _, err := envoy.Bootstrap([]v1alpha1.AuthPolicy{policy("s", shadow)}, envoy.Options{}); err == nil {
		t.Error("a bootstrap without a virtual host is no error")
	}
}

func TestAForwardedCertificateNeedsAProxyThatIsKnown(t *testing.T) {
	known := envoy.Options{
		TLS:            &envoy.TLS{CertificateFile: "/c", KeyFile: "/k", ClientCAFile: "/p"},
		TrustedProxies: []string{"spiffe://mesh.example.com/edge"},
	}
	with := func(change func(*envoy.Options)) envoy.Options {
		o, tls := known, *known.TLS
		o.TLS = &tls
		change(&o)
		return o
	}
	for name, c := range map[string]struct {
		options  envoy.Options
		policies []v1alpha1.AuthPolicy
		want     string // of the error; empty: none
	}{
		"known":                {known, nil, ""},
		"in the clear":         {with(func(o *envoy.Options) { o.TLS = nil }), nil, "--tls-client-ca-file"},
		"without an authority": {with(func(o *envoy.Options) { o.TLS.ClientCAFile = "" }), nil, "--tls-client-ca-file"},
		"without a name":       {with(func(o *envoy.Options) { o.TrustedProxies = nil }), nil, "--trusted-proxy-san"},
		"any name":             {with(func(o *envoy.Options) { o.TrustedProxies = []string{"*"} }), nil, `trusted proxy "*"`},
		"an empty name":        {with(func(o *envoy.Options) { o.TrustedProxies = []string{""} }), nil, `trusted proxy ""`},
		"a pattern of a URI":   {with(func(o *envoy.Options) { o.TrustedProxies = []string{"spiffe://mesh.example.com/*"} }), nil, "trusted proxy"},
		"a policy beside it that takes the connection's": {known, []v1alpha1.AuthPolicy{policy("other")}, `policy "other" has no clientCertificate`},
		"a Shadow policy beside it":                      {known, []v1alpha1.AuthPolicy{policy("other", shadow)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := envoy.Bootstrap(append([]v1alpha1.AuthPolicy{policy("agents", forwardedCertificate)}, c.policies...), c.options)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := envoy.Bootstrap([]v1alpha1.AuthPolicy{policy("agents")}, known); err == nil || !strings.Contains(err.Error(), "trusted proxies") {
		t.Errorf("proxies that nobody believes: %v", err)
	}
}
