package envoy_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/usher-authz/usher/envoy"
	"github.com/usher-authz/usher/envoy/edit"
	"github.com/usher-authz/usher/k8s/api/v1alpha1"
	pure "github.com/usher-authz/usher/policy"
)

// The settings that make a gate of a router, by the place where they must stand in the default bootstrap.
const (
	manager  = "static_resources.listeners.0.filter_chains.0.filters.0.typed_config."
	filters  = manager + "http_filters."
	check    = filters + "1.typed_config."
	hosts    = manager + "route_config.virtual_hosts."
	host     = hosts + "0."
	clusters = "static_resources.clusters."
)

func TestEverySettingOfAGateIsThere(t *testing.T) {
	tree := treeOf(t, cases[0].policies, cases[0].options)
	for _, c := range []struct {
		name, at, want string
	}{
		{"the path is normalised", manager + "normalize_path", "true"},
		{"slashes are merged", manager + "merge_slashes", "true"},
		{"an encoded slash is 400", manager + "path_with_escaped_slashes_action", "REJECT_REQUEST"},
		{"an underscore in a header name is 400", manager + "common_http_protocol_options.headers_with_underscores_action", "REJECT_REQUEST"},
		{"a client's x-forwarded-for is not believed", manager + "use_remote_address", "true"},
		{"no hop is trusted", manager + "xff_num_trusted_hops", "0"},
		{"a client's x-forwarded-client-cert is dropped", manager + "forward_client_cert_details", "SANITIZE"},
		{"the host has no port", manager + "strip_any_host_port", "true"},
		{"the host has no final dot", manager + "strip_trailing_host_dot", "true"},
		{"headers have a size", manager + "max_request_headers_kb", "60"},
		{"headers have a number", manager + "common_http_protocol_options.max_headers_count", "100"},
		{"a stream may be silent for an hour", host + "routes.1.route.idle_timeout", "3600s"},
		{"an answer may take as long as it likes", host + "routes.1.route.timeout", "0s"},
		{"so may a websocket", host + "routes.0.route.timeout", "0s"},
		{"a client must send its headers soon", manager + "request_headers_timeout", "10s"},
		{"a client must send its body some time", manager + "request_timeout", "300s"},
		{"no upgrade but by route", manager + "upgrade_configs", "<nil>"},
		{"the websocket's route", host + "routes.0.match.safe_regex.regex", "/threads/[^/]+/stream/events"},
		{"its upgrade", host + "routes.0.route.upgrade_configs", "[map[enabled:true upgrade_type:websocket]]"},
		{"no upgrade elsewhere", host + "routes.1.route.upgrade_configs", "<nil>"},
		{"no HTTP/1.0", manager + "http_protocol_options.accept_http_10", "false"},
		{"no chunks with a content-length", manager + "http_protocol_options.allow_chunked_length", "false"},
		{"few streams", manager + "http2_protocol_options.max_concurrent_streams", "100"},
		{"small windows", manager + "http2_protocol_options.initial_stream_window_size", "65536"},
		{"no extended CONNECT", manager + "http2_protocol_options.allow_connect", "false"},
		{"CORS before the check", filters + "0.name", "envoy.filters.http.cors"},
		{"the check", filters + "1.name", "envoy.filters.http.ext_authz"},
		{"the edit filter right behind it", filters + "2.name", "envoy.filters.http.lua"},
		{"what is still parked ends", filters + "3.name", "envoy.filters.http.rbac"},
		{"at the parking path", filters + "3.typed_config.rules.policies.parked.permissions.0.url_path.path.prefix", pure.ReservedPrefix},
		{"so does TRACE", filters + "3.typed_config.rules.policies.trace.permissions.0.header", "map[name::method string_match:map[exact:TRACE]]"},
		{"by a denial", filters + "3.typed_config.rules.action", "DENY"},
		{"then the router", filters + "4.name", "envoy.filters.http.router"},
		{"and nothing more", filters + "5", "<nil>"},
		{"raw headers", check + "encode_raw_headers", "true"},
		{"no header is hidden from Usher", check + "allowed_headers", "<nil>"},
		{"nor is any", check + "disallowed_headers", "<nil>"},
		{"the client's certificate", check + "include_peer_certificate", "true"},
		{"the server name that it asked for", check + "include_tls_session", "true"},
		{"the body", check + "with_request_body.max_request_bytes", "4194305"},
		{"cut off, not refused", check + "with_request_body.allow_partial_message", "true"},
		{"as bytes", check + "with_request_body.pack_as_bytes", "true"},
		{"no pass without an answer", check + "failure_mode_allow", "false"},
		{"but 503", check + "status_on_error.code", "ServiceUnavailable"},
		{"a header that cannot be set is an error", check + "validate_mutations", "true"},
		{"nothing drops the :path that parks an edit", check + "decoder_header_mutation_rules", "<nil>"},
		{"the metadata that carries an edit is taken", check + "enable_dynamic_metadata_ingestion", "<nil>"},
		{"the route is the one that was asked about", check + "clear_route_cache", "false"},
		{"for the edit filter too", filters + "2.typed_config.clear_route_cache", "false"},
		{"always on", check + "filter_enabled", "<nil>"},
		{"never only a shadow", check + "shadow_mode", "<nil>"},
		{"the protocol's version", check + "transport_api_version", "V3"},
		{"who is asked", check + "grpc_service.envoy_grpc.cluster_name", "usher"},
		{"for how long", check + "grpc_service.timeout", "1s"},
		{"a check that reached no replica is put to another", check + "grpc_service.retry_policy.retry_on", "connect-failure,refused-stream"},
		{"each try has the whole time", check + "grpc_service.retry_policy.retry_back_off.max_interval", "1s"}, // see docs/envoy.md
		{"Usher's cluster", clusters + "0.name", "usher"},
		{"over HTTP/2", clusters + "0.typed_extension_protocol_options.envoy/extensions/upstreams/http/v3/HttpProtocolOptions.explicit_http_config.http2_protocol_options.connection_keepalive.interval", "30s"},
		{"in the clear, as it is on loopback", clusters + "0.transport_socket", "<nil>"},
		{"bounded", clusters + "0.circuit_breakers.thresholds.0.max_requests", "4096"},
		{"asked for its health", clusters + "0.health_checks.0.grpc_health_check", "map[]"},
		{"a replica without answers is left out", clusters + "0.outlier_detection.consecutive_5xx", "5"},
		{"but not more than half of them", clusters + "0.outlier_detection.max_ejection_percent", "50"},
		{"the unhealthy are asked when there is no other", clusters + "0.common_lb_config.healthy_panic_threshold.value", "1"},
		{"every check may be put again", clusters + "0.circuit_breakers.thresholds.0.max_retries", "4096"},
		{"room for a body", "static_resources.listeners.0.per_connection_buffer_limit_bytes", "5242880"},
		{"over HTTP/2 too", host + "request_body_buffer_limit", "5242880"},
		{"exact origins", host + "typed_per_filter_config.envoy/filters/http/cors.allow_origin_string_match", "[map[exact:https://chat.example.com]]"},
		{"the guarded hosts", host + "domains", "[agents.example.com]"},
		{"and no others", hosts + "1", "<nil>"},
		{"connections have a number", "overload_manager.resource_monitors.0.typed_config.max_active_downstream_connections", "10000"},
		{"no admin pages", "admin", "<nil>"},
		{"loopback only, as there is no TLS", "static_resources.listeners.0.address.socket_address.address", "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fmt.Sprint(find(tree, c.at)); got != c.want {
				t.Errorf("%s: got %s, want %s", c.at, got, c.want)
			}
		})
	}
}

func TestSettingsFollowTheOptions(t *testing.T) {
	tree := treeOf(t, cases[1].policies, cases[1].options)
	for at, want := range map[string]string{
		manager + "xff_num_trusted_hops":                                                     "2",
		manager + "forward_client_cert_details":                                              "SANITIZE_SET",
		manager + "set_current_client_cert_details.subject":                                  "true",
		check + "with_request_body.max_request_bytes":                                        "8193",
		check + "grpc_service.timeout":                                                       "1.5s",
		check + "grpc_service.retry_policy.retry_back_off.max_interval":                      "1.5s",
		"admin.address.socket_address.port_value":                                            "9901",
		"static_resources.listeners.0.address.socket_address.address":                        "0.0.0.0",
		clusters + "0.load_assignment.endpoints.0.lb_endpoints.0.endpoint.address.pipe.path": "/run/usher.sock",
		clusters + "1.name":                                                                  "https://[2001:db8::1]:8443",
		clusters + "2.name":                                                                  "https://orders.example.net:443",
		clusters + "3":                                                                       "<nil>", // two policies share one
		clusters + "2.transport_socket.typed_config.sni":                                     "orders.example.net",
		clusters + "2.transport_socket.typed_config.common_tls_context.validation_context.trusted_ca.filename":             "/etc/envoy/ca.pem",
		clusters + "2.transport_socket.typed_config.common_tls_context.validation_context.match_typed_subject_alt_names.0": "map[matcher:map[exact:orders.example.net] san_type:DNS]",
		clusters + "1.transport_socket.typed_config.common_tls_context.validation_context.match_typed_subject_alt_names.0": "map[matcher:map[exact:2001:db8::1] san_type:IP_ADDRESS]",
		hosts + "0.name":    "agents",
		hosts + "1.name":    "orders",
		hosts + "1.domains": "[orders.example.com *.shop.example.com]",
		hosts + "1.typed_per_filter_config.envoy/filters/http/ext_authz.check_settings": "map[context_extensions:map[body:unsent] disable_request_body_buffering:true]",
		hosts + "1.routes.1": "<nil>", // no websocket
		hosts + "2.domains":  "[*]",
		hosts + "3":          "<nil>", // neither the Shadow policy nor the one without hosts
	} {
		if got := fmt.Sprint(find(tree, at)); got != want {
			t.Errorf("%s: got %s, want %s", at, got, want)
		}
	}
}

func TestNobodyButTheNamedProxiesConnectsWhereTheyForwardCertificates(t *testing.T) {
	c := cases[3]
	tree := treeOf(t, c.policies, c.options)
	const tls = "static_resources.listeners.0.filter_chains.0.transport_socket.typed_config."
	for at, want := range map[string]string{
		manager + "forward_client_cert_details":                                     "FORWARD_ONLY",
		manager + "set_current_client_cert_details":                                 "<nil>", // nothing is added to what the proxy says
		tls + "require_client_certificate":                                          "true",
		tls + "common_tls_context.validation_context.trusted_ca.filename":           "/etc/envoy/proxies.pem",
		tls + "common_tls_context.validation_context.match_typed_subject_alt_names": "[map[matcher:map[exact:spiffe://mesh.example.com/edge] san_type:URI] map[matcher:map[exact:edge.example.com] san_type:DNS]]",
	} {
		if got := fmt.Sprint(find(tree, at)); got != want {
			t.Errorf("%s: got %s, want %s", at, got, want)
		}
	}
	if chains := find(tree, "static_resources.listeners.0.filter_chains.1"); chains != nil {
		t.Errorf("another way in: %v", chains)
	}
}

func TestEnvoyAndUsherProveWhoTheyAre(t *testing.T) {
	const tls = clusters + "0.transport_socket.typed_config."
	const context = tls + "common_tls_context."
	tree := treeOf(t, cases[4].policies, cases[4].options)
	byAddress := treeOf(t, cases[5].policies, cases[5].options)
	for _, c := range []struct {
		name     string
		tree     any
		at, want string
	}{
		{"TLS 1.3", tree, context + "tls_params.tls_minimum_protocol_version", "TLSv1_3"},
		{"which Envoy would not take by itself", tree, context + "tls_params.tls_maximum_protocol_version", "TLSv1_3"},
		{"HTTP/2", tree, context + "alpn_protocols", "[h2]"},
		{"no session goes on", tree, tls + "max_session_keys", "0"},
		{"no connection goes on for ever", tree, clusters + "0.typed_extension_protocol_options.envoy/extensions/upstreams/http/v3/HttpProtocolOptions.common_http_protocol_options.max_connection_duration", "1800s"},
		{"one exact name", tree, context + "combined_validation_context.default_validation_context", "map[match_typed_subject_alt_names:[map[matcher:map[exact:spiffe://mesh.example.com/ns/usher/sa/usher] san_type:URI]]]"},
		{"the authority, read again", tree, context + "combined_validation_context.validation_context_sds_secret_config", "map[name:usher_authority sds_config:map[path_config_source:map[path:/etc/envoy/usher-authority.yaml] resource_api_version:V3]]"},
		{"and no other authority", tree, context + "validation_context", "<nil>"},
		{"Envoy's certificate, read again", tree, context + "tls_certificate_sds_secret_configs", "[map[name:usher_certificate sds_config:map[path_config_source:map[path:/etc/envoy/usher-certificate.yaml] resource_api_version:V3]]]"},
		{"and no other one", tree, context + "tls_certificates", "<nil>"},
		{"Usher's name is told", tree, tls + "sni", "usher.gate.svc"},
		{"Envoy has a name, without which it reads no such file", tree, "node.id", "usher-gate"},
		{"by default the name of the address", byAddress, context + "combined_validation_context.default_validation_context", "map[match_typed_subject_alt_names:[map[matcher:map[exact:usher.gate.svc] san_type:DNS]]]"},
		{"Envoy shows none unless told to", byAddress, context + "tls_certificate_sds_secret_configs", "<nil>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fmt.Sprint(find(c.tree, c.at)); got != c.want {
				t.Errorf("%s: got %s, want %s", c.at, got, c.want)
			}
		})
	}
}

func treeOf(t *testing.T, policies []v1alpha1.AuthPolicy, o envoy.Options) any {
	t.Helper()
	text, err := envoy.Bootstrap(policies, o)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// find walks down a tree of YAML: names and indexes with dots between, a slash for a dot within a name. What is not there
// is nil.
func find(tree any, at string) any {
	for name := range strings.SplitSeq(at, ".") {
		name = strings.ReplaceAll(name, "/", ".")
		switch node := tree.(type) {
		case map[string]any:
			tree = node[name]
		case []any:
			i := 0
			if _, err := fmt.Sscan(name, &i); err != nil || i >= len(node) {
				return nil
			}
			tree = node[i]
		default:
			return nil
		}
	}
	return tree
}

// What the script reads is what envoy/edit writes: the packages may not import each other.
func TestTheEditFilterReadsWhatUsherWrites(t *testing.T) {
	b, err := os.ReadFile("edit.lua")
	if err != nil {
		t.Fatal(err)
	}
	script := string(b)
	for _, want := range []string{`edit["` + edit.BodyKey + `"]`, `edit["` + edit.PathKey + `"]`, edit.ParkingPath, `"envoy.filters.http.ext_authz"`} {
		if !strings.Contains(script, want) {
			t.Errorf("edit.lua lacks %s", want)
		}
	}
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(script), "\n"), func(l string) bool { return strings.HasPrefix(l, "--") })
	if last := strings.TrimSpace(lines[len(lines)-2]); !strings.Contains(last, `replace(":path"`) || lines[len(lines)-1] != "end" {
		t.Errorf("the last statement is %s, want the one that restores :path", last)
	}
	tree := treeOf(t, cases[0].policies, cases[0].options)
	if got := find(tree, filters+"2.typed_config.default_source_code.inline_string"); got != script {
		t.Errorf("the bootstrap's script is another one:\n%v", got)
	}
}
