package manifest

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/usher-authz/usher/policy"
)

// urlRule says what a URL may be beside https.
type urlRule struct {
	what    string // "the issuer's URL"
	http    bool   // plain http too, wherever
	local   bool   // plain http too, on loopback
	query   bool   // with a query
	path    bool   // with a path
	example string
}

// url checks an absolute URL without user information and fragment (RFC 3986, section 3); false if it has a problem.
func (c *compiler) url(t policy.Text, rule urlRule) bool {
	want := "an absolute https URL such as " + rule.example
	bad := func(found, hint string) bool {
		c.add(t.Pos, fmt.Sprintf("found %s %s", rule.what, found), want, hint)
		return false
	}
	if strings.Trim(t.Text, " \t\r\n") != t.Text {
		return bad("with white space at an end", "")
	}
	u, err := url.Parse(t.Text)
	switch {
	case err != nil || !isVisible(t.Text) || strings.ContainsAny(t.Text, `"\<>^{|}`+"`"):
		return bad("that is no URL", "")
	case u.Scheme == "" || u.Opaque != "" || u.Host == "":
		return bad(fmt.Sprintf("%q without scheme or host", t.Text), "")
	case u.User != nil:
		return bad("with user information", "credentials go into a Secret")
	case u.Fragment != "" || strings.Contains(t.Text, "#"):
		return bad("with a fragment", "")
	case !rule.query && strings.Contains(t.Text, "?"):
		hint := ""
		if rule.what == "an issuer" {
			hint = "an issuer has none (RFC 8414, section 2)"
		}
		return bad("with a query", hint)
	case !rule.path && u.Path != "":
		return bad("with a path", "write just scheme, host and port, without a slash at the end")
	case !isAuthority(u.Host):
		return bad(fmt.Sprintf("with host %q", u.Host), "a host name in lower case or an address, and a port below 65536")
	}
	switch u.Scheme {
	case "https":
		return true
	case "http":
		if rule.http || rule.local && isLoopback(u.Hostname()) {
			return true
		}
		if isLoopback(u.Hostname()) {
			return bad("over plain http", "for a provider on loopback set spec.allowHTTP: true")
		}
		return bad("over plain http", "whoever is on the way could put keys of his own in place")
	}
	return bad(fmt.Sprintf("with scheme %q", u.Scheme), "")
}

func isVisible(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// isAuthority reports whether s is a host, lower-case, or an address, with or without a port.
func isAuthority(s string) bool {
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		port, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || port == 0 || strconv.FormatUint(port, 10) != s[i+1:] {
			return false
		}
		host = s[:i]
	}
	if literal, ok := strings.CutPrefix(host, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(literal, "]"))
		return err == nil && a.Is6() && a.Zone() == "" && strings.HasSuffix(literal, "]")
	}
	return isHost(host)
}

// isHost reports whether s is a DNS name (underscores as in internal names allowed) or an IPv4 address.
func isHost(s string) bool {
	return isSubdomain(strings.ReplaceAll(s, "_", "x"))
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && a.IsLoopback()
}
