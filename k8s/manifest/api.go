package manifest

import (
	"fmt"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// api converts spec.api; the policy package checks it.
func (c *compiler) api(o *Object) policy.APISource {
	spec := &o.AuthPolicy.Spec.API
	out := policy.APISource{Pos: o.at("spec", "api"), Preset: o.text("spec", "api", "preset")}
	if options, given := o.find("spec", "api", "langgraph"); given && options.IsObject && spec.Preset == "langgraph" {
		out.Options = &options
	}
	for i := range spec.Public {
		out.Public = append(out.Public, policy.RouteSource{
			Pos: o.at("spec", "api", "public", i), Public: true,
			Method: o.text("spec", "api", "public", i, "method"), Path: o.text("spec", "api", "public", i, "path"),
		})
	}
	for i := range spec.Routes {
		out.Routes = append(out.Routes, c.route(o, "spec", "api", "routes", i)...)
	}
	if spec.OpenAPI != nil {
		out.Routes = append(out.Routes, c.openAPI(o)...)
	}
	return out
}

// route converts one route: one for each of its methods.
func (c *compiler) route(o *Object, at ...any) []policy.RouteSource {
	under := func(names ...any) []any { return append(append([]any(nil), at...), names...) }
	text := func(names ...any) policy.Text { return o.text(under(names...)...) }
	r := policy.RouteSource{Pos: o.at(at...), Path: text("path"), On: text("on")}
	if t, ok := o.find(under("public")...); ok {
		r.Public, _ = t.Scalar.(bool)
	}
	if t, ok := o.find(under("object")...); ok && t.IsObject {
		r.Object = &policy.ObjectSource{
			Pos: o.at(under("object")...), Get: text("object", "get"),
			ID: c.optionalText(o, under("object", "id")...), Metadata: c.optionalText(o, under("object", "metadata")...), AnswerID: c.optionalText(o, under("object", "answerID")...),
		}
	}
	r.StampAt = c.optionalText(o, under("stampAt")...)
	if t, ok := o.find(under("narrow")...); ok && t.IsObject {
		r.Narrow = &policy.NarrowSource{Pos: o.at(under("narrow")...)}
		query, _ := o.find(under("narrow", "query")...)
		for _, m := range query.Members {
			value, _ := m.Value.Scalar.(string)
			r.Narrow.Query = append(r.Narrow.Query, policy.HeaderSource{Name: m.Name, Value: policy.Text{Text: value, Pos: m.Value.Pos}})
		}
	}
	return c.methods(o, r, at...)
}

// methods gives the route each of its methods.
func (c *compiler) methods(o *Object, r policy.RouteSource, at ...any) []policy.RouteSource {
	under := func(names ...any) []any { return append(append([]any(nil), at...), names...) }
	r.Method = o.text(under("method")...)
	list, given := o.find(under("methods")...)
	if !given {
		return []policy.RouteSource{r}
	}
	if r.Method.Text != "" || len(list.Items) == 0 {
		found := "found both method and methods"
		if r.Method.Text == "" {
			found = "found an empty list of methods"
		}
		c.add(o.at(under("methods")...), found, "method, or a list of methods", "")
		return nil
	}
	var out []policy.RouteSource
	seen := map[string]bool{}
	for i := range list.Items {
		r.Method = o.text(under("methods", i)...)
		if seen[r.Method.Text] {
			c.add(r.Method.Pos, fmt.Sprintf("found method %q twice", r.Method.Text), "each once", "")
			continue
		}
		seen[r.Method.Text] = true
		out = append(out, r)
	}
	return out
}

// optionalText returns an optional text; one that is there and says nothing is a problem.
func (c *compiler) optionalText(o *Object, at ...any) *policy.Text {
	if _, given := o.find(at...); !given {
		return nil
	}
	t := o.text(at...)
	if strings.TrimSpace(t.Text) == "" {
		if !o.broken {
			c.add(t.Pos, "found an empty text", "an expression or a place", "leave it out to take its default")
		}
		return nil
	}
	return &t
}
