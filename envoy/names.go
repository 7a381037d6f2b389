package envoy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What the objects of a mesh are called. kubectl apply lets the last of two objects with one name win: a policy that is called
// gateway must not replace the check of the whole Gateway by that of its route. So a name that could be another thing's too ends in
// a hash of what it names.

// maxObjectName leaves room for what is put before and behind a name (a DNS subdomain has at most 253 characters).
const maxObjectName = 200

// ownNames are those of what there is once, behind "usher-".
var ownNames = []string{"edit", "gateway", "no-upgrade"}

// objectName is what the objects of a policy are called.
func objectName(policy string) string {
	name := strings.ReplaceAll(policy, "/", "-")
	// a/b and a-b have one name: [mesh.addHosts] refuses the second one.
	if slices.Contains(ownNames, name) || strings.HasSuffix(name, "-websocket") || len(name) > maxObjectName {
		return "usher-" + hashed(name, policy)
	}
	return "usher-" + name
}

// backendName is what a host outside the cluster is called, with its port.
func backendName(s service) string {
	address := s.Host + ":" + strconv.Itoa(int(s.Port))
	plain := true
	name := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		case r != '.':
			plain = false
		}
		return '-'
	}, s.Host), "-") + "-" + strconv.Itoa(int(s.Port))
	if !plain || len(name) > maxObjectName {
		return "usher-" + hashed(name, address)
	}
	return "usher-" + name
}

// serviceName is what a Service is called in a namespace that is not its own.
func serviceName(s service) string {
	name := s.Name + "-" + s.Namespace
	if strings.Contains(s.Name+s.Namespace, "-") || len(name) > maxObjectName {
		return "usher-" + hashed(name, s.Namespace+"/"+s.Name)
	}
	return "usher-" + name
}

// hashed is a name with a hash of what it names.
func hashed(name, of string) string {
	sum := sha256.Sum256([]byte(of))
	return strings.TrimRight(name[:min(len(name), maxObjectName)], "-.") + "-" + hex.EncodeToString(sum[:5])
}

// distinct refuses objects of which two have one kind, namespace and name, whatever they were called above.
func distinct(objects []byte) ([]byte, error) {
	seen := map[string]bool{}
	for document := range bytes.SplitSeq(objects, []byte("\n---\n")) {
		kind, metadata := "", ""
		for line := range strings.Lines(string(document)) {
			if rest, ok := strings.CutPrefix(line, "kind: "); ok {
				kind = strings.TrimSpace(rest)
			}
			if rest, ok := strings.CutPrefix(line, "metadata: "); ok {
				metadata = strings.TrimSpace(rest)
			}
		}
		if kind == "" {
			continue
		}
		if metadata == "" {
			return nil, fmt.Errorf("an object of kind %s has no name", kind)
		}
		if key := kind + " " + metadata; seen[key] {
			return nil, fmt.Errorf("two objects would be %s %s, and the last one would win: rename a policy", kind, metadata)
		} else {
			seen[key] = true
		}
	}
	return objects, nil
}
