package dryrun

import (
	"bytes"
	"context"
	"reflect"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// TestARecordOfTheLogCanBeAskedAgain reads what a server has logged: the two must not drift apart.
func TestARecordOfTheLogCanBeAskedAgain(t *testing.T) {
	c := compile(t, example+"policy.yaml")
	g, err := New(Config{Policies: c.Snapshot, Providers: c.Providers, Backends: c.Backends})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&log), zapcore.InfoLevel)
	lookups, err := g.lookups()
	if err != nil {
		t.Fatal(err)
	}
	state, err := extauthz.NewState(c.Snapshot, map[string]token.Verifier{"company": verifier{g, "company"}}, lookups)
	if err != nil {
		t.Fatal(err)
	}
	server := extauthz.New(extauthz.Options{Logger: zap.New(core)})
	server.Swap(state)
	alice := policytest.Identity{Name: "alice", Provider: "company", User: &policytest.User{Identity: "alice", DisplayName: "alice", Permissions: []string{"threads:write"}}}
	for _, one := range []struct {
		name     string
		identity policytest.Identity
		request  policytest.Request
		outcome  policy.Outcome
		fails    bool // it cannot be asked again
	}{
		{name: "denied", identity: alice, request: policytest.Request{Method: "GET", Path: "/threads/8f9c3a52-7f0e-4d8b-9d53-6f1c2a4b7e01?access_token=hush", Host: "agents.example.com"}, outcome: policy.NotFound},
		{name: "nobody", identity: policytest.Identity{Anonymous: true}, request: policytest.Request{Method: "GET", Path: "/threads/a%20b", Host: "agents.example.com"}, outcome: policy.Unauthenticated},
		{name: "public", identity: policytest.Identity{Anonymous: true}, request: policytest.Request{Method: "GET", Path: "/ok", Host: "agents.example.com"}, outcome: policy.Allow},
		{name: "malformed", identity: alice, request: policytest.Request{Method: "GET", Path: "/a/../b", Host: "agents.example.com"}, fails: true},
	} {
		t.Run(one.name, func(t *testing.T) {
			log.Reset()
			sent := g.arrive(g.token(one.identity), one.request)
			if _, err := server.Check(context.Background(), sent.check()); err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(log.Bytes(), []byte("hush")) {
				t.Errorf("the query was logged: %s", &log)
			}
			r, err := ParseRecord(log.Bytes())
			if (err != nil) != one.fails {
				t.Fatalf("%v: %s", err, &log)
			}
			if one.fails {
				return
			}
			if r.Outcome != one.outcome.String() || r.Policy != "conversations" || r.Identity.Anonymous != one.identity.Anonymous {
				t.Errorf("got %+v of %s", r, &log)
			}
			r.Identity.Name, r.Identity.Provider = "again", "company"
			if again := g.Ask(r.Identity, r.Request); again.Outcome != one.outcome {
				t.Errorf("asked again it is %v: %s", again.Outcome, again.Reason)
			}
		})
	}
}

// TestAStoryCanBeToldAgain, with numbers as they were and without what was hidden.
func TestAStoryCanBeToldAgain(t *testing.T) {
	c := compile(t, example+"policy.yaml", example+"policy_test.yaml")
	for i := range c.Tests {
		config := Config{Policies: c.Snapshot, Providers: c.Providers, Backends: c.Backends, Objects: c.Tests[i].Objects, Now: c.Tests[i].Now}
		g, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range c.Tests[i].Cases {
			told := g.Tell(one.Identity, one.Request)
			if told.Identity == nil {
				continue // nobody is known to ask again
			}
			r, err := ParseRecord([]byte(JSON(told)))
			if err != nil {
				t.Errorf("%s: %v", one.Name, err)
				continue
			}
			config.Objects, r.Identity.Name = r.Objects, "again"
			again, err := New(config)
			if err != nil {
				t.Fatal(err)
			}
			if second := again.Tell(r.Identity, r.Request); !reflect.DeepEqual(second.Answer, told.Answer) || !reflect.DeepEqual(second.Backend, told.Backend) {
				t.Errorf("%s:\n%s\nand then\n%s", one.Name, JSON(told), JSON(second))
			}
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"outcome":"allow","status":200,"policy":"p","host":"a","method":"GET","path":"/","user":"alice"}`))
	f.Add([]byte(`{"request":{"method":"GET","host":"a","path":"/"},"identity":{"identity":"a"},"objects":[{"found":true}]}`))
	f.Add([]byte(`{"request":{"method":"GET","host":"a","path":"/"},"Objects":[{"found":true}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRecord(text)
		if err == nil && (r.Request.Method == "" || r.Request.Host == "" || r.Request.Path == "" || !r.Identity.Anonymous && r.Identity.User == nil) {
			t.Errorf("%q is %+v", text, r)
		}
	})
}
