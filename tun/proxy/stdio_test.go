package proxy

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// closer is an out that tells when it is closed.
type closer struct {
	strings.Builder
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

func TestPipe(t *testing.T) {
	n := newInside()
	n.put("echo.test", "10.9.0.1", 22, echo(t))
	c := new(Counters)
	said := strings.Repeat("0123456789", 100_000)
	var out closer
	// The server ends when what it reads does, and has sent all then.
	if err := Pipe(t.Context(), Options{Network: n, Counters: c}, "echo.test:22", strings.NewReader(said), &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != said || out.closed != 1 {
		t.Errorf("%d octets, closed %d times", out.Len(), out.closed)
	}
	if s := c.Snapshot(); s.Sent != 1_000_000 || s.Received != 1_000_000 || s.Open != 0 {
		t.Errorf("counted %+v", s)
	}
}

func TestPipeOtherSideEndsFirst(t *testing.T) {
	n := newInside()
	l := loopback(t)
	n.put("a.test", "10.9.0.1", 22, l.Addr())
	var got []byte
	var tasks sync.WaitGroup
	tasks.Go(func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "bye")
		c.(interface{ CloseWrite() error }).CloseWrite()
		got, _ = io.ReadAll(c)
	})
	in, feed := io.Pipe()
	read, out := io.Pipe()
	tasks.Go(func() {
		if b, err := io.ReadAll(read); string(b) != "bye" || err != nil { // ends because out is closed
			t.Errorf("%q, %v", b, err)
		}
		io.WriteString(feed, "still here")
		feed.Close()
	})
	if err := Pipe(t.Context(), Options{Network: n}, "a.test:22", in, out); err != nil {
		t.Error(err)
	}
	tasks.Wait()
	if string(got) != "still here" {
		t.Errorf("the other side got %q", got)
	}
}

func TestPipeFailures(t *testing.T) {
	n := newInside()
	n.put("echo.test", "10.9.0.1", 22, echo(t))
	c := new(Counters)
	if err := Pipe(t.Context(), Options{Network: n, Counters: c}, "10.9.0.2:22", nil, nil); !errors.Is(err, syscall.EHOSTUNREACH) || c.Snapshot().Failures[NoHost] != 1 {
		t.Errorf("nobody there: %v", err)
	}
	in, feed := io.Pipe()
	defer feed.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var out strings.Builder
	done := make(chan error)
	go func() { done <- Pipe(ctx, Options{Network: n}, "echo.test:22", in, &out) }()
	io.WriteString(feed, "x")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("after the context's end: %v", err)
	}
}
