package stack_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// The provider alone: no usher is needed to see whether its logins are real ones.
func TestLoginIsARealOne(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := stack.New(stack.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Provider.Start(ctx); err != nil {
		t.Fatal(err)
	}

	t.Run("the user sees a login form and a consent form, and the token says who it was", func(t *testing.T) {
		token, err := s.Login(ctx, stack.Alice)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(token.Pages, ", "); got != "Log in, Usher demo asks for access" {
			t.Errorf("the pages were: %s", got)
		}
		claims, err := token.Claims()
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]any{
			"iss": s.Issuer, "sub": "alice", "aud": "langgraph", "name": "Alice Liddell", "scope": "threads:read threads:write",
		} {
			if claims[name] != want {
				t.Errorf("claim %s is %v, want %v", name, claims[name], want)
			}
		}
	})

	t.Run("a token carries no more scopes than were asked for", func(t *testing.T) {
		token, err := s.Login(ctx, stack.Bob, "openid", "threads:read")
		if err != nil {
			t.Fatal(err)
		}
		claims, err := token.Claims()
		if err != nil {
			t.Fatal(err)
		}
		if claims["scope"] != "threads:read" || claims["sub"] != "bob" {
			t.Errorf("claims: %v", claims)
		}
	})

	t.Run("a wrong password is refused", func(t *testing.T) {
		_, err := s.Login(ctx, stack.User{Name: "alice", Password: "guess"})
		if err == nil || !strings.Contains(err.Error(), "Wrong user or password") {
			t.Errorf("got %v", err)
		}
	})

	t.Run("an unknown user is refused", func(t *testing.T) {
		_, err := s.Login(ctx, stack.User{Name: "mallory", Password: "alice-demo"})
		if err == nil || !strings.Contains(err.Error(), "Wrong user or password") {
			t.Errorf("got %v", err)
		}
	})
}
