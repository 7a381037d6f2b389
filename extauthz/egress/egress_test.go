package egress_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/usher-authz/usher/extauthz/egress"
)

func TestRefused(t *testing.T) {
	own := []net.Addr{&net.IPNet{IP: net.ParseIP("10.1.2.3"), Mask: net.CIDRMask(24, 32)}, &net.IPNet{IP: net.ParseIP("2001:db8::7"), Mask: net.CIDRMask(64, 128)}}
	for address, want := range map[string]string{
		"127.0.0.1": "loopback", "127.8.9.10": "loopback", "::1": "loopback", "::ffff:127.0.0.1": "loopback", "64:ff9b::7f00:1": "loopback",
		"0.0.0.0": "unspecified", "0.1.2.3": "unspecified", "::": "unspecified", "::ffff:0.0.0.0": "unspecified",
		"169.254.169.254": "link-local", "169.254.0.1": "link-local", "fe80::1": "link-local", "fe80::1%eth0": "link-local", "::ffff:169.254.169.254": "link-local", "64:ff9b::a9fe:a9fe": "link-local",
		"224.0.0.1": "multicast", "ff02::1": "multicast", "255.255.255.255": "multicast",
		"fd00:ec2::254": "metadata", "fd20:ce::254": "metadata", "168.63.129.16": "metadata", "100.100.100.200": "metadata",
		"fd00:ec2::23": "metadata", "fd00:c1::a9fe:a9fe": "metadata", "fd00:42::42": "metadata", "192.0.0.192": "metadata",
		"fd00:a9fe:a9fe::1": "metadata", "fd00:100::100:200": "metadata",
		"10.1.2.3": "Usher's own", "::ffff:10.1.2.3": "Usher's own", "2001:db8::7": "Usher's own",
		"10.1.2.4": "", "192.168.1.1": "", "172.16.0.1": "", "1.1.1.1": "", "2001:db8::8": "", "fd00::1": "", "64:ff9b::a01:204": "",
	} {
		got := egress.Refused(netip.MustParseAddr(address), own)
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
	if egress.Refused(netip.Addr{}, nil) == "" {
		t.Error("the zero address is not refused")
	}
}

// A name is looked at when it has become an address.
func TestDialer_looks_at_addresses_and_not_at_names(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		address := net.JoinHostPort(host, port)
		c, err := egress.Dialer(time.Minute, true).DialContext(t.Context(), "tcp", address)
		if err == nil {
			c.Close()
			t.Fatalf("%s: connected", address)
		}
		if !strings.Contains(err.Error(), "a loopback address") || !strings.Contains(err.Error(), egress.Flag) {
			t.Errorf("%s: %v", address, err)
		}
	}
	c, err := egress.Dialer(time.Minute, false).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
