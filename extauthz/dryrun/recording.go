package dryrun

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/policy"
)

// Credential says what became of a request's credential.
type Credential string

// What becomes of it.
const (
	CredentialVerified Credential = "verified"
	CredentialNone     Credential = "none"    // there was none
	CredentialRefused  Credential = "refused" // it was not accepted
	CredentialUnread   Credential = "unread"  // nobody looked: the route is public, or there is none
)

// Recording is one decided request as `usher serve --record-requests` writes it, with what it takes to decide it again: see
// [ParseRecord]. Its members are a [Story]'s, and what is told of the rules is left out. It holds bodies, claims and the
// metadata of objects, and never a token. Members are only ever added.
type Recording struct {
	Time       string              `json:"time"`
	Credential Credential          `json:"credential"`
	Request    StoryRequest        `json:"request"`
	Policy     *StoryPolicy        `json:"policy"`
	Route      *StoryRoute         `json:"route"`
	Identity   *StoryIdentity      `json:"identity"`
	Operations []RecordedOperation `json:"operations"`
	Objects    []StoryObject       `json:"objects"`
	Answer     StoryAnswer         `json:"answer"`
	Missing    []string            `json:"missing,omitempty"` // what is not here, and a decision may depend on
}

// RecordedOperation is one thing that the request asks for.
type RecordedOperation struct {
	Operation string       `json:"operation"`
	Value     policy.Value `json:"value,omitempty"`
}

// NewRecording makes the recording of a request. A body of more than maxBody bytes is left out, and so are then the values that
// were read from it.
func NewRecording(o *extauthz.Observation, maxBody int) Recording {
	http := o.Check.GetAttributes().GetRequest().GetHttp()
	h := hider{strict: true}
	if o.Policy != nil {
		h.header, h.cookie = o.Policy.TokenFrom.Header, o.Policy.TokenFrom.Cookie
	}
	headers := o.Headers()
	h.learn(headers, http.GetPath())
	body := http.GetRawBody()
	if len(body) == 0 {
		body = []byte(http.GetBody())
	}
	out := Recording{
		Time: o.Time.UTC().Format(time.RFC3339Nano), Credential: CredentialUnread,
		Request: StoryRequest{
			Method: http.GetMethod(), Host: http.GetHost(), Path: h.path(http.GetPath()), Headers: h.headers(headers),
			Policy: o.Named, RemoteAddress: o.RemoteAddress,
		},
		Operations: []RecordedOperation{}, Objects: []StoryObject{},
		Answer: StoryAnswer{Outcome: o.Outcome.String(), Status: o.Status, Rule: o.Rule.On, RuleAt: o.Rule.Position, Reason: h.text(o.Reason)},
	}
	if o.Policy != nil {
		out.Policy = &StoryPolicy{Name: o.Policy.Name, Hosts: o.Policy.Hosts()}
	}
	if o.Route != "" {
		out.Route = &StoryRoute{Pattern: o.Route, Public: o.Public}
	}
	whole := len(body) <= maxBody
	if whole {
		out.Request.Body = h.body(string(body), headers["content-type"])
	} else {
		out.Missing = append(out.Missing, MissingBody)
	}
	switch i := o.Identity; {
	case i != nil:
		out.Credential = CredentialVerified
		anonymous := i.Name == ""
		if anonymous {
			out.Credential = CredentialNone
		}
		out.Identity = &StoryIdentity{
			Anonymous: anonymous, Identity: i.Name, DisplayName: h.text(i.DisplayName), Permissions: i.Permissions, Provider: i.Provider, Claims: h.object(i.Claims),
		}
	case o.NoCredential:
		out.Credential = CredentialNone
	case o.Refused:
		out.Credential = CredentialRefused
	}
	for _, op := range o.Operations {
		if op.Resource == "" {
			continue
		}
		r := RecordedOperation{Operation: op.Resource + ":" + op.Action}
		if whole {
			r.Value = h.members(op.Value)
		}
		out.Operations = append(out.Operations, r)
	}
	for i, ref := range o.Needs {
		object := StoryObject{Resource: ref.Resource, ID: ref.ID, Path: h.text(ref.Path)}
		if i < len(o.Found) {
			object.Found = o.Found[i].Found
			object.Metadata, _ = h.members(o.Found[i].Metadata).(map[string]any)
		}
		out.Objects = append(out.Objects, object)
	}
	return out
}

// Line is the recording as a line of JSON.
func (r *Recording) Line() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// learn notes the credentials of a request, so that they are hidden wherever else they stand.
func (h *hider) learn(headers map[string]string, path string) {
	add := func(text string) {
		// A scheme before it, or pairs of names and values, as of a cookie or a signature.
		for _, part := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" ;,\"", r) }) {
			if _, value, ok := strings.Cut(part, "="); ok && len(value) >= minSecret {
				h.secrets = append(h.secrets, value)
			}
			if len(part) >= minSecret {
				h.secrets = append(h.secrets, part)
			}
		}
	}
	for name, v := range headers {
		if h.secretHeader(name, v) {
			add(v)
		}
	}
	_, query, _ := strings.Cut(path, "?")
	for pair := range strings.SplitSeq(query, "&") {
		if name, v, ok := strings.Cut(pair, "="); ok && h.secretParameter(name, v) {
			add(v)
		}
	}
}
