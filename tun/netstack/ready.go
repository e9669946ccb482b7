package netstack

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// block is memory for what is on its way between a socket of the host and the stack: a run
// of segments or one datagram.
type block [64 << 10]byte

// pool lends blocks.
type pool struct{ blocks sync.Pool }

func (p *pool) take() *block {
	if b, ok := p.blocks.Get().(*block); ok {
		return b
	}
	return new(block)
}

func (p *pool) give(b *block) { p.blocks.Put(b) }

// reader reads a socket of the host.
type reader struct {
	conn net.Conn
	pool *pool
	raw  syscall.RawConn // nil where conn has none
	try  func(uintptr) bool

	block *block
	n     int
	err   error
}

func newReader(conn net.Conn, p *pool) *reader {
	r := &reader{conn: conn, pool: p}
	if c, ok := conn.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			r.raw = raw
		}
	}
	return r
}

// read waits for data. They are valid until the next call; an end of the stream is no data without
// an error, which a datagram may be too.
func (r *reader) read() ([]byte, error) {
	var n int
	var err error
	if r.raw != nil {
		n, err = r.readReady()
	} else {
		n, err = r.readPlain()
	}
	if n == 0 && err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return r.block[:n], nil
}

func (r *reader) readPlain() (int, error) {
	if r.block == nil {
		r.block = r.pool.take()
	}
	return r.conn.Read(r.block[:])
}

// release gives the memory back.
func (r *reader) release() {
	if r.block != nil {
		r.pool.give(r.block)
		r.block = nil
	}
}
