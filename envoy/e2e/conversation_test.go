package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/usher-authz/usher/envoy/e2e/stack"
)

// fixture is a thread of Alice's that has been run, and has a run under way.
type fixture struct {
	mark       string // in the thread's metadata
	thread     string
	run        string // finished
	checkpoint string
	busy       string // another thread of hers, with a run that waits for its gate
	waiting    string // that run
	gate       *wordGate
	text       string // what the caller writes wherever it can
}

func newFixture(ctx context.Context, t *testing.T) *fixture {
	t.Helper()
	f := &fixture{mark: t.Name(), gate: newWordGate(t)}
	f.thread = newThread(ctx, t, alice, map[string]any{"mark": f.mark})
	if err := use(ctx, t, alice, nil, "runs.wait", f.thread, "agent",
		map[string]any{"input": question("What is mine?")}); err != nil {
		t.Fatal(err)
	}
	var runs []struct {
		ID     string `json:"run_id"`
		Status string `json:"status"`
	}
	if err := use(ctx, t, alice, &runs, "runs.list", f.thread); err != nil {
		t.Fatal(err)
	}
	if len(runs) != 1 || runs[0].Status != "success" {
		t.Fatalf("expected one finished run, got %+v", runs)
	}
	f.run = runs[0].ID
	var state struct {
		Checkpoint struct {
			ID string `json:"checkpoint_id"`
		} `json:"checkpoint"`
	}
	if err := use(ctx, t, alice, &state, "threads.getState", f.thread); err != nil {
		t.Fatal(err)
	}
	f.checkpoint = state.Checkpoint.ID
	var run struct {
		ID string `json:"run_id"`
	}
	f.busy = newThread(ctx, t, alice, nil)
	if err := use(ctx, t, alice, &run, "runs.create", f.busy, "gated",
		map[string]any{"input": f.gate.input("one", "two")}); err != nil {
		t.Fatal(err)
	}
	f.waiting = run.ID
	f.gate.waitUntilAsked(ctx, t) // the run is under way
	return f
}

// operation is something that an owner may do with a thread, through the SDK.
type operation struct {
	name   string
	call   string
	args   func(f *fixture) []any
	stream bool
	// others is what everybody else gets: a status, or 200 and nothing found.
	others int
	// nothing says whether a result shows nothing of the thread. nil where others is a refusal.
	nothing func(f *fixture, result json.RawMessage) bool
	// owners checks what the owner gets. nil: any result will do.
	owners func(f *fixture, result json.RawMessage) error
}

func with(args ...any) func(*fixture) []any { return func(*fixture) []any { return args } }

func withoutThread(f *fixture, result json.RawMessage) bool {
	return !strings.Contains(string(result), f.thread)
}

func hasThread(f *fixture, result json.RawMessage) error {
	if !strings.Contains(string(result), f.thread) {
		return fmt.Errorf("expected her thread in %s", result)
	}
	return nil
}

func is(text string) func(*fixture, json.RawMessage) bool {
	return func(_ *fixture, result json.RawMessage) bool { return string(result) == text }
}

// Everything that the SDK does with threads and runs of this server. What destroys comes last.
var operations = []operation{
	{
		name: "read the thread", call: "threads.get", others: http.StatusNotFound, owners: hasThread,
		args: func(f *fixture) []any { return []any{f.thread} },
	},
	{
		name: "search all threads", call: "threads.search", others: http.StatusOK, nothing: withoutThread,
		args: with(map[string]any{"limit": 1000}), owners: hasThread,
	},
	{
		name: "search by the thread's own metadata", call: "threads.search", others: http.StatusOK, nothing: is("[]"), owners: hasThread,
		args: func(f *fixture) []any { return []any{map[string]any{"metadata": map[string]any{"mark": f.mark}}} },
	},
	{
		name: "search by its owner", call: "threads.search", others: http.StatusOK, nothing: is("[]"), owners: hasThread,
		args: func(f *fixture) []any {
			return []any{map[string]any{"metadata": map[string]any{"owner": "alice", "mark": f.mark}}}
		},
	},
	{
		name: "search by its id", call: "threads.search", others: http.StatusOK, nothing: is("[]"), owners: hasThread,
		args: func(f *fixture) []any { return []any{map[string]any{"ids": []string{f.thread}}} },
	},
	{
		name: "count", call: "threads.count", others: http.StatusOK, nothing: is("0"),
		args: func(f *fixture) []any { return []any{map[string]any{"metadata": map[string]any{"mark": f.mark}}} },
		owners: func(_ *fixture, result json.RawMessage) error {
			if string(result) != "1" {
				return fmt.Errorf("expected 1, got %s", result)
			}
			return nil
		},
	},
	{
		name: "read the state", call: "threads.getState", others: http.StatusNotFound, owners: hasThread,
		args: func(f *fixture) []any { return []any{f.thread} },
	},
	{
		name: "read the state at a checkpoint", call: "threads.getState", others: http.StatusNotFound, owners: hasThread,
		args: func(f *fixture) []any { return []any{f.thread, f.checkpoint} },
	},
	{
		name: "read the state at a checkpoint in a body", call: "threads.getState", others: http.StatusNotFound, owners: hasThread,
		args: func(f *fixture) []any {
			return []any{f.thread, map[string]any{"checkpoint_id": f.checkpoint, "checkpoint_ns": "", "thread_id": f.thread}}
		},
	},
	{
		name: "read the history", call: "threads.getHistory", others: http.StatusNotFound, owners: hasThread,
		args: func(f *fixture) []any { return []any{f.thread} },
	},
	{
		name: "list the runs", call: "runs.list", others: http.StatusNotFound, owners: hasThread,
		args: func(f *fixture) []any { return []any{f.thread} },
	},
	{
		name: "read a run", call: "runs.get", others: http.StatusNotFound, owners: hasThread,
		args: func(f *fixture) []any { return []any{f.thread, f.run} },
	},
	{
		name: "join a run", call: "runs.join", others: http.StatusNotFound,
		args: func(f *fixture) []any { return []any{f.thread, f.run} },
	},
	{
		name: "follow a run's stream", call: "runs.joinStream", others: http.StatusNotFound, stream: true,
		args: func(f *fixture) []any { return []any{f.thread, f.run} },
	},
	{
		name: "cancel a run", call: "runs.cancel", others: http.StatusNotFound,
		args: func(f *fixture) []any { return []any{f.busy, f.waiting, true} },
	},
	{
		name: "update the metadata", call: "threads.update", others: http.StatusNotFound, owners: hasThread,
		args: func(f *fixture) []any {
			return []any{f.thread, map[string]any{"metadata": map[string]any{"note": f.text}}}
		},
	},
	{
		name: "update the state", call: "threads.updateState", others: http.StatusNotFound,
		args: func(f *fixture) []any {
			return []any{f.thread, map[string]any{"values": question(f.text), "asNode": "answer"}}
		},
	},
	{
		name: "copy the thread", call: "threads.copy", others: http.StatusConflict,
		args: func(f *fixture) []any { return []any{f.thread} },
		owners: func(f *fixture, result json.RawMessage) error {
			var copied struct {
				ID       string         `json:"thread_id"`
				Metadata map[string]any `json:"metadata"`
			}
			if err := json.Unmarshal(result, &copied); err != nil {
				return err
			}
			if copied.ID == f.thread || copied.Metadata["owner"] != "alice" {
				return fmt.Errorf("expected a copy that is hers, got %s", result)
			}
			return nil
		},
	},
	{
		name: "start a run", call: "runs.create", others: http.StatusNotFound, owners: hasThread,
		args: func(f *fixture) []any {
			return []any{f.thread, "agent", map[string]any{"input": question(f.text), "multitaskStrategy": "enqueue"}}
		},
	},
	{
		name: "start a run on a thread to be created", call: "runs.create", others: http.StatusNotFound, owners: hasThread,
		args: func(f *fixture) []any {
			return []any{f.thread, "agent", map[string]any{"input": question(f.text), "ifNotExists": "create", "multitaskStrategy": "enqueue"}}
		},
	},
	{
		name: "start a run and wait", call: "runs.wait", others: http.StatusNotFound,
		args: func(f *fixture) []any {
			return []any{f.thread, "agent", map[string]any{"input": question(f.text), "multitaskStrategy": "enqueue"}}
		},
	},
	{
		name: "start a run and stream", call: "runs.stream", others: http.StatusNotFound, stream: true,
		args: func(f *fixture) []any {
			return []any{f.thread, "agent", map[string]any{"input": question(f.text), "streamMode": "values", "multitaskStrategy": "enqueue"}}
		},
	},
	{
		name: "delete a run", call: "runs.delete", others: http.StatusNotFound,
		args: func(f *fixture) []any { return []any{f.thread, f.run} },
	},
	{
		name: "delete the thread", call: "threads.delete", others: http.StatusNotFound,
		args: func(f *fixture) []any { return []any{f.thread} },
	},
}

// do runs an operation and returns its result, which is all events for a stream.
func (o operation) do(ctx context.Context, t *testing.T, f *fixture, token string) (json.RawMessage, error) {
	t.Helper()
	if !o.stream {
		var result json.RawMessage
		err := use(ctx, t, token, &result, o.call, o.args(f)...)
		return result, err
	}
	for {
		events, err := allEvents(ctx, token, o.call, o.args(f)...)
		var refused *stack.SDKError
		if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || !again(ctx, t) {
			return events, err
		}
	}
}

// allEvents reads a stream to its end.
func allEvents(ctx context.Context, token, name string, args ...any) (json.RawMessage, error) {
	stream, err := sdk.Stream(gate.URL, token, name, args...)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var events []*stack.StreamEvent
	for {
		event, err := stream.Next(ctx)
		if errors.Is(err, io.EOF) {
			return json.Marshal(events)
		}
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
}

// One thread for all three: first those who may not, so that what Alice can still do shows that they did nothing.
func TestAThreadIsItsOwnersAlone(t *testing.T) {
	ctx := begin(t)
	f := newFixture(ctx, t)

	const planted = "planted by somebody else"
	f.text = planted
	for _, o := range operations {
		t.Run("without a token nobody can "+o.name, func(t *testing.T) {
			_, err := o.do(ctx, t, f, "")
			if got := status(t, err); got != http.StatusUnauthorized {
				t.Errorf("got %d, want 401", got)
			}
		})
	}
	for _, o := range operations {
		t.Run("Bob cannot "+o.name, func(t *testing.T) {
			result, err := o.do(ctx, t, f, bob)
			if got := status(t, err); got != o.others {
				t.Fatalf("got %d, want %d: %.300s %v", got, o.others, result, err)
			}
			if o.nothing != nil && !o.nothing(f, result) {
				t.Errorf("he found %s", result)
			}
		})
	}
	f.text = "hers"
	for _, o := range operations {
		t.Run("Alice can "+o.name, func(t *testing.T) {
			result, err := o.do(ctx, t, f, alice)
			if got := status(t, err); got != http.StatusOK {
				t.Fatalf("got %d: %v", got, err)
			}
			if strings.Contains(string(result), planted) {
				t.Errorf("somebody left something: %s", result)
			}
			if o.owners != nil {
				if err := o.owners(f, result); err != nil {
					t.Error(err)
				}
			}
		})
	}
	t.Run("a deleted thread is missing for its owner too", func(t *testing.T) {
		err := use(ctx, t, alice, nil, "threads.get", f.thread)
		if got := status(t, err); got != http.StatusNotFound {
			t.Errorf("got %d, want 404", got)
		}
	})
}

func TestSomebodyElsesThreadIsAnsweredAsAMissingOne(t *testing.T) {
	ctx := begin(t)
	const missing = "00000000-0000-4000-8000-000000000000"
	thread := newThread(ctx, t, alice, nil)
	for _, c := range []call{
		{method: "GET", path: "/threads/ID"},
		{method: "PATCH", path: "/threads/ID", body: `{"metadata":{}}`},
		{method: "DELETE", path: "/threads/ID"},
		{method: "GET", path: "/threads/ID/state"},
		{method: "GET", path: "/threads/ID/history"},
		{method: "GET", path: "/threads/ID/runs"},
		{method: "POST", path: "/threads/ID/runs", body: `{"assistant_id":"agent","input":{"messages":[]}}`},
		{method: "POST", path: "/threads/ID/copy", body: `{}`},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			c.token = bob
			hers, none := c, c
			hers.path = strings.Replace(c.path, "ID", thread, 1)
			none.path = strings.Replace(c.path, "ID", missing, 1)
			a, b := ask(ctx, t, gate, hers), ask(ctx, t, gate, none)
			if a.status != b.status || a.status < 400 {
				t.Errorf("hers is %d, a missing one is %d", a.status, b.status)
			}
			if x, y := strings.ReplaceAll(a.body, thread, "ID"), strings.ReplaceAll(b.body, missing, "ID"); x != y {
				t.Errorf("hers says %s, a missing one says %s", x, y)
			}
			if x, y := slices.Sorted(keys(a.header)), slices.Sorted(keys(b.header)); !slices.Equal(x, y) {
				t.Errorf("hers has headers %v, a missing one has %v", x, y)
			}
		})
	}
}

func keys(h http.Header) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range h {
			if !yield(name) {
				return
			}
		}
	}
}

func TestAnOwnerIsStampedAndCannotBeForged(t *testing.T) {
	ctx := begin(t)
	t.Run("a created thread gets its creator as owner, without having asked", func(t *testing.T) {
		r := want(ctx, t, gate, http.StatusOK, call{method: "POST", path: "/threads", token: alice, body: `{}`})
		if got := r.object(t)["metadata"].(map[string]any)["owner"]; got != "alice" {
			t.Errorf("owner is %v", got)
		}
	})
	t.Run("a thread created without a body too", func(t *testing.T) {
		r := want(ctx, t, gate, http.StatusOK, call{method: "POST", path: "/threads", token: alice})
		if got := r.object(t)["metadata"].(map[string]any)["owner"]; got != "alice" {
			t.Errorf("owner is %v", got)
		}
	})
	t.Run("an owner that the client names is overwritten", func(t *testing.T) {
		r := want(ctx, t, gate, http.StatusOK, call{method: "POST", path: "/threads", token: bob, body: `{"metadata":{"owner":"alice"}}`})
		if got := r.object(t)["metadata"].(map[string]any)["owner"]; got != "bob" {
			t.Errorf("owner is %v", got)
		}
	})
	t.Run("a thread cannot be given away", func(t *testing.T) {
		thread := newThread(ctx, t, bob, nil)
		r := want(ctx, t, gate, http.StatusOK, call{method: "PATCH", path: "/threads/" + thread, token: bob, body: `{"metadata":{"owner":"alice"}}`})
		if got := r.object(t)["metadata"].(map[string]any)["owner"]; got != "bob" {
			t.Errorf("owner is %v", got)
		}
	})
	t.Run("a stranger's id cannot be taken over", func(t *testing.T) {
		thread := newThread(ctx, t, alice, nil)
		for _, body := range []string{`{"thread_id":"` + thread + `"}`, `{"thread_id":"` + thread + `","if_exists":"do_nothing"}`} {
			want(ctx, t, gate, http.StatusConflict, call{method: "POST", path: "/threads", token: bob, body: body})
		}
	})
	t.Run("a run on a thread to be created makes it the caller's", func(t *testing.T) {
		const thread = "5b4f9c5e-7b1c-4c0e-9d53-0a4d4f5d2b11"
		args := []any{thread, "agent", map[string]any{"input": question("hello"), "ifNotExists": "create"}}
		if err := use(ctx, t, alice, nil, "runs.wait", args...); err != nil {
			t.Fatal(err)
		}
		want(ctx, t, gate, http.StatusOK, call{method: "GET", path: "/threads/" + thread, token: alice})
		want(ctx, t, gate, http.StatusNotFound, call{method: "GET", path: "/threads/" + thread, token: bob})
	})
	t.Run("the thread of a stateless run that is kept is the caller's", func(t *testing.T) {
		var run struct {
			Thread string `json:"thread_id"`
		}
		err := use(ctx, t, alice, &run, "runs.create", nil, "agent", map[string]any{"input": question("hello"), "onCompletion": "keep"})
		if err != nil {
			t.Fatal(err)
		}
		r := want(ctx, t, gate, http.StatusOK, call{method: "GET", path: "/threads/" + run.Thread, token: alice})
		if got := r.object(t)["metadata"].(map[string]any)["owner"]; got != "alice" {
			t.Errorf("owner is %v", got)
		}
		want(ctx, t, gate, http.StatusNotFound, call{method: "GET", path: "/threads/" + run.Thread, token: bob})
	})
}

func TestAPermissionThatTheTokenLacksIsNamed(t *testing.T) {
	ctx := begin(t)
	r := want(ctx, t, gate, http.StatusForbidden, call{method: "POST", path: "/threads", token: aliceReadOnly, body: `{}`})
	if challenge := r.header.Get("WWW-Authenticate"); !strings.Contains(challenge, `error="insufficient_scope"`) {
		t.Errorf("the challenge is %q", challenge)
	}
	// What needs no such permission works with the same token.
	want(ctx, t, gate, http.StatusOK, call{method: "POST", path: "/threads/search", token: aliceReadOnly, body: `{}`})
}

func TestWhatNoRuleAllowsIsDenied(t *testing.T) {
	ctx := begin(t)
	for _, c := range []struct {
		call
		status int
	}{
		{call{method: "PUT", path: "/store/items", body: `{"namespace":["alice"],"key":"k","value":{}}`}, http.StatusForbidden},
		{call{method: "POST", path: "/store/items/search", body: `{"namespace_prefix":[]}`}, http.StatusForbidden},
		{call{method: "POST", path: "/assistants", body: `{"graph_id":"agent"}`}, http.StatusForbidden},
		{call{method: "POST", path: "/internal/truncate", body: `{"threads":true}`}, http.StatusNotFound},
		{call{method: "GET", path: "/no/such/route"}, http.StatusNotFound},
		{call{method: "GET", path: "/.usher/edit-filter-missing"}, http.StatusNotFound},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			c.token = alice
			want(ctx, t, gate, c.status, c.call)
			c.token = ""
			want(ctx, t, gate, http.StatusUnauthorized, c.call)
		})
	}
}

func TestTheServersOwnAssistantsAreThereForAll(t *testing.T) {
	ctx := begin(t)
	for name, token := range map[string]string{"Alice": alice, "Bob": bob} {
		var found []struct {
			Graph string `json:"graph_id"`
		}
		if err := use(ctx, t, token, &found, "assistants.search", map[string]any{}); err != nil {
			t.Fatal(err)
		}
		if len(found) != 2 {
			t.Errorf("%s finds %v, want the two graphs", name, found)
		}
		if err := use(ctx, t, token, nil, "assistants.get", "agent"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
