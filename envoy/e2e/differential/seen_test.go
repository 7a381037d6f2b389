package differential_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	symbolForm = regexp.MustCompile(`\{[TRA][0-9]+\}`)
	idForm     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
)

// fill puts ids in the place of symbols: what the server made, else what the client chose, the same on both sides.
func (s *side) fill(text, seed string) string {
	return symbolForm.ReplaceAllStringFunc(text, func(symbol string) string { return s.id(symbol, seed) })
}

func (s *side) id(symbol, seed string) string {
	if id, ok := s.ids[symbol]; ok {
		return id
	}
	sum := sha256.Sum256([]byte(seed + symbol))
	sum[6], sum[8] = sum[6]&0x0f|0x40, sum[8]&0x3f|0x80 // a UUID of version 4 (RFC 9562, section 5.4)
	id := fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	s.bind(symbol, id)
	return id
}

func (s *side) bind(symbol, id string) { s.ids[symbol], s.symbols[id] = id, symbol }

// neutral puts symbols in the place of ids; one that nobody knows is a question mark.
func (s *side) neutral(text string) string {
	return idForm.ReplaceAllStringFunc(text, func(id string) string {
		if symbol, ok := s.symbols[id]; ok {
			return symbol
		}
		return "?"
	})
}

// seen is what an answer shows, in terms of symbols: which things, and their metadata.
func (s *side) seen(q request, a answer) []string {
	if !a.good() || len(a.body) == 0 {
		return nil
	}
	if a.stream {
		if strings.Contains(string(a.body), "event: error") {
			return []string{"an error in the stream"}
		}
		return []string{"a stream"}
	}
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		return []string{"no JSON: " + string(a.body)}
	}
	var out []string
	for _, thing := range things(q, v) {
		b, _ := json.Marshal(thing)
		out = append(out, s.neutral(string(b)))
	}
	slices.Sort(out)
	return out
}

// shown are the members that are compared. Times, statuses and what a run keeps of its user differ by nature.
var shown = []string{"thread_id", "run_id", "assistant_id", "graph_id", "metadata", "name", "version", "namespace", "key", "value"}

func things(q request, v any) []any {
	switch {
	case strings.HasSuffix(q.route, "/state") || strings.HasSuffix(q.route, "/checkpoint") || strings.HasSuffix(q.route, "/wait"):
		names := []any{}
		if o, ok := v.(map[string]any); ok {
			for name := range o {
				names = append(names, name)
			}
			slices.SortFunc(names, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
		return []any{names}
	case strings.HasSuffix(q.route, "/history"):
		list, _ := v.([]any)
		return []any{len(list)}
	}
	switch v := v.(type) {
	case []any:
		var out []any
		for _, item := range v {
			out = append(out, excerpt(item))
		}
		return out
	case map[string]any:
		for _, name := range []string{"items", "namespaces"} {
			if list, ok := v[name].([]any); ok {
				return things(request{}, list)
			}
		}
	}
	return []any{excerpt(v)}
}

func excerpt(v any) any {
	o, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for _, name := range shown {
		if value, ok := o[name]; ok {
			out[name] = value
		}
	}
	return out
}

// fewer reports whether each of a stands in b, or whether it is the lower number.
func fewer(a, b []string) bool {
	if len(a) == 1 && len(b) == 1 {
		x, errX := strconv.Atoi(a[0])
		y, errY := strconv.Atoi(b[0])
		if errX == nil && errY == nil {
			return x <= y
		}
	}
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}
