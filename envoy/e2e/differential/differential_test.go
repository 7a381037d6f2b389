package differential_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	number = flag.Int("differential", 2000, "how many requests are sent to each side")
	only   = flag.Int("policy", -1, "only this one of the seed's policies, with all that was sent")
	seed   = flag.Uint64("seed", 1, "what makes the policies and the requests; 0 is a new one")
)

// requestsPerPolicy is how long one policy is asked: things must come to be before they can be hidden.
const requestsPerPolicy = 50

// difference is one that is known, with its reason.
type difference struct {
	Routes []string `json:"routes"`
	// When are tags of the request and its policy (see policy.tags) that must all be there: one of those with | between
	// them is enough, and with ! none may be there.
	When   []string `json:"when,omitempty"`
	Server string   `json:"server"` // its status, 2xx, denied (any other), or *
	Usher  string   `json:"usher"`
	Fewer  bool     `json:"fewer,omitempty"` // Usher shows some of what the server shows, with the same status
	Empty  bool     `json:"empty,omitempty"` // the server's answer shows nothing
	Shows  string   `json:"shows,omitempty"` // what the server's answer shows, if it matters
	Reason string   `json:"reason"`
	used   int
}

func (d *difference) explains(q request, server, usher answer, sawServer, sawUsher []string) bool {
	if !slices.Contains(d.Routes, q.route) && !slices.Contains(d.Routes, "*") || !is(d.Server, server.status) || !is(d.Usher, usher.status) {
		return false
	}
	if d.Empty && len(sawServer) > 0 && sawServer[0] != "null" || d.Fewer != (server.status == usher.status) || d.Fewer && !fewer(sawUsher, sawServer) {
		return false
	}
	if d.Shows != "" && !slices.Equal(sawServer, []string{d.Shows}) {
		return false
	}
	for _, when := range d.When {
		list, not := strings.CutPrefix(when, "!")
		if slices.ContainsFunc(strings.Split(list, "|"), func(tag string) bool { return slices.Contains(q.tags, tag) }) == not {
			return false
		}
	}
	return true
}

func is(want string, status int) bool {
	good := status >= 200 && status < 300
	return want == "*" || want == fmt.Sprint(status) || want == "2xx" && good || want == "denied" && !good
}

func TestUsherDecidesAsLangGraphsOwnAuth(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano()) % 1e9
	}
	t.Logf("again with: go test ./differential -differential=%d -seed=%d", *number, *seed)
	differences := readDifferences(t)
	for _, d := range differences {
		if lets := d.Usher != "denied" && d.Usher[0] != '4'; d.Reason == "" || lets && !d.Fewer {
			t.Errorf("a difference without a reason, or by which Usher lets a user do more: %+v", *d)
		}
	}

	// Each policy has a generator of its own, so that it and its requests depend on the seed and its number alone.
	count := (*number + requestsPerPolicy - 1) / requestsPerPolicy
	policies := make([]policy, count, count+len(stories))
	generators := make([]*rand.Rand, count)
	for i := range policies {
		generators[i] = rand.New(rand.NewPCG(*seed, uint64(i))) //nolint:gosec // it must come again
		policies[i] = newPolicy(generators[i])
	}
	for _, story := range stories {
		policies = append(policies, story.policy)
	}
	ctx := t.Context()
	w := start(ctx, t, policies)
	begin, asked := time.Now(), 0
	for i := range policies {
		if *only >= 0 && i != *only {
			continue
		}
		e := &episode{world: w, policy: policies[i], number: i, seed: fmt.Sprintf("%d/%d/", *seed, i), differences: differences}
		next, n := e.known.newRequest, min(requestsPerPolicy, *number-asked)
		if i < count {
			e.known.r = generators[i]
		} else {
			next, n = stories[i-count].next(), len(stories[i-count].requests)
		}
		if err := e.run(ctx, n, next); err != nil {
			t.Fatal(err)
		}
		asked += len(e.sent)
		if *only >= 0 {
			t.Log("\n" + strings.Join(e.sent, "\n"))
		}
		if len(e.unexpected) > 0 {
			b, _ := json.Marshal(e.policy)
			t.Errorf("policy %d of seed %d: %s\n%s", i, *seed, b, strings.Join(e.unexpected, "\n"))
		}
	}
	t.Logf("%d requests by %d users under %d policies in %v", asked, len(users), count, time.Since(begin).Round(time.Millisecond))
	for _, d := range differences {
		t.Logf("%4d times: server %s, usher %s: %s (%s)", d.used, d.Server, d.Usher, d.Reason, strings.Join(d.Routes, ", "))
	}
}

// episode is one policy with its requests, on servers that are empty when it begins.
type episode struct {
	*world
	policy      policy
	number      int
	known       known
	seed        string
	differences []*difference
	sent        []string
	unexpected  []string
}

func (e *episode) run(ctx context.Context, n int, next func() request) error {
	for _, s := range e.sides() {
		s.ids, s.symbols = map[string]string{}, map[string]string{}
		a, err := s.operate(ctx, http.MethodPost, "/internal/truncate", map[string]any{"runs": true, "threads": true, "assistants": true, "checkpointer": true, "store": true})
		if err != nil || a.status != http.StatusOK {
			return fmt.Errorf("empty the %s: %d %w", s.name, a.status, err)
		}
	}
	for range n {
		q := next()
		q.tags = append(q.tags, e.policy.tags(q.user, q.events, q.body)...)
		if err := e.one(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return e.end(ctx)
}

func (e *episode) sides() []*side { return []*side{e.server, e.usher} }

// both runs something on both sides at once.
func (e *episode) both(f func(i int, s *side) error) error {
	var wg sync.WaitGroup
	var errs [2]error
	for i, s := range e.sides() {
		wg.Go(func() { errs[i] = f(i, s) })
	}
	wg.Wait()
	if errs[0] != nil {
		return errs[0]
	}
	return errs[1]
}

// one sends a request to both sides and compares.
func (e *episode) one(ctx context.Context, q request) error {
	var answers [2]answer
	if err := e.both(func(i int, s *side) (err error) {
		if answers[i], err = s.send(ctx, q, e.number, e.seed); err == nil && (answers[i].good() || q.route == "POST /runs/batch") { // whose first run is made though the second is not
			err = s.settle(ctx, q, e.seed)
		}
		return err
	}); err != nil {
		return err
	}
	made := e.bind(q, answers)
	q.about = append(q.about, made...)
	sawServer, sawUsher := e.server.seen(q, answers[0]), e.usher.seen(q, answers[1])
	e.sent = append(e.sent, fmt.Sprintf("%3d. %s\n     server %d %s\n     usher  %d %s", len(e.sent)+1, q, answers[0].status, short(sawServer), answers[1].status, short(sawUsher)))
	if answers[0].status == answers[1].status && slices.Equal(sawServer, sawUsher) {
		if answers[0].good() {
			e.known.learn(q, made)
		} else if slices.Contains(q.tags, "supersteps") {
			return e.drop(ctx, q) // the JS server may have made the thread before it denied its states
		}
		return nil
	}
	found := false
	for _, d := range e.differences {
		if d.explains(q, answers[0], answers[1], sawServer, sawUsher) {
			d.used++
			found = true
			break
		}
	}
	if !found {
		detail := ""
		for _, a := range answers {
			if !a.good() {
				detail += "     " + string(a.body) + "\n"
			}
		}
		e.unexpected = append(e.unexpected, e.history(q)+"\n"+detail+"     "+strings.Join(q.tags, ", "))
	}
	return e.drop(ctx, q)
}

// history is those requests so far that name a thing of the last one.
func (e *episode) history(q request) string {
	names := symbolForm.FindAllString(q.String(), -1)
	var out []string
	for i, line := range e.sent {
		if i == len(e.sent)-1 || slices.ContainsFunc(names, func(name string) bool { return strings.Contains(line, name) }) {
			out = append(out, line)
		}
	}
	return strings.Join(out[max(0, len(out)-6):], "\n")
}

func short(list []string) string {
	s := strings.Join(list, " ")
	if len(s) > 400 {
		s = s[:400] + "..."
	}
	return s
}

// without returns what of a is not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// bind gives symbols to what the servers made for this request.
func (e *episode) bind(q request, answers [2]answer) (made []string) {
	for _, member := range q.made {
		symbol := e.known.symbol(map[string]string{"thread_id": "T", "run_id": "R"}[member])
		for i, s := range e.sides() {
			var o map[string]any
			if !answers[i].good() || json.Unmarshal(answers[i].body, &o) != nil {
				continue
			}
			if id, ok := o[member].(string); ok {
				s.bind(symbol, id)
				if !slices.Contains(made, symbol) {
					made = append(made, symbol)
				}
			}
		}
	}
	return made
}

// settle waits until the runs of a request have ended.
func (s *side) settle(ctx context.Context, q request, seed string) error {
	if q.marker == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		var list []map[string]any
		var a answer
		var err error
		stateless := strings.HasPrefix(q.path, "/runs")
		if stateless {
			a, err = s.operate(ctx, http.MethodPost, "/threads/search", map[string]any{"limit": 1000, "metadata": map[string]any{"marker": q.marker}})
		} else {
			thread := strings.Split(q.path, "/")[2]
			a, err = s.operate(ctx, http.MethodGet, "/threads/"+s.fill(thread, seed)+"/runs?limit=1000", nil)
		}
		if err != nil {
			return err
		}
		if err := json.Unmarshal(a.body, &list); err != nil {
			return fmt.Errorf("settle: %d %s", a.status, a.body)
		}
		body, _ := q.body.(map[string]any)
		temporary := stateless && body["on_completion"] == nil
		if !slices.ContainsFunc(list, func(o map[string]any) bool {
			md, _ := o["metadata"].(map[string]any)
			return md["marker"] == any(q.marker) && (temporary || o["status"] == "busy" || o["status"] == "running" || o["status"] == "pending")
		}) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the runs of %s do not end: %s", q, a.body)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// drop removes what a request was about from both sides, where they went different ways.
func (e *episode) drop(ctx context.Context, q request) error {
	about := q.about
	if q.marker != "" && strings.HasPrefix(q.path, "/runs") { // the threads of stateless runs
		if err := e.both(func(_ int, s *side) error { return s.dropMarked(ctx, q.marker) }); err != nil {
			return err
		}
	}
	for _, name := range about {
		e.known.forget(name)
		if err := e.both(func(_ int, s *side) error { return s.dropOne(ctx, name, e.seed) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *side) dropOne(ctx context.Context, name, seed string) error {
	var err error
	switch {
	case strings.HasPrefix(name, "{T"):
		_, err = s.operate(ctx, http.MethodDelete, "/threads/"+s.id(name, seed), nil)
	case strings.HasPrefix(name, "{A"):
		_, err = s.operate(ctx, http.MethodDelete, "/assistants/"+s.id(name, seed), nil)
	case strings.HasPrefix(name, `{"`):
		_, err = s.operate(ctx, http.MethodDelete, "/store/items", json.RawMessage(name))
	}
	return err // a run's thread stands beside it
}

func (s *side) dropMarked(ctx context.Context, marker string) error {
	a, err := s.operate(ctx, http.MethodPost, "/threads/search", map[string]any{"limit": 1000, "metadata": map[string]any{"marker": marker}})
	if err != nil {
		return err
	}
	var list []struct {
		ID string `json:"thread_id"`
	}
	if err := json.Unmarshal(a.body, &list); err != nil {
		return err
	}
	for _, thread := range list {
		if _, err := s.operate(ctx, http.MethodDelete, "/threads/"+thread.ID, nil); err != nil {
			return err
		}
	}
	return nil
}

// learn keeps what a request that both allowed has changed.
func (k *known) learn(q request, made []string) {
	add := func(list *[]thing, t thing) {
		if !slices.Contains(*list, t) {
			*list = append(*list, t)
		}
	}
	switch q.method + " " + q.route[strings.Index(q.route, "/"):] {
	case "DELETE /threads/{id}":
		k.forget(q.about[0])
		k.gone = append(k.gone, thing{symbol: q.about[0]})
		return
	case "DELETE /assistants/{id}", "DELETE /threads/{id}/runs/{id}":
		k.forget(q.about[0])
		return
	}
	parent := ""
	for _, name := range append(slices.Clone(q.about), made...) {
		switch {
		case strings.HasPrefix(name, "{T"):
			add(&k.threads, thing{symbol: name})
			parent = name
		case strings.HasPrefix(name, "{A"):
			add(&k.assistants, thing{symbol: name})
		}
	}
	for _, name := range made {
		if strings.HasPrefix(name, "{R") && parent != "" {
			if add(&k.runs, thing{name, parent}); q.marker != "" {
				add(&k.ended, thing{name, parent})
			}
		}
	}
}

// forget takes a thing and what belongs to it out of what may be named.
func (k *known) forget(name string) {
	is := func(t thing) bool { return t.symbol == name || t.parent == name }
	for _, list := range []*[]thing{&k.threads, &k.runs, &k.ended, &k.assistants} {
		*list = slices.DeleteFunc(*list, is)
	}
}

// end compares all that the two servers hold.
func (e *episode) end(ctx context.Context) error {
	for path, body := range map[string]any{
		"/threads/search":     map[string]any{"limit": 1000},
		"/assistants/search":  map[string]any{"limit": 1000},
		"/store/items/search": map[string]any{"limit": 1000, "namespace_prefix": []any{}},
	} {
		var saw [2][]string
		if err := e.both(func(i int, s *side) error {
			a, err := s.operate(ctx, http.MethodPost, path, body)
			saw[i] = s.seen(request{}, a)
			return err
		}); err != nil {
			return err
		}
		if !slices.Equal(saw[0], saw[1]) {
			e.unexpected = append(e.unexpected, fmt.Sprintf("in the end %s gives the operator what the other side has not (-policy=%d shows all)\n     server %s\n     usher  %s\n%s", path, e.number, short(without(saw[0], saw[1])), short(without(saw[1], saw[0])), strings.Join(e.sent[max(0, len(e.sent)-5):], "\n")))
		}
	}
	return nil
}
