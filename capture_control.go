package martlet

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"martlet/ike"
	"martlet/tun/privsep"
)

// CaptureOptions say what a capture over the control socket is of.
type CaptureOptions struct {
	// Connection leaves out what is known to be of other connections; empty is everything.
	Connection string
	// Inner is of packets at the device, out of the tunnel and into it, in place of those of IKE
	// and ESP.
	Inner bool
	// Keys is a folder for Wireshark's key tables, to which the keys of SAs that stand or come are
	// added, so that it reads the packets. Without it no key leaves the running martlet.
	Keys string
}

// Captured counts what a capture has.
type Captured struct {
	Packets  uint64
	Lost     uint64 // packets that are not in it, since the reader was too slow
	LostKeys uint64 // SAs whose keys are not, for the same reason
}

const (
	maxCaptures = 8
	// captureEndsWithin is how long what waits for the reader may take when the Node ends.
	captureEndsWithin = 2 * time.Second
	// captureLearns is how often a capture of one connection looks for what is new.
	captureLearns = time.Second
)

// serveCapture makes the request's connection a capture, until the client ends what it sends, or
// the Node ends.
func (n *Node) serveCapture(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o := captureOrder{connection: q.Get("connection"), keys: q.Get("keys") == "1", inner: q.Get("inner") == "1"}
	if o.connection != "" {
		if _, err := n.connection(o.connection); err != nil {
			writeResult(w, err)
			return
		}
	}
	if n.captures.count.Add(1) > maxCaptures {
		n.captures.count.Add(-1)
		writeResult(w, &Error{
			Code: ike.CodeHost, What: fmt.Sprintf("%d captures run already", maxCaptures),
			Why: "each costs memory and time for every packet", Hint: "end one of them",
		})
		return
	}
	client, err := upgrade(w)
	if err != nil {
		n.captures.count.Add(-1)
		return
	}
	n.tasks.Go(func() {
		defer n.captures.count.Add(-1)
		n.capture(client, o)
	})
}

// unknownPeer is who asks where the system does not tell.
const unknownPeer = "somebody who may open the control socket"

// captureOrder is what a client wants.
type captureOrder struct {
	connection  string
	keys, inner bool
}

// capture runs one, and closes client.
func (n *Node) capture(client *controlStream, o captureOrder) {
	told := make(chan struct{}) // the client has ended
	go func() {
		defer close(told)
		_, _ = io.Copy(io.Discard, client)
	}()
	defer func() {
		client.Close()
		<-told
	}()

	c, queue := newQueuedCapture()
	if o.connection != "" {
		c.only = &captureFilter{connection: o.connection}
		c.only.learn(n.engines.statuses(), o.inner)
	}
	log := n.log.Named("capture").With(zap.String("by", peerOf(client.Conn)), zap.Bool("inner", o.inner))
	level, what := zap.InfoLevel, "a capture of packets"
	if o.keys {
		level, what = zap.WarnLevel, "a capture of packets and of the keys that open them"
	}
	log.Log(level, what+" has begun")
	to := &n.captures.outer
	if o.inner {
		to = &n.captures.inner
	}
	to.add(c)
	if o.keys {
		n.captures.keys.add(queue, c.only)
		// Those that come meanwhile may be told twice, none is left out.
		for _, s := range n.engines.shards {
			s.call(func(e *ike.Engine) { e.Keys(func(k ike.KeyLogEntry) { queue.keys(k, c.only) }) })
		}
	}
	// A client that does not read must not keep the Node from ending.
	stop := context.AfterFunc(n.ctx, func() { _ = client.SetWriteDeadline(time.Now().Add(captureEndsWithin)) })
	defer stop()
	n.carry(client, c.only, queue, o.inner, told)
	to.remove(c)
	n.captures.keys.remove(queue)
	_, _ = client.Write(queue.take(nil)) // the client is gone: nobody is left to tell
	count := queue.count()
	log.Log(level, what+" has ended", zap.Uint64("packets", count.Packets), zap.Uint64("lost", count.Lost))
}

// carry writes what waits to the client, until that has ended or the Node does.
func (n *Node) carry(client net.Conn, only *captureFilter, queue *captureQueue, inner bool, told <-chan struct{}) {
	var learn <-chan time.Time
	if only != nil {
		tick := time.NewTicker(captureLearns)
		defer tick.Stop()
		learn = tick.C
	}
	var written []byte
	for {
		select {
		case <-queue.some:
			written = queue.take(written)
			if _, err := client.Write(written); err != nil {
				return
			}
		case <-learn:
			only.learn(n.engines.statuses(), inner)
		case <-told:
			return
		case <-n.ctx.Done():
			return
		}
	}
}

// Capture writes packets of the running martlet to w as a pcap file, until ctx ends, which is no
// error, or the running martlet does. The head of the file is written as soon as that has begun.
// Whoever reads too slowly gets less: the packets of a tunnel do not wait.
func (c *Control) Capture(ctx context.Context, o CaptureOptions, w io.Writer) (Captured, error) {
	order := url.Values{}
	for key, want := range map[string]bool{"keys": o.Keys != "", "inner": o.Inner} {
		if want {
			order.Set(key, "1")
		}
	}
	if o.Connection != "" {
		order.Set("connection", o.Connection)
	}
	var tables *keyLog
	if o.Keys != "" {
		var err error
		if tables, err = keyLogOf(privsep.OpenKeyLog(o.Keys)); err != nil {
			return Captured{}, err
		}
	}
	captured, err := c.capture(ctx, order, tables, w)
	if tables != nil {
		err = errors.Join(err, tables.close())
	}
	return captured, err
}

func (c *Control) capture(ctx context.Context, order url.Values, tables *keyLog, w io.Writer) (captured Captured, err error) {
	stream, err := c.stream(ctx, http.MethodGet, "/v1/capture?"+order.Encode(), nil)
	if err != nil {
		return captured, err
	}
	defer stream.Close()
	// What is on its way still comes, and how much was lost.
	stop := context.AfterFunc(ctx, func() { _ = stream.CloseWrite() })
	defer stop()
	in := bufio.NewReaderSize(stream, 64<<10)
	var part []byte
	for {
		var kind byte
		if kind, part, err = readPart(in, part); errors.Is(err, io.EOF) {
			return captured, nil
		}
		switch {
		case err != nil:
		case kind == partPackets:
			_, err = w.Write(part)
		case kind == partIKEKeys && tables != nil:
			err = tables.lines(tables.ike, part)
		case kind == partESPKeys && tables != nil:
			err = tables.lines(tables.esp, part)
		case kind == partCounts && len(part) == 3*8:
			captured = Captured{binary.BigEndian.Uint64(part), binary.BigEndian.Uint64(part[8:]), binary.BigEndian.Uint64(part[16:])}
		default:
			err = fmt.Errorf("martlet: control: a part of unknown kind %d in a capture", kind)
		}
		if err != nil {
			return captured, err
		}
	}
}
