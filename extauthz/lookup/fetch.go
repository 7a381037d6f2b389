package lookup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/policy"
)

// answer is what the backend said of one object. size is how long the text of its metadata is.
type answer struct {
	object policy.Object
	size   int
}

// fetch asks the backend for one object.
func (c *Client) fetch(ctx context.Context, ref policy.Ref) (a answer, err error) {
	response, err := c.get(ctx, ref.Path)
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	switch {
	case strings.HasPrefix(strings.ToLower(response.Header.Get("Content-Type")), "text/html"):
		// An ingress or a proxy on the way that knows no such host: its 404 says nothing about the object.
		return a, fmt.Errorf("%q answered %d with a page for people", c.base, response.StatusCode)
	case missing(response.StatusCode, ref):
		_, _ = io.CopyN(io.Discard, response.Body, 4<<10) // so that the connection can be used again
		return a, nil
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		return a, fmt.Errorf("%q answered %d: give look-ups their credentials with spec.backend.headers", c.base, response.StatusCode)
	case response.StatusCode != http.StatusOK:
		return a, fmt.Errorf("%q answered %d", c.base, response.StatusCode)
	case response.Header.Get("Content-Encoding") != "" && response.Header.Get("Content-Encoding") != "identity":
		return a, fmt.Errorf("%q answered with an encoding that was not asked for", c.base)
	}
	body := &reader{from: response.Body, left: c.maxBytes, turn: func(step int) error { return c.takeTurn(ctx, step) }}
	defer func() {
		if body.steps > 0 {
			c.leaveTurn(body.steps - 1)
		}
	}()
	from := read
	if ref.Reader != nil {
		from = readAll
	}
	if a.object, a.size, err = from(body, ref); err != nil {
		err = plain(ctx, err)
		if isTimeout(err) {
			err = sick{err}
		}
		return answer{}, fmt.Errorf("read the answer of %q: %w", c.base, err)
	}
	return a, nil
}

// missing reports whether the backend says that there is no such object. 422 is what LangGraph's Python server says of an id
// that it does not accept as one; of an API of one's own nothing else is known than that it may say so in other ways.
func missing(status int, ref policy.Ref) bool {
	switch status {
	case http.StatusNotFound, http.StatusUnprocessableEntity:
		return true
	case http.StatusBadRequest, http.StatusGone:
		return ref.Reader != nil
	}
	return false
}

// get asks for a path at the backend. It follows no redirect and keeps no cookie, as an http.Client would.
func (c *Client) get(ctx context.Context, path string) (*http.Response, error) {
	target, err := url.Parse(c.base + path)
	// The path is a route's, with ids of a known form. Should it ever be something else, it must not lead elsewhere.
	if err != nil || !strings.HasPrefix(path, "/") || target.Scheme+"://"+target.Host != c.base || target.User != nil {
		return nil, errors.New("its path is no path")
	}
	request := (&http.Request{Method: http.MethodGet, URL: target, Host: target.Host, Header: c.headers.Clone()}).WithContext(ctx)
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return nil, sick{fmt.Errorf("ask %q: %w", c.base, plain(ctx, err))}
	}
	switch response.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		response.Body.Close()
		return nil, sick{fmt.Errorf("%q answered %d", c.base, response.StatusCode)}
	}
	return response, nil
}

// steps are the sizes, in bytes, from which on an answer waits for a turn, once for each: what is read costs about so much memory.
// A backend that does not answer has no turn, so that it keeps no other from one.
var steps = [...]struct{ from, memory int64 }{
	{4 << 10, 1 << 20},
	{256 << 10, 16 << 20},
}

// RoomOfAnswers is how much memory the answers take that are read at once, in bytes: eight large ones, or 128 of the others.
const RoomOfAnswers = 128 << 20

// takeTurn waits until there is room for an answer of that step, in the place of what it has of the step before, so that answers
// that wait keep no other from going on. Large ones wait for others of their backend first.
func (c *Client) takeTurn(ctx context.Context, step int) error {
	if step > 0 {
		c.room.Release(c.tenant, steps[step-1].memory)
		select {
		case c.large <- struct{}{}:
		case <-ctx.Done():
			return errManyAnswers
		}
	}
	err := c.room.Acquire(ctx, c.tenant, steps[step].memory)
	if err != nil && step > 0 {
		<-c.large
	}
	if err != nil {
		return errManyAnswers
	}
	return nil
}

// leaveTurn gives back what the last call of takeTurn took.
func (c *Client) leaveTurn(step int) {
	c.room.Release(c.tenant, steps[step].memory)
	if step > 0 {
		<-c.large
	}
}

const errManyAnswers answerError = "too many large answers at once"

// plain returns the deadline's error for one that came of it, which otherwise says only that something was closed.
func plain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// tail is how much is read of what follows the members that count. Both LangGraph servers write them first, and a
// thread's state after them: many megabytes, maybe, that no decision depends on.
const tail = 64 << 10

// read takes the metadata, and the member that must be the object's id, from an answer. What it reads is read strictly:
// the members must stand there once, and so must every other name before them and within tail bytes after them. They must
// stand within what is left to read. size is how long the text of the metadata is.
func read(text *reader, ref policy.Ref) (o policy.Object, size int, err error) {
	o, size, err = scan(text, ref)
	if err != nil && !(o.Found && text.full) { // it may end early only by our own limit, and only once both were seen
		return policy.Object{}, 0, text.fault(err)
	}
	return o, size, nil
}

// readAll reads an answer whole, as its metadata may stand anywhere. It must be strict JSON.
func readAll(text *reader, ref policy.Ref) (policy.Object, int, error) {
	raw, err := io.ReadAll(text)
	if err != nil {
		return policy.Object{}, 0, text.fault(err)
	}
	v, err := policy.ParseValue(raw)
	if err != nil {
		return policy.Object{}, 0, answerError("it is not strict JSON")
	}
	o, err := ref.Reader.Read(v, ref.ID)
	return o, len(raw), err
}

// scan is read, with the decoder's errors and what was found before them.
func scan(text *reader, ref policy.Ref) (o policy.Object, size int, err error) {
	d := jsontext.NewDecoder(text, jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false))
	t, err := d.ReadToken()
	if err != nil {
		return o, 0, err
	}
	if t.Kind() != '{' {
		return o, 0, answerError("it is no object")
	}
	seenID, seenMetadata := ref.Member == "", false
	for d.PeekKind() != '}' {
		if t, err = d.ReadToken(); err != nil {
			return o, size, err
		}
		switch name := t.String(); {
		case name == "metadata":
			if o.Metadata, size, err = metadata(d); err != nil {
				return o, 0, err
			}
			seenMetadata = true
		case name == ref.Member && name != "":
			if t, err = d.ReadToken(); err != nil {
				return o, 0, err
			}
			if t.Kind() != '"' || t.String() != ref.ID {
				return o, 0, answerError("it is about another object")
			}
			seenID = true
		default:
			if err = d.SkipValue(); err != nil {
				return o, size, err
			}
		}
		if seenID && seenMetadata && !o.Found {
			o.Found = true
			text.left = min(text.left, tail)
		}
	}
	if _, err = d.ReadToken(); err != nil {
		return o, size, err
	}
	if !o.Found {
		return o, 0, answerError("it lacks the metadata or the id")
	}
	// To the end: nothing may follow, and the connection can be used again.
	if _, err = d.ReadToken(); err == nil {
		return o, 0, answerError("more text after the JSON value")
	}
	if errors.Is(err, io.EOF) && !text.full {
		err = nil
	}
	return o, size, err
}

// metadata reads an object. Null is none at all, which no filter matches.
func metadata(d *jsontext.Decoder) (map[string]any, int, error) {
	raw, err := d.ReadValue()
	if err != nil || raw.Kind() == 'n' {
		return nil, len(raw), err
	}
	v, err := policy.ParseValue(raw)
	if err != nil {
		return nil, 0, answerError("its metadata is not strict JSON")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, 0, answerError("its metadata is no object")
	}
	return m, len(raw), nil
}

// answerError says what is wrong with an answer that is strict JSON so far.
type answerError string

func (e answerError) Error() string { return string(e) }

// reader reads up to a limit.
type reader struct {
	from  io.Reader
	left  int64
	got   int64
	turn  func(step int) error // waits for the turn of a step, which takes the place of the one before; nil: it need not
	steps int                  // that it passed; it has the turn of the last
	full  bool                 // the limit was reached
	err   error                // of from, but for its end
}

func (r *reader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		r.full = true
		return 0, io.ErrUnexpectedEOF
	}
	for r.turn != nil && r.steps < len(steps) && r.got >= steps[r.steps].from {
		if r.err = r.turn(r.steps); r.err != nil {
			r.turn, r.steps = nil, 0 // it has none any more
			return 0, r.err
		}
		r.steps++
	}
	n, err := r.from.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	r.got += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// fault says why an answer could not be read, without showing any of it: the decoder's own errors quote what they found.
func (r *reader) fault(err error) error {
	var ours answerError
	switch {
	case errors.As(err, &ours):
		return ours
	case r.full:
		return errors.New("it is too long")
	case r.err != nil:
		return r.err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("it ends too early")
	}
	return errors.New("it is not strict JSON")
}
