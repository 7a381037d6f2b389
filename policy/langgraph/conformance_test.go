package langgraph_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/policy"
)

// conformance is testdata/cases/conformance.json.
type conformance struct {
	About   string
	IDs     map[string]string
	Objects map[string]map[string]any
	Cases   []conformanceCase
}

type conformanceCase struct {
	Case        int
	Level       string
	Policy      string
	Rules       json.RawMessage
	User        string
	Permissions []string
	Request     string
	Body        json.RawMessage
	Want        conformanceWant
	Note        string

	Token   string      // of level http
	Headers [][2]string // of level http
}

type conformanceWant struct {
	Outcome, Detail, Body string
	Scopes, Operations    []string
	Edits                 []wantedEdit

	Status          int    // of level http
	WWWAuthenticate string `json:"www_authenticate"` // of level http
}

type wantedEdit struct {
	At  []string
	Set map[string]any
}

func readConformance(t testing.TB) conformance {
	t.Helper()
	text, err := os.ReadFile("testdata/cases/conformance.json")
	if err != nil {
		t.Fatal(err)
	}
	var ids struct{ IDs map[string]string }
	if err := json.Unmarshal(text, &ids); err != nil {
		t.Fatal(err)
	}
	for name, id := range ids.IDs {
		text = bytes.ReplaceAll(text, []byte("{"+name+"}"), []byte(id))
	}
	var c conformance
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestConformance runs the cases of level policy. Each number must be there, at one level or the other.
func TestConformance(t *testing.T) {
	file := readConformance(t)
	numbers := map[int]bool{}
	for _, c := range file.Cases {
		numbers[c.Case] = true
		switch c.Level {
		case "http":
			if c.Token == "" || c.Want.Status == 0 || c.Want.Outcome != "" {
				t.Errorf("case %d: a case of level http has a token and a status", c.Case)
			}
			continue
		case "policy":
		default:
			t.Errorf("case %d: level %q", c.Case, c.Level)
			continue
		}
		name := fmt.Sprintf("%02d %s %s", c.Case, c.User, c.Request)
		t.Run(name, func(t *testing.T) { c.run(t, file.Objects) })
	}
	for n := 1; n <= 64; n++ {
		if !numbers[n] {
			t.Errorf("no case %d", n)
		}
	}
}

func (c conformanceCase) run(t *testing.T, objects store) {
	var p *policy.Policy
	if c.Rules != nil {
		p = rules(t, "    "+string(c.Rules)+"\n")
	} else {
		text, err := os.ReadFile("testdata/cases/" + c.Policy + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		p = compile(t, string(text))
	}
	r := ask(t, p, user(c.User, c.Permissions...), objects, c.Request, c.Body)
	d := r.decision
	got := d.Outcome.String()
	if r.public {
		got = "public"
	}
	if got != c.Want.Outcome || d.Detail != c.Want.Detail || d.Body != c.Want.Body {
		t.Errorf("%s %q %q (%s), want %s %q %q", got, d.Detail, d.Body, d.Reason, c.Want.Outcome, c.Want.Detail, c.Want.Body)
	}
	if !slices.Equal(d.Scopes, c.Want.Scopes) {
		t.Errorf("scopes %q, want %q", d.Scopes, c.Want.Scopes)
	}
	edits := []wantedEdit{}
	for _, e := range d.Edits {
		w := wantedEdit{append([]string{}, e.At...), map[string]any{}}
		for _, m := range e.Set {
			w.Set[m.Name] = m.Value
		}
		edits = append(edits, w)
	}
	if len(edits)+len(c.Want.Edits) > 0 && !reflect.DeepEqual(edits, c.Want.Edits) {
		t.Errorf("edits %v, want %v", edits, c.Want.Edits)
	}
	var headers []policy.Header
	if got == "allow" {
		headers = []policy.Header{{Name: "x-user-id", Value: c.User}}
	}
	if !slices.Equal(d.Headers, headers) {
		t.Errorf("headers %v, want %v", d.Headers, headers)
	}
	if c.Want.Operations != nil {
		var ops []string
		for _, op := range r.ops {
			ops = append(ops, op.Resource+":"+op.Action)
		}
		if !slices.Equal(ops, c.Want.Operations) {
			t.Errorf("operations %s, want %s", strings.Join(ops, " "), c.Want.Operations)
		}
	}
}
