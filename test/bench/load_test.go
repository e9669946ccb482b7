package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
)

// TestExactDownload: what begins near the pattern's end and is longer than it comes whole.
func TestExactDownload(t *testing.T) {
	pattern := newPattern()
	for _, c := range []struct{ at, size uint64 }{{0, 0}, {0, 1}, {patternSize - 3, 2*patternSize + 5}, {5*patternSize + 2, 100}} {
		client, server := net.Pipe()
		sent := make(chan error, 1)
		go func() {
			sent <- sendExact(server, pattern)
			server.Close()
		}()
		if err := receiveExact(client, pattern, c.at, c.size); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		client.Close()
		if err := <-sent; err != nil {
			t.Errorf("%v: the sender: %v", c, err)
		}
	}
}

// TestDownloadThatIsNotIntact: each way to be wrong is seen.
func TestDownloadThatIsNotIntact(t *testing.T) {
	pattern := newPattern()
	for _, c := range []struct {
		name string
		came []byte
		want string
	}{
		{"short", pattern[:99], "99 of 100 octets came"},
		{"long", pattern[:101], "more than 100 octets came"},
		{"changed", append(bytes.Clone(pattern[:99]), ^pattern[99]), "not those that were sent"},
		{"another piece", pattern[1:101], "not those that were sent"},
	} {
		client, server := net.Pipe()
		go func() {
			var asked [2]uint64
			_ = binary.Read(server, binary.BigEndian, &asked)
			_, _ = io.Copy(server, bytes.NewReader(c.came))
			server.Close()
		}()
		if err := receiveExact(client, pattern, 0, 100); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		client.Close()
	}
}

func TestRateSince(t *testing.T) {
	if got := (moved{Octets: 3000, At: 2e9}).since(moved{Octets: 1000, At: 1e9}); got != 16000 {
		t.Error(got)
	}
}
