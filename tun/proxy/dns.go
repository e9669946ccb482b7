package proxy

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/dns/dnsmessage"
)

// Upstream is who answers for a suffix.
type Upstream int

// The upstreams.
const (
	Tunnel  Upstream = iota // the resolvers inside the tunnel
	Host                    // the resolvers of the host, outside the tunnel
	Refusal                 // nobody: the client gets REFUSED
)

// Rule says who answers for names that end in a suffix.
type Rule struct {
	Suffix  string // "corp.example"; "" or "." stands for all names
	To      Upstream
	Servers []netip.AddrPort // in place of the usual ones of To; a port of 0 means 53
}

// Check tells what is wrong with a rule.
func (r Rule) Check() error {
	if name := canonical(r.Suffix); name != "" {
		if !isHostname(name) {
			return fmt.Errorf("proxy: dns: %q is not the suffix of a name; write it as corp.example, other scripts as punycode (xn--)", r.Suffix)
		}
		for label := range strings.SplitSeq(name, ".") {
			if label == "" || len(label) > 63 || len(name) > 253 {
				return fmt.Errorf("proxy: dns: the suffix %q has an empty or a too long part", r.Suffix)
			}
		}
	}
	for _, s := range r.Servers {
		if !s.Addr().IsValid() {
			return fmt.Errorf("proxy: dns: a server for %q has no address", r.Suffix)
		}
	}
	if r.To == Refusal && len(r.Servers) > 0 {
		return fmt.Errorf("proxy: dns: %q is refused, so that its servers would not be asked", r.Suffix)
	}
	return nil
}

// DNS is a relay for queries: it does not resolve, and keeps nothing. Each query goes to
// one of the resolvers for its name, then to the next; the rule with the longest suffix counts,
// and where none fits the resolvers of the tunnel are asked.
type DNS struct {
	Options
	Rules []Rule
	// HostServers are the resolvers of the host, for rules that lead there. They are dialled by
	// DialHost; nil means net.Dialer.
	HostServers []netip.AddrPort
	DialHost    func(ctx context.Context, network, address string) (net.Conn, error)

	good [3]atomic.Uint32 // which server of an upstream answered last
}

// How long one server may take before the next is asked.
const (
	patienceUDP = 2 * time.Second
	patienceTCP = 4 * time.Second
	rounds      = 2 // through the list
)

const (
	pipelined  = 16               // queries of one TCP client at the same time
	idleStream = 10 * time.Second // of a TCP client without a query. RFC 7766 §6.2.3
)

// Serve answers queries that come by UDP and by TCP until ctx is done; either may be nil, but a
// long answer needs TCP. It owns both.
func (d *DNS) Serve(ctx context.Context, packets net.PacketConn, streams net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &relayDNS{serving: d.begin(ctx), dns: d}
	var tasks sync.WaitGroup
	if packets != nil {
		tasks.Go(func() { cancel(r.servePackets(packets)) })
	}
	if streams != nil {
		tasks.Go(func() { cancel(r.accept(streams, r.serveStream)) })
	}
	<-ctx.Done()
	tasks.Wait()
	r.end()
	return context.Cause(ctx)
}

// relayDNS is one call of Serve.
type relayDNS struct {
	*serving
	dns      *DNS
	inFlight atomic.Int64
}

// servePackets takes queries by UDP.
func (r *relayDNS) servePackets(c net.PacketConn) error {
	defer closing(r.stop, c)()
	return r.datagrams(c, 0, func(b []byte, from netip.AddrPort) {
		raw := append([]byte(nil), b...)
		to := net.UDPAddrFromAddrPort(from)
		r.tasks.Go(func() {
			if a := r.answer(raw, "udp"); a != nil {
				c.WriteTo(a, to)
			}
		})
	})
}

// serveStream takes queries of one client by TCP. Answers come as they are ready. RFC 7766 §6.2.1.1
func (r *relayDNS) serveStream(conn net.Conn) {
	var (
		mu    sync.Mutex // guards writing
		tasks sync.WaitGroup
		slots = make(chan struct{}, pipelined)
	)
	defer tasks.Wait()
	for {
		conn.SetReadDeadline(time.Now().Add(idleStream))
		raw, err := readFrame(conn)
		if err != nil {
			return
		}
		slots <- struct{}{}
		tasks.Go(func() {
			defer func() { <-slots }()
			a := r.answer(raw, "tcp")
			mu.Lock()
			defer mu.Unlock()
			conn.SetWriteDeadline(time.Now().Add(idleStream))
			if a == nil || writeFrame(conn, a) != nil {
				conn.Close()
			}
		})
	}
}

// answer is what to answer to a query, nil for nothing.
func (r *relayDNS) answer(raw []byte, network string) []byte {
	q, code, ok := parseQuery(raw)
	if !ok {
		r.Counters.fail(Malformed)
		return nil
	}
	if code != dnsmessage.RCodeSuccess {
		r.Counters.fail(Malformed)
		return q.reply(code, false)
	}
	r.Counters.queries.Add(1)
	defer r.inFlight.Add(-1)
	if r.inFlight.Add(1) > int64(r.Limits.queries()) {
		r.Counters.fail(Crowded)
		return q.reply(dnsmessage.RCodeServerFailure, false)
	}
	rule := r.dns.rule(q.question.Name.String())
	if rule.To == Refusal {
		r.Counters.fail(Forbidden)
		return q.reply(dnsmessage.RCodeRefused, false)
	}
	ctx, cancel := context.WithTimeout(r.live, r.Limits.query())
	defer cancel()
	a, err := r.ask(ctx, &q, rule, network)
	if err != nil {
		r.Counters.fail(classify(err))
		r.Log.Debug("a query was not answered", zap.String("name", q.question.Name.String()), zap.Error(err))
		return q.reply(dnsmessage.RCodeServerFailure, false)
	}
	binary.BigEndian.PutUint16(a, q.id)
	return a
}

// rule is the one with the longest suffix that fits.
func (d *DNS) rule(name string) Rule {
	name = canonical(name)
	best, length := Rule{To: Tunnel}, -1
	for _, r := range d.Rules {
		if suffix := canonical(r.Suffix); isBelow(name, suffix) && len(suffix) > length {
			best, length = r, len(suffix)
		}
	}
	return best
}

// ask asks the servers of a rule one after the other, beginning with that which answered
// last. A server that fails or refuses has the last word only if no other has one.
func (r *relayDNS) ask(ctx context.Context, q *query, rule Rule, network string) ([]byte, error) {
	servers, dial, err := r.dns.upstream(ctx, rule)
	if err != nil {
		return nil, err
	}
	if len(servers) == 0 {
		return nil, fault(NoHost, "dns: there is no resolver to ask")
	}
	good := &r.dns.good[rule.To]
	if len(rule.Servers) > 0 {
		good = new(atomic.Uint32)
	}
	var (
		first  = int(good.Load())
		second []byte
		errs   []error
	)
	for i := range rounds * len(servers) {
		at := (first + i) % len(servers)
		server := servers[at]
		if server.Port() == 0 {
			server = netip.AddrPortFrom(server.Addr(), 53)
		}
		a, h, err := exchange(ctx, dial, server, q, network)
		switch {
		case ctx.Err() != nil && err != nil:
			if second != nil {
				return second, nil
			}
			return nil, errors.Join(append(errs, err)...)
		case err != nil:
			errs = append(errs, err)
		case h.RCode == dnsmessage.RCodeServerFailure || h.RCode == dnsmessage.RCodeRefused:
			second = a
			if i+1 >= len(servers) {
				return second, nil
			}
		default:
			good.Store(uint32(at))
			return a, nil
		}
	}
	if second != nil {
		return second, nil
	}
	return nil, errors.Join(errs...)
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// upstream says who is asked for a rule, and how.
func (d *DNS) upstream(ctx context.Context, rule Rule) (servers []netip.AddrPort, dial dialFunc, err error) {
	servers = rule.Servers
	if rule.To == Host {
		if len(servers) == 0 {
			servers = d.HostServers
		}
		if dial = d.DialHost; dial == nil {
			dial = (&net.Dialer{}).DialContext
		}
		return servers, dial, nil
	}
	if len(servers) == 0 {
		servers, err = d.Network.Resolvers(ctx)
	}
	return servers, d.Network.DialContext, err
}

// exchange asks one server. Whatever does not answer the query is passed over: the socket is
// connected, so that it comes from the server's address, but not perhaps from the server.
func exchange(ctx context.Context, dial dialFunc, server netip.AddrPort, q *query, network string) ([]byte, dnsmessage.Header, error) {
	wait := patienceUDP
	if network == "tcp" {
		wait = patienceTCP
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var none dnsmessage.Header
	conn, err := dial(ctx, network, server.String())
	if err != nil {
		return nil, none, err
	}
	defer closing(ctx, conn)()
	var random [2]byte
	rand.Read(random[:]) // never fails
	id := binary.BigEndian.Uint16(random[:])
	if network == "tcp" {
		err = writeFrame(conn, q.withID(id))
	} else {
		_, err = conn.Write(q.withID(id))
	}
	size := max(smallestDNS, min(q.size, longestUDP)) + 1
	for err == nil {
		var b []byte
		if network == "tcp" {
			b, err = readFrame(conn)
		} else {
			b = make([]byte, size)
			var n int
			n, err = conn.Read(b)
			b = b[:n]
			if errors.Is(err, wsaTooLong) {
				err = nil
			}
		}
		if err != nil {
			break
		}
		h, ok := q.answeredBy(b, id)
		switch {
		case !ok:
		case len(b) == size && network == "udp":
			// Longer than the client takes by UDP, or we do, and cut: it is to come by TCP.
			return q.reply(dnsmessage.RCodeSuccess, true), h, nil
		default:
			return b, h, nil
		}
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return nil, none, err
}

// readFrame reads a message behind its length. RFC 1035 §4.2.2
func readFrame(r io.Reader) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

// writeFrame writes a message and its length in one piece.
func writeFrame(w io.Writer, b []byte) error {
	if len(b) > 0xffff {
		return fault(Malformed, "dns: a message is too long")
	}
	_, err := w.Write(append([]byte{byte(len(b) >> 8), byte(len(b))}, b...))
	return err
}
