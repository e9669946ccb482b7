package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/proxy"
)

// The services of the target, by port.
const (
	portSource = "80" // sends for ever
	portSink   = "81" // takes, and counts
	portExact  = "82" // sends as many octets of the pattern as asked for, from where it is asked for
	portCount  = "83" // tells beside the tunnel how much the sink has taken
)

// patternSize is no multiple of a packet or a buffer: a piece in the wrong place shows.
const patternSize = 1<<20 + 7

// newPattern is the same in every process.
func newPattern() []byte {
	b := make([]byte, patternSize)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // it never fails
	return b
}

// target is what programs behind the tunnel connect to.
func target(inner, outer string) error {
	var (
		pattern = newPattern()
		taken   atomic.Int64
		failed  = make(chan error)
	)
	for _, s := range []struct {
		address, port string
		handle        func(net.Conn)
	}{
		{inner, portSource, func(c net.Conn) {
			for {
				if _, err := c.Write(pattern); err != nil {
					return
				}
			}
		}},
		{inner, portSink, func(c net.Conn) {
			_ = readInto(c, &taken) // the client ends it when it has seen enough
		}},
		{inner, portExact, func(c net.Conn) { _ = sendExact(c, pattern) }}, // the client misses what did not come
		{outer, portCount, func(c net.Conn) {
			_ = binary.Write(c, binary.BigEndian, []int64{taken.Load(), time.Now().UnixNano()})
		}},
	} {
		l, err := net.Listen("tcp", net.JoinHostPort(s.address, s.port))
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					failed <- err
					return
				}
				go func() {
					defer c.Close()
					s.handle(c)
				}()
			}
		}()
	}
	fmt.Println(ready)
	return <-failed
}

// sendExact reads where in the pattern to begin and how many octets to send, and does so.
func sendExact(c net.Conn, pattern []byte) error {
	var want [2]uint64
	if err := binary.Read(c, binary.BigEndian, &want); err != nil {
		return err
	}
	for at, left := want[0]%patternSize, want[1]; left > 0; at = 0 {
		piece := pattern[at:min(patternSize, at+left)]
		if _, err := c.Write(piece); err != nil {
			return err
		}
		left -= uint64(len(piece))
	}
	return nil
}

// load moves octets through SOCKS5 by some streams: a second to get going, and then as many as
// are asked for. It prints bits a second, as the receiver counts them.
func load(direction, streams, seconds string) error {
	n, err := strconv.Atoi(streams)
	if err != nil {
		return err
	}
	s, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	var (
		got     atomic.Int64
		failed  = make(chan error, n)
		service = portSource
		move    = func(c net.Conn) error { return readInto(c, &got) }
		count   = func() (moved, error) { return moved{got.Load(), time.Now().UnixNano()}, nil }
	)
	if direction == "up" {
		pattern := newPattern()
		service, count = portSink, askCount
		move = func(c net.Conn) error {
			for {
				if _, err := c.Write(pattern); err != nil {
					return err
				}
			}
		}
	}
	for range n {
		c, err := dialSocks(service)
		if err != nil {
			return err
		}
		defer c.Close()
		go func() { failed <- move(c) }()
	}
	wait := func(d time.Duration) error {
		select {
		case err := <-failed:
			return fmt.Errorf("a stream ended early: %w", err)
		case <-time.After(d):
			return nil
		}
	}
	if err := wait(time.Second); err != nil {
		return err
	}
	before, err := count()
	if err != nil {
		return err
	}
	if err := wait(time.Duration(s) * time.Second); err != nil {
		return err
	}
	after, err := count()
	if err != nil {
		return err
	}
	fmt.Println(after.since(before))
	return nil
}

// moved is how many octets have arrived at a time, in ns.
type moved struct{ Octets, At int64 }

// since is the rate from before until then, in bits a second.
func (m moved) since(before moved) float64 {
	return float64(m.Octets-before.Octets) * 8e9 / float64(m.At-before.At)
}

// askCount asks the target how much its sink has taken.
func askCount() (m moved, err error) {
	c, err := net.Dial("tcp", net.JoinHostPort(outerB, portCount))
	if err != nil {
		return m, err
	}
	defer c.Close()
	return m, binary.Read(c, binary.BigEndian, &m)
}

// readInto reads to the end and counts on the way.
func readInto(r io.Reader, count *atomic.Int64) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		count.Add(int64(n))
		if err != nil {
			return err
		}
	}
}

// downloads loads through SOCKS5 as many times as told at the same time: all are connected
// before the first is sent anything. It compares what comes, and prints how long it took from
// then on.
func downloads(count, octets string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(octets)
	if err != nil {
		return err
	}
	var (
		pattern = newPattern()
		conns   = make([]net.Conn, n)
		errs    = make([]error, n)
	)
	each := func(f func(i int) error) error {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				if err := f(i); err != nil {
					errs[i] = fmt.Errorf("download %d of %d: %w", i+1, n, err)
				}
			})
		}
		all.Wait()
		return errors.Join(errs...)
	}
	if err := each(func(i int) (err error) {
		conns[i], err = dialSocks(portExact)
		return err
	}); err != nil {
		return err
	}
	began := time.Now()
	err = each(func(i int) error {
		defer conns[i].Close()
		return receiveExact(conns[i], pattern, uint64(i*4099), uint64(size))
	})
	fmt.Println(time.Since(began))
	return err
}

// receiveExact asks for a piece of the pattern and compares it.
func receiveExact(c net.Conn, pattern []byte, at, size uint64) error {
	if err := binary.Write(c, binary.BigEndian, [2]uint64{at, size}); err != nil {
		return err
	}
	at %= patternSize
	buf := make([]byte, 64<<10)
	for got := uint64(0); ; {
		n, err := c.Read(buf)
		for b := buf[:n]; len(b) > 0; {
			want := pattern[at:min(patternSize, at+uint64(len(b)))]
			if !bytes.Equal(b[:len(want)], want) {
				return fmt.Errorf("octets behind the first %d are not those that were sent", got)
			}
			b = b[len(want):]
			got += uint64(len(want))
			at = (at + uint64(len(want))) % patternSize
		}
		switch {
		case got > size:
			return fmt.Errorf("more than %d octets came", size)
		case errors.Is(err, io.EOF) && got == size:
			return nil
		case err != nil:
			return fmt.Errorf("%d of %d octets came: %w", got, size, err)
		}
	}
}

func dialSocks(port string) (net.Conn, error) {
	dialer, err := proxy.SOCKS5("tcp", socksAddress, nil, proxy.Direct)
	if err != nil {
		return nil, err
	}
	return dialer.Dial("tcp", net.JoinHostPort(innerB, port))
}
