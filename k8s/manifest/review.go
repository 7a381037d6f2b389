package manifest

import (
	"strings"

	"github.com/usher-authz/usher/policy"
)

// Review says what is wrong with one object, alone and beside the others, which come in order of age: before it is stored.
// What is wrong with the others is not told, and does not count. prev, which may be nil, is something compiled of which
// policies are taken over. A Secret or ConfigMap that is not among the others was not read yet, which is no mistake. Review may be called while Compile runs.
func (k *Keeper) Review(object Object, others []Object, prev *Compiled) policy.Problems {
	file := object.Pos.File
	all := make([]Object, 0, len(others)+1)
	replaced := false
	for _, o := range others {
		switch {
		case o.Pos.File == file:
			all, replaced = append(all, object), true
		case !o.broken && o.Kind != "" && o.Name != "":
			all = append(all, o)
		}
	}
	if !replaced {
		all = append(all, object)
	}
	c := k.compiler()
	c.reviewing = true
	_, problems := prev.next(c, all)
	var own policy.Problems
	for _, p := range problems {
		if of, _, _ := strings.Cut(p.Pos.File, "["); of == file { // in it, or in the document that it names
			own = append(own, p)
		}
	}
	return own
}
