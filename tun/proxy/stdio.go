package proxy

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
)

// Pipe connects to an address inside the tunnel and carries what it reads from in there, and what
// comes back to out: what ssh's ProxyCommand wants. The end of in ends that direction only.
// When the other side has sent everything, out is closed if it is an io.Closer, and Pipe
// goes on until in ends too, or what it reads cannot be sent any more.
//
// When ctx is done, when the connection fails or out does, Pipe returns at once: its goroutines
// end with the calls of in and out that they are in.
func Pipe(ctx context.Context, o Options, address string, in io.Reader, out io.Writer) error {
	d := o.defaulted()
	conn, err := d.dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer d.Counters.enter()()
	defer closing(ctx, conn)()

	sent, received := make(chan error, 1), make(chan error, 1)
	go func() {
		err := pour(conn, in, &d.Counters.sent)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
		sent <- err
	}()
	go func() {
		err := pour(out, conn, &d.Counters.received)
		if c, ok := out.(io.Closer); ok && err == nil {
			c.Close()
		}
		received <- err
	}()
	var failed error
	for sent != nil || received != nil {
		select {
		case failed = <-sent:
			// If the other side does not take it, what it has sent may still come.
			sent = nil
		case err := <-received:
			if err != nil {
				return errors.Join(err, ctx.Err())
			}
			received = nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return failed
}

// pour copies until from ends.
func pour(to io.Writer, from io.Reader, total *atomic.Uint64) error {
	buf := make([]byte, largeBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
			total.Add(uint64(n))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
