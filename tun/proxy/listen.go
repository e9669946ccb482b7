package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// ErrExposed is in the error for a listener that everybody in reach could use.
var ErrExposed = errors.New("everybody in reach of this host could use the tunnel")

// Exposure says why a listener may be reached by other hosts. Without a reason it may not.
type Exposure struct {
	Password bool // its clients are asked for a password
	Open     bool // whoever runs it says that it may be open
}

// Listen opens a TCP listener on the host. The address is a literal address and a port:
// an empty host and "localhost" mean 127.0.0.1, "*" all addresses. The error is an
// ErrExposed where other hosts could reach it and nothing in why allows that.
func Listen(ctx context.Context, address string, why Exposure) (net.Listener, error) {
	at, err := hostAddress(address, why)
	if err != nil {
		return nil, err
	}
	return (&net.ListenConfig{}).Listen(ctx, "tcp", at)
}

// ListenPacket opens a UDP socket on the host, by the rules of Listen.
func ListenPacket(ctx context.Context, address string, why Exposure) (net.PacketConn, error) {
	at, err := hostAddress(address, why)
	if err != nil {
		return nil, err
	}
	return (&net.ListenConfig{}).ListenPacket(ctx, "udp", at)
}

// Check tells what Listen would say of an address, and opens nothing.
func Check(address string, why Exposure) error {
	_, err := hostAddress(address, why)
	return err
}

// hostAddress is the address as package net wants it.
func hostAddress(address string, why Exposure) (string, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("proxy: %q is not an address and a port such as 127.0.0.1:1080 or [::1]:1080", address)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return "", fmt.Errorf("proxy: %q: the port must be a number from 0 to 65535", address)
	}
	literal, err := bindHost(host)
	if err != nil {
		return "", fmt.Errorf("proxy: %q: %w", address, err)
	}
	if literal == "" {
		literal = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(literal)
	loopback := err == nil && addr.Unmap().IsLoopback()
	if !loopback && !why.Password && !why.Open {
		return "", fmt.Errorf("proxy: %q is not a loopback address, and no password is set: %w; set a user and password, listen on 127.0.0.1, or say explicitly that it may be open", address, ErrExposed)
	}
	if literal == "*" {
		literal = ""
	}
	return net.JoinHostPort(literal, strconv.FormatUint(port, 10)), nil
}

// bindHost checks the host of an address to listen on: "" for the default, "*" for all, or a
// literal address, which "localhost" is too. A name would have to be resolved by
// the host.
func bindHost(host string) (string, error) {
	switch host {
	case "", "*":
		return host, nil
	case "localhost":
		return "127.0.0.1", nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return "", fmt.Errorf("%q is no address to listen on; give a literal one, localhost, or * for all", host)
	}
	return addr.String(), nil
}
