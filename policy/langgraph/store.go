package langgraph

import (
	"strings"

	"github.com/usher-authz/usher/policy"
)

func onStore(action string, value map[string]any) []policy.Operation {
	return []policy.Operation{{Resource: "store", Action: action, Value: value, Unfilterable: true}}
}

// namespace reads a list of labels. A label is not empty and has no dot, which joins labels elsewhere; a string is not
// a list, although its first character would pass for a first label.
func namespace(v any) ([]any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, bad("A namespace must be a list of strings.")
	}
	for _, label := range list {
		s, ok := label.(string)
		if !ok || s == "" || strings.Contains(s, ".") {
			return nil, bad("A namespace label must be a string, not empty and without a dot.")
		}
	}
	return list, nil
}

// optionalNamespace is namespace, or nil where the body has none.
func optionalNamespace(v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	return namespace(v)
}

func putItem(in policy.Input) ([]policy.Operation, error) {
	body, err := object(in.Body)
	if err != nil {
		return nil, err
	}
	ns, err := namespace(body["namespace"])
	if err != nil {
		return nil, err
	}
	return onStore("put", map[string]any{
		"namespace": ns, "key": body["key"], "value": body["value"], "index": body["index"], "ttl": body["ttl"],
	}), nil
}

func getItem(in policy.Input) ([]policy.Operation, error) {
	text, err := in.Single("namespace")
	if err != nil {
		return nil, err
	}
	key, err := in.Single("key")
	if err != nil {
		return nil, err
	}
	var labels []any
	for _, label := range strings.Split(text, ".") {
		labels = append(labels, label)
	}
	ns, err := namespace(labels)
	if err != nil {
		return nil, err
	}
	return onStore("get", map[string]any{"namespace": ns, "key": key, "refresh_ttl": nil}), nil
}

func deleteItem(in policy.Input) ([]policy.Operation, error) {
	body, err := object(in.Body)
	if err != nil {
		return nil, err
	}
	ns, err := namespace(or(body["namespace"], []any{}))
	if err != nil {
		return nil, err
	}
	return onStore("delete", map[string]any{"namespace": ns, "key": body["key"]}), nil
}

func searchItems(in policy.Input) ([]policy.Operation, error) {
	body, err := object(in.Body)
	if err != nil {
		return nil, err
	}
	ns, err := namespace(or(body["namespace_prefix"], []any{}))
	if err != nil {
		return nil, err
	}
	return onStore("search", map[string]any{
		"namespace": ns, "filter": body["filter"], "limit": or(body["limit"], int64(10)), "offset": or(body["offset"], int64(0)),
		"query": body["query"], "refresh_ttl": body["refresh_ttl"],
	}), nil
}

func listNamespaces(in policy.Input) ([]policy.Operation, error) {
	body, err := object(in.Body)
	if err != nil {
		return nil, err
	}
	prefix, err := optionalNamespace(body["prefix"])
	if err != nil {
		return nil, err
	}
	suffix, err := optionalNamespace(body["suffix"])
	if err != nil {
		return nil, err
	}
	return onStore("list_namespaces", map[string]any{
		"namespace": prefix, "suffix": suffix, "max_depth": body["max_depth"],
		"limit": or(body["limit"], int64(100)), "offset": or(body["offset"], int64(0)),
	}), nil
}
