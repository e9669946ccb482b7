package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
)

// Failure is why a client did not get what it asked for.
type Failure int

// The kinds of failure.
const (
	Other       Failure = iota
	Malformed           // what came is not of the protocol, or came too slowly
	Denied              // a wrong or missing password
	Unsupported         // a command, kind of address or scheme that is not spoken here
	Forbidden           // a destination that cannot lie in a tunnel
	Refused             // by the destination
	NoHost              // the destination is not reachable, or there is none of that name
	NoNetwork           // no way to the network of the destination
	TimedOut            // no answer in time; the tunnel may be down
	Crowded             // too many at once
	failures
)

var failureNames = [failures]string{
	"other", "malformed", "denied", "unsupported", "forbidden", "refused", "no-host", "no-network", "timed-out", "crowded",
}

// String is the kind in a word, which does not change: metrics may use it.
func (f Failure) String() string {
	if f < 0 || f >= failures {
		return failureNames[Other]
	}
	return failureNames[f]
}

// failureError is a failure that arises in this package.
type failureError struct {
	kind Failure
	text string
}

func (e *failureError) Error() string { return "proxy: " + e.text }

func fault(kind Failure, text string) error { return &failureError{kind, text} }

// Windows has numbers of its own for errors of sockets, which those of package syscall do
// not stand for. No other system has an error of such a number.
const (
	wsaNetUnreachable  = syscall.Errno(10051)
	wsaTimedOut        = syscall.Errno(10060)
	wsaRefused         = syscall.Errno(10061)
	wsaHostUnreachable = syscall.Errno(10065)
)

// classify finds the kind of an error of package net or of this one.
func classify(err error) Failure {
	if own, ok := errors.AsType[*failureError](err); ok {
		return own.kind
	}
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case is(syscall.ECONNREFUSED, wsaRefused):
		return Refused
	case is(context.DeadlineExceeded, os.ErrDeadlineExceeded, syscall.ETIMEDOUT, wsaTimedOut), isDNS && dns.IsTimeout:
		return TimedOut
	case is(syscall.EHOSTUNREACH, syscall.EHOSTDOWN, wsaHostUnreachable), isDNS:
		return NoHost
	case is(syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, wsaNetUnreachable):
		return NoNetwork
	case isNet && timeout.Timeout():
		return TimedOut
	}
	return Other
}

// reply is what SOCKS5 calls the kind. RFC 1928 §6
func (f Failure) reply() byte {
	switch f {
	case Forbidden, Denied:
		return replyNotAllowed
	case NoNetwork:
		return replyNoNetwork
	case NoHost:
		return replyNoHost
	case Refused:
		return replyRefused
	case TimedOut:
		return replyExpired
	default:
		return replyFailure
	}
}

// status is what HTTP calls the kind. RFC 9110 §15
func (f Failure) status() int {
	switch f {
	case Malformed, Unsupported:
		return http.StatusBadRequest
	case Denied:
		return http.StatusProxyAuthRequired
	case Forbidden:
		return http.StatusForbidden
	case TimedOut:
		return http.StatusGatewayTimeout
	case Crowded:
		return http.StatusServiceUnavailable
	default:
		return http.StatusBadGateway
	}
}

// Explain says for a person why nothing was connected to address.
func Explain(err error, address string) string {
	kind := classify(err)
	if kind == Other {
		return err.Error()
	}
	return kind.explain(address)
}

// explain says for a person what happened to a connection to address.
func (f Failure) explain(address string) string {
	switch f {
	case Refused:
		return address + " refused the connection: it can be reached through the tunnel, but nothing listens on that port."
	case NoHost:
		return address + " was not found inside the tunnel: there is no such name, or the host does not answer."
	case NoNetwork:
		return "The tunnel does not lead to " + address + ": neither its routes nor its addresses fit."
	case TimedOut:
		return address + " did not answer in time. The tunnel may be down: `martlet status` tells."
	case Forbidden:
		return address + " is this host itself or on its own link, and not inside the tunnel; a proxy connects to nothing else."
	default:
		return "No connection to " + address + " through the tunnel."
	}
}
