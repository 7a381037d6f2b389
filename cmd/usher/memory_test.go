package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

const memoryManifest = `apiVersion: usher.dev/v1alpha1
kind: IdentityProvider
metadata: {name: company}
spec:
  issuer: %q
  allowHTTP: true
  audiences: [%s]
  identity: {permissions: 'claims.scope.split(" ")'}
---
apiVersion: usher.dev/v1alpha1
kind: AuthPolicy
metadata: {name: items}
spec:
  hosts: [agents.test]
  providers: [company]
  api: {routes: [{method: GET, path: /items, on: "items:read"}]}
  rules: [{on: items, allow: "'items:read' in user.permissions"}]
  identityHeaders: {x-user-id: user.identity}
`

// BenchmarkMemory reports the resident memory of a whole `usher serve`: at rest, after a check with each of 100,000 good
// tokens and with all of them again, and after a flood of 1,000,000 different bad ones, one in ten of which is a good one
// with another signature. The peak is that of the whole life. It takes minutes, and runs on Linux only.
func BenchmarkMemory(b *testing.B) {
	const good, bad = 100_000, 1_000_000
	provider := tokentest.New("", tokentest.NewKey("k1", "ES256"))
	server := httptest.NewServer(provider)
	defer server.Close()
	provider.Issuer = server.URL
	directory := b.TempDir()
	config := filepath.Join(directory, "policy.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, memoryManifest, provider.Issuer, tokentest.Audience), 0o600); err != nil {
		b.Fatal(err)
	}
	binary := filepath.Join(directory, "usher")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	usher := exec.Command(binary, "serve", "--config", config, "--grpc-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0")
	stderr, err := usher.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := usher.Start(); err != nil {
		b.Fatal(err)
	}
	serving := make(chan string, 1)
	var logs sync.WaitGroup
	logs.Go(func() {
		for scanner := bufio.NewScanner(stderr); scanner.Scan(); { // a record of each decision
			if address := len(serving) == 0 && strings.Contains(scanner.Text(), `"serving"`); address {
				var line struct{ GRPC string }
				_ = json.Unmarshal(scanner.Bytes(), &line)
				serving <- line.GRPC
			}
		}
	})
	defer func() {
		_ = usher.Process.Signal(syscall.SIGTERM)
		logs.Wait()
		if err := usher.Wait(); err != nil {
			b.Errorf("usher ended: %v", err)
		}
	}()
	connection, err := grpc.NewClient(<-serving, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	client := authv3.NewAuthorizationClient(connection)
	status := func(token string) int {
		r, err := client.Check(b.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{}},
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "GET", Path: "/items", Host: "agents.test", Scheme: "http", Headers: map[string]string{"authorization": "Bearer " + token},
			}},
		}})
		if err != nil {
			b.Error(err)
			return 0
		}
		if d := r.GetDeniedResponse(); d != nil {
			return int(d.GetStatus().GetCode())
		}
		return 200
	}
	each := func(n, want int, token func(int) string) {
		var next atomic.Int64
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for i := int(next.Add(1)) - 1; i < n && !b.Failed(); i = int(next.Add(1)) - 1 {
					if got := status(token(i)); got != want {
						b.Errorf("token %d got %d, want %d", i, got, want)
					}
				}
			})
		}
		all.Wait()
	}
	figures := map[string]float64{}
	report := func(name, field string) {
		figures["MiB-"+name] = memoryOf(b, usher.Process.Pid, field)
	}
	first := provider.Mint(tokentest.Claims{"scope": "items:read"})
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		got := status(first)
		if got == 200 {
			break
		}
		if time.Now().After(deadline) {
			b.Fatalf("not ready: %d", got)
		}
	}
	report("rest", "VmRSS")
	tokens := make([]string, good)
	var mint sync.WaitGroup
	for w := range 4 {
		mint.Go(func() {
			for i := w; i < good; i += 4 {
				tokens[i] = provider.Mint(tokentest.Claims{
					"sub": fmt.Sprint("user-", i), "scope": "openid profile items:read items:write", "email": fmt.Sprintf("user-%d@example.com", i),
					"azp": "chat", "sid": fmt.Sprint("session-", i), "name": "Somebody Else", "exp": time.Now().Add(time.Hour).Unix(),
				})
			}
		})
	}
	mint.Wait()
	each(good, 200, func(i int) string { return tokens[i] })
	report("100k", "VmRSS")
	each(good, 200, func(i int) string { return tokens[i] })
	report("100k-again", "VmRSS")
	each(bad, 401, func(i int) string {
		if i%10 != 0 {
			return fmt.Sprint("not.a.token-", i)
		}
		token := tokens[i/10]
		dot := strings.LastIndexByte(token, '.')
		return token[:dot+1] + tokens[(i/10+1)%good][dot+1:]
	})
	report("1M-bad", "VmRSS")
	report("peak", "VmHWM")
	report("of-files", "RssFile") // the program itself, which the kernel may drop and read again
	for b.Loop() {                // which would forget what was reported before
	}
	for unit, n := range figures {
		b.ReportMetric(n, unit)
	}
	b.ReportMetric(0, "ns/op")
}

// memoryOf reads a field of /proc/PID/status, in MiB.
func memoryOf(b *testing.B, pid int, field string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatalf("no %s", field)
	return 0
}
