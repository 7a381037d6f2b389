package extauthz

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestManyUsersAtOnceAndChangesBetweenGetTheirOwnIdentity: what is kept of one user, and of an older state, is nobody
// else's, however many ask.
func TestManyUsersAtOnceAndChangesBetweenGetTheirOwnIdentity(t *testing.T) {
	m := newMinter(t, "ES256")
	s := New(Options{})
	states := []*State{assertingState(t, m, false), assertingState(t, m, false)}
	s.Swap(states[0])
	const users = 4
	var tokens [users]string
	for u := range users {
		tokens[u] = assertingToken(t, m, fmt.Sprint("user-", u), time.Now().Add(time.Hour))
	}
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for n := range 100 {
				u := (g + n) % users
				r, err := s.Check(t.Context(), asserting("/v1/items", tokens[u]))
				if err != nil || r.GetOkResponse() == nil {
					t.Errorf("user %d: %v %v", u, r, err)
					return
				}
				for _, h := range r.GetOkResponse().GetHeaders() {
					if h.GetHeader().GetKey() == "usher-assertion" {
						if c := claimsOf(t, h.GetHeader().GetValue()); c["sub"] != fmt.Sprint("user-", u) {
							t.Errorf("user %d got the assertion of %v", u, c["sub"])
						}
					}
				}
				if g == 0 {
					s.Swap(states[n%2])
				}
			}
		})
	}
	group.Wait()
}
