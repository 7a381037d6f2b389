package policy_test

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/k8s/manifest"
	"github.com/usher-authz/usher/policy"
)

// manyPolicies are n manifests of ten rules each, for hosts of their own.
func manyPolicies(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(`apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: p%d}
spec:
  hosts: [h%d.example.com]
  providers: [idp]
  backend: {url: "http://langgraph:8000"}
  api: {preset: langgraph}
  variables: {admins: [ada, grace]}
  conditions: {isAdmin: user.identity in variables.admins}
  rules:
    - {on: "*", allow: "false"}
    - {on: threads, filter: {owner: user.identity}, stamp: {owner: user.identity}}
    - {on: "threads:create", allow: "'threads:write' in user.permissions", stamp: {owner: user.identity}}
    - {on: "threads:read", filter: {owner: user.identity}, unfiltered: conditions.isAdmin}
    - {on: "threads:delete", allow: conditions.isAdmin}
    - {on: assistants, allow: "user.claims.?level.orValue(0) > 3"}
    - {on: "assistants:read"}
    - {on: crons, filter: {owner: user.identity}, stamp: {owner: user.identity}}
    - {on: "*:search", filter: {owner: user.identity}}
    - {on: store, allow: "value.namespace.size() > 0 && value.namespace[0] == user.identity"}
`, i, i)
	}
	return out
}

func parseAll(t testing.TB, texts []string) []manifest.Object {
	t.Helper()
	objects, problems := manifest.Parse("idp.yaml", []byte(provider))
	for i, text := range texts {
		more, ps := manifest.Parse(fmt.Sprintf("p%d.yaml", i), []byte(text))
		objects, problems = append(objects, more...), append(problems, ps...)
	}
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return objects
}

func TestOnly_changed_policies_are_compiled_again(t *testing.T) {
	texts := manyPolicies(20)
	first, problems := manifest.Compile(parseAll(t, texts), presets())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	next := func(prev *manifest.Compiled, want int, what string) *manifest.Compiled {
		t.Helper()
		out, problems := prev.Next(parseAll(t, texts), presets())
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if got := out.Snapshot.Recompiled(); got != want {
			t.Errorf("%s: %d policies were compiled, want %d", what, got, want)
		}
		return out
	}
	if got := first.Snapshot.Recompiled(); got != 20 {
		t.Errorf("%d policies were compiled at first, want 20", got)
	}
	same := next(first, 0, "no change")
	if same.Snapshot.Match("h3.example.com", "") == first.Snapshot.Match("h3.example.com", "") {
		t.Error("two snapshots share a policy, which a third one could change")
	}
	texts[3] = strings.Replace(texts[3], "> 3", "> 4", 1)
	changed := next(same, 1, "one rule changed")
	texts[5] = "# a comment moves what follows\n" + texts[5]
	next(changed, 1, "one policy moved: its places are in decision records")
	texts[5] = strings.Replace(texts[5], "[ada", "[eve", 1)
	moved := next(changed, 1, "a variable changed")
	texts[7] = strings.Replace(texts[7], "spec:\n", "spec:\n  mode: Shadow\n", 1)
	next(moved, 1, "a Shadow policy, whose headers others strip")
	texts = append(texts[:9], texts[10:]...)
	// The files after the one that is gone are named anew, so that their places differ.
	out, problems := moved.Next(parseAll(t, texts), presets())
	if len(problems) > 0 || out.Snapshot.Match("h9.example.com", "") != nil || out.Snapshot.Match("h10.example.com", "") == nil {
		t.Errorf("a policy that is gone: %v", problems)
	}
}

func TestAn_invalid_change_leaves_nothing_behind(t *testing.T) {
	texts := manyPolicies(3)
	first, _ := manifest.Compile(parseAll(t, texts), presets())
	good := texts[1]
	texts[1] = strings.Replace(texts[1], "> 3", "> user.nobody", 1)
	if out, problems := first.Next(parseAll(t, texts), presets()); out != nil || len(problems) != 1 {
		t.Errorf("compiled %v with problems %v", out != nil, problems)
	}
	texts[1] = good
	if out, _ := first.Next(parseAll(t, texts), presets()); out == nil || out.Snapshot.Recompiled() != 0 {
		t.Error("what was good is compiled again")
	}
}

// TestThe_fingerprint_knows_every_kind_of_field fails if a field is added to a policy's source that it cannot read.
func TestThe_fingerprint_knows_every_kind_of_field(t *testing.T) {
	var look func(reflect.Type, string)
	done := map[reflect.Type]bool{}
	look = func(typ reflect.Type, path string) {
		if done[typ] {
			return
		}
		done[typ] = true
		switch typ.Kind() {
		case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint8, reflect.Float64, reflect.Interface:
		case reflect.Pointer, reflect.Slice:
			look(typ.Elem(), path)
		case reflect.Struct:
			for i := range typ.NumField() {
				look(typ.Field(i).Type, path+"."+typ.Field(i).Name)
			}
		default:
			t.Errorf("%s is a %s", path, typ.Kind())
		}
	}
	look(reflect.TypeFor[policy.Source](), "Source")
}

// BenchmarkCompile compiles 1,000 policies of ten rules: from nothing, after no change, and after one.
func BenchmarkCompile(b *testing.B) {
	texts := manyPolicies(1000)
	objects := parseAll(b, texts)
	first, problems := manifest.Compile(objects, presets())
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	b.Run("parse_10000_rules", func(b *testing.B) {
		for b.Loop() {
			parseAll(b, texts)
		}
	})
	b.Run("compile_10000_rules", func(b *testing.B) {
		b.ReportAllocs()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var last *manifest.Compiled
		for b.Loop() {
			last, _ = manifest.Compile(objects, presets())
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/(1<<20), "MB-held") //nolint:gosec // far below
		runtime.KeepAlive(last)
	})
	b.Run("after_no_change", func(b *testing.B) {
		for b.Loop() {
			first.Next(objects, presets())
		}
	})
	texts[500] = strings.Replace(texts[500], "> 3", "> 4", 1)
	changed := parseAll(b, texts)
	b.Run("after_one_change", func(b *testing.B) {
		for b.Loop() {
			first.Next(changed, presets())
		}
	})
}

// BenchmarkMatch finds the policy of a host among 10, 1,000 and 10,000.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		var set policy.Set
		for i := range n {
			set.Policies = append(set.Policies, policy.Source{
				Name: fmt.Sprint(i), Hosts: []policy.Text{{Text: fmt.Sprintf("h%d.example.com", i)}},
				API: policy.APISource{Routes: []policy.RouteSource{{Method: policy.Text{Text: "GET"}, Path: policy.Text{Text: "/"}, Public: true}}},
			})
		}
		s, err := policy.New(set, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%d_hosts", n), func(b *testing.B) {
			for b.Loop() {
				if s.Match("h7.example.com", "") == nil {
					b.Fatal("no policy")
				}
			}
		})
	}
}

// BenchmarkRules decides one operation among 10, 1,000 and 10,000 rules.
func BenchmarkRules(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		source := policy.Source{Name: "p", Hosts: []policy.Text{{Text: "*"}}}
		allow := policy.Text{Text: "'a' in user.permissions"}
		for i := range n {
			on := policy.Text{Text: fmt.Sprintf("r%d:read", i)}
			source.API.Routes = append(source.API.Routes, policy.RouteSource{Method: policy.Text{Text: "GET"}, Path: policy.Text{Text: fmt.Sprintf("/r%d", i)}, On: on})
			source.Rules = append(source.Rules, policy.RuleSource{On: on, Allow: &allow})
		}
		s, err := policy.New(policy.Set{Policies: []policy.Source{source}}, nil)
		if err != nil {
			b.Fatal(err)
		}
		p := s.Match("any", "")
		facts := policy.Facts{Identity: &policy.Identity{Name: "ada", Permissions: []string{"a"}}, Request: &policy.Request{}, Now: time.Unix(1, 0)}
		b.Run(fmt.Sprintf("%d_rules", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := p.Route("GET", "/r7")
				if err != nil {
					b.Fatal(err)
				}
				ops, err := r.Operations("", nil)
				if err != nil {
					b.Fatal(err)
				}
				if d := p.Decide(facts, ops); d.Outcome != policy.Allow {
					b.Fatal(d.Reason)
				}
			}
		})
	}
}

// BenchmarkVariable looks a text up in a list of 10, 1,000 and 10,000.
func BenchmarkVariable(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		list := policy.Tree{IsList: true}
		for i := range n {
			list.Items = append(list.Items, policy.Tree{Scalar: fmt.Sprintf("user-%d", i)})
		}
		on, allow := policy.Text{Text: "r:read"}, policy.Text{Text: "user.identity in variables.users"}
		s, err := policy.New(policy.Set{Policies: []policy.Source{{
			Name: "p", Hosts: []policy.Text{{Text: "*"}}, Variables: []policy.Member{{Name: policy.Text{Text: "users"}, Value: list}},
			API:   policy.APISource{Routes: []policy.RouteSource{{Method: policy.Text{Text: "GET"}, Path: policy.Text{Text: "/"}, On: on}}},
			Rules: []policy.RuleSource{{On: on, Allow: &allow}},
		}}}, nil)
		if err != nil {
			b.Fatal(err)
		}
		p := s.Match("any", "")
		facts := policy.Facts{Identity: &policy.Identity{Name: fmt.Sprintf("user-%d", n-1)}, Request: &policy.Request{}}
		ops := []policy.Operation{{Resource: "r", Action: "read"}}
		b.Run(fmt.Sprintf("in_%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := p.Decide(facts, ops); d.Outcome != policy.Allow {
					b.Fatal(d.Reason)
				}
			}
		})
	}
}

// BenchmarkFilter decides an operation with a filter and resolves it, as the rules around it grow in number.
func BenchmarkFilter(b *testing.B) {
	for _, n := range []int{10, 1000} {
		events := map[string]policy.Event{"read": {Filters: true}}
		preset := policy.Preset{Events: map[string]map[string]policy.Event{}, Routes: []policy.PresetRoute{{Method: "GET", Path: "/", Public: true}}}
		source := policy.Source{Name: "p", Hosts: []policy.Text{{Text: "*"}}, API: policy.APISource{Preset: policy.Text{Text: "x"}}}
		filter := policy.Tree{IsObject: true, Members: []policy.Member{{Name: policy.Text{Text: "owner"}, Value: policy.Tree{Scalar: "user.identity"}}}}
		for i := range n {
			preset.Events[fmt.Sprintf("r%d", i)] = events
			source.Rules = append(source.Rules, policy.RuleSource{On: policy.Text{Text: fmt.Sprintf("r%d:read", i)}, Filter: &filter})
		}
		s, err := policy.New(policy.Set{Policies: []policy.Source{source}}, map[string]policy.Preset{"x": preset})
		if err != nil {
			b.Fatal(err)
		}
		p := s.Match("any", "")
		facts := policy.Facts{Identity: &policy.Identity{Name: "ada"}, Request: &policy.Request{}}
		ops := []policy.Operation{{Resource: "r7", Action: "read", Object: policy.Ref{Resource: "r7", ID: "1", Path: "/r7/1"}}}
		found := []policy.Object{{Found: true, Metadata: map[string]any{"owner": "ada"}}}
		b.Run(fmt.Sprintf("%d_rules", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := p.Decide(facts, ops).Resolve(found); d.Outcome != policy.Allow {
					b.Fatal(d.Reason)
				}
			}
		})
	}
}
