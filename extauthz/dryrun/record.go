package dryrun

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// Record is a request that was decided before, as far as it was recorded, and what was decided then.
type Record struct {
	Identity policytest.Identity // Anonymous where none was recorded
	Request  policytest.Request
	Objects  []policytest.Object
	Missing  []string      // what the record does not hold, and a decision may depend on
	Known    []KnownObject // that were looked up, whether they exist or not
	Refused  bool          // there was a token, and it was not accepted
	Time     time.Time     // zero: not recorded

	Policy, Outcome, Rule, Reason string
	Status                        int
}

// What may be missing in a record, beside others that need no telling apart.
const (
	MissingHeaders = "headers"
	MissingBody    = "body"
)

// KnownObject is one that was looked up.
type KnownObject struct{ Resource, ID, Path string }

// recorded is a decision record of the log, or a [Story], which has `request`.
type recorded struct {
	Outcome string `json:"outcome"`
	Status  int    `json:"status"`
	Rule    string `json:"rule"`
	Reason  string `json:"reason"`
	Host    string `json:"host"`
	Method  string `json:"method"`
	Path    string `json:"path"`
	User    string `json:"user"`

	Policy   json.RawMessage `json:"policy"` // its name, or StoryPolicy
	Request  *StoryRequest   `json:"request"`
	Identity *StoryIdentity  `json:"identity"`
	Objects  []StoryObject   `json:"objects"`
	Answer   StoryAnswer     `json:"answer"`

	// Of a [Recording].
	Time       string     `json:"time"`
	Credential Credential `json:"credential"`
	Missing    []string   `json:"missing"`
}

// ParseRecord reads one decision record as `usher serve` logs it (log-format json), or what `usher explain --output json` has
// written. A record of the log says who asked for what, and neither the query, headers and body nor what the token said: a
// decision that depends on those may come out otherwise, which Missing says.
func ParseRecord(text []byte) (Record, error) {
	var in recorded
	if err := json.Unmarshal(text, &in); err != nil {
		return Record{}, errors.New("not a JSON object of a decision record's form")
	}
	if in.Request != nil {
		exact, err := policy.ParseValue(text)
		if err != nil {
			return Record{}, errors.New("not strict JSON (RFC 7493)")
		}
		return in.story(exact)
	}
	out := Record{
		Outcome: in.Outcome, Status: in.Status, Rule: in.Rule, Reason: in.Reason,
		Request: policytest.Request{Method: in.Method, Host: in.Host, Path: in.Path, Headers: map[string]string{}, RemoteAddress: "192.0.2.1"},
		Missing: []string{"query", "headers", "body", "objects"},
	}
	_ = json.Unmarshal(in.Policy, &out.Policy) // of another form: unknown
	switch {
	case in.Outcome == "" || in.Host == "" || in.Method == "":
		return Record{}, errors.New("not a decision record: it lacks outcome, host or method")
	case in.Path == "":
		return Record{}, errors.New("the decision record has no path: the request was malformed, or an older version wrote it")
	case in.User == "":
		out.Identity.Anonymous = true
		if in.Status == 401 {
			out.Missing = append(out.Missing, "token")
		}
	default:
		out.Identity.User = &policytest.User{Identity: in.User, DisplayName: in.User}
		out.Missing = append(out.Missing, "permissions", "claims")
	}
	return out, nil
}

// OtherLine reports whether a line of a log is none of a decision: a message of serve's own, or a Shadow policy's view of a
// request that has its own record.
func OtherLine(line []byte) bool {
	var in struct {
		Message string `json:"msg"`
	}
	return json.Unmarshal(line, &in) == nil && in.Message != "" && in.Message != "decision"
}

// story reads what was told before.
func (in *recorded) story(exact policy.Value) (Record, error) {
	r := in.Request
	out := Record{
		Outcome: in.Answer.Outcome, Status: in.Answer.Status, Rule: in.Answer.Rule, Reason: in.Answer.Reason,
		Request: policytest.Request{
			Method: r.Method, Host: r.Host, Path: r.Path, Headers: map[string]string{}, Policy: r.Policy, RemoteAddress: r.RemoteAddress,
		},
	}
	var named StoryPolicy
	_ = json.Unmarshal(in.Policy, &named) // of another form: unknown
	out.Policy = named.Name
	if r.Method == "" || r.Host == "" || r.Path == "" {
		return Record{}, errors.New("its request lacks method, host or path")
	}
	if in.Time != "" {
		var err error
		if out.Time, err = time.Parse(time.RFC3339Nano, in.Time); err != nil {
			return Record{}, errors.New("its time is none")
		}
	}
	out.Missing = slices.Clone(in.Missing)
	for name, v := range r.Headers {
		switch {
		case !strings.Contains(v, Hidden):
			out.Request.Headers[name] = v
		case !unseen(name) && !slices.Contains(out.Missing, MissingHeaders):
			out.Missing = append(out.Missing, MissingHeaders)
		}
	}
	delete(out.Request.Headers, "content-length") // goes with the body
	if strings.Contains(r.Path+r.Body, Hidden) {
		out.Missing = append(out.Missing, "what was hidden in the request")
	}
	if r.Body != "" {
		out.Request.Body = []byte(r.Body)
	}
	switch i := in.Identity; {
	case i == nil || i.Anonymous:
		out.Identity.Anonymous = true
		switch {
		case in.Credential == CredentialRefused:
			out.Refused = true
		case in.Credential == CredentialNone, i != nil:
		default:
			out.Missing = append(out.Missing, "token")
		}
	case i.Identity == "":
		return Record{}, errors.New("its identity has no name")
	default:
		out.Identity.Provider = i.Provider
		claims, _ := at(exact, "identity", "claims").(map[string]any)
		if strings.Contains(JSON(claims), Hidden) {
			out.Missing = append(out.Missing, "what was hidden in the claims")
		}
		out.Identity.User = &policytest.User{Identity: i.Identity, DisplayName: i.DisplayName, Permissions: i.Permissions, Claims: claims}
	}
	list, _ := at(exact, "objects").([]any)
	if len(list) != len(in.Objects) { // a name in another case, which encoding/json takes
		return Record{}, errors.New("its objects are not a list of that name")
	}
	for i, o := range in.Objects {
		out.Known = append(out.Known, KnownObject{o.Resource, o.ID, o.Path})
		if o.Found {
			metadata, _ := at(list[i], "metadata").(map[string]any)
			if strings.Contains(JSON(metadata), Hidden) {
				out.Missing = append(out.Missing, "what was hidden in an object")
			}
			out.Objects = append(out.Objects, policytest.Object{Resource: o.Resource, ID: o.ID, Metadata: metadata})
		}
	}
	return out, nil
}

// at returns what stands at a path of names, with numbers as they were written.
func at(v policy.Value, path ...string) policy.Value {
	for _, name := range path {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

// unseen reports whether expressions never see a header of that name.
func unseen(name string) bool {
	switch name {
	case "authorization", "dpop", "cookie", "proxy-authorization":
		return true
	}
	return false
}
