package martlet

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"martlet/esp/udpencap"
	"martlet/ike/probe"
)

// Why a way does not answer.
const (
	whyRefused = "refused"
	whyIKEv1   = "it speaks IKEv1 only"
)

const (
	probePatience = 4 * time.Second
	probePause    = 50 * time.Millisecond
)

// probeLine is a way with its socket.
type probeLine struct {
	prober  *Prober
	way     ProbeWay
	prepare func(network, address string, c syscall.RawConn) error // the socket; nil: Control of the Prober

	socket *probeSocket
	trips  []time.Duration
}

// close ends the socket, if there is one.
func (l *probeLine) close() {
	if l.socket != nil {
		l.socket.close()
	}
}

// alive finds out whether the way is answered, and how long that takes.
func (l *probeLine) alive(ctx context.Context) {
	if err := l.open(ctx); err != nil {
		l.way.Why = whyNot(err)
		return
	}
	for range aliveRounds {
		if _, err := l.ask(ctx, probe.Alive()); err != nil {
			if !l.way.Answered {
				l.way.Why = whyNot(err)
			}
			return
		}
		l.way.Answered = true
	}
	l.measure()
}

// measure sets the round trip.
func (l *probeLine) measure() {
	if n := len(l.trips); n > 0 {
		l.way.RoundTrip = slices.Sorted(slices.Values(l.trips))[n/2]
	}
}

func (l *probeLine) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(l.prober.Patience, probePatience))
	defer cancel()
	var err error
	if l.way.Transport == "tcp" {
		l.socket, err = dialProbeStream(ctx, l.way.Remote, l.prober.Control)
		return err
	}
	prepare := l.prepare
	if prepare == nil {
		prepare = l.prober.Control
	}
	l.socket, err = dialProbeDatagrams(ctx, l.way.Remote, prepare)
	return err
}

// ask is probe.Ask.
func (l *probeLine) ask(ctx context.Context, q probe.Question) (*probe.Answer, error) {
	if l.prober.Pause >= 0 && len(l.trips) > 0 {
		pause := time.NewTimer(cmp.Or(l.prober.Pause, probePause))
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	r, err := probe.NewRequest(q, l.socket.local, l.way.Remote)
	if err != nil {
		return nil, err
	}
	for {
		a, trip, err := l.exchange(ctx, r)
		if err != nil {
			return nil, err
		}
		if trip > 0 {
			l.trips = append(l.trips, trip)
		}
		if a.Kind != probe.CookieAsked {
			return a, nil
		}
		l.way.Cookie = true
		if err := r.Repeat(a); err != nil {
			return nil, err
		}
	}
}

// exchange sends a request, repeats it with longer and longer pauses, and returns the first answer.
// What is no answer to it is passed over, and told of where none comes. The round trip is 0 where
// the request was repeated: nobody knows which was answered.
func (l *probeLine) exchange(ctx context.Context, r *probe.Request) (*probe.Answer, time.Duration, error) {
	patience := cmp.Or(l.prober.Patience, probePatience)
	end := time.NewTimer(patience)
	defer end.Stop()
	again := time.NewTimer(patience / 8)
	defer again.Stop()
	began, wait := time.Now(), patience/8
	fault := l.socket.write(r.Append(nil))
	if errors.Is(fault, syscall.EMSGSIZE) {
		return nil, 0, fault // it will not become shorter
	}
	sent, refused := 1, 0
	for {
		select {
		case got := <-l.socket.got:
			if got.err != nil {
				fault, refused = got.err, refused+1
				if refused > 1 || l.socket.stream {
					return nil, 0, fault // once may be of a moment, or of a stranger
				}
				continue
			}
			a, err := probe.Read(r, got.data)
			switch {
			case err == nil && sent == 1:
				return a, time.Since(began), nil
			case err == nil:
				return a, 0, nil
			case !errors.Is(err, probe.ErrForeign):
				fault = err
			}
		case <-again.C:
			if l.socket.stream {
				continue // TCP repeats by itself
			}
			wait *= 2
			again.Reset(wait)
			sent++
			if err := l.socket.write(r.Append(nil)); err != nil {
				fault, refused = err, refused+1 // what a router said of the one before
			}
		case <-end.C:
			return nil, 0, cmp.Or(fault, fmt.Errorf("no answer in %v", patience))
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}

// whyNot is an error as a report says it.
func whyNot(err error) string {
	op, _ := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return whyRefused
	case errors.Is(err, probe.ErrIKEv1):
		return whyIKEv1
	case errors.Is(err, context.DeadlineExceeded) || op != nil && op.Timeout():
		return "no answer"
	case op != nil:
		return op.Err.Error()
	}
	return err.Error()
}

// received is what came to a socket: a message without marker, or an error.
type received struct {
	data []byte
	err  error
}

// probeSocket is a socket to one port. One goroutine reads it.
type probeSocket struct {
	local  netip.AddrPort
	stream bool
	got    chan received
	write  func(msg []byte) error
	close  func()
}

// longestAnswer is what is read of an answer, in octets: a datagram has no more.
const longestAnswer = 65535

// maxFaults is how many errors of a socket are heard of until it is not read any more.
const maxFaults = 16

// dialProbeDatagrams makes a UDP socket. Messages have the non-ESP marker but on port 500 (RFC 7296
// §2.23).
func dialProbeDatagrams(ctx context.Context, remote netip.AddrPort, prepare func(string, string, syscall.RawConn) error) (*probeSocket, error) {
	dialer := net.Dialer{Control: prepare}
	conn, err := dialer.DialContext(ctx, "udp", remote.String())
	if err != nil {
		return nil, err
	}
	var marker []byte
	if remote.Port() != ikePort {
		marker = make([]byte, 4)
	}
	done := make(chan struct{})
	s := &probeSocket{local: conn.LocalAddr().(*net.UDPAddr).AddrPort(), got: make(chan received)}
	s.write = func(msg []byte) error {
		_, err := conn.Write(append(slices.Clone(marker), msg...))
		return err
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		b := make([]byte, longestAnswer)
		for faults := 0; faults < maxFaults; {
			n, err := conn.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			r := received{err: err}
			if err != nil {
				faults++
			} else if data, marked := bytes.CutPrefix(b[:n], marker); marked {
				r.data = slices.Clone(data)
			} else {
				continue // ESP, or a keepalive
			}
			if !s.deliver(r, done) {
				return
			}
		}
	})
	s.close = func() {
		close(done)
		conn.Close()
		reading.Wait()
	}
	return s, nil
}

// deliver hands over what came, unless the socket is closed before.
func (s *probeSocket) deliver(r received, done <-chan struct{}) bool {
	select {
	case s.got <- r:
		return true
	case <-done:
		return false
	}
}

var errStreamEnded = errors.New("a connection is taken, and closed when it is spoken to in IKE")

// dialProbeStream makes a TCP stream (RFC 9329).
func dialProbeStream(ctx context.Context, remote netip.AddrPort, control func(network, address string, c syscall.RawConn) error) (*probeSocket, error) {
	done := make(chan struct{})
	s := &probeSocket{stream: true, got: make(chan received)}
	streams := udpencap.NewStreams()
	streams.Network = &udpencap.TCP{Control: control}
	streams.Closed = func(netip.AddrPort, netip.AddrPort) { s.deliver(received{err: errStreamEnded}, done) }
	var reading sync.WaitGroup
	s.close = func() {
		close(done)
		streams.Close()
		reading.Wait()
	}
	var err error
	if s.local, err = streams.Dial(ctx, netip.Addr{}, remote); err != nil {
		s.close()
		return nil, err
	}
	s.write = func(msg []byte) error {
		_, err := streams.Write([]udpencap.Packet{{Kind: udpencap.IKE, Data: msg, Local: s.local, Remote: remote}})
		return err
	}
	reading.Go(func() {
		packets := make([]udpencap.Packet, 1)
		for {
			n, err := streams.Read(packets)
			if err != nil {
				return
			}
			for _, p := range packets[:n] {
				if p.Kind == udpencap.IKE && !s.deliver(received{data: slices.Clone(p.Data)}, done) {
					return
				}
			}
		}
	})
	return s, nil
}
