package mesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3" // for patches
	rbacfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3" // for patches
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
)

// ingress is a model of what istiod makes of our objects for an ingress gateway, in the parts that matter to a check. istiod
// itself does not run without a cluster. Names, order and settings are those of its source: pilot/pkg/networking/core
// (listener_builder.go), pilot/pkg/security/authz/builder (extauthz.go) and pilot/pkg/networking/core/envoyfilter.
type ingress struct {
	filter *networking.EnvoyFilter
	policy *security.AuthorizationPolicy
	routes []*networking.VirtualService
	check  *meshv1alpha1.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationGrpcProvider
	rules  []*networking.DestinationRule
	// secrets are what istiod hands out by their names.
	secrets []any
}

// The names that istiod gives.
const (
	managerName = "envoy.filters.network.http_connection_manager"
	checkName   = "envoy.filters.http.ext_authz"
	corsName    = "envoy.filters.http.cors"
	shadowKey   = "istio_ext_authz_shadow_effective_policy_id"
	shadowName  = "istio-ext-authz"
)

// readIngress reads the objects strictly, by Istio's own types.
func readIngress(objects string, mesh *meshv1alpha1.MeshConfig) (*ingress, error) {
	in := &ingress{check: mesh.GetExtensionProviders()[0].GetEnvoyExtAuthzGrpc()}
	decoder := yaml.NewDecoder(strings.NewReader(objects))
	for {
		var o struct {
			Kind string
			Spec map[string]any
		}
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return in, nil
		}
		if err != nil {
			return nil, err
		}
		spec, err := json.Marshal(o.Spec)
		if err != nil {
			return nil, err
		}
		var into proto.Message
		switch o.Kind {
		case "EnvoyFilter":
			in.filter = &networking.EnvoyFilter{}
			into = in.filter
		case "AuthorizationPolicy":
			in.policy = &security.AuthorizationPolicy{}
			into = in.policy
		case "VirtualService":
			v := &networking.VirtualService{}
			in.routes = append(in.routes, v)
			into = v
		case "Gateway":
			into = &networking.Gateway{}
		case "DestinationRule":
			d := &networking.DestinationRule{}
			in.rules = append(in.rules, d)
			into = d
		case "ServiceEntry":
			into = &networking.ServiceEntry{}
		default:
			return nil, fmt.Errorf("an object of kind %s", o.Kind)
		}
		if err := protojson.Unmarshal(spec, into); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Kind, err)
		}
	}
}

func anyOf(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err) // of a message of our own
	}
	return a
}

func httpFilter(name string, config proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: anyOf(config)}}
}

// manager is the HTTP connection manager before patches.
func (in *ingress) manager() (*hcmv3.HttpConnectionManager, error) {
	if in.policy.GetAction() != security.AuthorizationPolicy_CUSTOM || in.policy.GetProvider().GetName() != "usher" {
		return nil, fmt.Errorf("the AuthorizationPolicy is %v", in.policy)
	}
	// A rule without conditions is anything; hosts are compared with the header.
	policies := map[string]*rbacv3.Policy{}
	for i, rule := range in.policy.GetRules() {
		p := &rbacv3.Policy{Principals: []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}}}
		for _, to := range rule.GetTo() {
			for _, host := range to.GetOperation().GetHosts() {
				m := &matcherv3.StringMatcher{IgnoreCase: true, MatchPattern: &matcherv3.StringMatcher_Exact{Exact: host}}
				if rest, ok := strings.CutSuffix(host, "*"); ok {
					m.MatchPattern = &matcherv3.StringMatcher_Prefix{Prefix: rest}
				} else if rest, ok := strings.CutPrefix(host, "*"); ok {
					m.MatchPattern = &matcherv3.StringMatcher_Suffix{Suffix: rest}
				}
				p.Permissions = append(p.Permissions, &rbacv3.Permission{Rule: &rbacv3.Permission_Header{Header: &routev3.HeaderMatcher{
					Name: ":authority", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m},
				}}})
			}
		}
		if len(p.Permissions) == 0 {
			p.Permissions = []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}}
		}
		policies[fmt.Sprintf("%s-ns[istio-ingress]-policy[usher]-rule[%d]", shadowName, i)] = p
	}
	body := in.check.GetIncludeRequestBodyInCheck()
	status := map[string]typev3.StatusCode{"503": typev3.StatusCode_ServiceUnavailable}[in.check.GetStatusOnError()]
	check := &extauthzv3.ExtAuthz{
		StatusOnError: &typev3.HttpStatus{Code: status}, FailureModeAllow: in.check.GetFailOpen(), ClearRouteCache: in.check.GetClearRouteCache(),
		TransportApiVersion: corev3.ApiVersion_V3,
		Services: &extauthzv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "usher", Authority: "usher"}},
			Timeout:         in.check.GetTimeout(),
		}},
		WithRequestBody: &extauthzv3.BufferSettings{
			MaxRequestBytes: body.GetMaxRequestBytes(), AllowPartialMessage: body.GetAllowPartialMessage(), PackAsBytes: body.GetPackAsBytes(),
		},
		FilterEnabledMetadata: &matcherv3.MetadataMatcher{
			Filter: "envoy.filters.http.rbac",
			Path:   []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: shadowKey}}},
			Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: shadowName},
			}}},
		},
	}
	routes, err := in.routeConfiguration()
	if err != nil {
		return nil, err
	}
	return &hcmv3.HttpConnectionManager{
		StatPrefix: "outbound_0.0.0.0_80", NormalizePath: wrapperspb.Bool(true), UseRemoteAddress: wrapperspb.Bool(true),
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_KEEP_UNCHANGED,
		UpgradeConfigs:               []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		StreamIdleTimeout:            durationpb.New(0),
		RouteSpecifier:               &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes},
		HttpFilters: []*hcmv3.HttpFilter{
			httpFilter("envoy.filters.http.rbac", &rbacfilterv3.RBAC{
				ShadowRules: &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: policies}, ShadowRulesStatPrefix: "istio_ext_authz_",
			}),
			httpFilter(checkName, check),
			httpFilter(corsName, &corsv3.Cors{}),
			httpFilter("envoy.filters.http.router", &routerv3.Router{}),
		},
	}, nil
}

// routeConfiguration is what becomes of the VirtualServices. A field that it does not know is an error.
func (in *ingress) routeConfiguration() (*routev3.RouteConfiguration, error) {
	config := &routev3.RouteConfiguration{Name: "http.80", IgnorePortInHostMatching: true}
	for _, v := range in.routes {
		host := &routev3.VirtualHost{Name: v.GetHosts()[0] + ":80", Domains: v.GetHosts()}
		for _, h := range v.GetHttp() {
			r := &routev3.Route{Name: h.GetName(), Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}}
			for _, m := range h.GetMatch() {
				if regex := m.GetUri().GetRegex(); regex != "" {
					r.Match.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: regex}}
				}
				if method := m.GetMethod().GetExact(); method != "" {
					r.Match.Headers = append(r.Match.Headers, matchHeader(":method", &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: method}}))
				}
				for name, value := range m.GetHeaders() {
					r.Match.Headers = append(r.Match.Headers, matchHeader(name, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
						SafeRegex: &matcherv3.RegexMatcher{Regex: value.GetRegex()},
					}}))
				}
			}
			switch {
			case h.GetDirectResponse() != nil:
				r.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: h.GetDirectResponse().GetStatus()}}
			case h.GetTimeout() != nil || h.GetRetries().GetAttempts() != 0 || len(h.GetRoute()) != 1:
				return nil, fmt.Errorf("route %s has what the model does not know", h.GetName())
			default:
				r.Action = &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: h.GetRoute()[0].GetDestination().GetHost()}, Timeout: durationpb.New(0),
				}}
			}
			r.ResponseHeadersToRemove = h.GetHeaders().GetResponse().GetRemove()
			if c := h.GetCorsPolicy(); c != nil {
				policy := &corsv3.CorsPolicy{
					AllowMethods: strings.Join(c.GetAllowMethods(), ","), AllowHeaders: strings.Join(c.GetAllowHeaders(), ","),
					ExposeHeaders: strings.Join(c.GetExposeHeaders(), ","), MaxAge: fmt.Sprint(c.GetMaxAge().GetSeconds()),
					AllowCredentials:             c.GetAllowCredentials(),
					ForwardNotMatchingPreflights: wrapperspb.Bool(c.GetUnmatchedPreflights() != networking.CorsPolicy_IGNORE),
				}
				for _, origin := range c.GetAllowOrigins() {
					policy.AllowOriginStringMatch = append(policy.AllowOriginStringMatch, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: origin.GetExact()}})
				}
				r.TypedPerFilterConfig = map[string]*anypb.Any{corsName: anyOf(policy)}
			}
			host.Routes = append(host.Routes, r)
		}
		config.VirtualHosts = append(config.VirtualHosts, host)
	}
	return config, nil
}

func matchHeader(name string, m *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m}}
}

// value reads a patch as a message, strictly.
func value(p *networking.EnvoyFilter_EnvoyConfigObjectPatch, into proto.Message) error {
	b, err := protojson.Marshal(p.GetPatch().GetValue())
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal(b, into); err != nil {
		return fmt.Errorf("a patch of %v: %w", p.GetApplyTo(), err)
	}
	if v, ok := into.(interface{ ValidateAll() error }); ok && p.GetPatch().GetOperation() != networking.EnvoyFilter_Patch_MERGE {
		return v.ValidateAll()
	}
	return nil
}

// merge merges a typed configuration as istiod does: the patch's fields win, lists are appended.
func merge(into, from *anypb.Any) (*anypb.Any, error) {
	if into.GetTypeUrl() != from.GetTypeUrl() {
		return nil, fmt.Errorf("a patch of %s for %s", from.GetTypeUrl(), into.GetTypeUrl())
	}
	a, err := into.UnmarshalNew()
	if err != nil {
		return nil, err
	}
	b, err := from.UnmarshalNew()
	if err != nil {
		return nil, err
	}
	proto.Merge(a, b)
	return anypb.New(a)
}

// patched applies the EnvoyFilter's patches, kind by kind in istiod's order, and in each kind in the order of the file.
func (in *ingress) patched() (*listenerv3.Listener, error) {
	manager, err := in.manager()
	if err != nil {
		return nil, err
	}
	l := &listenerv3.Listener{Name: "0.0.0.0_80"}
	used := 0
	each := func(kind networking.EnvoyFilter_ApplyTo, f func(*networking.EnvoyFilter_EnvoyConfigObjectPatch) error) {
		for _, p := range in.filter.GetConfigPatches() {
			if err == nil && p.GetApplyTo() == kind {
				if p.GetMatch().GetContext() != networking.EnvoyFilter_GATEWAY {
					err = fmt.Errorf("a patch for %v", p.GetMatch().GetContext())
					return
				}
				used++
				err = f(p)
			}
		}
	}
	each(networking.EnvoyFilter_LISTENER, func(p *networking.EnvoyFilter_EnvoyConfigObjectPatch) error {
		v := &listenerv3.Listener{}
		defer proto.Merge(l, v)
		return value(p, v)
	})
	each(networking.EnvoyFilter_NETWORK_FILTER, func(p *networking.EnvoyFilter_EnvoyConfigObjectPatch) error {
		v := &listenerv3.Filter{}
		if err := value(p, v); err != nil {
			return err
		}
		merged, err := merge(anyOf(manager), v.GetTypedConfig())
		if err != nil {
			return err
		}
		manager.Reset()
		return merged.UnmarshalTo(manager)
	})
	for _, merging := range []bool{false, true} { // all that inserts, then all that merges
		each(networking.EnvoyFilter_HTTP_FILTER, func(p *networking.EnvoyFilter_EnvoyConfigObjectPatch) error {
			op := p.GetPatch().GetOperation()
			if merging != (op == networking.EnvoyFilter_Patch_MERGE) {
				used--
				return nil
			}
			v := &hcmv3.HttpFilter{}
			if err := value(p, v); err != nil {
				return err
			}
			target := p.GetMatch().GetListener().GetFilterChain().GetFilter()
			if target.GetName() != managerName {
				return fmt.Errorf("a patch of %s", target.GetName())
			}
			if op == networking.EnvoyFilter_Patch_INSERT_FIRST {
				manager.HttpFilters = append([]*hcmv3.HttpFilter{v}, manager.HttpFilters...)
				return nil
			}
			for i, f := range manager.GetHttpFilters() {
				if f.GetName() != target.GetSubFilter().GetName() {
					continue
				}
				switch op {
				case networking.EnvoyFilter_Patch_MERGE:
					merged, err := merge(f.GetTypedConfig(), v.GetTypedConfig())
					f.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: merged}
					return err
				case networking.EnvoyFilter_Patch_INSERT_AFTER:
					rest := append([]*hcmv3.HttpFilter{v}, manager.GetHttpFilters()[i+1:]...)
					manager.HttpFilters = append(manager.GetHttpFilters()[:i+1:i+1], rest...)
					return nil
				}
				return fmt.Errorf("an operation %v", op)
			}
			return fmt.Errorf("no filter %s", target.GetSubFilter().GetName())
		})
	}
	each(networking.EnvoyFilter_VIRTUAL_HOST, func(p *networking.EnvoyFilter_EnvoyConfigObjectPatch) error {
		v := &routev3.VirtualHost{}
		err := value(p, v)
		for _, host := range manager.GetRouteConfig().GetVirtualHosts() {
			proto.Merge(host, v)
		}
		return err
	})
	each(networking.EnvoyFilter_HTTP_ROUTE, func(p *networking.EnvoyFilter_EnvoyConfigObjectPatch) error {
		v := &routev3.Route{}
		err := value(p, v)
		for _, host := range manager.GetRouteConfig().GetVirtualHosts() {
			for _, r := range host.GetRoutes() {
				if name := p.GetMatch().GetRouteConfiguration().GetVhost().GetRoute().GetName(); name == "" || name == r.GetName() {
					proto.Merge(r, v)
				}
			}
		}
		return err
	})
	each(networking.EnvoyFilter_CLUSTER, func(*networking.EnvoyFilter_EnvoyConfigObjectPatch) error { return nil }) // see patchUsher
	if err == nil && used != len(in.filter.GetConfigPatches()) {
		err = fmt.Errorf("%d of %d patches are of a kind that the model knows", used, len(in.filter.GetConfigPatches()))
	}
	l.FilterChains = []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
		Name: managerName, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: anyOf(manager)},
	}}}}
	return l, err
}

// patchUsher applies what the EnvoyFilter says of Usher's cluster.
func (in *ingress) patchUsher(c *clusterv3.Cluster) error {
	for _, p := range in.filter.GetConfigPatches() {
		if p.GetApplyTo() != networking.EnvoyFilter_CLUSTER {
			continue
		}
		m, op := p.GetMatch().GetCluster(), p.GetPatch().GetOperation()
		if m.GetService() != strings.TrimPrefix(in.check.GetService(), "usher/") || m.GetPortNumber() != in.check.GetPort() || op != networking.EnvoyFilter_Patch_MERGE {
			return fmt.Errorf("a patch %v of the cluster %v", op, m)
		}
		v := &clusterv3.Cluster{}
		if err := value(p, v); err != nil {
			return err
		}
		proto.Merge(c, v)
	}
	return nil
}

// static is a bootstrap with it: LISTEN and ADMIN stand for ports.
func (in *ingress) static(moved map[string]string) (string, error) {
	l, err := in.patched()
	if err != nil {
		return "", err
	}
	listener, err := generic(l)
	if err != nil {
		return "", err
	}
	listener["address"] = socketAddress("127.0.0.1", "LISTEN")
	var clusters []any
	for name, to := range moved {
		c := &clusterv3.Cluster{Name: name, ConnectTimeout: durationpb.New(5e9)}
		if name == "usher" {
			c.TypedExtensionProtocolOptions = map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": anyOf(&httpv3.HttpProtocolOptions{
				UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
					ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
				}},
			})}
			if c.TransportSocket, err = in.socketToUsher(); err != nil {
				return "", err
			}
			if err := in.patchUsher(c); err != nil {
				return "", err
			}
		}
		cluster, err := generic(c)
		if err != nil {
			return "", err
		}
		host, port, _ := strings.Cut(strings.TrimPrefix(to, "http://"), ":")
		cluster["loadAssignment"] = map[string]any{"clusterName": name, "endpoints": []any{map[string]any{"lbEndpoints": []any{
			map[string]any{"endpoint": map[string]any{"address": socketAddress(host, port)}},
		}}}}
		clusters = append(clusters, cluster)
	}
	text, err := json.MarshalIndent(map[string]any{
		"admin":           map[string]any{"address": socketAddress("127.0.0.1", "ADMIN")},
		"staticResources": map[string]any{"listeners": []any{listener}, "clusters": clusters, "secrets": in.secrets},
	}, "", " ")
	return string(text), err
}

func generic(m proto.Message) (map[string]any, error) {
	b, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(b, &out)
}
