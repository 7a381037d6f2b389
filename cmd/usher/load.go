package main

import (
	"github.com/usher-authz/usher/extauthz"
	"github.com/usher-authz/usher/extauthz/token"
	"github.com/usher-authz/usher/k8s/watch"
	"github.com/usher-authz/usher/policy"
)

// build makes the state that a reading asks for. What only the verifiers themselves can tell (whether a key is one) is
// a problem like the others. Nothing is started.
func build(prev *extauthz.State, r watch.Reading, configure func(*token.Config)) (*extauthz.State, policy.Problems) {
	if r.Compiled == nil {
		return nil, r.Problems
	}
	providers := make(map[string]token.Config, len(r.Compiled.Providers))
	for name, config := range r.Compiled.Providers {
		if configure != nil {
			configure(&config)
		}
		providers[name] = config
	}
	state, err := extauthz.Build(prev, r.Compiled.Snapshot, providers, r.Compiled.Backends)
	if err != nil {
		return nil, policy.Problems{{Pos: placeOf(r), Found: "found manifests that cannot be put in force: " + err.Error()}}
	}
	return state, nil
}

// counted says what a reading holds.
func counted(r watch.Reading) string {
	from := count(r.Files, "file")
	if r.Files == 0 { // of a cluster, which may have none
		from = count(r.Objects, "object")
	}
	return count(len(r.Compiled.Snapshot.Policies()), "policy") + ", " + count(len(r.Compiled.Providers), "provider") + ", " + from
}

// placeOf is where to show a problem of the whole.
func placeOf(r watch.Reading) policy.Position {
	if len(r.Compiled.Objects) == 0 {
		return policy.Position{}
	}
	return r.Compiled.Objects[0].Pos
}
