package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// A tenant who changes objects all the time has a share of the statuses and events that are written, and keeps nobody else waiting.
func TestATenantWhoChangesObjectsAllTheTime(t *testing.T) {
	own, busy, quiet := namespace(t, "busy-own"), namespace(t, "busy-tenant"), namespace(t, "busy-quiet")
	client, err := rest.HTTPClientFor(shared.Config(""))
	if err != nil {
		t.Fatal(err)
	}
	u := startUsher(t, own, admin(t), "--all-namespaces", "--allow-local-addresses")
	p := newProvider(t)
	kubectl(t, p.manifest(quiet, "idp", "")+guard(quiet, "first", "first.test", "idp", ""), "apply", "-f", "-")
	wantCondition(t, quiet, "authpolicy/first", "Accepted", "True", "Accepted", "Valid.")

	var many strings.Builder
	const objects, writers = 64, 4
	for i := range objects {
		many.WriteString(guard(busy, fmt.Sprintf("p-%d", i), fmt.Sprintf("p-%d.test", i), "nobody", ""))
	}
	kubectl(t, many.String(), "create", "-f", "-")
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var changes atomic.Int64
	for w := range writers {
		group.Go(func() {
			for n := w; ctx.Err() == nil; n += writers {
				url := fmt.Sprintf("%s/apis/usher.dev/v1alpha1/namespaces/%s/authpolicies/p-%d", shared.URL, busy, n%objects)
				body := fmt.Sprintf(`{"spec":{"providers":["nobody-%d"]}}`, n)
				request, err := http.NewRequestWithContext(ctx, http.MethodPatch, url, bytes.NewReader([]byte(body)))
				if err != nil {
					return
				}
				request.Header.Set("Content-Type", "application/merge-patch+json")
				response, err := client.Do(request)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
				if response.StatusCode == http.StatusOK {
					changes.Add(1)
				}
			}
		})
	}
	t.Cleanup(func() { stop(); group.Wait() })
	time.Sleep(3 * time.Second)
	for i := range 3 {
		begin, before := time.Now(), changes.Load()
		name := fmt.Sprintf("next-%d", i)
		kubectl(t, guard(quiet, name, name+".test", "idp", ""), "create", "-f", "-")
		u.wantStatus(t, 200, name+".test", "GET", "/items", p.Mint())
		served := time.Since(begin)
		wantCondition(t, quiet, "authpolicy/"+name, "Accepted", "True", "Accepted", "Valid.")
		wantCondition(t, quiet, "authpolicy/"+name, "Programmed", "True", "Programmed", "")
		eventually(t, func() error {
			if out := kubectl(t, "", "get", "events", "-n", quiet); !strings.Contains(out, name) {
				return fmt.Errorf("no event of %s:\n%s", name, out)
			}
			return nil
		})
		meanwhile := changes.Load() - before
		t.Logf("in force after %v, said after %v, of %d changes", served, time.Since(begin), meanwhile)
		if meanwhile == 0 {
			t.Error("the tenant changed nothing meanwhile")
		}
	}
}
