package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	dialPatience   = 20 * time.Second
	headerPatience = 30 * time.Second
	mostRedirects  = 10
)

// transport sends requests directly or through the proxy that the user has named, and
// connects to nothing else that is not public.
type transport struct {
	proxy   func(*http.Request) (*url.URL, error)
	allow   func(netip.AddrPort) bool
	direct  *http.Transport
	proxied *http.Transport
}

func newTransport(o FetchOptions) *transport {
	t := &transport{proxy: http.ProxyFromEnvironment, allow: o.Allow}
	if o.proxy != nil {
		t.proxy = o.proxy
	}
	if t.allow == nil {
		t.allow = func(netip.AddrPort) bool { return false }
	}
	base := http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: dialPatience, ResponseHeaderTimeout: headerPatience,
		ForceAttemptHTTP2: true, DisableCompression: true, MaxResponseHeaderBytes: 1 << 20,
	}
	t.direct, t.proxied = base.Clone(), base.Clone()
	// The address is looked at when a connection is about to be made, after the name has
	// been resolved: one that means another address now than a moment ago gains nothing.
	t.direct.DialContext = (&net.Dialer{Timeout: dialPatience, ControlContext: t.control}).DialContext
	t.proxied.DialContext = (&net.Dialer{Timeout: dialPatience}).DialContext
	t.proxied.Proxy = t.proxy
	return t
}

func (t *transport) close() {
	t.direct.CloseIdleConnections()
	t.proxied.CloseIdleConnections()
}

// RoundTrip is part of [http.RoundTripper]. Through a proxy it is the proxy that resolves
// the name, and it decides what it connects to; addresses that are written out, and names
// for this machine, are refused all the same.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, &RefusedError{To: r.URL.Redacted(), Why: "it is not https"}
	}
	if why := hostFault(r.URL.Hostname()); why != "" {
		return nil, &RefusedError{To: r.URL.Redacted(), Why: why}
	}
	p, err := t.proxy(r)
	if err != nil {
		return nil, fmt.Errorf("reading the proxy's address (HTTPS_PROXY): %w", err)
	}
	if p == nil {
		return t.direct.RoundTrip(r)
	}
	host := strings.TrimRight(strings.ToLower(r.URL.Hostname()), ".")
	if addr, err := netip.ParseAddr(host); err == nil && !public(addr) {
		return nil, &RefusedError{To: r.URL.Redacted(), Why: notPublic}
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return nil, &RefusedError{To: r.URL.Redacted(), Why: notPublic}
	}
	return t.proxied.RoundTrip(r)
}

// hostFault says what is wrong with a host that may be read as an address by whoever
// resolves it, a proxy for example, and is not written as one: "127.1", "0x7f000001".
// Those are told as browsers do, by a last label that is a number. Letters beyond ASCII
// become others on the way, digits and dots among them.
func hostFault(host string) string {
	if strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return "its host has other letters than those of ASCII: write it as it is in DNS, with xn--"
	}
	if _, err := netip.ParseAddr(strings.TrimRight(host, ".")); err == nil {
		return ""
	}
	host = strings.TrimRight(strings.ToLower(host), ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	hex, isHex := strings.CutPrefix(last, "0x")
	if last != "" && strings.Trim(last, "0123456789") == "" || isHex && strings.Trim(hex, "0123456789abcdef") == "" {
		return "its host is a number, and not written as an address is: write all four parts, without zeros before them"
	}
	return ""
}

const notPublic = "models are fetched from public addresses only, and this one is of a private network or of this machine"

func (t *transport) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return &RefusedError{To: address, Why: err.Error()}
	}
	if !public(to.Addr()) && !t.allow(netip.AddrPortFrom(to.Addr().Unmap(), to.Port())) {
		return &RefusedError{To: address, Why: notPublic}
	}
	return nil
}

func checkRedirect(r *http.Request, via []*http.Request) error {
	from := via[len(via)-1].URL
	switch {
	case r.URL.Scheme != "https":
		return &RefusedError{To: r.URL.Redacted(), Why: fmt.Sprintf("%s leads there, and it is not https", from.Redacted())}
	case len(via) > mostRedirects:
		return &RefusedError{To: r.URL.Redacted(), Why: fmt.Sprintf("%s leads there, and %d times before that elsewhere: it goes in circles", from.Redacted(), mostRedirects)}
	}
	r.Header.Del("Referer")
	return nil
}

func prefixes(all ...string) (out []netip.Prefix) {
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// The addresses that are not public: the special-purpose registries of IANA
// (RFC 6890 and those that it lists), with multicast and what is reserved.
var (
	special4 = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4")
	global6  = netip.MustParsePrefix("2000::/3")
	special6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
	// nat64 is where networks without IPv4 reach its addresses, which are the last 32 bits
	// (RFC 6052).
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// public tells whether an address is of the internet at large.
func public(a netip.Addr) bool {
	a = a.Unmap()
	if a.Zone() != "" {
		return false
	}
	special := special4
	if a.Is6() {
		if nat64.Contains(a) {
			b := a.As16()
			return public(netip.AddrFrom4([4]byte(b[12:])))
		}
		if !global6.Contains(a) {
			return false
		}
		special = special6
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return a.IsValid()
}

// final tells whether trying again at the same address is of no use.
func final(err error) bool {
	var (
		refused *RefusedError
		wrong   *WrongError
		status  *statusError
		space   *SpaceError
		cert    *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &status):
		return !status.passing()
	case errors.As(err, &refused), errors.As(err, &wrong), errors.As(err, &space), errors.As(err, &cert):
		return true
	}
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}
