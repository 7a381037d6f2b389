package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/usher-authz/usher/k8s/e2e/cluster"
)

// translation is the xDS that egctl makes of one Gateway's objects, decoded.
type translation struct {
	Listeners []map[string]any
	Routes    map[string]map[string]any // by name
	Clusters  []map[string]any
	Endpoints map[string]map[string]any // by cluster
	Secrets   []any                     // which egctl names, but does not write
	// Status holds the messages of each object's conditions, as "Kind name: message".
	Status []string
}

// translate runs egctl on the objects.
func translate(ctx context.Context, dir, objects string) (*translation, error) {
	egctl, err := cluster.Tool("egctl")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "objects.yaml")
	if err := os.WriteFile(file, []byte(objects), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, egctl, "x", "translate", "--from", "gateway-api", "--to", "gateway-api,xds", "--type", "all", "-o", "json",
		"--add-missing-resources", "-f", file)
	cmd.Dir = dir
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("egctl: %w: %s", err, errOut.String())
	}
	var result map[string]any
	if err := json.Unmarshal(out, &result); err != nil {
		return nil, fmt.Errorf("read what egctl wrote: %w\n%.2000s", err, out)
	}
	xds, _ := result["xds"].(map[string]any)
	if len(xds) != 1 {
		return nil, fmt.Errorf("egctl translated %d Gateways, expected one: %s", len(xds), errOut.String())
	}
	t := &translation{Routes: map[string]map[string]any{}, Endpoints: map[string]map[string]any{}, Status: statuses(result)}
	for _, dump := range xds {
		for _, c := range list(at(dump, "configs")) {
			for _, l := range list(at(c, "dynamicListeners")) {
				t.Listeners = append(t.Listeners, object(at(l, "activeState", "listener")))
			}
			for _, r := range list(at(c, "dynamicRouteConfigs")) {
				config := object(at(r, "routeConfig"))
				t.Routes[fmt.Sprint(config["name"])] = config
			}
			for _, r := range list(at(c, "dynamicActiveClusters")) {
				t.Clusters = append(t.Clusters, object(at(r, "cluster")))
			}
			for _, r := range list(at(c, "dynamicEndpointConfigs")) {
				config := object(at(r, "endpointConfig"))
				t.Endpoints[fmt.Sprint(config["clusterName"])] = config
			}
		}
	}
	return t, nil
}

// statuses collects the conditions that are not True, or that say that something is overridden.
func statuses(tree map[string]any) (out []string) {
	for _, kind := range tree {
		for _, o := range list(kind) {
			name := fmt.Sprint(at(o, "kind")) + " " + fmt.Sprint(at(o, "metadata", "name"))
			var walk func(any)
			walk = func(node any) {
				switch n := node.(type) {
				case map[string]any:
					if n["type"] != nil && n["reason"] != nil && (n["status"] != "True" || n["type"] == "Overridden") {
						out = append(out, fmt.Sprintf("%s: %v", name, n["message"]))
					}
					for _, v := range n {
						walk(v)
					}
				case []any:
					for _, v := range n {
						walk(v)
					}
				}
			}
			walk(at(o, "status"))
		}
	}
	return out
}

// static makes a bootstrap of it that needs no control plane: LISTEN and ADMIN stand for ports, routes, endpoints and secrets are
// put in place, and each endpoint becomes the loopback address that moved gives for it. Nothing else is changed.
func (t *translation) static(moved map[string]string) (string, error) {
	var listeners []any
	for _, l := range t.Listeners {
		if strings.HasPrefix(fmt.Sprint(l["name"]), "envoy-gateway-proxy-ready") {
			continue
		}
		l["address"] = socketAddress("127.0.0.1", "LISTEN")
		if err := t.inline(l); err != nil {
			return "", err
		}
		listeners = append(listeners, l)
	}
	if len(listeners) != 1 {
		return "", fmt.Errorf("%d listeners, expected one", len(listeners))
	}
	for _, c := range t.Clusters {
		if c["type"] != "EDS" {
			continue
		}
		load := t.Endpoints[fmt.Sprint(at(c, "edsClusterConfig", "serviceName"))]
		if load == nil {
			return "", fmt.Errorf("cluster %v has no endpoints", c["name"])
		}
		for _, group := range list(load["endpoints"]) {
			for _, e := range list(at(group, "lbEndpoints")) {
				address := object(at(e, "endpoint", "address", "socketAddress"))
				from := fmt.Sprintf("%v:%v", address["address"], address["portValue"])
				to, ok := moved[from]
				if !ok {
					return "", fmt.Errorf("cluster %v has endpoint %s, expected one of %v", c["name"], from, moved)
				}
				host, port, _ := strings.Cut(strings.TrimPrefix(to, "http://"), ":")
				address["address"], address["portValue"] = host, port
			}
		}
		delete(c, "edsClusterConfig")
		delete(load, "@type")
		c["type"], c["loadAssignment"] = "STATIC", load
	}
	staticSecrets(t.Clusters)
	for _, list := range [][]map[string]any{t.Clusters, {listeners[0].(map[string]any)}} {
		for _, o := range list {
			delete(o, "@type")
		}
	}
	text, err := json.MarshalIndent(map[string]any{
		"admin":           map[string]any{"address": socketAddress("127.0.0.1", "ADMIN")},
		"staticResources": map[string]any{"listeners": listeners, "clusters": t.Clusters, "secrets": t.Secrets},
	}, "", " ")
	return string(text), err
}

// staticSecrets has secrets looked up in the bootstrap, by their name alone.
func staticSecrets(node any) {
	switch n := node.(type) {
	case map[string]any:
		if n["sdsConfig"] != nil {
			delete(n, "sdsConfig")
		}
		for _, v := range n {
			staticSecrets(v)
		}
	case []any:
		for _, v := range n {
			staticSecrets(v)
		}
	case []map[string]any:
		for _, v := range n {
			staticSecrets(v)
		}
	}
}

func socketAddress(host, port string) map[string]any {
	return map[string]any{"socketAddress": map[string]any{"address": host, "portValue": port}}
}

// inline replaces references to a route configuration by the configuration itself.
func (t *translation) inline(node any) error {
	switch n := node.(type) {
	case map[string]any:
		if rds := object(n["rds"]); rds != nil {
			config := t.Routes[fmt.Sprint(rds["routeConfigName"])]
			if config == nil {
				return fmt.Errorf("no route configuration %v", rds["routeConfigName"])
			}
			delete(config, "@type")
			delete(n, "rds")
			n["routeConfig"] = config
			return nil
		}
		for _, v := range n {
			if err := t.inline(v); err != nil {
				return err
			}
		}
	case []any:
		for _, v := range n {
			if err := t.inline(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// manager is the HTTP connection manager of the one listener that clients reach.
func (t *translation) manager() (map[string]any, error) {
	for _, l := range t.Listeners {
		chains := append(list(l["filterChains"]), l["defaultFilterChain"])
		for _, chain := range chains {
			for _, f := range list(at(chain, "filters")) {
				config := object(at(f, "typedConfig"))
				if strings.HasSuffix(fmt.Sprint(config["@type"]), ".HttpConnectionManager") && at(config, "rds") != nil {
					return config, nil
				}
			}
		}
	}
	return nil, errors.New("no HTTP connection manager")
}

// at walks down a tree of JSON; what is not there is nil.
func at(node any, path ...any) any {
	for _, step := range path {
		switch s := step.(type) {
		case string:
			node = object(node)[s]
		case int:
			l := list(node)
			if s >= len(l) {
				return nil
			}
			node = l[s]
		}
	}
	return node
}

func object(v any) map[string]any { m, _ := v.(map[string]any); return m }

func list(v any) []any { l, _ := v.([]any); return l }
