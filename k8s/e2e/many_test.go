package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// many is how many policies there are.
var many = flag.Int("many", 200, "how many policies TestManyPolicies applies")

// direct asks the API server without kubectl, whose own start would be most of the time.
func direct(ctx context.Context, method, path, body string) error {
	client, err := rest.HTTPClientFor(shared.Config(""))
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, shared.URL+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/yaml")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return err
}

// measured is for waits that are longer than those of other tests: a thousand times as much is done.
func measured(t *testing.T, what string, f func() error) {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	if err := stack.Poll(ctx, f); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Logf("%-45s %v", what, time.Since(begin).Round(time.Millisecond))
}

// One more policy among many takes effect soon, and the others stay in force. The times and the memory are told, and not
// judged: the machine is everybody's.
func TestManyPolicies(t *testing.T) {
	ns := namespace(t, "many")
	p := newProvider(t)
	u := startUsher(t, ns, admin(t))
	policies := "/apis/usher.dev/v1alpha1/namespaces/" + ns + "/authpolicies"
	answers := func(host string, want int) func() error {
		token := p.Mint()
		return func() error {
			if got := u.status(t.Context(), host, "GET", "/items", token); got != want {
				return fmt.Errorf("%s: %d, want %d", host, got, want)
			}
			return nil
		}
	}
	kubectl(t, p.manifest(ns, "idp", ""), "apply", "-f", "-")
	t.Logf("%d policies", *many)
	measured(t, "create them", func() error {
		const writers = 8
		errs := make([]error, writers)
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				for i := w; i < *many && errs[w] == nil; i += writers {
					errs[w] = direct(t.Context(), "POST", policies, guard(ns, fmt.Sprintf("p%d", i), fmt.Sprintf("h%d.test", i), "idp", ""))
				}
			})
		}
		group.Wait()
		return errors.Join(errs...)
	})
	last := fmt.Sprintf("h%d.test", *many-1)
	measured(t, "the last one in force after that", answers(last, 200))
	measured(t, "the first one", answers("h0.test", 200))

	if err := direct(t.Context(), "POST", policies, guard(ns, "one-more", "one-more.test", "idp", "")); err != nil {
		t.Fatal(err)
	}
	measured(t, "one more", answers("one-more.test", 200))
	kubectl(t, guard(ns, "bad", "bad.test", "idp", ", allow: '1'"), "create", "-f", "-")
	measured(t, "one that is not valid, with its status", func() error {
		c, err := conditionOf(t, ns, "authpolicy/bad", "Accepted")
		if err == nil && c.Status != "False" {
			err = fmt.Errorf("%+v", c)
		}
		return err
	})
	if err := direct(t.Context(), "POST", policies, guard(ns, "another", "another.test", "idp", "")); err != nil {
		t.Fatal(err)
	}
	measured(t, "another beside that one", answers("another.test", 200))
	if err := direct(t.Context(), "DELETE", policies+"/p0", ""); err != nil {
		t.Fatal(err)
	}
	measured(t, "one less", answers("h0.test", 404))
	measured(t, "all have their status", func() error {
		out := kubectl(t, "", "get", "authpolicies", "-n", ns, "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Programmed")].status}`)
		if got := strings.Count(out, "True"); got != *many+1 {
			return fmt.Errorf("%d of them are programmed", got)
		}
		return nil
	})
	t.Logf("%d MiB resident", resident(t, u)>>20)
	before := processor(t, u)
	time.Sleep(5 * time.Second) // to measure, and not to wait for anything
	t.Logf("%v of the processor in 5s without a change", processor(t, u)-before)

	second := startUsher(t, ns, admin(t))
	measured(t, "another replica until it is ready", func() error {
		if got := second.readyz(t); !strings.HasPrefix(got, "200") {
			return fmt.Errorf("%.300s", got)
		}
		return nil
	})
	t.Logf("%d MiB resident, the new replica", resident(t, second)>>20)
}

// resident is the memory of the process, in bytes.
func resident(t *testing.T, u *usher) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", u.part.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// processor is the time that the process has had, as the kernel counts it in hundredths of a second.
func processor(t *testing.T, u *usher) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", u.part.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var sum int
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return time.Duration(sum) * 10 * time.Millisecond
}
