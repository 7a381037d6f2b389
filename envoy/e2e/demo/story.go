package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// teller tells the story and checks that it is true.
type teller struct {
	screen *screen
	stack  *stack.Stack
	gate   *stack.Gate

	step       int
	alice, bob *stack.Token
	readOnly   *stack.Token
	thread     string // Alice's
	bobsThread string
}

// tell goes through all steps, and ends at the first that does not go as told.
func (t *teller) tell(ctx context.Context) error {
	for _, step := range []struct {
		heading string
		do      func(context.Context) error
	}{
		{"Somebody without a token", t.stranger},
		{"Alice logs in", t.aliceLogsIn},
		{"Alice starts a conversation", t.aliceCreates},
		{"Alice asks the agent something, and the answer streams", t.aliceStreams},
		{"Alice lists her conversations", t.aliceLists},
		{"Bob logs in", t.bobLogsIn},
		{"Bob lists conversations", t.bobLists},
		{"Bob knows the address of Alice's conversation, and reads it", t.bobReads},
		{"Bob speaks in it, copies it, deletes it", t.bobMeddles},
		{"Bob says that he is Alice, in a header", t.bobForges},
		{"Bob plants a conversation with Alice", t.bobPlants},
		{"Alice comes back with a token that may only read", t.aliceReadsOnly},
		{"Alice's conversation is as she left it", t.aliceReturns},
	} {
		t.step++
		t.screen.step(t.step, step.heading)
		if err := step.do(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.screen.notAsTold(err.Error())
			return fmt.Errorf("step %d did not go as told", t.step)
		}
		t.screen.asTold()
	}
	return nil
}

func (t *teller) stranger(ctx context.Context) error {
	a, err := t.ask(ctx, request{method: "POST", path: "/threads", body: `{}`})
	if err != nil {
		return err
	}
	t.screen.why("Envoy asked Usher, and Usher found no token. The request never reached the LangGraph server.")
	challenge := a.header.Get("WWW-Authenticate")
	if a.status != http.StatusUnauthorized || !strings.HasPrefix(challenge, "Bearer") {
		return fmt.Errorf("expected 401 with a Bearer challenge, got %d with %q", a.status, challenge)
	}
	return nil
}

func (t *teller) aliceLogsIn(ctx context.Context) (err error) {
	t.alice, err = t.logIn(ctx, stack.Alice)
	if err != nil {
		return err
	}
	t.screen.why("The authorization code flow with PKCE, form by form, as a browser does it. The token is signed by the " +
		"provider, whose public keys Usher fetched when it started. Usher never asks the provider during a request.")
	return nil
}

func (t *teller) aliceCreates(ctx context.Context) error {
	a, err := t.ask(ctx, request{method: "POST", path: "/threads", as: t.alice, who: "Alice", body: `{"metadata": {"title": "my plans"}}`})
	if err != nil {
		return err
	}
	var thread thread
	if err := a.decode(&thread); err != nil {
		return err
	}
	t.screen.why("She did not send an owner. The rule for threads:create lets her (her token has threads:write) and " +
		"stamps owner: alice into the body before the LangGraph server sees it.")
	if thread.Metadata["owner"] != "alice" || thread.Metadata["title"] != "my plans" {
		return fmt.Errorf("expected a thread with owner alice and her title, got metadata %v", thread.Metadata)
	}
	t.thread = thread.ID
	return nil
}

func (t *teller) aliceStreams(ctx context.Context) error {
	const question = "What do you know about me?"
	a, err := t.open(ctx, request{
		method: "POST", path: "/threads/" + t.thread + "/runs/stream", as: t.alice, who: "Alice",
		body: runBody("agent", question, `"stream_mode": ["messages-tuple"]`),
	})
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(a.Body, 1<<16))
		t.screen.answer(a.StatusCode, string(b))
		return fmt.Errorf("expected 200, got %d", a.StatusCode)
	}
	words := 0
	var said strings.Builder
	var first, last time.Time
	err = serverSentEvents(a.Body, func(event, data string) error {
		if event != "messages" {
			return nil
		}
		var message []struct {
			Content string `json:"content"`
		}
		if err := json.Unmarshal([]byte(data), &message); err != nil || len(message) == 0 {
			return fmt.Errorf("a message event that is not understood: %s", data)
		}
		last = time.Now()
		if words == 0 {
			first = last
		}
		t.screen.word(message[0].Content, words == 0)
		said.WriteString(message[0].Content)
		words++
		return nil
	})
	t.screen.endOfWords()
	if err != nil {
		return err
	}
	spread := last.Sub(first)
	t.screen.why(fmt.Sprintf("%d server-sent events came one by one over %.1f s: Envoy and Usher hold nothing back. One check "+
		"covered three operations: threads:create_run, threads:read, and assistants:read for the agent.", words, spread.Seconds()))
	// Delays can only spread the words further; all at once would mean that something held them back.
	if nominal := time.Duration(words-1) * wordPause; words < 10 || spread < nominal/3 {
		return fmt.Errorf("expected at least 10 words, spread over about %s, got %d over %s", nominal, words, spread)
	}
	if !strings.Contains(said.String(), question) {
		return fmt.Errorf("expected an answer to %q, got %q", question, said.String())
	}
	return nil
}

func (t *teller) aliceLists(ctx context.Context) error {
	threads, err := t.search(ctx, t.alice, "Alice")
	if err != nil {
		return err
	}
	t.screen.why("Usher narrowed her search to metadata.owner = alice.")
	if len(threads) != 1 || threads[0].ID != t.thread {
		return fmt.Errorf("expected just her thread, got %d", len(threads))
	}
	return nil
}

func (t *teller) bobLogsIn(ctx context.Context) (err error) {
	t.bob, err = t.logIn(ctx, stack.Bob)
	if err != nil {
		return err
	}
	t.screen.why("Bob is a user like Alice, with the same permissions.")
	return nil
}

func (t *teller) bobLists(ctx context.Context) error {
	threads, err := t.search(ctx, t.bob, "Bob")
	if err != nil {
		return err
	}
	t.screen.why("The same request as Alice's. His search is narrowed to metadata.owner = bob, and nothing has that.")
	if len(threads) != 0 {
		return fmt.Errorf("expected no thread, got %d", len(threads))
	}
	return nil
}

func (t *teller) bobReads(ctx context.Context) error {
	const missing = "00000000-0000-4000-8000-000000000000"
	real, err := t.ask(ctx, request{method: "GET", path: "/threads/" + t.thread, as: t.bob, who: "Bob"})
	if err != nil {
		return err
	}
	none, err := t.ask(ctx, request{method: "GET", path: "/threads/" + missing, as: t.bob, who: "Bob"})
	if err != nil {
		return err
	}
	t.screen.why("Usher looked up whose thread it is. It is not Bob's, so he gets the answer for a thread that does not exist: " +
		"he cannot even learn that this one does.")
	if real.status != http.StatusNotFound || none.status != http.StatusNotFound {
		return fmt.Errorf("expected 404 and 404, got %d and %d", real.status, none.status)
	}
	if a, b := strings.ReplaceAll(real.body, t.thread, "ID"), strings.ReplaceAll(none.body, missing, "ID"); a != b {
		return fmt.Errorf("the two answers differ: %s and %s", real.body, none.body)
	}
	return nil
}

func (t *teller) bobMeddles(ctx context.Context) error {
	for _, try := range []struct {
		request request
		want    int
	}{
		{request{method: "POST", path: "/threads/" + t.thread + "/runs/stream", body: runBody("agent", "I am Alice", "")}, http.StatusNotFound},
		{request{method: "POST", path: "/threads/" + t.thread + "/copy", body: `{}`}, http.StatusConflict},
		{request{method: "DELETE", path: "/threads/" + t.thread}, http.StatusNotFound},
	} {
		try.request.as, try.request.who = t.bob, "Bob"
		a, err := t.ask(ctx, try.request)
		if err != nil {
			return err
		}
		if a.status != try.want {
			return fmt.Errorf("expected %d, got %d", try.want, a.status)
		}
	}
	t.screen.why("The rule for threads has a filter, owner: user.identity. It holds for every operation on a thread and its " +
		"runs. The answers are LangGraph's own: 404, and 409 for a copy.")
	return nil
}

func (t *teller) bobForges(ctx context.Context) error {
	forged := http.Header{"X-User-Id": {"alice"}}
	a, err := t.ask(ctx, request{method: "GET", path: "/threads/" + t.thread, as: t.bob, who: "Bob", header: forged})
	if err != nil {
		return err
	}
	if a.status != http.StatusNotFound {
		return fmt.Errorf("expected 404, got %d", a.status)
	}
	// What did the backend get? Bob makes a thread and a run of his own, with the same header. The LangGraph server keeps
	// the x- headers of a run, and shows them with it.
	a, err = t.ask(ctx, request{method: "POST", path: "/threads", as: t.bob, who: "Bob", header: forged, body: `{}`})
	if err != nil {
		return err
	}
	var own thread
	if err := a.decode(&own); err != nil {
		return err
	}
	t.bobsThread = own.ID
	a, err = t.ask(ctx, request{
		method: "POST", path: "/threads/" + own.ID + "/runs", as: t.bob, who: "Bob", header: forged, quiet: true,
		body: runBody("agent", "Who am I?", ""),
	})
	if err != nil {
		return err
	}
	var run struct {
		Kwargs struct {
			Config struct {
				Configurable map[string]any `json:"configurable"`
			} `json:"config"`
		} `json:"kwargs"`
	}
	if err := a.decode(&run); err != nil {
		return err
	}
	got := run.Kwargs.Config.Configurable["x-user-id"]
	t.screen.answer(a.status, fmt.Sprintf(`{..., "configurable": {"x-user-id": "%v", ...}}`, got))
	t.screen.why("Usher takes the identity from the token alone. A client's copy of an identity header is always removed, and " +
		"the true one is set: the LangGraph server keeps a run's x- headers, and what it got was bob.")
	if got != "bob" {
		return fmt.Errorf("expected that the backend got x-user-id bob, got %v", got)
	}
	return nil
}

func (t *teller) bobPlants(ctx context.Context) error {
	a, err := t.ask(ctx, request{
		method: "PATCH", path: "/threads/" + t.bobsThread, as: t.bob, who: "Bob", body: `{"metadata": {"owner": "alice"}}`,
	})
	if err != nil {
		return err
	}
	var own thread
	if err := a.decode(&own); err != nil {
		return err
	}
	t.screen.why("The stamp overwrites what the client writes there: nobody can give a thread away, or make it look like " +
		"somebody else's.")
	if own.Metadata["owner"] != "bob" {
		return fmt.Errorf("expected owner bob, got %v", own.Metadata["owner"])
	}
	return nil
}

func (t *teller) aliceReadsOnly(ctx context.Context) (err error) {
	t.readOnly, err = t.logIn(ctx, stack.Alice, "openid", "profile", "threads:read")
	if err != nil {
		return err
	}
	a, err := t.ask(ctx, request{method: "POST", path: "/threads", as: t.readOnly, who: "Alice", body: `{}`})
	if err != nil {
		return err
	}
	t.screen.why("The rule for threads:create wants threads:write among her permissions. The challenge tells the client " +
		"which scope is missing.")
	if a.status != http.StatusForbidden {
		return fmt.Errorf("expected 403, got %d", a.status)
	}
	if challenge := a.header.Get("WWW-Authenticate"); !strings.Contains(challenge, "insufficient_scope") {
		return fmt.Errorf("expected a challenge with insufficient_scope, got %q", challenge)
	}
	return nil
}

func (t *teller) aliceReturns(ctx context.Context) error {
	a, err := t.ask(ctx, request{method: "GET", path: "/threads/" + t.thread + "/state", as: t.alice, who: "Alice", quiet: true})
	if err != nil {
		return err
	}
	var state struct {
		Values struct {
			Messages []struct {
				Type    string `json:"type"`
				Content string `json:"content"`
			} `json:"messages"`
		} `json:"values"`
	}
	if err := a.decode(&state); err != nil {
		return err
	}
	for _, m := range state.Values.Messages {
		t.screen.answer(a.status, m.Type+": "+m.Content)
	}
	t.screen.why("Two messages: her question and the answer. Nothing of Bob's is in it.")
	if n := len(state.Values.Messages); n != 2 {
		return fmt.Errorf("expected 2 messages, got %d", n)
	}
	return nil
}

// byHand writes the tokens to files, which spares the reader their 700 characters, and prints what to try.
func (t *teller) byHand() error {
	files := map[string]string{}
	for name, token := range map[string]*stack.Token{"alice": t.alice, "bob": t.bob} {
		files[name] = filepath.Join(t.stack.Dir, name+".token")
		if err := os.WriteFile(files[name], []byte(token.Access), 0o600); err != nil {
			return err
		}
	}
	s := t.screen
	s.end(fmt.Sprintf("All %d steps went as told, and everything is up until Ctrl-C.", t.step))
	s.heading("Try it by hand, in another terminal")
	for _, l := range []string{
		fmt.Sprintf(`GATE=%s THREAD=%s`, t.gate.URL, t.thread),
		fmt.Sprintf(`ALICE=$(cat %s)`, files["alice"]),
		fmt.Sprintf(`BOB=$(cat %s)`, files["bob"]),
		"",
		`curl -i $GATE/threads/$THREAD -H "authorization: Bearer $ALICE"      # 200`,
		`curl -i $GATE/threads/$THREAD -H "authorization: Bearer $BOB"        # 404`,
		`curl -i $GATE/threads/$THREAD                                        # 401`,
		`curl -i $GATE/threads/search -H "authorization: Bearer $BOB" -H "content-type: application/json" -d '{}'`,
		`curl -N $GATE/threads/$THREAD/runs/stream -H "authorization: Bearer $ALICE" -H "content-type: application/json" \`,
		`  -d '{"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "hello"}]}, "stream_mode": "messages-tuple"}'`,
	} {
		s.command(l)
	}
	s.heading("Change the policy while it runs: write the file, and the next request sees it")
	s.command(t.gate.Manifest)
	s.heading("Look behind the curtain")
	s.command(fmt.Sprintf("%-22s %s", "the LangGraph server", t.stack.Backend+"  (past the gate: it answers everybody)"))
	s.command(fmt.Sprintf("%-22s %s", "the OpenID provider", t.stack.Issuer+"/.well-known/openid-configuration"))
	s.command(fmt.Sprintf("%-22s %s", "Usher's state", t.gate.UsherAdmin+"/readyz"))
	s.command(fmt.Sprintf("%-22s %s", "Envoy's admin pages", t.gate.EnvoyAdmin))
	s.command(fmt.Sprintf("%-22s %s", "all logs", filepath.Join(t.stack.Dir, "logs")))
	s.note("Ctrl-C ends it all.")
	return nil
}

// A request of the story. Without a token it is anonymous.
type request struct {
	method, path, body string
	as                 *stack.Token
	who                string
	header             http.Header
	quiet              bool // do not show the answer: the step does
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) decode(into any) error {
	if a.status != http.StatusOK && a.status != http.StatusCreated {
		return fmt.Errorf("expected 200, got %d: %s", a.status, a.body)
	}
	return json.Unmarshal([]byte(a.body), into)
}

type thread struct {
	ID       string         `json:"thread_id"`
	Metadata map[string]any `json:"metadata"`
}

// String shows what the story is about: whose it is, and its title.
func (t thread) String() string {
	var metadata []string
	for _, name := range []string{"owner", "title"} {
		if value, ok := t.Metadata[name]; ok {
			metadata = append(metadata, fmt.Sprintf("%q: %q", name, value))
		}
	}
	return fmt.Sprintf(`{"thread_id": %q, "metadata": {%s}, ...}`, t.ID, strings.Join(metadata, ", "))
}

func (t *teller) logIn(ctx context.Context, user stack.User, scopes ...string) (*stack.Token, error) {
	t.screen.request(fmt.Sprintf("%s opens the provider's login page, types name and password, and allows the access", user.Name), "")
	token, err := t.stack.Login(ctx, user, scopes...)
	if err != nil {
		return nil, err
	}
	claims, err := token.Claims()
	if err != nil {
		return nil, err
	}
	if claims["sub"] != user.Name {
		return nil, fmt.Errorf("expected a token for %s, got one for %v", user.Name, claims["sub"])
	}
	t.screen.answer(http.StatusOK, fmt.Sprintf(`an access token for sub=%v, aud=%v, scope="%v"`, claims["sub"], claims["aud"], claims["scope"]))
	return token, nil
}

func (t *teller) search(ctx context.Context, as *stack.Token, who string) ([]thread, error) {
	a, err := t.ask(ctx, request{method: "POST", path: "/threads/search", as: as, who: who, body: `{}`, quiet: true})
	if err != nil {
		return nil, err
	}
	var threads []thread
	if err := a.decode(&threads); err != nil {
		t.screen.answer(a.status, a.body)
		return nil, err
	}
	short := make([]string, len(threads))
	for i, thread := range threads {
		short[i] = thread.String()
	}
	t.screen.answer(a.status, "["+strings.Join(short, ", ")+"]")
	return threads, nil
}

// ask sends a request through the gate and shows it and its answer.
func (t *teller) ask(ctx context.Context, r request) (answer, error) {
	res, err := t.open(ctx, r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return answer{}, err
	}
	a := answer{res.StatusCode, res.Header, string(b)}
	if !r.quiet {
		text := strings.TrimSpace(a.body)
		var one thread
		if a.decode(&one) == nil && one.ID != "" {
			text = one.String() // without what the story is not about
		}
		if runes := []rune(text); len(runes) > 300 {
			text = string(runes[:300]) + " ..."
		}
		if challenge := a.header.Get("WWW-Authenticate"); challenge != "" {
			text += "  (WWW-Authenticate: " + challenge + ")"
		}
		t.screen.answer(a.status, text)
	}
	return a, nil
}

var client = &http.Client{Transport: &http.Transport{}}

func (t *teller) open(ctx context.Context, r request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, t.gate.URL+r.path, bytes.NewReader([]byte(r.body)))
	if err != nil {
		return nil, err
	}
	shown := r.method + " " + r.path
	for name, values := range r.header {
		req.Header[name] = values
		shown += fmt.Sprintf(" %s: %s", strings.ToLower(name), strings.Join(values, ", "))
	}
	if r.as != nil {
		req.Header.Set("Authorization", "Bearer "+r.as.Access)
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
		shown += "  " + r.body
	}
	t.screen.request(shown, pick(r.who == "", "no token", r.who+"'s token"))
	for tries := 1; ; tries++ {
		res, err := client.Do(req)
		// On a busy machine a look-up may not end in time. Usher says so, and a client asks again.
		if err != nil || res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" || tries == 10 {
			return res, err
		}
		_ = res.Body.Close()
		t.screen.answer(res.StatusCode, "the machine is busy, and a look-up did not end in time: asking again")
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
}

// runBody is what starts a run, with further members such as `"stream_mode": "values"`.
func runBody(graph, question, more string) string {
	body := fmt.Sprintf(`"assistant_id": %q, "input": {"messages": [{"role": "user", "content": %q}]}`, graph, question)
	if more != "" {
		body += ", " + more
	}
	return "{" + body + "}"
}

// serverSentEvents calls f for each event until the stream ends (WHATWG HTML, section 9.2).
func serverSentEvents(r io.Reader, f func(event, data string) error) error {
	lines := bufio.NewReader(r)
	var event string
	var data []string
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line = strings.TrimRight(line, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if len(data) > 0 {
				if err := f(event, strings.Join(data, "\n")); err != nil {
					return err
				}
			}
			event, data = "", nil
		case name == "event":
			event = value
		case name == "data":
			data = append(data, value)
		}
	}
}
