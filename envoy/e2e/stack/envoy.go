package stack

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// NewEnvoy starts an Envoy that no gate has, with a configuration of one's own in which LISTEN and ADMIN stand for the ports
// on the loopback address. It returns the address of the former.
func (s *Stack) NewEnvoy(ctx context.Context, name, bootstrap string) (*Part, string, error) {
	addresses, err := freeAddresses(2)
	if err != nil {
		return nil, "", err
	}
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	text := strings.NewReplacer("LISTEN", port(addresses[0]), "ADMIN", port(addresses[1])).Replace(bootstrap)
	file := filepath.Join(s.Dir, "envoy-"+name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	p := s.part(&Part{
		Name:    "envoy-" + name,
		Admin:   "http://" + addresses[1],
		command: []string{s.tools.envoy, "-c", file, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warn"},
		ready:   answers200("http://" + addresses[1] + "/ready"),
	})
	s.say("Envoy (%s) starts at %s", name, addresses[0])
	return p, addresses[0], p.Start(ctx)
}
