package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxCrossings bounds how many crossings are looked for: past that, what to change is clear.
const maxCrossings = 20

// crossings finds routes of one method that match one path although neither is more specific than the other at every
// segment, as /a/{x}/c and /a/b/{y} for /a/b/c: a backend's router may well take another one than Usher does. A route for
// just these paths settles it.
func (t *routeTree) crossings() Problems {
	c := crosser{root: t}
	c.visit(t)
	return c.problems
}

type crosser struct {
	root     *routeTree
	problems Problems
}

func (c *crosser) visit(t *routeTree) {
	for _, key := range slices.Sorted(maps.Keys(t.literal)) {
		next := t.literal[key]
		c.visit(next)
		if t.param != nil {
			c.compare(next, t.param, false)
		}
	}
	if t.param != nil {
		c.visit(t.param)
	}
}

// compare walks two trees whose routes match paths in common: those of a were more specific at one segment at least, and
// those of b at another one if crossed.
func (c *crosser) compare(a, b *routeTree, crossed bool) {
	if len(c.problems) >= maxCrossings {
		return
	}
	if crossed {
		for method, x := range a.here {
			c.report(x, b.here[method])
			c.report(x, b.rest[method]) // a's route ends where b's rest is empty
		}
		for method, x := range a.rest {
			c.report(x, b.rest[method])
		}
	}
	// A rest of a is less specific than all that b has below, and a rest of b less than all of a's.
	for method, x := range a.rest {
		c.each(b, func(y *compiledRoute) {
			if y.method == method && !(y.rest && b.rest[method] == y) {
				c.report(x, y)
			}
		})
	}
	if crossed {
		for method, y := range b.rest {
			c.each(a, func(x *compiledRoute) {
				if x.method == method && a.here[method] != x && a.rest[method] != x {
					c.report(x, y)
				}
			})
		}
	}
	for key, next := range a.literal {
		if same := b.literal[key]; same != nil {
			c.compare(next, same, crossed)
		}
		if b.param != nil {
			c.compare(next, b.param, crossed)
		}
	}
	if a.param != nil {
		for _, next := range b.literal {
			c.compare(a.param, next, true)
		}
		if b.param != nil {
			c.compare(a.param, b.param, crossed)
		}
	}
}

// each calls f with every route of a tree.
func (c *crosser) each(t *routeTree, f func(*compiledRoute)) {
	for _, r := range t.here {
		f(r)
	}
	for _, r := range t.rest {
		f(r)
	}
	for _, next := range t.literal {
		c.each(next, f)
	}
	if t.param != nil {
		c.each(t.param, f)
	}
}

func (c *crosser) report(x, y *compiledRoute) {
	if x == nil || y == nil || c.settled(x, y) {
		return
	}
	if x.pos.Line > y.pos.Line || x.pos.Line == y.pos.Line && x.pos.Column > y.pos.Column {
		x, y = y, x
	}
	c.problems = append(c.problems, Problem{
		Pos: y.pos, Found: fmt.Sprintf("%s and %s match paths in common, and neither is more specific", y.pattern, x.pattern),
		Want: "one of them for each path", Hint: "a route " + joined(x.path, y.path) + " settles whose they are",
	})
}

// settled reports whether the paths that both routes match have a route of their own.
func (c *crosser) settled(x, y *compiledRoute) bool {
	at := c.root
	for _, s := range strings.Split(joined(x.path, y.path)[1:], "/") {
		if strings.HasSuffix(s, "=**}") {
			return at.rest[x.method] != nil
		}
		if strings.HasPrefix(s, "{") {
			at = at.param
		} else {
			at = at.literal[fold(s)]
		}
		if at == nil {
			return false
		}
	}
	return at.here[x.method] != nil
}

// joined is the template of the paths that both match: at each segment the more specific one.
func joined(a, b string) string {
	x, y := strings.Split(a[1:], "/"), strings.Split(b[1:], "/")
	isRest := func(parts []string) bool { return strings.HasSuffix(parts[len(parts)-1], "=**}") }
	if len(x) < len(y) || len(x) == len(y) && isRest(x) && !isRest(y) {
		x, y = y, x
	}
	out := slices.Clone(x) // the longer one
	if isRest(y) {
		y = y[:len(y)-1]
	} else if isRest(x) {
		out = out[:len(y)] // its rest is empty, or stands where y goes on
	}
	for i, s := range y {
		if !strings.HasPrefix(s, "{") || i >= len(x)-1 && isRest(x) {
			out[i] = s
		}
	}
	return "/" + strings.Join(out, "/")
}
