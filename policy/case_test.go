package policy_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

var update = flag.Bool("update", false, "write want of every case")

// request is one line of a case's requests.
type request struct {
	User        string
	Permissions []string
	Claims      map[string]any
	Host        string // agents.test where not given
	Policy      string // asks for a policy by its name
	Request     string
	Headers     map[string]string
	Body        json.RawMessage
	Raw         string   // a body that is no JSON
	Address     string   // of the peer; 192.0.2.7 where not given
	Now         string   // 2026-01-02T03:04:05Z where not given
	Removes     []string // header names, to tell whether the policy removes them
}

// provider is added to every case's policy.
const provider = `apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: idp}
spec: {issuer: "https://auth.example.com", audiences: [langgraph]}
`

// TestCases runs testdata/*.txtar: requests, a JSON object a line, against policy.yaml, with the objects that a backend
// would have.
func TestCases(t *testing.T) {
	runCases(t, "testdata/*.txtar", func(t *testing.T, files map[string][]byte) string {
		snapshot, problems := load(files["policy.yaml"])
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		objects := map[string]map[string]any{}
		if text := files["objects"]; len(text) > 0 {
			for path, m := range value(t, text).(map[string]any) {
				objects[path], _ = m.(map[string]any)
			}
		}
		var out strings.Builder
		for _, w := range snapshot.Warnings() {
			fmt.Fprintf(&out, "warning: %s\n", w.Error())
		}
		lines := bufio.NewScanner(bytes.NewReader(files["requests"]))
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			if line == "" || line[0] == '#' {
				continue
			}
			var r request
			d := json.NewDecoder(strings.NewReader(line))
			d.DisallowUnknownFields()
			if err := d.Decode(&r); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			fmt.Fprintf(&out, "> %s\n%s", cut(line), r.run(t, snapshot, objects))
		}
		return out.String()
	})
}

// cut keeps a line short enough to read.
func cut(line string) string {
	const most = 220
	if len(line) > most {
		return strings.ToValidUTF8(line[:most], "") + "..."
	}
	return line
}

// runCases runs each case of the pattern and compares what it gives with its want.
func runCases(t *testing.T, pattern string, run func(*testing.T, map[string][]byte) string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases %s: %v", pattern, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string][]byte{}
			for _, f := range archive.Files {
				files[f.Name] = f.Data
			}
			got := run(t, files)
			if *update {
				files := archive.Files[:0]
				for _, f := range archive.Files {
					if f.Name != "want" {
						files = append(files, f)
					}
				}
				archive.Files = append(files, txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(path, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(files["want"]); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func load(text []byte) (*policy.Snapshot, policy.Problems) {
	idp, problems := manifest.Parse("provider.yaml", []byte(provider))
	objects, more := manifest.Parse("policy.yaml", text)
	compiled, all := manifest.Compile(append(idp, objects...), presets())
	problems = append(append(problems, more...), all...)
	if len(problems) > 0 {
		return nil, problems.Sort()
	}
	return compiled.Snapshot, nil
}

func value(t testing.TB, text []byte) policy.Value {
	t.Helper()
	v, err := policy.ParseValue(text)
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return v
}

// run sends the request through matching, routing, mapping and deciding, and tells what became of it.
func (r request) run(t *testing.T, s *policy.Snapshot, objects map[string]map[string]any) string {
	t.Helper()
	if r.Host == "" {
		r.Host = "agents.test"
	}
	p := s.Match(r.Host, r.Policy)
	if p == nil {
		return "no policy\n"
	}
	var out strings.Builder
	if len(s.Policies()) > 1 {
		fmt.Fprintf(&out, "policy %s\n", p.Name)
	}
	for _, name := range r.Removes {
		fmt.Fprintf(&out, "removes %s: %v\n", name, p.Removes(name))
	}
	if r.Request == "" {
		return out.String()
	}
	method, target, _ := strings.Cut(r.Request, " ")
	path, query, _ := strings.Cut(target, "?")
	route, err := p.Route(method, path)
	if err != nil {
		return out.String() + told(err)
	}
	if route.Public {
		return out.String() + "public by " + route.Pattern + "\n"
	}
	body := []byte(r.Body)
	if r.Raw != "" {
		body = []byte(r.Raw)
	}
	ops, err := route.Operations(query, body)
	if err != nil {
		return out.String() + told(err)
	}
	claims, _ := value(t, marshal(t, r.Claims)).(map[string]any)
	if r.Address == "" {
		r.Address = "192.0.2.7"
	}
	now, err := time.Parse(time.RFC3339, cmp.Or(r.Now, "2026-01-02T03:04:05Z"))
	if err != nil {
		t.Fatal(err)
	}
	facts := policy.Facts{
		Identity: &policy.Identity{Name: r.User, DisplayName: r.User, Permissions: r.Permissions, Claims: claims},
		Now:      now,
		Request: &policy.Request{
			Method: method, Path: path, Host: r.Host, RemoteAddress: r.Address, Query: query,
			Headers: func() map[string]string { return r.Headers },
		},
	}
	d := p.Decide(facts, ops)
	facts.Trace = &policy.Trace{}
	traced := p.Decide(facts, ops)
	if d.Outcome == policy.Undecided {
		found := make([]policy.Object, len(d.Needs))
		for i, ref := range d.Needs {
			metadata, ok := objects[ref.Path]
			found[i] = policy.Object{Found: ok, Metadata: metadata}
			fmt.Fprintf(&out, "looks up %s\n", ref.Path)
		}
		if again := d.Resolve(nil); len(d.Needs) > 0 && again.Outcome != policy.Undecided {
			t.Errorf("%s: %v without what it needs", r.Request, again.Outcome)
		}
		d, traced = d.Resolve(found), traced.Resolve(found)
	}
	checkTrace(t, r.Request, facts.Trace, d, traced)
	return out.String() + describe(d)
}

func told(err error) string {
	var r *policy.Refusal
	if !errors.As(err, &r) {
		return "fault: " + err.Error() + "\n"
	}
	return fmt.Sprintf("%s %q\n", r.Outcome, r.Detail)
}

func describe(d policy.Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", d.Outcome)
	if d.Rule.On != "" {
		fmt.Fprintf(&b, " by %q at %s", d.Rule.On, d.Rule.Position)
	}
	if d.Detail != "" {
		fmt.Fprintf(&b, ", says %q", d.Detail)
	}
	if d.Body != "" {
		fmt.Fprintf(&b, ", body %s", d.Body)
	}
	if d.Reason != "" {
		fmt.Fprintf(&b, ": %s", d.Reason)
	}
	if d.Login != nil {
		fmt.Fprintf(&b, " %v", *d.Login)
	}
	if len(d.Unfiltered) > 0 {
		fmt.Fprintf(&b, ", unfiltered %q", d.Unfiltered)
	}
	if len(d.Scopes) > 0 {
		fmt.Fprintf(&b, " %q", d.Scopes)
	}
	b.WriteByte('\n')
	for _, e := range d.Edits {
		for _, m := range e.Set {
			text, err := json.Marshal(m.Value)
			if err != nil {
				text = []byte(err.Error())
			}
			fmt.Fprintf(&b, "sets %s.%s to %s\n", strings.Join(e.At, "."), m.Name, text)
		}
	}
	if d.Query != nil {
		fmt.Fprintf(&b, "asks for ?%s\n", *d.Query)
	}
	for _, h := range d.Headers {
		fmt.Fprintf(&b, "%s: %s\n", h.Name, cut(h.Value))
	}
	return b.String()
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestProblems runs testdata/problems/*.txtar: policies that do not compile, and what is said about them.
func TestProblems(t *testing.T) {
	runCases(t, "testdata/problems/*.txtar", func(t *testing.T, files map[string][]byte) string {
		snapshot, problems := load(files["policy.yaml"])
		if snapshot != nil || len(problems) == 0 {
			t.Fatal("the policy compiles")
		}
		var out strings.Builder
		for _, p := range problems {
			fmt.Fprintf(&out, "%s\n", p.Long())
		}
		return out.String()
	})
}
