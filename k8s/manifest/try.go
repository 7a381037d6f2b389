package manifest

import (
	"reflect"

	"github.com/usher-authz/usher/extauthz/lookup"
	"github.com/usher-authz/usher/extauthz/token"
)

// tried is the provider's configuration, and a problem where those who would use it cannot: whether a key is one, only they
// can tell. What prev has alike was tried before.
func (c *compiler) tried(o *Object, prev *Compiled) token.Config {
	before := len(c.problems)
	config := c.provider(o)
	if o.broken || len(c.problems) > before {
		config.Fingerprint = "" // not tried
	}
	if c.tryProvider == nil || o.broken || len(c.problems) > before {
		return config
	}
	if prev != nil && config.Fingerprint != "" && prev.Providers[config.Name].Fingerprint == config.Fingerprint {
		return config
	}
	if err := c.tryProvider(config); err != nil {
		c.add(o.at("spec"), "found what tokens cannot be verified by: "+err.Error(), "", "")
		config.Fingerprint = ""
	}
	return config
}

// triedBackend is the same of a policy's backend.
func (c *compiler) triedBackend(o *Object, prev *Compiled) lookup.Config {
	before := len(c.problems)
	config := c.backend(o)
	if c.tryBackend == nil || o.broken || len(c.problems) > before {
		return config
	}
	name := c.name(o)
	if prev != nil {
		if known, ok := prev.Backends[name]; ok && reflect.DeepEqual(known, config) {
			c.backends[name] = config
			return config
		}
	}
	if err := c.tryBackend(config); err != nil {
		c.add(o.at("spec", "backend"), "found what no object can be looked up at: "+err.Error(), "", "")
		return config
	}
	c.backends[name] = config
	return config
}
