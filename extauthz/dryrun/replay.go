package dryrun

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/policy"
	"github.com/usher-authz/usher/policy/policytest"
)

// Versions are two versions of the manifests: A, which is in force, and B, as if it were a Shadow policy beside it. Objects
// and Now of both are not looked at.
type Versions struct{ A, B Config }

// Comparison is what two versions make of one request.
type Comparison struct {
	// Replayed is false where the request cannot be decided again as it was: Why says what lacks. It is never the same then,
	// nor any other Difference.
	Replayed   bool
	Why        string
	Difference extauthz.Difference
	A, B       Story
}

// Ask has both versions decide a request.
func (v *Versions) Ask(now time.Time, objects []policytest.Object, id policytest.Identity, r policytest.Request) (Comparison, error) {
	return v.ask(now, objects, id, id, r)
}

func (v *Versions) ask(now time.Time, objects []policytest.Object, a, b policytest.Identity, r policytest.Request) (Comparison, error) {
	var out Comparison
	for _, one := range []struct {
		config Config
		id     policytest.Identity
		into   *Story
	}{{v.A, a, &out.A}, {v.B, b, &out.B}} {
		one.config.Objects, one.config.Now = objects, now
		gate, err := New(one.config)
		if err != nil {
			return out, err
		}
		*one.into = gate.Tell(one.id, r)
	}
	out.Replayed, out.Difference = true, out.A.Compare(&out.B)
	return out, nil
}

// Replay has both versions decide a recorded request. It is replayed only if A decides as the record says, and if neither
// version looks at anything that the record does not hold.
func (v *Versions) Replay(r *Record) (Comparison, error) {
	a := r.Identity
	a.Name = "recorded"
	if r.Refused {
		a = policytest.Identity{Name: a.Name, Token: "refused"} // no gate knows it
	}
	b := a
	if a.User != nil && !v.sameProvider(a.Provider) {
		// The other version may read the token in another way.
		b.User, b.Claims = nil, a.User.Claims
	}
	out, err := v.ask(r.Time, r.Objects, a, b, r.Request)
	if err != nil {
		return out, err
	}
	out.Why = v.lacks(r, &out)
	if out.Why == "" && out.A.Answer.Outcome != r.Outcome {
		out.Why = fmt.Sprintf("the record says %s, and the manifests say %s now: they are another version, or it depends on what no record holds", orNothing(r.Outcome), out.A.Answer.Outcome)
	}
	if out.Why != "" {
		out.Replayed, out.Difference = false, extauthz.Unknown
	}
	return out, nil
}

func orNothing(outcome string) string {
	if outcome == "" {
		return "nothing"
	}
	return outcome
}

// lacks says what the record does not hold of what a version looked at; "" for nothing.
func (v *Versions) lacks(r *Record, c *Comparison) string {
	a, b := c.A.why, c.B.why
	asked := stageOf(a) >= stageOf(&extauthz.Explanation{Stage: extauthz.StageToken}) || stageOf(b) >= stageOf(&extauthz.Explanation{Stage: extauthz.StageToken})
	if !asked {
		return "" // method, host and path said all
	}
	past := func(e *extauthz.Explanation) bool {
		return stageOf(e) >= stageOf(&extauthz.Explanation{Stage: extauthz.StageBody})
	}
	var out []string
	for _, what := range r.Missing {
		switch what {
		case MissingBody:
			if past(a) && a.ReadsBody || past(b) && b.ReadsBody {
				out = append(out, what)
			}
		case MissingHeaders:
			if a.ReadsHeaders || b.ReadsHeaders {
				out = append(out, what)
			}
		default:
			out = append(out, what)
		}
	}
	if len(out) > 0 {
		return "the record lacks " + strings.Join(out, ", ")
	}
	if why := v.elsewhere(r, c); why != "" {
		return why
	}
	for _, needs := range [][]policy.Ref{a.Needs, b.Needs} {
		for _, ref := range needs {
			known := func(k KnownObject) bool { return k.Resource == ref.Resource && k.ID == ref.ID && k.Path == ref.Path }
			if !slices.ContainsFunc(r.Known, known) {
				return fmt.Sprintf("the record lacks %s %s, which is looked up", ref.Resource, ref.ID)
			}
		}
	}
	for _, ref := range b.Needs {
		// The record has what was read of the answer then, and not the answer.
		i := slices.IndexFunc(a.Needs, func(o policy.Ref) bool { return o.Resource == ref.Resource && o.ID == ref.ID && o.Path == ref.Path })
		if ref.Reader != nil && (i < 0 || !ref.Reader.ReadsAlike(a.Needs[i].Reader)) {
			return fmt.Sprintf("the other version reads the metadata of %s %s in another way", ref.Resource, ref.ID)
		}
	}
	return ""
}

// elsewhere says why the other version might find another credential in the request, or another user in the credential.
func (v *Versions) elsewhere(r *Record, c *Comparison) string {
	p, q := v.guard(&v.A, c.A.why), v.guard(&v.B, c.B.why)
	if p == nil || q == nil {
		return ""
	}
	if !reflect.DeepEqual(p.TokenFrom, q.TokenFrom) || p.ForwardedCertificate != q.ForwardedCertificate || p.PublicURL != q.PublicURL {
		return "the other version looks for the token, or for its proof, elsewhere"
	}
	if r.Refused && (!slices.Equal(p.Providers, q.Providers) || slices.ContainsFunc(p.Providers, func(name string) bool { return !v.sameProvider(name) })) {
		return "the token was refused, and whether other providers would accept it nobody knows without it"
	}
	return ""
}

func (v *Versions) guard(c *Config, why *extauthz.Explanation) *policy.Policy {
	return c.Policies.Match(why.Host, why.Policy)
}

// sameProvider reports whether both versions specify the provider alike.
func (v *Versions) sameProvider(name string) bool {
	a, ok := v.A.Providers[name]
	b, both := v.B.Providers[name]
	return ok && both && a.Fingerprint != "" && a.Fingerprint == b.Fingerprint
}

func stageOf(e *extauthz.Explanation) int {
	return slices.Index([]extauthz.Stage{
		extauthz.StageDecode, extauthz.StageMatch, extauthz.StageRoute, extauthz.StageToken, extauthz.StageBody, extauthz.StageDecide, extauthz.StageLookup, extauthz.StagePass,
	}, e.Stage)
}
