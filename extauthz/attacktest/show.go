package attacktest

import (
	"fmt"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/go-json-experiment/json"
)

// realClock tells the time inside of a bubble, where time.Now is the bubble's: a goroutine outside of it is asked.
type realClock struct {
	ask    chan struct{}
	answer chan time.Duration
}

func newRealClock() *realClock {
	c := &realClock{make(chan struct{}), make(chan time.Duration)}
	go func() {
		began := time.Now()
		for range c.ask {
			c.answer <- time.Since(began)
		}
	}()
	return c
}

func (c *realClock) now() time.Duration {
	c.ask <- struct{}{}
	return <-c.answer
}

func (c *realClock) stop() { close(c.ask) }

// describe writes a request for a message, with its tokens unnamed as the file has them.
func describe(r *Request, c *Case) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", plain(r.Method), plain(r.Host), short(plain(r.Path)))
	for _, h := range r.Headers {
		fmt.Fprintf(&b, "\n          %s: %s", plain(h[0]), short(plain(h[1])))
	}
	if !r.Body.absent() {
		fmt.Fprintf(&b, "\n          body %s", short(plain(r.Body)))
	}
	if c.Token != nil && !r.holdsToken() {
		b.WriteString("\n          with the case's token as bearer")
	}
	return b.String()
}

func plain(v Value) string {
	if v.kind == '"' {
		return v.text
	}
	return v.String()
}

// String writes what is expected as the file has it.
func (e *Expect) String() string {
	text, err := json.Marshal(e, json.OmitZeroStructFields(true))
	if err != nil {
		return fmt.Sprint(e.Status)
	}
	return string(text)
}

// MarshalJSON writes the value as the file has it.
func (v Value) MarshalJSON() ([]byte, error) { return []byte(v.String()), nil }

// show writes an answer for a message.
func show(r *authv3.CheckResponse) string {
	var b strings.Builder
	if d := r.GetDeniedResponse(); d != nil {
		fmt.Fprintf(&b, "%d", d.GetStatus().GetCode())
		for _, h := range d.GetHeaders() {
			fmt.Fprintf(&b, ", %s: %s", h.GetHeader().GetKey(), h.GetHeader().GetValue())
		}
		b.WriteString(", body " + short(d.GetBody()))
		return b.String()
	}
	if r.GetOkResponse() == nil {
		return "neither an allow nor a denial"
	}
	b.WriteString("allowed")
	for _, h := range r.GetOkResponse().GetHeaders() {
		fmt.Fprintf(&b, ", sets %s: %s", h.GetHeader().GetKey(), h.GetHeader().GetValue())
	}
	fmt.Fprintf(&b, ", removes %q", r.GetOkResponse().GetHeadersToRemove())
	if m := r.GetDynamicMetadata(); m != nil {
		fmt.Fprintf(&b, ", edits: %s", short(m.String()))
	}
	return b.String()
}

func lastLine(s string) string {
	s = strings.TrimRight(s, "\n")
	return s[strings.LastIndexByte(s, '\n')+1:]
}
