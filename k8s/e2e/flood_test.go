package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A review of an object as large as there are is answered in the time that the API server gives it, and a flood of them leaves
// checks their processors and their memory: who cannot be answered in time is told 503.
func TestAFloodOfReviews(t *testing.T) {
	ns := namespace(t, "flood")
	p := newProvider(t)
	address := freeAddress(t)
	webhookFor(t, ns, "usher-flood", nil, address)
	u := startUsher(t, ns, admin(t), "--webhook-address", address, "--webhook-host", "127.0.0.1", "--webhook-configuration", "usher-flood")
	eventually(t, func() error {
		_, err := shared.Kubectl(t.Context(), p.manifest(ns, "idp", "")+guard(ns, "one", "one.test", "idp", ""), "apply", "-f", "-")
		return err
	})
	u.wantStatus(t, 200, "one.test", "GET", "/items", p.Mint())

	var users strings.Builder
	for i := range 70_000 {
		fmt.Fprintf(&users, `"user-%d",`, i)
	}
	object := func(name, allow string) string {
		return fmt.Sprintf(`{"apiVersion":"usher.dev/v1alpha1","kind":"AuthPolicy","metadata":{"name":%q,"namespace":%q},"spec":{"hosts":["%s.test"],"providers":["idp"],
			"api":{"routes":[{"method":"GET","path":"/items","on":"items:read"}]},"variables":{"users":[%s"alice"]},"rules":[{"on":"items:read","allow":%q}]}}`, name, ns, name, users.String(), allow)
	}
	large := object("large", "user.identity in variables.users")
	begin := time.Now()
	if out, err := shared.Kubectl(t.Context(), large, "create", "-f", "-"); err != nil {
		t.Fatalf("a policy of %d bytes: %.500s", len(large), out)
	}
	t.Logf("a policy of %d bytes was reviewed and stored in %v", len(large), time.Since(begin).Round(time.Millisecond))
	if out, err := shared.Kubectl(t.Context(), object("bad", "user.identiti == 'a'"), "create", "-f", "-"); err == nil || !strings.Contains(out, "spec.rules[0].allow: ") {
		t.Errorf("a bad one: %v, %.500s", err, out)
	}

	review, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": map[string]any{
		"uid": "1", "operation": "CREATE", "namespace": ns, "object": json.RawMessage(object("flood", "user.identity in variables.users")),
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // loopback
	var mu sync.Mutex
	answers := map[int]int{}
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			for range 3 {
				request, err := http.NewRequestWithContext(ctx, "POST", "https://"+address+"/validate", strings.NewReader(string(review)))
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("Content-Type", "application/json")
				status := 0 // cut off: it was too slow to send
				if response, err := client.Do(request); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
					status = response.StatusCode
				}
				mu.Lock()
				answers[status]++
				mu.Unlock()
			}
		})
	}
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		group.Wait()
	}()
	var slowest time.Duration
	checks, most := 0, 0
	for done := false; !done; checks++ {
		select {
		case <-flooded:
			done = true
		default:
		}
		begin := time.Now()
		if got := u.status(t.Context(), "one.test", "GET", "/items", p.Mint()); got != 200 {
			t.Fatalf("a check meanwhile is answered %d", got)
		}
		slowest, most = max(slowest, time.Since(begin)), max(most, resident(t, u))
	}
	t.Logf("%d checks meanwhile, the slowest took %v; reviews were answered %v; at most %d MiB resident", checks, slowest.Round(time.Millisecond), answers, most>>20)
	if answers[200] == 0 {
		t.Error("no review was answered")
	}
	if most > 512<<20 {
		t.Errorf("%d MiB are more than the pod has", most>>20)
	}
	kubectl(t, guard(ns, "one", "after.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "after.test", "GET", "/items", p.Mint())
}
