package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"maps"
	"math"
	"reflect"
	"runtime"
)

// compiled is a policy as it was compiled, before it was joined with others: no request sees this one.
type compiled struct {
	fingerprint [sha256.Size]byte
	token       *Token
	policy      *Policy
	warnings    Problems
	problems    Problems // of one that did not compile
}

// Next compiles a set as [New] does, and takes over from s what has not changed since: a policy counts as unchanged only if
// all of its source is equal, places too, as decisions name them. The presets must be those that s was compiled with. s
// itself does not change, and may be nil.
func (s *Snapshot) Next(set Set, presets map[string]Preset) (*Snapshot, error) {
	next, _, err := compileSet(s, set, presets)
	return next, err
}

// Attempt is [Snapshot.Next], and what was learned where it fails: attempt is good for nothing but to be the one before
// another attempt, which then compiles no policy that this one compiled already, whether it was good or not.
func (s *Snapshot) Attempt(set Set, presets map[string]Preset) (next, attempt *Snapshot, err error) {
	return compileSet(s, set, presets)
}

// Recompiled is how many policies were compiled for this snapshot; the others were taken over.
func (s *Snapshot) Recompiled() int { return s.recompiled }

// reuse returns a policy of its own for s, from what is kept or compiled anew.
func (s *Snapshot) reuse(prev *Snapshot, c *compiler, source Source, presets map[string]Preset) (*Policy, Problems, Problems) {
	k := prev.find(source)
	if k.policy == nil {
		s.recompiled++
		k.policy, k.problems, k.warnings = c.guarded(source, presets)
	}
	if len(k.problems) > 0 {
		s.failed[source.Name] = k
		return k.policy, k.problems, k.warnings
	}
	s.kept[source.Name] = k
	p := *k.policy
	p.remove = maps.Clone(p.remove) // others add to it
	return &p, nil, k.warnings
}

// guarded is compilePolicy, where a panic is a problem of the policy.
func (c *compiler) guarded(source Source, presets map[string]Preset) (p *Policy, problems, warnings Problems) {
	defer func() {
		if fault := recover(); fault != nil {
			p = &Policy{Name: source.Name, Tenant: source.Tenant, pos: source.Pos, Shadow: source.Shadow, remove: map[string]bool{}}
			problems, warnings = Problems{{Pos: source.Pos, Found: Fault(fault), Hint: FaultHint}}, nil
		}
	}()
	return c.compilePolicy(source, presets)
}

// FaultHint says what to do about a Fault.
const FaultHint = "please report it, with the manifest"

// Fault says what was found where a manifest made Usher panic. Only what the runtime says is shown: the rest may hold a secret.
func Fault(panicked any) string {
	if err, ok := panicked.(runtime.Error); ok {
		return "found what Usher cannot read, by a fault of its own: " + err.Error()
	}
	return fmt.Sprintf("found what Usher cannot read, by a fault of its own: a panic of type %T", panicked)
}

// find returns the policy if s has it just so, and else one that has yet to be compiled.
func (s *Snapshot) find(source Source) *compiled {
	var known []*compiled
	if s != nil {
		known = []*compiled{s.kept[source.Name], s.failed[source.Name]}
	}
	for _, old := range known {
		if old != nil && old.token != nil && old.token == source.Token {
			return old
		}
	}
	h := sha256.New()
	token := source.Token
	source.Token = nil
	fingerprint(h, reflect.ValueOf(source))
	k := &compiled{fingerprint: [sha256.Size]byte(h.Sum(nil)), token: token}
	for _, old := range known {
		if old != nil && old.fingerprint == k.fingerprint {
			again := *old
			again.token = token
			return &again
		}
	}
	return k
}

// inherit takes over what prev knows and s does not, of the policies of the set: in the place of one that did not compile
// comes an earlier version, and after that the same again.
func (s *Snapshot) inherit(prev *Snapshot, set Set) {
	if prev == nil {
		return
	}
	for _, source := range set.Policies {
		if k := prev.kept[source.Name]; k != nil && s.kept[source.Name] == nil {
			s.kept[source.Name] = k
		}
		if k := prev.failed[source.Name]; k != nil && s.failed[source.Name] == nil {
			s.failed[source.Name] = k
		}
	}
}

// fingerprint writes a value so that two different ones never write the same: lengths come first.
func fingerprint(h hash.Hash, v reflect.Value) {
	var b [9]byte
	number := func(kind reflect.Kind, n uint64) {
		b[0] = byte(kind)
		binary.BigEndian.PutUint64(b[1:], n)
		h.Write(b[:]) // hash.Hash never returns an error
	}
	switch v.Kind() {
	case reflect.String:
		number(reflect.String, uint64(v.Len()))
		h.Write([]byte(v.String()))
	case reflect.Bool:
		n := uint64(0)
		if v.Bool() {
			n = 1
		}
		number(reflect.Bool, n)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		number(v.Kind(), uint64(v.Int())) //nolint:gosec // bits, not a number
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		number(v.Kind(), v.Uint())
	case reflect.Float64:
		number(reflect.Float64, math.Float64bits(v.Float()))
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			number(reflect.Invalid, 0)
			return
		}
		number(v.Kind(), 1)
		fingerprint(h, v.Elem())
	case reflect.Slice:
		number(reflect.Slice, uint64(v.Len()))
		for i := range v.Len() {
			fingerprint(h, v.Index(i))
		}
	case reflect.Struct:
		number(reflect.Struct, uint64(v.NumField()))
		for i := range v.NumField() {
			fingerprint(h, v.Field(i))
		}
	default:
		// A new kind of field must be added here, or a change of it would not be seen.
		panic(fmt.Sprintf("policy: fingerprint of %s", v.Type()))
	}
}
