package attacktest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/usher-authz/usher/envoy/edit"
)

// reading is how an Envoy takes a header option whose append field is unset: up to 1.36 it overwrites, 1.37.0 appends
// (envoy issue 43310).
type reading bool

const (
	overwrites reading = false
	appends    reading = true
)

// Upstream is a request as the backend gets it.
type Upstream struct {
	Method, Host, Path string
	Headers            [][2]string // lower-case names, in order
	Body               []byte
}

// values returns the values of every header of that name.
func (u Upstream) values(name string) (out []string) {
	for _, h := range u.Headers {
		if strings.EqualFold(h[0], name) {
			out = append(out, h[1])
		}
	}
	return out
}

// apply makes of the client's request what the backend gets after an allow: first the headers that are set, then those
// that are removed, as Envoy does; then the edit filter, if the answer parks the request. The problems are what no answer
// may do.
func apply(c client, response *authv3.CheckResponse, how reading) (u Upstream, problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	ok := response.GetOkResponse()
	u = Upstream{Method: c.method, Host: c.host, Path: c.path, Body: c.body}
	for _, h := range c.headers {
		if !strings.HasPrefix(h[0], ":") {
			u.Headers = append(u.Headers, [2]string{strings.ToLower(h[0]), h[1]})
		}
	}
	for _, h := range ok.GetHeaders() {
		name, value := strings.ToLower(h.GetHeader().GetKey()), h.GetHeader().GetValue()
		if raw := h.GetHeader().GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		switch {
		case name == ":path":
			u.Path = value
			continue
		case name == "" || strings.HasPrefix(name, ":") || name == "host":
			problem("the answer sets %q", name)
			continue
		case len(value) > 16384 || strings.ContainsAny(value, "\x00\r\n"):
			problem("header %q is no value that Envoy takes", name) // HeaderValue's validation rules
		}
		u.set(h, name, value, how)
	}
	for _, name := range ok.GetHeadersToRemove() {
		if strings.HasPrefix(name, ":") || strings.EqualFold(name, "host") {
			problem("the answer removes %q, which Envoy ignores", name)
			continue
		}
		u.remove(name)
	}
	if len(ok.GetQueryParametersToSet()) > 0 || len(ok.GetQueryParametersToRemove()) > 0 {
		u.Path = query(u.Path, ok)
	}
	metadata := response.GetDynamicMetadata()
	if deprecated := ok.GetDynamicMetadata(); deprecated != nil { //nolint:staticcheck // Envoy still reads it, and it wins
		metadata = deprecated
	}
	problems = append(problems, u.edit(c, metadata)...)
	return u, problems
}

func (u *Upstream) remove(name string) {
	u.Headers = slices.DeleteFunc(u.Headers, func(h [2]string) bool { return strings.EqualFold(h[0], name) })
}

// set does what the header option says.
func (u *Upstream) set(h *corev3.HeaderValueOption, name, value string, how reading) {
	exists := len(u.values(name)) > 0
	add, replace := true, true
	switch action := h.GetAppendAction(); {
	case h.GetAppend() != nil: //nolint:staticcheck // it wins where it is set
		replace = !h.GetAppend().GetValue() //nolint:staticcheck // as above
	case action == corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
		replace = how == overwrites
	case action == corev3.HeaderValueOption_ADD_IF_ABSENT:
		add, replace = !exists, false
	case action == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
		add = exists
	}
	if replace && add {
		u.remove(name)
	}
	if add {
		u.Headers = append(u.Headers, [2]string{name, value})
	}
}

// edit does what the edit filter does, and finds what would let an unedited request pass.
func (u *Upstream) edit(c client, metadata *structpb.Struct) (problems []string) {
	path, body := metadata.GetFields()[edit.PathKey], metadata.GetFields()[edit.BodyKey]
	parked := u.Path == edit.ParkingPath
	switch {
	case path == nil && body == nil && !parked:
		if bare(u.Path) != bare(c.path) {
			return []string{fmt.Sprintf("the answer changes the path to %q without an edit", u.Path)}
		}
		return nil
	case path == nil || body == nil:
		return []string{"the answer parks the request, or edits it, but its metadata lacks the path or the body"}
	case !parked:
		problems = append(problems, "the answer edits the body but does not park the request")
	}
	if path.GetStringValue() != c.path {
		problems = append(problems, fmt.Sprintf("the metadata's path is %q, the request's %q", path.GetStringValue(), c.path))
	}
	for _, h := range u.Headers {
		if h[1] == c.path && len(c.path) > 1 && !slices.Contains(c.headers, h) {
			problems = append(problems, fmt.Sprintf("header %q holds the true path", h[0]))
		}
	}
	u.Path, u.Body = path.GetStringValue(), []byte(body.GetStringValue())
	u.remove("content-length")
	u.Headers = append(u.Headers, [2]string{"content-length", fmt.Sprint(len(u.Body))})
	return problems
}

func bare(path string) string {
	before, _, _ := strings.Cut(path, "?")
	return before
}

// query changes the query of a path, names compared with case.
func query(path string, ok *authv3.OkHttpResponse) string {
	before, text, _ := strings.Cut(path, "?")
	var parts []string
	gone := func(name string) bool {
		return slices.Contains(ok.GetQueryParametersToRemove(), name) ||
			slices.ContainsFunc(ok.GetQueryParametersToSet(), func(p *corev3.QueryParameter) bool { return p.GetKey() == name })
	}
	for part := range strings.SplitSeq(text, "&") {
		name, _, _ := strings.Cut(part, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if part != "" && !gone(name) {
			parts = append(parts, part)
		}
	}
	for _, p := range ok.GetQueryParametersToSet() {
		parts = append(parts, url.QueryEscape(p.GetKey())+"="+url.QueryEscape(p.GetValue()))
	}
	if len(parts) == 0 {
		return before
	}
	return before + "?" + strings.Join(parts, "&")
}
