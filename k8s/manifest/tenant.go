package manifest

// tenant is whose an object is: the namespace of a cluster, but for the gate's own. Files are of one owner, whatever namespaces
// they name.
func (c *compiler) tenant(o *Object) string {
	if !c.apart || o.Namespace == c.own {
		return ""
	}
	return o.Namespace
}

// noLocal reports whether Usher must not connect to its own machine and link for the object.
func (c *compiler) noLocal(o *Object) bool { return c.tenant(o) != "" && !c.allowLocal }

// idle notes which Shadow policies see no request.
func (c *compiler) idle(compiled *Compiled, verdicts map[string]Verdict) {
	idle := map[string]bool{}
	for _, p := range compiled.Snapshot.Policies() {
		idle[p.Name] = p.Idle
	}
	for i := range compiled.Objects {
		o := &compiled.Objects[i]
		if v, known := verdicts[o.Pos.File]; known && o.AuthPolicy != nil {
			v.Idle = idle[c.name(o)]
			verdicts[o.Pos.File] = v
		}
	}
}
