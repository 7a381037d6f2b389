package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/dryrun"
	"github.com/usher-authz/usher/k8s/watch"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	config, output                            string
	method, host, path, policy, remoteAddress string
	headers                                   []string
	data, curl, record                        string
	token, tokenFile, claims, user, provider  string
	objects                                   []string
	askBackends                               bool
	now                                       string
	diff, exitCode, all                       bool
	versions                                  []string // to compare
}

// tokenVariable is where explain takes a token from if no flag says so: an argument can be read by every user of a machine.
const tokenVariable = "USHER_TOKEN"

func newExplain(t *terminal) *cobra.Command {
	c := &cobra.Command{
		Use:   "explain {--config PATH | --diff A B}",
		Short: "Say step by step how one request is decided",
		Long: "Explain decides one request by the code that serves, and says how: policy, route, who asks, operations, each rule that\n" +
			"could apply and why it did not, expressions, filters with the object's values, edits, headers and the answer.\n\n" +
			"The request is given by flags, as a curl command line, or as a decision record. Who asks is supposed (--claims, --user), or\n" +
			"a token is verified (--token-file, the variable USHER_TOKEN, or --token), for which its provider may be asked. Objects are\n" +
			"supposed (--object); one that is not does not exist. Credentials are never shown.",
		Example: "  usher explain --config policy.yaml --host agents.example.com --path /threads/7 --user alice\n" +
			"  usher explain --config policy.yaml --curl \"curl -X POST https://agents.example.com/threads -d '{}'\" --claims '{\"sub\": \"alice\"}'\n" +
			"  usher explain --config policy.yaml --record decision.json --object 'threads:7={\"owner\": \"alice\"}'\n" +
			"  usher explain --diff policy.yaml next.yaml --path /threads/7 --user alice",
		Args: cobra.ArbitraryArgs,
	}
	var o explainOptions
	f := c.Flags()
	f.StringVar(&o.config, "config", "", "manifests: a file or a directory (required)")
	output := outputFlag(c)
	f.StringVar(&o.method, "method", "", "method of the request (GET, or POST with --data)")
	f.StringVar(&o.host, "host", "", "host of the request (the policy's, if there is just one)")
	f.StringVar(&o.path, "path", "", "path of the request, with its query")
	f.StringArrayVar(&o.headers, "header", nil, "header of the request, as 'name: value'; may be repeated")
	f.StringVar(&o.data, "data", "", "body of the request; @FILE reads one, @- standard input")
	f.StringVar(&o.curl, "curl", "", "the request as a curl command line")
	f.StringVar(&o.record, "record", "", "the request as a decision record, or as explain's own JSON: FILE, or - for standard input")
	f.StringVar(&o.policy, "policy", "", "name of the policy, as Envoy's context_extensions give it")
	f.StringVar(&o.remoteAddress, "remote-address", "", "where the client's connection comes from (192.0.2.1)")
	f.StringVar(&o.tokenFile, "token-file", "", "file with a token that is verified; - for standard input")
	f.StringVar(&o.token, "token", "", "a token that is verified; --token-file and USHER_TOKEN do not show it to other users")
	f.StringVar(&o.claims, "claims", "", "claims of a supposed token: a JSON object, or FILE")
	f.StringVar(&o.user, "user", "", "supposed user: a name, or a JSON object with identity, displayName, permissions and claims")
	f.StringVar(&o.provider, "provider", "", "IdentityProvider of the supposed user (the policy's first)")
	f.StringArrayVar(&o.objects, "object", nil, "object that exists: resource:id={metadata}, or /path={answer}; may be repeated")
	f.BoolVar(&o.askBackends, "ask-backends", false, "look objects up at the real backends")
	f.StringVar(&o.now, "now", "", "time of the request, such as 2026-01-02T15:04:05Z (now)")
	f.BoolVar(&o.diff, "diff", false, "compare what two versions of the manifests, A and B, make of the request")
	f.BoolVar(&o.all, "all", false, "with --diff: show what is the same too")
	f.BoolVar(&o.exitCode, "exit-code", false, "with --diff: end with exit code 4 if something differs")
	c.RunE = func(_ *cobra.Command, versions []string) error {
		o.output, o.versions = *output, versions
		err := explain(t, &o)
		var e *exitError
		if err != nil && !errors.As(err, &e) {
			return fmt.Errorf("explain: %w", err)
		}
		return err
	}
	return c
}

// question is what explain is asked.
type question struct {
	request  policytest.Request
	identity policytest.Identity
	objects  []policytest.Object
	now      time.Time
	missing  []string // of a record
	then     *dryrun.Record
	guessed  bool // the identity has no provider yet
}

func explain(t *terminal, o *explainOptions) error {
	switch {
	case o.diff && (o.config != "" || len(o.versions) != 2):
		return errors.New("--diff: expected two versions of the manifests, A and B, and no --config")
	case !o.diff && len(o.versions) > 0:
		return fmt.Errorf("unexpected argument %q; two versions are compared with --diff", o.versions[0])
	case !o.diff && (o.exitCode || o.all):
		return errors.New("--exit-code and --all are for --diff")
	case !o.diff && o.config == "":
		return errors.New("--config is missing")
	}
	if err := checkOutput(o.output); err != nil {
		return err
	}
	q, err := o.question()
	if err != nil {
		return err
	}
	if o.diff {
		return explainDiff(t, o, q)
	}
	v, err := o.tell(t, o.config, q)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return t.json(v.story)
	}
	tellStory(t, &v.story, &v.question, policyPlaces(v.reading))
	return nil
}

// told is what one version of the manifests makes of a question.
type told struct {
	story    dryrun.Story
	question question
	reading  watch.Reading
}

// tell has the manifests of one path answer the question.
func (o *explainOptions) tell(t *terminal, path string, q question) (*told, error) {
	r := watch.Files{Paths: []string{path}, Presets: presets()}.Read()
	state, problems := build(nil, r, nil)
	if len(problems) > 0 {
		t.problems(t.err, problems)
		return nil, &exitError{code: exitInvalid}
	}
	q.request.Headers = maps.Clone(q.request.Headers)
	if err := q.complete(r); err != nil {
		return nil, err
	}
	config := dryrun.Config{
		Policies: r.Compiled.Snapshot, Providers: r.Compiled.Providers, Backends: r.Compiled.Backends, Objects: q.objects, Now: q.now, AskBackends: o.askBackends,
	}
	if q.identity.Token != "" {
		config.State = state
		stop := startVerifiers(state, q.provides(r))
		defer stop()
	} else if o.askBackends {
		config.Lookups = state.Lookups
	}
	gate, err := dryrun.New(config)
	if err != nil {
		return nil, failed(err)
	}
	return &told{gate.Tell(q.identity, q.request), q, r}, nil
}

// verifierWait is how long explain waits for the keys of a token's provider.
const verifierWait = 5 * time.Second

// startVerifiers starts the providers, and returns once those of the names can verify tokens, or cannot for long.
func startVerifiers(state *extauthz.State, names []string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	state.Start(ctx)
	wait, done := context.WithTimeout(ctx, verifierWait)
	defer done()
	poll(wait, func() bool {
		status := state.Status()
		return !slices.ContainsFunc(names, func(name string) bool { return !status[name].Ready })
	})
	return func() {
		cancel()
		state.Stop(nil)
	}
}

// provides are the providers of the policy that guards the request's host.
func (q *question) provides(r watch.Reading) []string {
	if p := q.guard(r); p != nil {
		return p.Providers
	}
	return nil
}

func (q *question) guard(r watch.Reading) *policy.Policy {
	host, _, _ := strings.Cut(strings.ToLower(q.request.Host), ":")
	return r.Compiled.Snapshot.Match(host, q.request.Policy)
}

// complete fills in what the manifests can say: the only host there is, and the provider of a supposed user.
func (q *question) complete(r watch.Reading) error {
	if q.request.Host == "" {
		var hosts []string
		for _, p := range r.Compiled.Snapshot.Policies() {
			if !p.Shadow {
				hosts = append(hosts, p.Hosts()...)
			}
		}
		if len(hosts) != 1 || strings.HasPrefix(hosts[0], "*") {
			if q.request.Policy == "" {
				return errors.New("--host is missing, and the manifests do not have just one")
			}
			hosts = []string{"host.invalid"}
		}
		q.request.Host = hosts[0]
	}
	if p := q.guard(r); p != nil {
		q.takeToken(&p.TokenFrom)
	}
	if q.identity.Anonymous || q.identity.Token != "" {
		return nil
	}
	names := q.provides(r)
	switch {
	case q.identity.Provider == "" && len(names) > 0:
		q.identity.Provider = names[0]
	case q.identity.Provider == "":
		// No policy asks for a token, or all routes are public.
		for name := range r.Compiled.Providers {
			q.identity.Provider = name
		}
	default:
		if _, ok := r.Compiled.Providers[q.identity.Provider]; !ok {
			return fmt.Errorf("provider %q is not in the manifests", q.identity.Provider)
		}
	}
	return nil
}

// takeToken takes the token out of the header or cookie where the policy looks for it: it is verified, unless somebody is
// supposed, who then asks instead.
func (q *question) takeToken(from *policy.TokenFrom) {
	token := ""
	switch {
	case from.Header != "":
		token = q.request.Headers[from.Header]
		delete(q.request.Headers, from.Header)
	case from.Cookie != "":
		var rest []string
		for pair := range strings.SplitSeq(q.request.Headers["cookie"], ";") {
			pair = strings.TrimSpace(pair)
			if name, value, _ := strings.Cut(pair, "="); name != from.Cookie || token != "" {
				rest = append(rest, pair)
			} else {
				token = value
			}
		}
		if q.request.Headers["cookie"] = strings.Join(rest, "; "); q.request.Headers["cookie"] == "" {
			delete(q.request.Headers, "cookie")
		}
	}
	if q.identity.Anonymous && token != "" {
		q.identity = policytest.Identity{Name: q.identity.Name, Token: token}
	}
}

// question reads the flags. What is given twice is wrong usage: which of them counts would be chance.
func (o *explainOptions) question() (question, error) {
	q := question{identity: policytest.Identity{Name: "asker", Anonymous: true}, request: policytest.Request{Headers: map[string]string{}}}
	if err := o.source(&q); err != nil {
		return q, err
	}
	if err := o.flags(&q.request); err != nil {
		return q, err
	}
	if q.request.Path == "" {
		return q, errors.New("--path is missing; or give --curl or --record")
	}
	if q.request.Method == "" {
		q.request.Method = "GET"
		if len(q.request.Body) > 0 {
			q.request.Method = "POST"
		}
	}
	if q.request.RemoteAddress == "" {
		q.request.RemoteAddress = "192.0.2.1" // RFC 5737: for examples
	}
	if o.now != "" {
		var err error
		if q.now, err = time.Parse(time.RFC3339, o.now); err != nil {
			return q, fmt.Errorf("--now %q: expected a time such as 2026-01-02T15:04:05Z", o.now)
		}
	}
	for _, text := range o.objects {
		object, err := parseObject(text)
		if err != nil {
			return q, err
		}
		same := func(x policytest.Object) bool {
			return x.Resource == object.Resource && x.ID == object.ID && x.Path == object.Path
		}
		q.objects = append(slices.DeleteFunc(q.objects, same), object)
	}
	if o.askBackends && len(q.objects) > 0 {
		return q, errors.New("--object and --ask-backends: give one of them")
	}
	return q, o.asker(&q)
}

// source reads the request from a curl command line or a record.
func (o *explainOptions) source(q *question) error {
	switch {
	case o.curl != "" && o.record != "":
		return errors.New("--curl and --record: give one of them")
	case o.curl != "":
		c, err := parseCurl(o.curl)
		if err != nil {
			return fmt.Errorf("--curl: %w", err)
		}
		q.request.Method, q.request.Host, q.request.Path = c.method, c.host, c.path
		for _, h := range c.headers {
			if err := addHeader(&q.request, h[0], h[1]); err != nil {
				return fmt.Errorf("--curl: %w", err)
			}
		}
		if c.hasBody {
			q.request.Body = []byte(c.body)
		}
	case o.record != "":
		text, err := readFlag(o.record)
		if err != nil {
			return fmt.Errorf("--record: %w", err)
		}
		then, err := dryrun.ParseRecord(text)
		if err != nil {
			return fmt.Errorf("--record: %w", err)
		}
		q.request, q.objects, q.missing, q.then = then.Request, then.Objects, then.Missing, &then
		then.Identity.Name = q.identity.Name
		q.identity = then.Identity
	}
	return nil
}

// flags lays the flags about the request over what is known of it.
func (o *explainOptions) flags(r *policytest.Request) error {
	for _, f := range []struct {
		value string
		into  *string
	}{{o.method, &r.Method}, {o.host, &r.Host}, {o.path, &r.Path}, {o.policy, &r.Policy}, {o.remoteAddress, &r.RemoteAddress}} {
		if f.value != "" {
			*f.into = f.value
		}
	}
	for _, h := range o.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return errors.New("--header: expected 'name: value'")
		}
		if err := addHeader(r, name, value); err != nil {
			return fmt.Errorf("--header: %w", err)
		}
	}
	if o.data == "" {
		return nil
	}
	r.Body = []byte(o.data)
	if name, ok := strings.CutPrefix(o.data, "@"); ok {
		text, err := readFlag(name)
		if err != nil {
			return fmt.Errorf("--data: %w", err)
		}
		r.Body = text
	}
	if _, ok := r.Headers["content-type"]; !ok {
		r.Headers["content-type"] = "application/json"
	}
	return nil
}

// addHeader adds a header; a second one of its name is joined, as by Envoy.
func addHeader(r *policytest.Request, name, value string) error {
	name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
	if name == "" || strings.ContainsAny(name, " :\t\r\n") {
		return errors.New("a header without a name")
	}
	if old, ok := r.Headers[name]; ok {
		value = old + "," + value
	}
	r.Headers[name] = value
	return nil
}

// asker reads who asks. A token in the request's own headers is one that is verified, unless somebody is supposed.
func (o *explainOptions) asker(q *question) error {
	given := 0
	for _, f := range []string{o.token, o.tokenFile, o.claims, o.user} {
		if f != "" {
			given++
		}
	}
	if given > 1 {
		return errors.New("--token, --token-file, --claims and --user: give one of them")
	}
	const name = "asker"
	switch {
	case o.token != "":
		q.identity = policytest.Identity{Name: name, Token: strings.TrimSpace(o.token)}
	case o.tokenFile != "":
		text, err := readFlag(o.tokenFile)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		q.identity = policytest.Identity{Name: name, Token: strings.TrimSpace(string(text))}
	case o.claims != "":
		claims, err := parseClaims(o.claims)
		if err != nil {
			return err
		}
		q.identity = policytest.Identity{Name: name, Claims: claims, Provider: o.provider}
	case o.user != "":
		user, err := parseUser(o.user)
		if err != nil {
			return err
		}
		q.identity = policytest.Identity{Name: name, User: user, Provider: o.provider}
	case q.then != nil:
	case q.request.Headers["authorization"] == "" && os.Getenv(tokenVariable) != "":
		q.identity = policytest.Identity{Name: name, Token: strings.TrimSpace(os.Getenv(tokenVariable))}
	}
	own := q.request.Headers["authorization"]
	scheme, text, _ := strings.Cut(own, " ")
	isToken := strings.EqualFold(scheme, "Bearer") || strings.EqualFold(scheme, "DPoP")
	switch {
	case own == "":
	case !q.identity.Anonymous && isToken:
		delete(q.request.Headers, "authorization") // whoever is supposed asks instead
	case isToken && strings.TrimSpace(text) != "":
		q.identity = policytest.Identity{Name: name, Token: strings.TrimSpace(text)}
		delete(q.request.Headers, "authorization")
	}
	if o.provider != "" && o.claims == "" && o.user == "" {
		return errors.New("--provider is for --claims and --user")
	}
	return nil
}

func parseUser(text string) (*policytest.User, error) {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return &policytest.User{Identity: text, DisplayName: text}, nil
	}
	wrong := errors.New("--user: expected a name, or a JSON object with identity, displayName, permissions and claims")
	v, err := policy.ParseValue([]byte(text))
	if err != nil {
		return nil, wrong
	}
	out := &policytest.User{}
	for name, v := range v.(map[string]any) {
		ok := false
		switch name {
		case "identity":
			out.Identity, ok = v.(string)
		case "displayName":
			out.DisplayName, ok = v.(string)
		case "claims":
			out.Claims, ok = v.(map[string]any)
		case "permissions":
			var list []any
			list, ok = v.([]any)
			for _, item := range list {
				s, isText := item.(string)
				ok = ok && isText
				out.Permissions = append(out.Permissions, s)
			}
		}
		if !ok {
			return nil, wrong
		}
	}
	if out.Identity == "" {
		return nil, wrong
	}
	if out.DisplayName == "" {
		out.DisplayName = out.Identity
	}
	return out, nil
}

func parseClaims(text string) (map[string]any, error) {
	bytes := []byte(text)
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		var err error
		if bytes, err = readFlag(text); err != nil {
			return nil, fmt.Errorf("--claims: %w", err)
		}
	}
	v, err := policy.ParseValue(bytes)
	claims, ok := v.(map[string]any)
	if err != nil || !ok {
		return nil, errors.New("--claims: expected a JSON object of claims, or the name of a file with one")
	}
	return claims, nil
}

// parseObject reads resource:id={metadata}, or /path={answer}.
func parseObject(text string) (policytest.Object, error) {
	wrong := errors.New("--object: expected resource:id={metadata}, or /path={answer}, with strict JSON behind the first ={")
	name, body, ok := strings.Cut(text, "={")
	if !ok {
		return policytest.Object{}, wrong
	}
	body = "{" + body
	v, err := policy.ParseValue([]byte(body))
	metadata, isObject := v.(map[string]any)
	if err != nil || !isObject {
		return policytest.Object{}, wrong
	}
	if strings.HasPrefix(name, "/") {
		return policytest.Object{Path: name, Body: []byte(body)}, nil
	}
	resource, id, ok := strings.Cut(name, ":")
	if !ok || resource == "" || id == "" {
		return policytest.Object{}, wrong
	}
	return policytest.Object{Resource: resource, ID: id, Metadata: metadata}, nil
}

// maxFlagFile bounds what a flag reads from a file: the largest body, and room.
const maxFlagFile = 64 << 20

// readFlag reads the file that a flag names; - is standard input.
func readFlag(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, maxFlagFile))
	}
	f, err := os.Open(name) //nolint:gosec // the user names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return io.ReadAll(io.LimitReader(f, maxFlagFile))
}
