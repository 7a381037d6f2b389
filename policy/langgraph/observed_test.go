package langgraph_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
)

var update = flag.Bool("update", false, "write what the tests see into testdata")

// observation is one request to a running LangGraph server: the events that its handler got, and the status that the
// client got under each of the handler's answers.
type observation struct {
	Request string
	Body    json.RawMessage
	Events  []event
	Status  map[string]int
}

type event struct {
	On    string
	Value map[string]any
}

// divergence says where Usher differs from an observation, and why.
type divergence struct {
	Row     int               `json:"row"` // of observed.json, from 1
	Request string            `json:"request"`
	Differs map[string]string `json:"differs"`
	Reason  string            `json:"reason"`
}

// The ids that stand for the placeholders of observed.json. {new} does not exist.
var placeholders = strings.NewReplacer(
	"{a}", "0e68191c-9391-4979-9312-4136449fa631", "{t}", "01a209ce-7982-74dd-8599-0f69833c0a4e",
	"{r}", "01a209c8-a6e4-70fe-8b8b-6c758c331b93", "{c}", "01a209c9-a243-7371-ae5d-664447bef59f",
	"{ck}", "1f0a3b5e-0000-6000-8000-00000000000a", "{new}", "99999999-9999-4999-8999-999999999999",
)

// seen are the objects that the observations are about: alice's.
func seen() store {
	s := store{}
	for _, path := range []string{"/assistants/{a}", "/threads/{t}", "/threads/{t}/runs/{r}", "/runs/crons/{c}"} {
		s[placeholders.Replace(path)] = map[string]any{"owner": "alice"}
	}
	return s
}

// TestObserved replays every observation. What differs must be in divergences.json, and what is there must differ.
func TestObserved(t *testing.T) {
	var file struct{ Requests []observation }
	readJSON(t, "testdata/observed.json", &file)
	if len(file.Requests) != 76 {
		t.Fatalf("%d observations, want 76", len(file.Requests))
	}
	var known []divergence
	readJSON(t, "testdata/divergences.json", &known)
	listed := map[int]divergence{}
	for _, d := range known {
		if d.Reason == "" || len(d.Differs) == 0 {
			t.Errorf("divergence of row %d without reason or difference", d.Row)
		}
		listed[d.Row] = d
	}
	owned := rules(t, "    - {on: \"*\", filter: {owner: user.identity}, stamp: {owner: user.identity}}\n")
	policies := map[string]*policy.Policy{
		"allow": rules(t, "    - {on: \"*\"}\n"), "deny": rules(t, "    - {on: \"*\", allow: \"false\"}\n"), "filter_owner": owned, "filter_other": owned,
	}
	var found []divergence
	for i, o := range file.Requests {
		row := i + 1
		t.Run(fmt.Sprintf("%02d %s", row, o.Request), func(t *testing.T) {
			differs := map[string]string{}
			request, body := placeholders.Replace(o.Request), []byte(placeholders.Replace(string(o.Body)))
			public := false
			for _, name := range slices.Sorted(maps.Keys(policies)) {
				id := user("alice")
				if name == "filter_other" {
					id = user("mallory")
				}
				r := ask(t, policies[name], id, seen(), request, body)
				if got, want := r.status(t, o.Status["allow"]), o.Status[name]; got != want {
					differs[name] = fmt.Sprintf("%d, not %d", got, want)
				}
				public = r.public
				if name == "allow" {
					if text := compareEvents(t, o.Events, r.ops); text != "" {
						differs["events"] = text
					}
				}
			}
			got := 401
			if public {
				got = o.Status["allow"]
			}
			if want := o.Status["no_token"]; got != want {
				differs["no_token"] = fmt.Sprintf("%d, not %d", got, want)
			}
			d := listed[row]
			delete(listed, row)
			if len(differs) > 0 {
				found = append(found, divergence{row, o.Request, differs, d.Reason})
			}
			if len(d.Differs) == 0 {
				d.Differs = map[string]string{}
			}
			if !*update && (!reflect.DeepEqual(d.Differs, differs) || d.Request != o.Request && len(differs) > 0) {
				t.Errorf("differs: %s\nlisted:  %s", indent(t, differs), indent(t, d.Differs))
			}
		})
	}
	for row := range listed {
		t.Errorf("divergences.json has row %d, which does not exist", row)
	}
	if *update {
		writeJSON(t, "testdata/divergences.json", found)
	}
}

// compareEvents says how the operations differ from the events, "" if not at all.
func compareEvents(t *testing.T, events []event, ops []policy.Operation) string {
	t.Helper()
	want, got := map[string][]string{}, map[string][]string{}
	put := func(m map[string][]string, on string, value any) {
		text := indent(t, normal(value, ""))
		if !slices.Contains(m[on], text) {
			m[on] = append(m[on], text)
		}
	}
	for _, e := range events {
		put(want, e.On, e.Value)
	}
	for _, op := range ops {
		if !op.Unruled {
			put(got, op.Resource+":"+op.Action, op.Value)
		}
	}
	var out []string
	for _, on := range slices.Sorted(maps.Keys(want)) {
		if _, ok := got[on]; !ok {
			out = append(out, on+" is not asked")
			continue
		}
		slices.Sort(want[on])
		slices.Sort(got[on])
		if !slices.Equal(want[on], got[on]) {
			out = append(out, on+" has another value")
			t.Logf("%s: got %s\nwant %s", on, got[on], want[on])
		}
	}
	for _, on := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[on]; !ok {
			out = append(out, on+" is asked too")
		}
	}
	return strings.Join(out, "; ")
}

// made are members of a value that the server makes or adds, and nothing in the request says.
var made = []string{
	"run_id", "user_id", "langgraph_auth_user", "langgraph_auth_user_id", "langgraph_auth_permissions", "langgraph_request_id",
	"__request_start_time_ms__", "__after_seconds__",
}

// normal drops what the server makes, and every null: Python tells a missing member from null in few places, and the
// observations in none that matters. An id that is none of the placeholders' is the server's own.
func normal(v any, name string) any {
	switch v := v.(type) {
	case string:
		v = placeholders.Replace(strings.TrimPrefix(v, "uuid:"))
		if len(v) == 36 && strings.Count(v, "-") == 4 && !slices.Contains(known(), v) {
			return nil
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = normal(v[i], name)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, item := range v {
			if n := normal(item, k); n != nil && !(slices.Contains(made, k) && (k != "run_id" || !isKnown(n))) {
				out[k] = n
			}
		}
		if name == "configurable" && len(out) == 0 || name == "config" && len(out) == 0 {
			return nil
		}
		return out
	case int64:
		return float64(v)
	}
	return v
}

func known() []string {
	return strings.Fields(placeholders.Replace("{a} {t} {r} {c} {ck} {new}"))
}

func isKnown(v any) bool {
	s, ok := v.(string)
	return ok && slices.Contains(known(), s)
}

func indent(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
}

func writeJSON(t testing.TB, path string, v any) {
	t.Helper()
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
