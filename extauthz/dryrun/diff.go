package dryrun

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"

	"github.com/usher-authz/usher/extauthz"
)

// Change is one value that two stories of the same request do not have in common.
type Change struct {
	At string `json:"at"` // where it stands in a Story's JSON, such as operations.0.outcome
	A  any    `json:"a"`  // null: not there
	B  any    `json:"b"`
}

// Compare says how next, told of the same request by another version of the manifests, differs from s: in the words of a
// Shadow policy. What comes to the same by another rule is the same. Both must come from [Gate.Tell]; if not, or where an
// answer could not be carried out, it is Unknown.
func (s *Story) Compare(next *Story) extauthz.Difference {
	if s.why == nil || next.why == nil || s.Answer.Fault != "" || next.Answer.Fault != "" {
		return extauthz.Unknown
	}
	return s.why.Compare(next.why)
}

// Changes lists what differs between two stories, in the order of their members' names. Where a rule stands in its file is
// no difference.
func (s *Story) Changes(next *Story) []Change {
	var out []Change
	changes(&out, "", tree(s.Placeless()), tree(next.Placeless()))
	return out
}

// Placeless returns a copy without the places of rules.
func (s *Story) Placeless() *Story {
	out := *s
	out.Answer.RuleAt = ""
	out.Operations = slices.Clone(s.Operations)
	for i := range out.Operations {
		o := &out.Operations[i]
		o.Rules = slices.Clone(o.Rules)
		for j := range o.Rules {
			o.Rules[j].At = ""
		}
	}
	return &out
}

// tree is the story as JSON has it, with numbers as they are written.
func tree(s *Story) any {
	text, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	in := json.NewDecoder(bytes.NewReader(text))
	in.UseNumber()
	var out any
	if in.Decode(&out) != nil {
		return nil
	}
	return out
}

func changes(out *[]Change, at string, a, b any) {
	below := func(name string) string {
		if at == "" {
			return name
		}
		return at + "." + name
	}
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			break
		}
		var names []string
		for name := range x {
			names = append(names, name)
		}
		for name := range y {
			if _, both := x[name]; !both {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			changes(out, below(name), x[name], y[name])
		}
		return
	case []any:
		y, ok := b.([]any)
		if !ok {
			break
		}
		for i := range max(len(x), len(y)) {
			var xi, yi any
			if i < len(x) {
				xi = x[i]
			}
			if i < len(y) {
				yi = y[i]
			}
			changes(out, below(strconv.Itoa(i)), xi, yi)
		}
		return
	}
	if !reflect.DeepEqual(a, b) {
		*out = append(*out, Change{At: at, A: a, B: b})
	}
}
