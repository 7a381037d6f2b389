package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A condition says what usher validate says of the same manifest, word for word but for the place in a file.
func TestStatusSaysWhatValidateSays(t *testing.T) {
	ns := namespace(t, "words")
	startUsher(t, ns, admin(t))
	for _, c := range []struct{ name, kind, spec string }{
		{"expressions", "AuthPolicy", `{hosts: [a.test], providers: [idp], api: {routes: [{method: GET, path: /items, "on": "items:read"}]}, rules: [{"on": "items:read", allow: "user.identiti == 'a'", filter: {owner: "1 +"}}, {"on": "nothing:read"}]}`},
		{"references", "AuthPolicy", `{hosts: [b.test], providers: [nobody, idp], backend: {url: "http://b.example.com", headers: {x-key: {secretRef: {name: none}}}}, api: {preset: langgraph}, rules: [{"on": threads, filter: {owner: user.identity}}]}`},
		{"provider", "IdentityProvider", `{issuer: "https://a.example.com", audiences: [a], jwt: {sharedSecret: super-secret-jwt-token-with-at-least-32-characters-long}, identity: {identity: claim.sub}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			idp := fmt.Sprintf("apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: idp, namespace: %s}\nspec: {issuer: \"https://idp.example.com\", audiences: [a]}\n", ns)
			text := fmt.Sprintf("apiVersion: usher.dev/v1alpha1\nkind: %s\nmetadata: {name: %s, namespace: %s}\nspec: %s\n", c.kind, c.name, ns, c.spec)
			kubectl(t, idp+"---\n"+text, "apply", "-f", "-")
			dir := t.TempDir()
			for name, text := range map[string]string{"idp.yaml": idp, "object.yaml": text} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			path, err := binary()
			if err != nil {
				t.Fatal(err)
			}
			out, _ := exec.Command(path, "validate", "--output", "json", dir).Output() // it is not valid
			var report struct {
				Problems []struct{ File, Path, Found, Want, Hint string }
			}
			if err := json.Unmarshal(out, &report); err != nil || len(report.Problems) == 0 {
				t.Fatalf("%v: %s", err, out)
			}
			var want []string
			for _, p := range report.Problems {
				line := p.Path + ": " + p.Found
				if p.Want != "" {
					line += ", expected " + p.Want
				}
				if p.Hint != "" {
					line += " (" + p.Hint + ")"
				}
				want = append(want, line)
			}
			wantCondition(t, ns, strings.ToLower(c.kind)+"/"+c.name, "Accepted", "False", "Invalid", "")
			condition, err := conditionOf(t, ns, strings.ToLower(c.kind)+"/"+c.name, "Accepted")
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Split(condition.Message, "\n")
			slices.Sort(got) // the API server keeps no order of names
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("the condition says\n%s\nusher validate\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// What Secrets hold is in no status, no event, no log and no page, however broken it is.
func TestSecretsAreNeverShown(t *testing.T) {
	ns := namespace(t, "unshown")
	p := newProvider(t)
	const mark = "HUNTER2"
	// A Redis server that repeats what it is told.
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 512)
				n, _ := c.Read(b)
				_, _ = fmt.Fprintf(c, "-ERR unknown command %q\r\n", b[:n])
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	u := startUsher(t, ns, admin(t), "--log-level", "debug")
	inPEM := base64.StdEncoding.EncodeToString([]byte(mark + " " + mark))
	secrets := map[string]string{
		"garbage":   mark,
		"pem":       "-----BEGIN PRIVATE KEY-----\n" + inPEM + "\n-----END PRIVATE KEY-----\n",
		"label":     "-----BEGIN " + mark + "-----\n" + inPEM + "\n-----END " + mark + "-----\n",
		"jwk":       `{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "` + mark + `"}`,
		"json":      `{"kty": "` + mark + `", ` + mark + `: 1}`,
		"lines":     mark + "\n" + mark + "\r\n",
		"short":     mark[:6],
		"not-utf-8": mark + "\xff\xfe",
	}
	var b strings.Builder
	for name, text := range secrets {
		fmt.Fprintf(&b, "apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ndata: {k: %s}\n---\n", name, ns, base64.StdEncoding.EncodeToString([]byte(text)))
	}
	b.WriteString(p.manifest(ns, "idp", ""))
	i := 0
	for name := range secrets {
		ref := "{name: " + name + ", key: k}"
		for _, spec := range []string{
			"issuer: 'https://a.example.com', audiences: [a], jwt: {sharedSecretRef: " + ref + "}",
			"issuer: 'https://a.example.com', audiences: [a], caRef: " + ref,
			"issuer: 'https://a.example.com', audiences: [a], proofOfPossession: {nonces: true, nonceKeyRef: " + ref + "}",
			"issuer: 'https://a.example.com', audiences: [a], introspection: {endpoint: 'https://a.example.com/i', clientID: c, clientSecretRef: " + ref + "}",
			"issuer: 'https://a.example.com', audiences: [a], introspection: {endpoint: 'https://a.example.com/i', clientID: c, clientAuthMethod: private_key_jwt, privateKeyRef: " + ref + "}",
			"issuer: 'https://a.example.com', audiences: [a], userinfo: {endpoint: 'https://a.example.com/i', headers: {x: {secretRef: " + ref + "}}}",
			"issuer: 'https://a.example.com', audiences: [a], revocation: {redis: {url: 'redis://" + echo.Addr().String() + "', username: u, passwordRef: " + ref + "}}",
			"issuer: 'https://a.example.com', audiences: [a], revocation: {redis: {url: 'rediss://" + echo.Addr().String() + "', caRef: " + ref + "}}",
		} {
			i++
			fmt.Fprintf(&b, "apiVersion: usher.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {name: p%d, namespace: %s}\nspec: {%s}\n---\n", i, ns, spec)
		}
		for _, more := range []string{
			", assertion: {header: x-a, issuer: 'https://i', audience: a, keyRefs: [" + ref + "]}",
			", backend: {url: 'http://b.example.com', headers: {x-k: {secretRef: " + ref + "}}}",
			", backend: {url: 'https://b.example.com', caRef: " + ref + "}",
		} {
			i++
			fmt.Fprintf(&b, "apiVersion: usher.dev/v1alpha1\nkind: AuthPolicy\nmetadata: {name: p%[1]d, namespace: %[2]s}\nspec: {hosts: [h%[1]d.test], providers: [idp], api: {routes: [{method: GET, path: /items, 'on': 'items:read'}]}, rules: [{'on': 'items:read'}]%[3]s}\n---\n", i, ns, more)
		}
	}
	kubectl(t, b.String(), "apply", "--server-side", "-f", "-")
	eventually(t, func() error { // until each of them has its conditions, and events
		out := kubectl(t, "", "get", "authpolicies,identityproviders", "-n", ns, "-o", `jsonpath={range .items[*]}{.status.conditions[?(@.type=="Accepted")].status}{"\n"}{end}`)
		if n := strings.Count(out, "True") + strings.Count(out, "False"); n != i+1 {
			return fmt.Errorf("%d of %d have a status", n, i+1)
		}
		if n := strings.Count(kubectl(t, "", "get", "events", "-n", ns), "provider/p"); n < 8 {
			return fmt.Errorf("%d events", n)
		}
		return nil
	})
	kubectl(t, guard(ns, "last", "last.test", "idp", ""), "apply", "-f", "-")
	u.wantStatus(t, 200, "last.test", "GET", "/items", p.Mint())
	response, err := http.Get(u.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	metrics, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{
		"a status":   kubectl(t, "", "get", "authpolicies,identityproviders", "-n", ns, "-o", "yaml"),
		"an event":   kubectl(t, "", "get", "events", "-n", ns, "-o", "yaml"),
		"the log":    u.part.Log(),
		"/readyz":    u.readyz(t),
		"/metrics":   string(metrics),
		"a describe": kubectl(t, "", "describe", "authpolicies,identityproviders", "-n", ns),
	} {
		for _, secret := range []string{mark, mark[:6], inPEM, base64.StdEncoding.EncodeToString([]byte(mark))} {
			if at := strings.Index(text, secret); at >= 0 {
				t.Errorf("%s shows %q: ...%s...", where, secret, text[max(0, at-200):min(len(text), at+100)])
				break
			}
		}
	}
}
