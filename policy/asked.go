package policy

import "slices"

// asked are the names that expressions look for in a request. What is another spelling of one of them, a backend could take for
// it. It does not change.
type asked struct {
	exact  map[string]bool
	folded map[string]bool
	query  parameterSet
}

func newAsked(names []string) *asked {
	a := &asked{map[string]bool{}, map[string]bool{}, parameterSet{}}
	for _, name := range names {
		if !a.exact[name] {
			a.exact[name], a.folded[fold(name)] = true, true
			a.query.add(name)
		}
	}
	return a
}

// asks reports whether one of them asks for this name.
func asks(list []*asked, name string) bool {
	return slices.ContainsFunc(list, func(a *asked) bool { return a.exact[name] })
}

// misspells reports whether a query parameter is another spelling of a name that they ask for.
func misspells(list []*asked, name string) bool {
	return slices.ContainsFunc(list, func(a *asked) bool { return a.query.has(name) }) && !asks(list, name)
}

// checkSpelling refuses a body in which a member, at any depth, is another spelling of a name that they ask for.
func checkSpelling(list []*asked, v Value) error {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := checkSpelling(list, item); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, item := range v {
			folded := fold(name)
			if slices.ContainsFunc(list, func(a *asked) bool { return a.folded[folded] }) && !asks(list, name) {
				return &Refusal{Outcome: BadRequest, Detail: "The body has a member in another spelling than the API's."}
			}
			if err := checkSpelling(list, item); err != nil {
				return err
			}
		}
	}
	return nil
}
