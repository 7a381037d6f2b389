package attacktest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
)

// Load reads a file of attacks. Whatever it does not know, anywhere, is an error: a case that is understood by half
// would pass for the wrong reason. It makes the file's keys, which takes a moment.
func Load(text []byte) (*Suite, error) {
	s, err := read(text)
	if err != nil {
		return nil, err
	}
	s.keys, err = makeKeys(s.Environment.Keys, s.Environment.Certs)
	return s, err
}

func read(text []byte) (*Suite, error) {
	s := &Suite{}
	if err := json.Unmarshal(text, s, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("read attacks: %w", err)
	}
	if s.Version != 1 {
		return nil, fmt.Errorf("read attacks: version %d, expected 1", s.Version)
	}
	for name, r := range s.TokenRecipes {
		if err := r.check(s); err != nil {
			return nil, fmt.Errorf("token recipe %q: %w", name, err)
		}
	}
	seen := map[string]bool{}
	for i, c := range s.Cases {
		if c == nil {
			return nil, fmt.Errorf("case %d is null", i)
		}
		if err := c.check(s); err != nil {
			return nil, fmt.Errorf("case %q: %w", c.ID, err)
		}
		if seen[c.ID] {
			return nil, fmt.Errorf("case %q: a second one of this id", c.ID)
		}
		seen[c.ID] = true
	}
	for name, v := range s.Environment.OpaqueTokens {
		if err := checkGenerators(v); err != nil {
			return nil, fmt.Errorf("opaque token %q: %w", name, err)
		}
	}
	return s, nil
}

func (c *Case) check(s *Suite) error {
	switch {
	case c.ID == "" || c.Group == "" || c.Why == "":
		return errors.New("id, group and why are needed")
	case c.Level != LevelCheck && c.Level != LevelHTTP:
		return fmt.Errorf("level %q, expected check or http", c.Level)
	case len(c.Steps) == 0 && (c.Request == nil || c.Expect == nil):
		return errors.New("neither steps nor a request with what is expected")
	case c.Level == LevelCheck && (c.Usher != "" || c.Bootstrap != "" || c.PadHeaderBytes != 0):
		return errors.New("usher, bootstrap and pad_header_bytes are of level http")
	case c.Usher != "" && c.Usher != "stopped" && c.Usher != "hang":
		return fmt.Errorf("usher %q, expected stopped or hang", c.Usher)
	case c.Bootstrap != "" && c.Bootstrap != WithoutEditFilter:
		return fmt.Errorf("bootstrap %q, expected %q", c.Bootstrap, WithoutEditFilter)
	case c.Level == LevelHTTP && len(c.Steps) > 0:
		return errors.New("steps of level http are not defined")
	}
	if err := checkFixtures(c.Fixture); err != nil {
		return err
	}
	for name, r := range c.Tokens {
		if err := r.check(s); err != nil {
			return fmt.Errorf("token %q: %w", name, err)
		}
	}
	if err := c.Token.check(s); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	if err := c.Request.check(s, c.Level); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if c.After != nil {
		if err := checkHits(c.After.HitsMax); err != nil {
			return fmt.Errorf("after: %w", err)
		}
	}
	if err := c.Expect.check(c.Level); err != nil {
		return fmt.Errorf("expect: %w", err)
	}
	for i, step := range c.Steps {
		request, expect := or(step.Request, c.Request), or(step.Expect, c.Expect)
		if request == nil || expect == nil {
			return fmt.Errorf("step %d: no request, or nothing expected", i)
		}
		if err := errors.Join(checkFixtures(step.Fixture), step.Token.check(s), request.check(s, c.Level), expect.check(c.Level)); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

func (r *Request) check(s *Suite, level string) error {
	if r == nil {
		return nil
	}
	http := !r.Raw.absent() || len(r.H2) > 0
	switch {
	case http != (level == LevelHTTP):
		return fmt.Errorf("raw and h2 are of level http, all else of level check")
	case !slices.Contains([]string{"", "raw_body", "body", "absent"}, r.BodyAs):
		return fmt.Errorf("body_as %q", r.BodyAs)
	case !slices.Contains([]string{"", "both", "map", "raw", "map_keep_case"}, r.Encode):
		return fmt.Errorf("encode %q", r.Encode)
	}
	for _, name := range []string{r.SourceCertificate, r.DestinationCert} {
		if _, ok := s.Environment.Certs[name]; name != "" && !ok {
			return fmt.Errorf("unknown certificate %q", name)
		}
	}
	values := []Value{r.Method, r.Host, r.Path, r.Scheme, r.Protocol, r.Body, r.SourceCertificateText, r.MetadataContext, r.Raw}
	for _, list := range [][][2]Value{r.Headers, r.ExtraRawHeaders, r.H2} {
		for _, h := range list {
			values = append(values, h[0], h[1])
		}
	}
	for _, v := range values {
		if err := checkGenerators(v); err != nil {
			return err
		}
	}
	return nil
}

func (e *Expect) check(level string) error {
	if e == nil {
		return nil
	}
	if len(e.Status) == 0 {
		return errors.New("no status")
	}
	if err := checkHits(e.HitsMax); err != nil {
		return err
	}
	for _, pairs := range [][][2]Value{e.BackendBody, e.BackendBodyNot, e.UpstreamBody} {
		for _, p := range pairs {
			if p[0].kind != '"' || p[0].text != "" && p[0].text[0] != '/' {
				return fmt.Errorf("%s is no JSON pointer (RFC 6901)", p[0])
			}
		}
	}
	http := e.UpstreamHits != nil || e.UpstreamSaw != nil || e.UpstreamSawNot != nil || e.UpstreamBody != nil ||
		e.UpstreamPathsOnly != nil || e.UpstreamSawHostNot != "" || e.ResetOK
	if http && level != LevelHTTP {
		return errors.New("upstream_* and reset_ok are of level http")
	}
	check := e.HitsMax != nil || e.SameAnswerAs != "" || e.MustForward != nil || e.ForwardedIfAllowed != nil || e.MustNotForwardHeaders != nil ||
		e.HeaderValuesSingle != nil || e.HeaderValuesClean != nil || e.BackendBody != nil || e.BackendBodyNot != nil ||
		e.BackendBodyContains != nil || e.BackendBodyUnique
	if check && level != LevelCheck {
		return errors.New("at level http upstream_* says what the backend must see")
	}
	return nil
}

func checkHits(most map[string]int) error {
	for name := range most {
		if !isEndpoint(name) {
			return fmt.Errorf("hits_max of unknown endpoint %q", name)
		}
	}
	return nil
}

func checkFixtures(fs map[string]*Fixture) error {
	for name, f := range fs {
		if !isEndpoint(name) {
			return fmt.Errorf("fixture of unknown endpoint %q", name)
		}
		if f == nil {
			continue
		}
		if f.Status == 0 && !f.Hang && !f.Close {
			return fmt.Errorf("fixture of %q: no status", name)
		}
		if _, err := f.pause(); err != nil {
			return fmt.Errorf("fixture of %q: %w", name, err)
		}
		if err := checkGenerators(f.Body); err != nil {
			return fmt.Errorf("fixture of %q: %w", name, err)
		}
	}
	return nil
}

func or[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}
