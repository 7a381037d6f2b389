package egress

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// Flag is what the error names: the switch of usher serve that permits every address.
const Flag = "--allow-local-addresses"

// Dialer returns one that connects within the time. With noLocal it refuses the addresses that [Refused] gives a name.
func Dialer(within time.Duration, noLocal bool) *net.Dialer {
	d := &net.Dialer{Timeout: within}
	if noLocal {
		d.Control = control
	}
	return d
}

// control is called with the address that is connected to, after the resolution of its name.
func control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("refused to connect to %q, which is no address and port", address)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("refused to connect to %s, as the own addresses are not known", to.Addr())
	}
	if what := Refused(to.Addr(), own); what != "" {
		return fmt.Errorf("refused to connect to %s, %s, for another namespace than Usher's own (usher serve %s permits it)", to.Addr(), what, Flag)
	}
	return nil
}

// metadata are where clouds tell a machine its credentials, beside the link-local addresses (169.254.0.0/16, fe80::/10): as the
// clouds' own pages have it, and cloud-init's of its data sources.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),      // Amazon
	netip.MustParseAddr("fd00:ec2::23"),       // Amazon, of a pod
	netip.MustParseAddr("fd20:ce::254"),       // Google
	netip.MustParseAddr("168.63.129.16"),      // Azure
	netip.MustParseAddr("100.100.100.200"),    // Alibaba
	netip.MustParseAddr("fd00:100::100:200"),  // Alibaba
	netip.MustParseAddr("fd00:a9fe:a9fe::1"),  // Linode
	netip.MustParseAddr("fd00:c1::a9fe:a9fe"), // Oracle
	netip.MustParseAddr("192.0.0.192"),        // Oracle Cloud Infrastructure Classic
	netip.MustParseAddr("fd00:42::42"),        // Scaleway
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")    // RFC 6890: Linux takes 0.0.0.0 for the loopback interface
	nat64       = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: an IPv4 address is in its last four bytes
)

// Refused says what kind of address it is that a tenant must not make Usher connect to; empty: he may. own are the addresses of
// this machine's interfaces.
func Refused(a netip.Addr, own []net.Addr) string {
	a = a.Unmap().WithZone("")
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case !a.IsValid():
		return "no address"
	case a.IsLoopback():
		return "a loopback address"
	case a.IsUnspecified(), thisNetwork.Contains(a):
		return "an unspecified address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "a multicast address"
	case slices.Contains(metadata, a):
		return "a cloud's metadata address"
	case slices.ContainsFunc(own, func(n net.Addr) bool { return isAt(n, a) }):
		return "an address of Usher's own"
	}
	return ""
}

// isAt reports whether an interface has the address.
func isAt(n net.Addr, a netip.Addr) bool {
	prefix, err := netip.ParsePrefix(n.String())
	return err == nil && prefix.Addr().Unmap().WithZone("") == a
}
