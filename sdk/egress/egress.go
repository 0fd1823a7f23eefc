// Package egress holds a task's connections to what its namespace's allow-list names. The check is made on the resolved
// address as each connection is opened, so neither a redirect nor a name that resolves differently the second time gets
// around it.
//
// An allow-list is text, its entries separated by commas or white space:
//
//	api.example.com            this name, any port          api.example.com:443       this name and port
//	*.example.com[:443]        every name below it          *[:443]                   every name
//	10.1.2.3[:8080]            this address                 10.0.0.0/8[:8080]         these addresses
//	[fd00::1]:443  fd00::/8    likewise                     localhost:18080           127.0.0.0/8 and ::1
//	!10.0.0.5:8080             never, whatever else is listed
//
// Names lead to public addresses only. A private address is reached by listing it, or a network it is in, whatever the
// name that leads to it. Loopback, link-local and metadata addresses are reached only by an entry that names nothing
// else: 0.0.0.0/0 does not list 127.0.0.1, 127.0.0.1:18080 does.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Refused says that a connection was not allowed. It is found with errors.As in the error of a dial or a request.
type Refused struct {
	Host    string // as the task named it, with its port
	Address string // what it resolved to; empty: it was not resolved
	Reason  string // and how to allow it
}

// Error gives host, address and reason in one line.
func (r *Refused) Error() string {
	if r.Address == "" || r.Address == r.Host {
		return fmt.Sprintf("connection to %s refused: %s", r.Host, r.Reason)
	}
	return fmt.Sprintf("connection to %s (%s) refused: %s", r.Host, r.Address, r.Reason)
}

// Policy is an allow-list. It is safe for concurrent use.
type Policy struct {
	allow, deny []entry
	nothing     string // why nothing at all is allowed

	once      sync.Once
	transport *http.Transport
}

// entry is one line of an allow-list: a network or a name, and a port (0: any).
type entry struct {
	networks []netip.Prefix
	name     string // lower case, without a final dot; with suffix: ".example.com", or "" for every name
	suffix   bool
	port     uint16
}

// Nothing gives a policy that refuses everything, for this reason.
func Nothing(reason string) *Policy { return &Policy{nothing: reason} }

// Parse reads an allow-list. The empty list allows nothing. The error names the entry that cannot be read.
func Parse(allow string) (*Policy, error) {
	p := &Policy{}
	for _, text := range strings.FieldsFunc(allow, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' || r == '\r' }) {
		rest, denied := strings.CutPrefix(text, "!")
		e, err := parseEntry(rest)
		if err != nil {
			return nil, fmt.Errorf("allow-list entry %q: %w", text, err)
		}
		if denied {
			p.deny = append(p.deny, e)
		} else {
			p.allow = append(p.allow, e)
		}
	}
	if len(p.allow) == 0 {
		p.nothing = "the allow-list is empty"
	}
	return p, nil
}

func parseEntry(text string) (entry, error) {
	if strings.Contains(text, "://") {
		return entry{}, errors.New("write host or host:port, without a scheme")
	}
	if e, ok, err := parseNetwork(text); ok || err != nil {
		return e, err
	}
	var e entry
	name := text
	if host, port, found := strings.Cut(text, ":"); found {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return entry{}, fmt.Errorf("port %q is not 1 to 65535", port)
		}
		name, e.port = host, uint16(n)
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	switch {
	case name == "*":
		e.suffix = true
	case name == "localhost":
		e.networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	case strings.HasPrefix(name, "*."):
		e.suffix, e.name = true, name[1:]
		if len(name) < 4 || strings.Contains(name[1:], "*") {
			return entry{}, errors.New(`"*" may stand only for the first labels: *.example.com`)
		}
	case name == "" || strings.ContainsAny(name, "*/[]@?#"):
		return entry{}, errors.New("not a name, an address or a network")
	default:
		e.name = name
	}
	return e, nil
}

// parseNetwork reads an address or a network, each with or without a port; ok is false if text is neither.
func parseNetwork(text string) (e entry, ok bool, err error) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		e.networks = []netip.Prefix{prefixOf(a)}
		return e, true, nil
	}
	if ap, err := netip.ParseAddrPort(text); err == nil && ap.Port() != 0 {
		e.networks, e.port = []netip.Prefix{prefixOf(ap.Addr())}, ap.Port()
		return e, true, nil
	}
	address, bits, isNetwork := strings.Cut(text, "/")
	if !isNetwork {
		return e, false, nil
	}
	if count, port, found := strings.Cut(bits, ":"); found {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return e, false, fmt.Errorf("port %q is not 1 to 65535", port)
		}
		bits, e.port = count, uint16(n)
	}
	network, err := netip.ParsePrefix(strings.Trim(address, "[]") + "/" + bits)
	if err != nil {
		return e, false, errors.New("not a network such as 10.0.0.0/8")
	}
	e.networks = []netip.Prefix{network.Masked()}
	return e, true, nil
}

func prefixOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

func (e entry) hasName(host string, port uint16) bool {
	if len(e.networks) > 0 || e.port != 0 && e.port != port {
		return false
	}
	if e.suffix {
		return strings.HasSuffix(host, e.name)
	}
	return host == e.name
}

// listed gives the network of the entry that a is in.
func (e entry) listed(a netip.Addr, port uint16) (netip.Prefix, bool) {
	if e.port != 0 && e.port != port {
		return netip.Prefix{}, false
	}
	for _, n := range e.networks {
		if n.Contains(a) {
			return n, true
		}
	}
	return netip.Prefix{}, false
}

// Check says whether a connection to host (a name, or an address) that resolved to the address and port to is allowed.
// A refusal is a *Refused. DialContext asks it; so must whoever dials otherwise.
func (p *Policy) Check(host string, to netip.AddrPort) error {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	a, port := to.Addr().Unmap().WithZone(""), to.Port()
	refused := func(reason string) error {
		return &Refused{
			Host:    net.JoinHostPort(host, strconv.Itoa(int(port))),
			Address: netip.AddrPortFrom(a, port).String(),
			Reason:  reason,
		}
	}
	if p.nothing != "" {
		return refused(p.nothing)
	}
	for _, e := range p.deny {
		if _, hit := e.listed(a, port); hit || e.hasName(host, port) {
			return refused("the allow-list excludes it")
		}
	}
	k := kindOf(a)
	for _, e := range p.allow {
		n, hit := e.listed(a, port)
		if hit && (k.reach != never || k.within(n)) {
			return nil
		}
	}
	named := false
	for _, e := range p.allow {
		named = named || e.hasName(host, port)
	}
	switch {
	case named && k.reach == public:
		return nil
	case k.reach == never:
		return refused(fmt.Sprintf("%s is %s; it is reached only if it is listed by address: %s", a, k.what, netip.AddrPortFrom(a, port)))
	case named:
		return refused(fmt.Sprintf("%s is %s; list the address or its network too", a, k.what))
	}
	return refused("it is not on the allow-list")
}

// CheckName says whether any entry could allow a connection to host and port, before the name is given to a name server:
// what it refuses (as a *Refused) Check refuses whatever the name resolves to. For an address it is Check.
func (p *Policy) CheckName(host string, port uint16) error {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if a, err := netip.ParseAddr(host); err == nil {
		return p.Check(host, netip.AddrPortFrom(a, port))
	}
	refused := func(reason string) error {
		return &Refused{Host: net.JoinHostPort(host, strconv.Itoa(int(port))), Reason: reason}
	}
	if p.nothing != "" {
		return refused(p.nothing)
	}
	for _, e := range p.deny {
		if e.hasName(host, port) {
			return refused("the allow-list excludes it")
		}
	}
	for _, e := range p.allow {
		if e.hasName(host, port) || len(e.networks) > 0 && (e.port == 0 || e.port == port) {
			return nil
		}
	}
	return refused("it is not on the allow-list")
}

// dialTimeout bounds one connection attempt where the context does not.
const dialTimeout = 10 * time.Second

// DialContext opens a connection to address (host:port) if the allow-list allows it; network is "tcp", "tcp4" or "tcp6".
// A refusal is a *Refused. It has the signature of http.Transport.DialContext.
func (p *Policy) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("dial %s: port %q is not 1 to 65535", address, portText)
	}
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, fmt.Errorf("dial %s: network %q is not allowed, only tcp", address, network)
	}
	name, port := strings.TrimSuffix(strings.ToLower(host), "."), uint16(n)
	if err := p.CheckName(name, port); err != nil {
		return nil, err
	}
	dialer := net.Dialer{
		Timeout: dialTimeout,
		// Called with the resolved address between socket(2) and connect(2), for each address that is tried.
		ControlContext: func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(resolved)
			if err != nil {
				return fmt.Errorf("resolved address %q: %w", resolved, err)
			}
			return p.Check(name, ap)
		},
	}
	return dialer.DialContext(ctx, network, address)
}

// maxRedirects is as in net/http.
const maxRedirects = 10

// Client gives an HTTP client that reaches only what is allowed, on redirects too. It uses no proxy. It has no time limit
// but that of the request's context. Clients of one policy share their connections.
func (p *Policy) Client() *http.Client {
	return &http.Client{
		Transport: p.roundTripper(),
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= maxRedirects {
				return fmt.Errorf("stopped after %d redirects", maxRedirects)
			}
			return nil
		},
	}
}

func (p *Policy) roundTripper() *http.Transport {
	p.once.Do(func() {
		p.transport = &http.Transport{
			DialContext:           p.DialContext,
			ForceAttemptHTTP2:     true,
			MaxIdleConns:          64,
			MaxIdleConnsPerHost:   8,
			IdleConnTimeout:       30 * time.Second,
			TLSHandshakeTimeout:   dialTimeout,
			ExpectContinueTimeout: time.Second,
		}
	})
	return p.transport
}

// CloseIdle closes the connections that no request uses.
func (p *Policy) CloseIdle() { p.roundTripper().CloseIdleConnections() }

// cache keeps the policies of the allow-lists in use, so that connections outlive an attempt. A process sees few: one
// for each namespace it serves.
var cache = struct {
	sync.Mutex
	policies map[string]*Policy
}{policies: map[string]*Policy{}}

const maxCached = 64

// Cached is Parse, but gives the same policy for the same list, and with it the same connections.
func Cached(allow string) (*Policy, error) {
	cache.Lock()
	defer cache.Unlock()
	if p := cache.policies[allow]; p != nil {
		return p, nil
	}
	p, err := Parse(allow)
	if err != nil {
		return nil, err
	}
	if len(cache.policies) >= maxCached {
		for _, old := range cache.policies {
			old.CloseIdle()
		}
		clear(cache.policies)
	}
	cache.policies[allow] = p
	return p, nil
}
