package differential_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// request is one request in terms of symbols: {T1} in its path and its body is a thread, whose id each of the two servers
// may have made itself. A, R and I are assistants, runs and items of the store.
type request struct {
	user, method string
	route        string // its path with the parameters' names, as the list of differences has it
	path         string
	body         any
	events       []string // that Usher decides it by
	about        []string // what it may change, dropped after a difference
	made         []string // members of the answer that hold the id of something new
	marker       string   // of a run that may be under way when the answer is there
	tags         []string
}

func (q request) String() string {
	body := ""
	if q.body != nil {
		b, _ := json.Marshal(q.body)
		body = " " + string(b)
	}
	return fmt.Sprintf("%s: %s %s%s", q.user, q.method, q.path, body)
}

// thing is what exists on both servers, as far as the test knows.
type thing struct{ symbol, parent string }

// known is what the generator may name.
type known struct {
	r                         *rand.Rand
	threads, runs, assistants []thing
	ended                     []thing // runs that have been run
	gone                      []thing // threads that were deleted
	next                      int
}

func (k *known) symbol(kind string) string {
	k.next++
	return fmt.Sprintf("{%s%d}", kind, k.next)
}

// thread names one that is there, seldom one that is not.
func (k *known) thread() string {
	switch {
	case len(k.gone) > 0 && chance(k.r, 3):
		return pick(k.r, k.gone).symbol
	case len(k.threads) == 0 || chance(k.r, 3):
		return k.symbol("T")
	}
	return pick(k.r, k.threads).symbol
}

func (k *known) run() (thread, run string) {
	if len(k.runs) == 0 || chance(k.r, 5) {
		return k.thread(), k.symbol("R")
	}
	run, thread = func(t thing) (string, string) { return t.symbol, t.parent }(pick(k.r, k.runs))
	if chance(k.r, 10) {
		thread = k.thread() // the run of another thread, most often
	}
	return thread, run
}

func (k *known) assistant() string {
	if len(k.assistants) == 0 || chance(k.r, 5) {
		return k.symbol("A")
	}
	return pick(k.r, k.assistants).symbol
}

// runnable names an assistant for a run: most often the graph's own.
func (k *known) runnable() string {
	if chance(k.r, 75) {
		return "agent"
	}
	return k.assistant()
}

// metadata is what a client may send; nil is none.
func (k *known) metadata() map[string]any {
	md := map[string]any{}
	if chance(k.r, 35) {
		md["owner"] = pick(k.r, users)
	}
	if chance(k.r, 25) {
		md["tag"] = pick(k.r, []any{"x", "y", 1})
	}
	if chance(k.r, 20) {
		md["readers"] = []any{pick(k.r, users), pick(k.r, users)}
	}
	if len(md) == 0 && chance(k.r, 70) {
		return nil
	}
	return md
}

func (k *known) namespace(user string) []any {
	if chance(k.r, 50) {
		user = pick(k.r, users)
	}
	switch k.r.IntN(4) {
	case 0:
		return []any{user}
	case 1:
		return []any{user, "notes"}
	case 2:
		return []any{"shared", user}
	}
	return []any{user, "notes", pick(k.r, []any{"a", "b"})}
}

// with leaves a member out that is nil.
func with(body map[string]any, name string, v map[string]any) map[string]any {
	if v != nil {
		body[name] = v
	}
	return body
}

type kind struct {
	weight int
	make   func(k *known, q *request)
}

// kinds are the requests that there are.
var kinds = []kind{
	{14, func(k *known, q *request) {
		id := k.symbol("T")
		if chance(k.r, 15) {
			id = k.thread()
			q.tags = append(q.tags, "again")
		}
		body := with(map[string]any{"thread_id": id}, "metadata", k.metadata())
		if chance(k.r, 30) {
			body["if_exists"] = "do_nothing"
		}
		q.is("POST", "/threads", body, "threads:create")
		q.about = []string{id}
	}},
	{8, func(k *known, q *request) {
		q.is("GET", "/threads/"+k.thread(), nil, "threads:read")
	}},
	{8, func(k *known, q *request) {
		id := k.thread()
		md := k.metadata()
		if md == nil {
			md = map[string]any{}
		}
		q.is("PATCH", "/threads/"+id, map[string]any{"metadata": md}, "threads:update")
		q.about = []string{id}
	}},
	{8, func(k *known, q *request) {
		body := with(map[string]any{"limit": 1000}, "metadata", k.metadata())
		if chance(k.r, 20) {
			body["ids"] = []any{k.thread(), k.thread()}
		}
		q.is("POST", "/threads/search", body, "threads:search")
	}},
	{5, func(k *known, q *request) {
		q.is("POST", "/threads/count", with(map[string]any{}, "metadata", k.metadata()), "threads:search")
	}},
	{3, func(k *known, q *request) {
		id := k.thread()
		q.is("DELETE", "/threads/"+id, nil, "threads:delete")
		q.about = []string{id}
	}},
	{4, func(k *known, q *request) {
		q.is("POST", "/threads/"+k.thread()+"/copy", nil, "threads:read", "threads:create")
		q.made = []string{"thread_id"}
	}},
	{4, func(k *known, q *request) {
		if chance(k.r, 50) {
			q.is("GET", "/threads/"+k.thread()+"/history", nil, "threads:read")
		} else {
			q.is("POST", "/threads/"+k.thread()+"/history", map[string]any{"limit": 5}, "threads:read")
		}
	}},
	{4, func(k *known, q *request) {
		q.is("GET", "/threads/"+k.thread()+"/state", nil, "threads:read")
	}},
	{3, func(k *known, q *request) {
		id := k.thread()
		q.is("POST", "/threads/"+id+"/state", map[string]any{"values": map[string]any{"messages": []any{}}, "as_node": "answer"}, "threads:update", "threads:read")
		q.about = []string{id}
	}},
	{10, func(k *known, q *request) { // a run that waits for an hour: there to be listed and cancelled
		id := k.thread()
		body := k.runBody(q, "enqueue")
		body["after_seconds"] = 3600
		q.is("POST", "/threads/"+id+"/runs", body, "threads:create_run", "assistants:read")
		q.about, q.made, q.marker = []string{id}, []string{"run_id"}, ""
	}},
	{3, func(k *known, q *request) { // a run that is run
		id := k.thread()
		how := pick(k.r, []string{"", "/wait", "/stream"})
		q.is("POST", "/threads/"+id+"/runs"+how, k.runBody(q, "enqueue"), "threads:create_run", "assistants:read")
		if how != "" {
			q.events = append(q.events, "threads:read")
		} else {
			q.made = []string{"run_id"}
		}
		q.about = []string{id}
	}},
	{3, func(k *known, q *request) {
		how := pick(k.r, []string{"", "/wait", "/stream"})
		body := k.runBody(q, "")
		if chance(k.r, 50) {
			body["on_completion"] = "keep"
		}
		q.is("POST", "/runs"+how, body, "threads:create_run", "assistants:read")
		if how != "" {
			q.events = append(q.events, "threads:read")
		} else {
			q.made = []string{"run_id", "thread_id"}
		}
	}},
	{2, func(k *known, q *request) {
		first, second := k.runBody(q, ""), k.runBody(q, "")
		q.is("POST", "/runs/batch", []any{first, second}, "threads:create_run", "assistants:read")
	}},
	{5, func(k *known, q *request) {
		q.is("GET", "/threads/"+k.thread()+"/runs?limit=1000", nil, "threads:read", "threads:search")
	}},
	{5, func(k *known, q *request) {
		thread, run := k.run()
		q.is("GET", "/threads/"+thread+"/runs/"+run, nil, "threads:read")
	}},
	{4, func(k *known, q *request) {
		thread, run := k.run()
		action := pick(k.r, []string{"", "?action=interrupt", "?action=rollback"})
		q.is("POST", "/threads/"+thread+"/runs/"+run+"/cancel"+action, nil, "threads:update")
		if action == "?action=rollback" {
			q.events = append(q.events, "threads:delete")
		}
		q.about = []string{run, thread}
	}},
	{3, func(k *known, q *request) {
		thread, run := k.run()
		q.is("DELETE", "/threads/"+thread+"/runs/"+run, nil, "threads:delete")
		q.about = []string{run}
	}},
	{2, func(k *known, q *request) { // what a run gave, again; the JS server takes half a second
		if len(k.ended) == 0 {
			q.is("GET", "/threads/"+k.thread()+"/runs?limit=1000", nil, "threads:read", "threads:search")
			return
		}
		run := pick(k.r, k.ended)
		q.is("GET", "/threads/"+run.parent+"/runs/"+run.symbol+pick(k.r, []string{"/join", "/stream"}), nil, "threads:read")
	}},
	{2, func(k *known, q *request) {
		q.is("POST", "/threads/"+k.thread()+"/state/checkpoint", map[string]any{}, "threads:read")
	}},
	{3, func(k *known, q *request) { // a thread with a first state
		id := k.symbol("T")
		md := k.metadata()
		if md == nil {
			md = map[string]any{}
		}
		md["graph_id"] = "agent"
		step := map[string]any{"updates": []any{map[string]any{"values": map[string]any{"messages": []any{}}, "as_node": "answer"}}}
		q.is("POST", "/threads", map[string]any{"thread_id": id, "metadata": md, "supersteps": []any{step}}, "threads:create", "threads:update", "threads:read")
		q.about, q.tags = []string{id}, append(q.tags, "supersteps")
	}},
	{3, func(k *known, q *request) { // a run that takes the place of those that wait
		id := k.thread()
		body := k.runBody(q, pick(k.r, []string{"interrupt", "rollback", "reject"}))
		body["after_seconds"] = 3600
		q.is("POST", "/threads/"+id+"/runs", body, "threads:create_run", "assistants:read", "threads:update", "threads:delete")
		q.about, q.made, q.marker, q.tags = []string{id}, []string{"run_id"}, "", append(q.tags, "displaces")
	}},
	{2, func(k *known, q *request) {
		id := k.assistant()
		q.is("GET", "/assistants/"+id+pick(k.r, []string{"/graph", "/subgraphs"}), nil, "assistants:read")
	}},
	{7, func(k *known, q *request) {
		id := k.symbol("A")
		if chance(k.r, 15) {
			id = k.assistant()
		}
		body := with(map[string]any{"assistant_id": id, "graph_id": "agent"}, "metadata", k.metadata())
		if chance(k.r, 30) {
			body["if_exists"] = "do_nothing"
		}
		q.is("POST", "/assistants", body, "assistants:create")
		q.about = []string{id}
	}},
	{5, func(k *known, q *request) {
		id := k.assistant()
		if chance(k.r, 10) {
			id = "agent"
		}
		q.is("GET", "/assistants/"+id, nil, "assistants:read")
	}},
	{4, func(k *known, q *request) {
		body := with(map[string]any{"limit": 1000}, "metadata", k.metadata())
		q.is("POST", "/assistants/search", body, "assistants:search")
	}},
	{2, func(k *known, q *request) {
		q.is("POST", "/assistants/count", with(map[string]any{}, "metadata", k.metadata()), "assistants:search")
	}},
	{5, func(k *known, q *request) {
		id := k.assistant()
		q.is("PATCH", "/assistants/"+id, with(map[string]any{"name": "renamed"}, "metadata", k.metadata()), "assistants:update")
		q.about = []string{id}
	}},
	{5, func(k *known, q *request) {
		q.is("POST", "/assistants/"+k.assistant()+"/versions", map[string]any{"limit": 1000}, "assistants:read")
	}},
	{2, func(k *known, q *request) {
		id := k.assistant()
		q.is("POST", "/assistants/"+id+"/latest", map[string]any{"version": 1}, "assistants:update")
		q.about = []string{id}
	}},
	{2, func(k *known, q *request) {
		id := k.assistant()
		q.is("DELETE", "/assistants/"+id, nil, "assistants:delete", "threads:update")
		q.about = []string{id}
	}},
	{7, func(k *known, q *request) {
		ns, key := k.namespace(q.user), pick(k.r, []string{"a", "b"})
		value := k.metadata()
		if value == nil {
			value = map[string]any{}
		}
		q.is("PUT", "/store/items", map[string]any{"namespace": ns, "key": key, "value": value}, "store:put")
		q.about = []string{item(ns, key)}
	}},
	{6, func(k *known, q *request) {
		var labels []string
		for _, label := range k.namespace(q.user) {
			labels = append(labels, label.(string))
		}
		q.is("GET", "/store/items?namespace="+strings.Join(labels, ".")+"&key="+pick(k.r, []string{"a", "b"}), nil, "store:get")
	}},
	{5, func(k *known, q *request) {
		prefix := []any{}
		if chance(k.r, 70) {
			prefix = k.namespace(q.user)[:1]
		}
		q.is("POST", "/store/items/search", with(map[string]any{"namespace_prefix": prefix, "limit": 1000}, "filter", nil), "store:search")
	}},
	{4, func(k *known, q *request) {
		body := map[string]any{"limit": 1000}
		if chance(k.r, 60) {
			body["prefix"] = k.namespace(q.user)[:1]
		}
		q.is("POST", "/store/namespaces", body, "store:list_namespaces")
	}},
	{3, func(k *known, q *request) {
		ns, key := k.namespace(q.user), pick(k.r, []string{"a", "b"})
		q.is("DELETE", "/store/items", map[string]any{"namespace": ns, "key": key}, "store:delete")
		q.about = []string{item(ns, key)}
	}},
}

// item is the symbol of one of the store's: all that names it.
func item(namespace []any, key string) string {
	b, _ := json.Marshal(map[string]any{"namespace": namespace, "key": key})
	return string(b)
}

// runBody is the body of a run. Its marker finds its thread, should the server make one.
func (k *known) runBody(q *request, strategy string) map[string]any {
	md := k.metadata()
	if md == nil {
		md = map[string]any{}
	}
	if q.marker == "" {
		k.next++
		q.marker = fmt.Sprintf("run-%d", k.next)
	}
	md["marker"] = q.marker
	body := map[string]any{
		"assistant_id": k.runnable(), "metadata": md,
		"input": map[string]any{"messages": []any{map[string]any{"role": "user", "content": "Hello"}}},
	}
	if body["assistant_id"] != "agent" {
		q.tags = append(q.tags, "another assistant")
	}
	if strategy != "" {
		body["multitask_strategy"] = strategy
		if chance(k.r, 25) {
			body["if_not_exists"] = "create"
			q.tags = append(q.tags, "creates")
		}
	} else {
		q.tags = append(q.tags, "creates")
	}
	return body
}

func (q *request) is(method, path string, body any, events ...string) {
	q.method, q.path, q.body, q.events = method, path, body, events
	q.route = routeOf(method, path)
}

// routeOf names the parameters of a path.
func routeOf(method, path string) string {
	path, query, _ := strings.Cut(path, "?")
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if i > 0 && (strings.HasPrefix(s, "{") || s == "agent") {
			segments[i] = "{id}"
		}
	}
	if strings.Contains(query, "action=rollback") {
		return method + " " + strings.Join(segments, "/") + "?action=rollback"
	}
	return method + " " + strings.Join(segments, "/")
}

// newRequest makes one, by a random user.
func (k *known) newRequest() request {
	total := 0
	for _, kind := range kinds {
		total += kind.weight
	}
	q := request{user: pick(k.r, users)}
	n := k.r.IntN(total)
	for _, kind := range kinds {
		if n -= kind.weight; n < 0 {
			kind.make(k, &q)
			break
		}
	}
	return q
}
