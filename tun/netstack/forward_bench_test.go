package netstack

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Octets between a client and a server on this host, through the gateway.
func BenchmarkForward(b *testing.B) {
	for name, upload := range map[string]bool{"download": false, "upload": true} {
		b.Run(name, func(b *testing.B) {
			w := newWorld()
			w.serve(b, publicHosts[0], func(c *net.TCPConn) {
				if upload {
					io.Copy(struct{ io.Writer }{io.Discard}, c)
					c.Write([]byte{1})
					return
				}
				io.Copy(c, io.LimitReader(zeros{}, int64(b.N)<<20))
			})
			client, _ := forwarding(b, ForwardConfig{Dial: w.dial}, nil)
			c := dial(b, client, "tcp", publicHosts[0])
			b.SetBytes(1 << 20)
			b.ResetTimer()
			buf := make([]byte, 256<<10)
			if !upload {
				if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, buf); n != int64(b.N)<<20 || err != nil {
					b.Error(n, err)
				}
				return
			}
			for range b.N * 4 {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			c.(interface{ CloseWrite() error }).CloseWrite()
			if _, err := c.Read(buf[:1]); err != nil {
				b.Error(err)
			}
		})
	}
}

// Datagrams there and back, of one flow and one at a time.
func BenchmarkForwardDatagrams(b *testing.B) {
	w := newWorld()
	w.answer(b, publicServers[0])
	client, _ := forwarding(b, ForwardConfig{Dial: w.dial}, nil)
	c := dial(b, client, "udp", publicServers[0])
	buf := make([]byte, 1200)
	b.SetBytes(1200)
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// Connections that carry one octet each way, eight at a time.
func BenchmarkForwardConnections(b *testing.B) {
	w := newWorld()
	w.serve(b, publicHosts[0], echoOutside)
	client, _ := forwarding(b, ForwardConfig{Dial: w.dial}, nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			buf := []byte{1}
			for range (b.N + i) / 8 {
				c, err := client.DialContext(b.Context(), "tcp", publicHosts[0])
				if err != nil {
					b.Error(err)
					return
				}
				c.Write(buf)
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Error(err)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
}

func echoOutside(c *net.TCPConn) { io.Copy(c, c) }

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
