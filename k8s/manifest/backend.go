package manifest

import (
	"time"

	"github.com/usher-authz/usher/extauthz/lookup"
)

// maxBackendCacheFor bounds how old the answer to "whose object is it" may be.
const maxBackendCacheFor = time.Minute

// backend checks where objects are looked up, and resolves what look-ups need there.
func (c *compiler) backend(o *Object) lookup.Config {
	spec := o.AuthPolicy.Spec.Backend
	config := lookup.Config{BackendURL: spec.URL, Tenant: c.tenant(o), NoLocal: c.noLocal(o), Probe: c.presets[o.AuthPolicy.Spec.API.Preset].Probe}
	if spec.URL == "" {
		c.missing(o, "the backend's URL, such as http://langgraph.agents.svc:8000", "spec", "backend", "url")
	} else {
		c.url(o.text("spec", "backend", "url"), urlRule{what: "a backend", http: true, example: "https://langgraph.agents.svc:8000"})
	}
	own := []string{"Accept", "Accept-Encoding", "User-Agent"}
	config.Headers = c.headerValues(o, spec.Headers, "", own, "spec", "backend", "headers")
	if spec.CARef != nil {
		config.CA = c.authority(o, *spec.CARef, "spec", "backend", "caRef")
	}
	if d := spec.CacheFor; d != nil {
		if (d.Duration <= 0 || d.Duration > maxBackendCacheFor) && !(o.broken && d.Duration == 0) {
			c.add(o.at("spec", "backend", "cacheFor"), "found "+d.Duration.String(), "more than 0s, at most "+maxBackendCacheFor.String(), "leave it out to take 5s")
		}
		config.TTL = d.Duration
	}
	return config
}
