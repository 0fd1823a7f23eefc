package egress

import "net/netip"

// reach is how an address may be allowed.
type reach int

const (
	public  reach = iota // by a name that leads to it, or by address
	private              // by address or network only
	never                // only by an entry that lies within its own range
)

// kind is a range of special addresses.
type kind struct {
	network netip.Prefix
	reach   reach
	what    string
}

// within reports whether an entry's network names nothing but addresses of this kind.
func (k kind) within(n netip.Prefix) bool {
	return k.network.Contains(n.Addr()) && n.Bits() >= k.network.Bits()
}

// The special addresses: the IANA IPv4 and IPv6 special-purpose registries (RFC 6890 and later), and the metadata
// services of clouds. First match wins.
var kinds = []kind{
	{netip.MustParsePrefix("127.0.0.0/8"), never, "a loopback address"},
	{netip.MustParsePrefix("::1/128"), never, "a loopback address"},
	{netip.MustParsePrefix("0.0.0.0/8"), never, "this host itself"},
	{netip.MustParsePrefix("::/128"), never, "this host itself"},
	{netip.MustParsePrefix("169.254.0.0/16"), never, "a link-local or metadata address"},
	{netip.MustParsePrefix("fe80::/10"), never, "a link-local address"},
	{netip.MustParsePrefix("100.100.100.200/32"), never, "a metadata address"},
	{netip.MustParsePrefix("168.63.129.16/32"), never, "a metadata address"},
	{netip.MustParsePrefix("192.0.0.192/32"), never, "a metadata address"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), never, "a metadata address"},
	{netip.MustParsePrefix("fd20:ce::254/128"), never, "a metadata address"},
	{netip.MustParsePrefix("224.0.0.0/4"), never, "a multicast address"},
	{netip.MustParsePrefix("ff00::/8"), never, "a multicast address"},
	{netip.MustParsePrefix("255.255.255.255/32"), never, "a broadcast address"},
	{netip.MustParsePrefix("10.0.0.0/8"), private, "a private address"},
	{netip.MustParsePrefix("172.16.0.0/12"), private, "a private address"},
	{netip.MustParsePrefix("192.168.0.0/16"), private, "a private address"},
	{netip.MustParsePrefix("100.64.0.0/10"), private, "a carrier's private address"},
	{netip.MustParsePrefix("fc00::/7"), private, "a private address"},
	{netip.MustParsePrefix("fec0::/10"), private, "a private address"},
	{netip.MustParsePrefix("192.0.0.0/24"), private, "a special-purpose address"},
	{netip.MustParsePrefix("192.0.2.0/24"), private, "a documentation address"},
	{netip.MustParsePrefix("198.51.100.0/24"), private, "a documentation address"},
	{netip.MustParsePrefix("203.0.113.0/24"), private, "a documentation address"},
	{netip.MustParsePrefix("2001:db8::/32"), private, "a documentation address"},
	{netip.MustParsePrefix("198.18.0.0/15"), private, "a benchmark address"},
	{netip.MustParsePrefix("240.0.0.0/4"), private, "a reserved address"},
	// Within these an IPv4 address hides, which might be any of the above.
	{netip.MustParsePrefix("::/96"), never, "an IPv4-compatible address"},
	{netip.MustParsePrefix("64:ff9b::/96"), never, "an address translated to IPv4"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), never, "an address translated to IPv4"},
	{netip.MustParsePrefix("2002::/16"), never, "a 6to4 address"},
	{netip.MustParsePrefix("2001::/32"), never, "a Teredo address"},
	{netip.MustParsePrefix("100::/64"), private, "a discard address"},
}

func kindOf(a netip.Addr) kind {
	for _, k := range kinds {
		if k.network.Contains(a) {
			return k
		}
	}
	return kind{reach: public, what: "a public address"}
}
