package attacktest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func get(t *testing.T, w *World, address string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := w.RoundTrip(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func newWorld(t *testing.T) *World {
	t.Helper()
	s, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	return NewWorld(s, MemoryURLs())
}

func TestServersAnswer(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, address, want string
		status              int
	}{
		{"discovery", "https://issuer-a.test/.well-known/openid-configuration", `"issuer":"https://issuer-a.test"`, 200},
		{"keys_of_the_issuer", "https://issuer-a.test/jwks", `"kid":"a3","alg":"EdDSA","use":"sig"`, 200},
		{"equal_kid_of_another_issuer", "https://issuer-b.test/jwks", `"kid":"a1"`, 200},
		{"thread", "http://backend.test/threads/11111111-1111-4111-8111-111111111111", `"metadata":{"owner":"alice"}`, 200},
		{"thread_as_python_reads_ids", "http://backend.test/threads/%7B11111111111141118111111111111111%7D", `"thread_id":"11111111-1111-4111-8111-111111111111"`, 200},
		{"no_such_thread", "http://backend.test/threads/99999999-9999-4999-8999-999999999999", `Not Found`, 404},
		{"graph_by_name", "http://backend.test/assistants/agent", `"created_by":"system"`, 200},
		{"run", "http://backend.test/threads/22222222-2222-4222-8222-222222222222/runs/55555555-5555-4555-8555-555555555555", `"run_id"`, 200},
		{"run_of_another_thread", "http://backend.test/threads/11111111-1111-4111-8111-111111111111/runs/55555555-5555-4555-8555-555555555555", `Not Found`, 404},
		{"elsewhere", "https://issuer-a.test/admin", ``, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text := get(t, w, c.address)
			if status != c.status || !strings.Contains(text, c.want) {
				t.Errorf("got %d %s, expected %d with %s", status, text, c.status, c.want)
			}
		})
	}
	if got := w.Hits(); got["jwks.a"] != 1 || got["backend"] != 6 {
		t.Errorf("hits %v", got)
	}
	if len(w.Strange()) > 0 {
		t.Errorf("strange: %q", w.Strange())
	}
	for _, address := range []string{"http://issuer-a.test/jwks", "http://169.254.169.254/", "https://elsewhere.test/"} {
		get(t, w, address)
	}
	if len(w.Strange()) != 3 {
		t.Errorf("strange: %q, expected three calls", w.Strange())
	}
}

func TestPublishedKeysCanBeChanged(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, body  string
		has, hasNot string
		keys        int
	}{
		{"as_they_are", `{"$jwks":"a"}`, `"kid":"a1"`, `"d":`, 5},
		{"one_more", `{"$jwks":"a","add":["weak1024"]}`, `"kid":"weak1024"`, `"d":`, 6},
		{"one_under_another_name", `{"$jwks":"a","add_as":[["b1","a1"]]}`, `"kid":"a1"`, `"kid":"b1"`, 6},
		{"one_as_it_is_written", `{"$jwks":"a","add_raw":[{"kty":"XX","n":{"$b64u":"a"}}]}`, `{"kty":"XX","n":"YQ"}`, `"d":`, 6},
		{"one_withdrawn", `{"$jwks":"a","remove":["a1"]}`, `"kid":"a2"`, `"kid":"a1"`, 4},
		{"one_private", `{"$jwks":"a","private":["a2"]}`, `"d":`, `"dq":`, 5},
		{"members_set_and_removed", `{"$jwks":"a","set_on":{"a1":{"key_ops":["encrypt"],"use":null,"alg":null}}}`, `"kid":"a1","key_ops":["encrypt"]`, `"d":`, 5},
		{"many", `{"$jwks":"a","repeat_key":["b1",20,"a1"]}`, `"kid":"a1"`, `"kid":"b1"`, 25},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := parseValue([]byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Install(map[string]*Fixture{"jwks.a": {Status: 200, Body: v}}); err != nil {
				t.Fatal(err)
			}
			_, text := get(t, w, "https://issuer-a.test/jwks")
			var set struct{ Keys []map[string]any }
			if err := json.Unmarshal([]byte(text), &set); err != nil {
				t.Fatal(err)
			}
			if len(set.Keys) != c.keys || !strings.Contains(text, c.has) || strings.Contains(text, c.hasNot) {
				t.Errorf("%d keys, expected %d, with %s and without %s:\n%s", len(set.Keys), c.keys, c.has, c.hasNot, text)
			}
		})
	}
}

func TestIntrospectionAnswersItsClientOnly(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ token, password, want string }{
		{"opaque-good-1", ClientSecret, `200 "active":true`},
		{"*", ClientSecret, `200 "active":false`},
		{"unknown", ClientSecret, `200 "active":false`},
		{"opaque-good-1", "guess", `401 `},
	} {
		request, err := http.NewRequest(http.MethodPost, "https://issuer-o.test/introspect", strings.NewReader(url.Values{"token": {c.token}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth("usher", c.password)
		response, err := w.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		status, member, _ := strings.Cut(c.want, " ")
		if fmt.Sprint(response.StatusCode) != status || !strings.Contains(string(text), member) {
			t.Errorf("token %q, password %q: %d %s, expected %s", c.token, c.password, response.StatusCode, text, c.want)
		}
	}
}

func TestFixturesReplaceAnswers(t *testing.T) {
	w := newWorld(t)
	install := func(f *Fixture) {
		if err := w.Install(map[string]*Fixture{"jwks.a": f}); err != nil {
			t.Fatal(err)
		}
	}
	install(&Fixture{Status: 302, Headers: [][2]Value{{textValue("location"), textValue("${canary}/x")}}})
	request, _ := http.NewRequest(http.MethodGet, "https://issuer-a.test/jwks", nil)
	if response, err := w.RoundTrip(request); err != nil || response.Header.Get("Location") != "https://canary.test/x" {
		t.Errorf("got %v, %v", response, err)
	}
	install(&Fixture{Close: true})
	if status, _ := get(t, w, "https://issuer-a.test/jwks"); status != 0 {
		t.Errorf("a broken connection answers %d", status)
	}
	install(nil)
	if status, _ := get(t, w, "https://issuer-a.test/jwks"); status != 200 {
		t.Errorf("a restored endpoint answers %d", status)
	}
	synctest.Test(t, func(t *testing.T) {
		install(&Fixture{Status: 200, Body: textValue("0123456789"), Drip: Value{kind: 't'}})
		began := time.Now()
		if _, text := get(t, w, "https://issuer-a.test/jwks"); text != "0123456789" || time.Since(began) < 10*time.Second {
			t.Errorf("got %q after %v", text, time.Since(began))
		}
		install(&Fixture{Hang: true})
		client := http.Client{Transport: w, Timeout: time.Second}
		if _, err := client.Get("https://issuer-a.test/jwks"); err == nil {
			t.Error("a hanging endpoint answers")
		}
	})
}

// The same answers come over sockets, for a gate that is a process of its own.
func TestServersServeSockets(t *testing.T) {
	s, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	urls := MemoryURLs()
	w := NewWorld(s, urls)
	server := httptest.NewServer(w.Handler("issuer.a"))
	defer server.Close()
	urls["issuer.a"] = server.URL
	response, err := server.Client().Get(server.URL + "/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	if !strings.Contains(string(text), `"jwks_uri":"`+server.URL+`/jwks"`) {
		t.Errorf("got %s", text)
	}
	if err := w.Install(map[string]*Fixture{"discovery.a": {Close: true}}); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Client().Get(server.URL + "/.well-known/openid-configuration"); err == nil {
		t.Error("a broken connection answers")
	}
}
