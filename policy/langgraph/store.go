package langgraph

import (
	"strings"

	"github.com/usher-authz/usher/policy"
)

// onItem is an operation on one item, of which its namespace and its key are known: a filter selects by them alone. What
// stands in an item would have to be looked up, and could be another thing when the request arrives.
func onItem(action string, namespace []any, key any, value map[string]any) []policy.Operation {
	given := map[string]any{"namespace": namespace, "key": key}
	return []policy.Operation{{Resource: "store", Action: action, Value: value, Given: given}}
}

// below is what a search or a list says of namespaces: how they begin. The JS server would compare a filter with every item
// that it finds, and the Python server with what stands in the items, and not at all in a list of namespaces.
func below(prefix []any, as string) *policy.Prefix {
	return &policy.Prefix{Name: "namespace", Value: prefix, As: as, Other: []string{"key"}}
}

// key reads an item's key.
func key(v any) (string, error) {
	s, ok := v.(string)
	if !ok || s == "" {
		return "", bad("A key must be a string, and not empty.")
	}
	return s, nil
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
	k, err := key(body["key"])
	if err != nil {
		return nil, err
	}
	return onItem("put", ns, k, map[string]any{
		"namespace": ns, "key": k, "value": body["value"], "index": body["index"], "ttl": body["ttl"],
	}), nil
}

func getItem(in policy.Input) ([]policy.Operation, error) {
	text, err := in.Single("namespace")
	if err != nil {
		return nil, err
	}
	k, err := in.Single("key")
	if err != nil {
		return nil, err
	}
	if k, err = key(k); err != nil {
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
	return onItem("get", ns, k, map[string]any{"namespace": ns, "key": k, "refresh_ttl": nil}), nil
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
	k, err := key(body["key"])
	if err != nil {
		return nil, err
	}
	return onItem("delete", ns, k, map[string]any{"namespace": ns, "key": k}), nil
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
	filter, err := member(body, "filter")
	if err != nil {
		return nil, err
	}
	return []policy.Operation{{
		Resource: "store", Action: "search", Narrows: true, Metadata: []string{"filter"}, BodyMetadata: filter,
		Prefix: below(ns, "namespace_prefix"), Empty: `{"items":[]}`,
		Value: map[string]any{
			"namespace": ns, "filter": body["filter"], "limit": or(body["limit"], int64(10)), "offset": or(body["offset"], int64(0)),
			"query": body["query"], "refresh_ttl": body["refresh_ttl"],
		},
	}}, nil
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
	begin, _ := prefix.([]any)
	return []policy.Operation{{
		Resource: "store", Action: "list_namespaces", Narrows: true, Prefix: below(begin, "prefix"),
		Value: map[string]any{
			"namespace": prefix, "suffix": suffix, "max_depth": body["max_depth"],
			"limit": or(body["limit"], int64(100)), "offset": or(body["offset"], int64(0)),
		},
	}}, nil
}
