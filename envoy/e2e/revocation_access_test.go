package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
	"github.com/usher-authz/usher/extauthz/token/tokentest"
)

// redisSecret is the Secret of a list's server: a password, and perhaps the certificate of an authority.
func redisSecret(t *testing.T, password, ca string) string {
	t.Helper()
	data, err := json.Marshal(map[string]string{"password": password, "ca.crt": ca})
	if err != nil {
		t.Fatal(err)
	}
	return "---\napiVersion: v1\nkind: Secret\nmetadata: {name: redis}\nstringData: " + string(data) + "\n"
}

// works shows that the list is followed: what is put there is refused, the rest is not.
func (r *revoking) works(ctx context.Context, t *testing.T) {
	t.Helper()
	r.connected(ctx, t)
	good, revoked := r.idp.Mint(), r.idp.Mint(tokentest.Claims{"jti": "revoked"})
	r.put(ctx, t, "jti:revoked", "")
	r.become(ctx, t, atOnce, http.StatusUnauthorized, denyHost, revoked, http.StatusOK)
	r.want(ctx, t, http.StatusOK, denyHost, good)
}

// fails waits for the reason why the list cannot be followed, in /readyz and once in the log.
func (r *revoking) fails(ctx context.Context, t *testing.T, reason string) {
	t.Helper()
	s := r.until(ctx, t, func(s listStatus) bool { return !s.Connected && strings.Contains(s.Problem, reason) })
	r.want(ctx, t, http.StatusServiceUnavailable, denyHost, r.idp.Mint())
	first := s.Problem
	// It has tried a few times more, and is still of one mind.
	for begin := time.Now(); time.Since(begin) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
		if s, _ := r.status(ctx, t); s.Problem != first {
			t.Fatalf("the problem was %q, and is %q", first, s.Problem)
		}
	}
	quoted, _ := json.Marshal(first)
	if n := strings.Count(r.usher.Usher.Log(), `"problem":`+string(quoted)); n != 1 {
		t.Errorf("the log says %d times that %s", n, first)
	}
	t.Log(first)
}

func TestAPasswordThatIsWrongIsSaidOnceAndTheRightOneIsTakenWithoutARestart(t *testing.T) {
	ctx := beginRevoking(t)
	const right, wrong = "the right one: €", "the wrong one"
	server := newRedis(ctx, t, stack.RedisOptions{Password: right})
	with := func(password string) string {
		return fmt.Sprintf("{url: %q, passwordRef: {name: redis}}", "redis://"+server.Address) + "\n"
	}
	r := revoke(ctx, t, server, with(wrong), redisSecret(t, wrong, ""))
	r.fails(ctx, t, "WRONGPASS")
	rewrite(t, r.usher.Manifest, strings.Replace(r.manifests(with(wrong)), wrong, right, 1))
	r.become(ctx, t, time.Minute, http.StatusOK, denyHost, r.idp.Mint(), http.StatusServiceUnavailable)
	r.works(ctx, t)

	t.Run("and_none_is_none", func(t *testing.T) {
		rewrite(t, r.usher.Manifest, r.manifests(plainly(server)))
		// The list of the new specification starts anew, and the old one is no more.
		r.until(ctx, t, func(s listStatus) bool { return strings.Contains(s.Problem, "NOAUTH") })
		r.want(ctx, t, http.StatusServiceUnavailable, denyHost, r.idp.Mint())
	})
	if log := r.usher.Usher.Log(); strings.Contains(log, right) || strings.Contains(log, wrong) {
		t.Error("a password is in the log")
	}
}

// documentedUsers are the commands of docs/revocation.md that make the users of the list's server, with a password.
func documentedUsers(t *testing.T, password string) [][]string {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "revocation.md"))
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "ACL SETUSER ") {
			out = append(out, strings.Fields(strings.Replace(line, ">PASSWORD", ">"+password, 1)))
		}
	}
	if len(out) != 2 {
		t.Fatalf("docs/revocation.md has %d users, want one that reads and one that writes", len(out))
	}
	return out
}

// TestTheDocumentedUsersMayDoWhatTheyNeedAndNoMore: a process that only follows the list can revoke nobody.
func TestTheDocumentedUsersMayDoWhatTheyNeedAndNoMore(t *testing.T) {
	const password = "of-the-user"
	for i, name := range []string{"one_that_reads", "one_that_writes"} {
		t.Run(name, func(t *testing.T) {
			ctx := beginRevoking(t)
			server := newRedis(ctx, t, stack.RedisOptions{})
			user := documentedUsers(t, password)[i]
			early := &revoking{redis: server}
			early.do(ctx, t, user...)
			r := revoke(ctx, t, server, fmt.Sprintf("{url: %q, username: %s, passwordRef: {name: redis}}", "redis://"+server.Address, user[2]), redisSecret(t, password, ""))
			r.works(ctx, t)
			want := http.StatusServiceUnavailable
			if i == 1 {
				want = http.StatusOK
			}
			if got := r.logout(ctx, t, r.logoutToken(tokentest.Claims{"sub": "carol"})); got.status != want {
				t.Errorf("a logout token is %d, want %d: %s", got.status, want, got.body)
			}
			base := revocationBase(revocationIssuer)
			if there := r.do(ctx, t, "EXISTS", base+":sub:carol") == "1"; there != (i == 1) {
				t.Errorf("on the list: %v", there)
			}
			// What the user may not: other keys, and the server itself.
			for _, command := range [][]string{
				{"SET", "other", "1"}, {"GETRANGE", "other", "0", "1"}, {"FLUSHALL"}, {"CONFIG", "GET", "*"}, {"ACL", "LIST"}, {"PUBLISH", "other", "1"}, {"SUBSCRIBE", "other"}, {"KEYS", "*"}, {"GET", base + ":sub:carol"},
			} {
				if answer := early.do(ctx, t, append([]string{"ACL", "DRYRUN", user[2]}, command...)...); answer == "OK" {
					t.Errorf("the user may %v", command)
				}
			}
		})
	}
	t.Run("one_that_may_not_subscribe_is_told_so", func(t *testing.T) {
		ctx := beginRevoking(t)
		server := newRedis(ctx, t, stack.RedisOptions{})
		early := &revoking{redis: server}
		early.do(ctx, t, "ACL", "SETUSER", "usher", "on", ">"+password, "~*", "resetchannels", "+@all")
		r := revoke(ctx, t, server, fmt.Sprintf("{url: %q, username: usher, passwordRef: {name: redis}}", "redis://"+server.Address), redisSecret(t, password, ""))
		r.fails(ctx, t, "NOPERM")
	})
}

// TestAServerThatDoesNotKnowAUTHRepeatsThePassword, and Usher does not.
func TestAServerThatRepeatsThePasswordDoesNotGetItIntoTheLog(t *testing.T) {
	ctx := beginRevoking(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = bufio.NewReader(conn).ReadString('$')
				_, _ = io.WriteString(conn, "-ERR unknown command `AUTH`, with args beginning with: `s3cret-of-ours`, \x1b[31m\r\n")
			}()
		}
	}()
	r := revoke(ctx, t, nil, fmt.Sprintf("{url: %q, passwordRef: {name: redis}}", "redis://"+l.Addr().String()), redisSecret(t, "s3cret-of-ours", ""))
	r.fails(ctx, t, "unknown command")
	page, err := askAt(ctx, oauthClient, r.usher.UsherAdmin, "/readyz", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(page.body, "s3cret") || strings.Contains(r.usher.Usher.Log(), "s3cret") {
		t.Error("the password is shown")
	}
}

func TestTLSWithAnAuthorityOfOnesOwn(t *testing.T) {
	certs, stranger := newCertificates(t), newCertificates(t)
	caOf := func(c *certificates) string {
		text, err := os.ReadFile(c.ca)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, c := range []struct {
		name, redis, ca, fails string
	}{
		{"is_trusted_by_caRef", `{url: "rediss://ADDRESS/0", passwordRef: {name: redis}, caRef: {name: redis}}`, caOf(certs), ""},
		{"is_not_trusted_without", `{url: "rediss://ADDRESS/0", passwordRef: {name: redis}}`, "", "certificate signed by unknown authority"},
		{"is_not_trusted_by_another", `{url: "rediss://ADDRESS/0", passwordRef: {name: redis}, caRef: {name: redis}}`, caOf(stranger), "certificate signed by unknown authority"},
		{"certifies_an_address_and_not_its_name", `{url: "rediss://localhost:PORT/0", passwordRef: {name: redis}, caRef: {name: redis}}`, caOf(certs), "localhost"},
		{"gets_no_password_in_the_clear", `{url: "redis://ADDRESS/0", passwordRef: {name: redis}}`, "", "AddressIsThere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := beginRevoking(t)
			server := newRedis(ctx, t, stack.RedisOptions{
				Password: "of everybody", TLS: certs.client,
				Args: []string{"--tls-cert-file", certs.cert, "--tls-key-file", certs.key, "--tls-ca-cert-file", certs.ca, "--tls-auth-clients", "no"},
			})
			_, port, _ := net.SplitHostPort(server.Address)
			text := strings.NewReplacer("ADDRESS", server.Address, "PORT", port).Replace(c.redis)
			r := revoke(ctx, t, server, text, redisSecret(t, "of everybody", c.ca))
			switch c.fails {
			case "":
				r.works(ctx, t)
			case "AddressIsThere":
				r.fails(ctx, t, server.Address)
			default:
				r.fails(ctx, t, c.fails)
			}
		})
	}
}
