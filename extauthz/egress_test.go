package extauthz

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/egress"
	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/revocation"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/policy"
)

// Whatever connects for a tenant's object connects to nobody on this machine: a listener counts who comes.
func TestTenants_connections_are_bounded_wherever_they_come_from(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan struct{}, 100)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				close(came)
				return
			}
			came <- struct{}{}
			_ = c.Close()
		}
	}()
	url := "http://" + listener.Addr().String()
	mapping := mustMapping(t)
	config := func(name string) token.Config {
		return token.Config{Name: name, Issuer: url, Audiences: []string{"a"}, AllowHTTP: true, Identity: mapping, NoLocal: true}
	}
	discovery, jwks, introspection, userinfo, revoked := config("discovery"), config("jwks"), config("introspection"), config("userinfo"), config("revoked")
	jwks.JWKSURI = url + "/keys"
	introspection.Introspection = &token.Introspection{Endpoint: url + "/introspect", ClientID: "usher", ClientSecret: "hush"}
	userinfo.Userinfo = &token.Userinfo{Endpoint: url + "/me", AnyAudience: true}
	revoked.JWKSURI, revoked.Revocation = url+"/keys", &token.Revocation{URL: "redis://" + listener.Addr().String() + "/0"}
	policies, err := policy.New(policy.Set{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	providers := map[string]token.Config{}
	for _, c := range []token.Config{discovery, jwks, introspection, userinfo, revoked} {
		providers[c.Name] = c
	}
	state, err := Build(nil, policies, providers, map[string]lookup.Config{"p": {BackendURL: url, NoLocal: true}})
	if err != nil {
		t.Fatal(err)
	}
	state.Start(t.Context())
	defer state.Stop(nil)
	refused := func(what, text string) {
		t.Helper()
		if !strings.Contains(text, "refused to connect to 127.0.0.1, a loopback address") || !strings.Contains(text, egress.Flag) {
			t.Errorf("%s: %q", what, text)
		}
	}
	for _, name := range []string{"introspection", "userinfo"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := state.Verifiers[name].Verify(ctx, token.Credential{Scheme: "Bearer", Token: "opaque"})
		cancel()
		if err == nil {
			t.Fatalf("%s: verified", name)
		}
		refused(name, state.Status()[name].Problem)
	}
	_, err = state.Lookups["p"].Get(t.Context(), policy.Ref{Resource: "threads", ID: "1", Path: "/threads/1"})
	if err == nil {
		t.Fatal("a look-up: found")
	}
	refused("look-up", state.BackendStatus()[url].Problem)
	problem := func(name string) func() string { return func() string { return state.Status()[name].Problem } }
	for what, get := range map[string]func() string{
		"discovery": problem("discovery"), "jwks": problem("jwks"),
		"revocation": func() string { return state.providers["revoked"].revoked.Status().Problem },
	} {
		for deadline := time.Now().Add(time.Minute); !strings.Contains(get(), "refused") && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		refused(what, get())
	}
	_ = listener.Close()
	for range came {
		t.Error("somebody connected")
	}
}

// Of one issuer, server and prefix, two providers of one tenant share what was revoked while a change passes; those of two
// tenants never do, as each of them can revoke by logout tokens of his own.
func TestTenants_share_no_revocations_and_no_clients(t *testing.T) {
	policies, err := policy.New(policy.Set{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	mapping := mustMapping(t)
	config := func(name, tenant string) token.Config {
		return token.Config{Name: name, Tenant: tenant, Issuer: "https://idp.test", Audiences: []string{"a"}, Identity: mapping, Fingerprint: name + tenant, Revocation: &token.Revocation{URL: "redis://127.0.0.1:1/0"}}
	}
	backend := func(tenant string) lookup.Config {
		return lookup.Config{BackendURL: "http://127.0.0.1:1", Tenant: tenant}
	}
	first, err := Build(nil, policies, map[string]token.Config{"good/idp": config("good/idp", "good")}, map[string]lookup.Config{"good/a": backend("good"), "good/b": backend("good"), "evil/a": backend("evil")})
	if err != nil {
		t.Fatal(err)
	}
	next, err := Build(first, policies, map[string]token.Config{"good/idp": config("good/idp", "good"), "good/more": config("good/more", "good"), "evil/idp": config("evil/idp", "evil")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody is asked: what counts is what this process knows
	revoke := func(name, sub string) {
		_ = next.providers[name].revoked.Revoke(ctx, revocation.SUB, sub, time.Now(), time.Hour)
	}
	entries := func(name string) int { return next.providers[name].revoked.Status().Entries }
	revoke("evil/idp", "alice")
	if entries("evil/idp") != 1 || entries("good/idp") != 0 || entries("good/more") != 0 {
		t.Errorf("evil revoked: evil knows %d, good %d and %d", entries("evil/idp"), entries("good/idp"), entries("good/more"))
	}
	revoke("good/more", "bob")
	if entries("good/idp") != 1 || entries("evil/idp") != 1 {
		t.Errorf("good revoked: good knows %d, evil %d", entries("good/idp"), entries("evil/idp"))
	}
	client := func(name string) *lookup.Client {
		switch l := first.Lookups[name].(type) {
		case *lookup.Client:
			return l
		case shared:
			return l.Client
		}
		return nil
	}
	if client("good/a") == nil || client("good/a") != client("good/b") || client("good/a") == client("evil/a") {
		t.Error("a tenant's look-ups share a client with each other, and with no other tenant's")
	}
}
