package martlet

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"martlet/crypto/suite"
	"martlet/esp"
	"martlet/esp/udpencap"
	"martlet/ike"
)

// do carries out one action of the engine.
func (s *shard) do(action ike.Action) {
	switch a := action.(type) {
	case ike.Send:
		s.send(a)
	case ike.Install:
		s.install(a.Child)
	case ike.Switch:
		if err := s.node.plane.Switch(uint64(a.Child)); err != nil {
			s.log.Warn("child SA could not be switched to", zap.Error(err))
		}
	case ike.Retire:
		if err := s.node.plane.Retire(uint64(a.Child)); err != nil {
			s.log.Warn("child SA could not be retired", zap.Error(err))
		}
	case ike.Remove:
		s.node.peers.childOut(a.Child)
		s.node.closed(a.Child)
		if err := s.node.traffic.end(a.Child, s.node.plane); err != nil {
			s.log.Warn("child SA could not be removed", zap.Error(err))
		}
	case ike.Move:
		if err := s.node.plane.Move(uint64(a.Child), planePath(a.Path)); err != nil {
			s.log.Warn("child SA could not be moved", zap.Error(err))
		}
	case ike.Ask:
		s.ask(a)
	case ike.Report:
		s.node.report(a.What)
	}
}

func (s *shard) send(a ike.Send) {
	sock := s.node.sockets.find(a.Path)
	if sock == nil {
		s.log.Debug("no socket for a message", zap.Stringer("local", a.Path.Local))
		return
	}
	p := udpencap.Packet{Data: a.Data, Local: a.Path.Local, Remote: a.Path.Remote, DF: a.DontFragment}
	if a.Keepalive {
		p.Kind = udpencap.Keepalive
	}
	if _, err := sock.Write([]udpencap.Packet{p}); err != nil {
		s.log.Debug("sending failed", zap.Stringer("peer", a.Path.Remote), zap.Error(err))
	}
}

// planePath and enginePath are one path in the words of the data plane and of the engine.

func planePath(p ike.Path) esp.Path {
	return esp.Path{Local: p.Local, Remote: p.Remote, Stream: p.Stream}
}

func enginePath(p esp.Path) ike.Path {
	return ike.Path{Local: p.Local, Remote: p.Remote, Encap: true, Stream: p.Stream}
}

func (s *shard) install(c *ike.Child) {
	encr, integ := c.Suite.Encr, c.Suite.Integ
	esn := c.Suite.ESN.ID == suite.ESNYes
	child := esp.Child{
		ID:       uint64(c.ID),
		In:       esp.Keys{SPI: c.SPIIn, Encr: encr, Integ: integ, EncrKey: c.In.Encr, IntegKey: c.In.Integ, ESN: esn},
		Out:      esp.Keys{SPI: c.SPIOut, Encr: encr, Integ: integ, EncrKey: c.Out.Encr, IntegKey: c.Out.Integ, ESN: esn},
		Local:    espSelectors(c.Local),
		Remote:   espSelectors(c.Remote),
		Path:     planePath(c.Path),
		Window:   c.Window,
		Pad:      s.node.padding(c),
		CopyDSCP: c.CopyDSCP,
		KeepMSS:  c.KeepMSS,
		Soft:     esp.Volume(c.Soft),
		Hard:     esp.Volume(c.Hard),
		Group:    uint64(c.Group),
		Slot:     c.Slot,
	}
	s.node.peers.childIn(c)
	s.node.traffic.begin(c)
	if err := s.node.plane.Install(child); err != nil {
		// The suite was negotiated from what we can do and the socket is open, so
		// only a fault of ours leads here; the SA must not stand half.
		s.log.Error("child SA could not be installed", zap.String("conn", c.Connection), zap.Error(err))
		s.mine = append(s.mine, ike.CloseChild{Child: c.ID})
		return
	}
	s.node.opened(c.ChildInfo)
}

// padding is the length to which a child's inner packets are padded.
func (n *Node) padding(c *ike.Child) int {
	switch {
	case c.TFC >= 0:
		return c.TFC
	case n.conf().Node.MTU != 0:
		return n.conf().Node.MTU
	}
	return mtuOf(c.Path, c.Suite)
}

// ask answers a question, at once where that takes no time.
func (s *shard) ask(a ike.Ask) {
	switch q := a.Question.(type) {
	case ike.Work:
		s.aside(a.ID, q.Run)
	case ike.Admit:
		admission, evict := s.node.peers.admit(q)
		for _, terminate := range evict {
			if other := s.node.engines.of(terminate.SA); other == s {
				s.mine = append(s.mine, terminate)
			} else {
				s.node.tasks.Go(func() { other.post(terminate) })
			}
		}
		s.mine = append(s.mine, ike.Answer{ID: a.ID, Value: admission})
	case ike.Account:
		s.mine = append(s.mine, ike.Answer{ID: a.ID, Value: s.node.account(q)})
	case ike.Credential:
		s.await(a.ID, func() ike.Reply { return s.node.credential(q) })
	case ike.Relay:
		l := s.node.peers.login(s.node.ctx, q)
		s.await(a.ID, func() ike.Reply { return s.node.peers.relay(l, q.Packet) })
	case ike.Configure:
		s.node.expect(q.SA)
		s.await(a.ID, func() ike.Reply { return ike.Configured{Err: s.node.configure(q)} })
	case ike.Vouch:
		s.await(a.ID, func() ike.Reply { return s.node.vouch.Load().judge(s.node.ctx, q) })
	case ike.Staple:
		s.await(a.ID, func() ike.Reply { return ike.Stapled{OCSP: s.node.vouch.Load().staple(s.node.ctx, q.Credential)} })
	case ike.FindPaths:
		s.await(a.ID, func() ike.Reply { return s.node.findPaths(q) })
	case ike.Reach:
		s.await(a.ID, func() ike.Reply { return s.node.reach(q) })
	case ike.OpenStream:
		s.await(a.ID, func() ike.Reply { return s.node.openStream(q) })
	case ike.Usage:
		s.mine = append(s.mine, ike.Answer{ID: a.ID, Value: s.usage(q)})
	}
}

// workWait is how long a computation waits for a processor: as long as a half-open SA
// lives. In a flood they would pile up otherwise, long after the SAs that wanted them.
const workWait = 30 * time.Second

// aside computes what takes long on a goroutine of its own, as many at once as
// there are processors, and posts the reply.
func (s *shard) aside(id ike.AskID, run func() ike.Reply) {
	s.node.tasks.Go(func() {
		patience := time.NewTimer(workWait)
		defer patience.Stop()
		select {
		case s.node.engines.work <- struct{}{}:
			defer func() { <-s.node.engines.work }()
		case <-patience.C:
			s.post(ike.Answer{ID: id, Value: ike.WorkDone{Err: fmt.Errorf("martlet: no processor was free for %v", workWait)}})
			return
		case <-s.node.ctx.Done():
			return
		}
		s.post(ike.Answer{ID: id, Value: s.guarded(run)})
	})
}

// await runs what waits for a server, a person or the host on a goroutine of its own, and posts
// the reply. It needs no processor, and whoever computes must not wait for it.
func (s *shard) await(id ike.AskID, run func() ike.Reply) {
	s.node.tasks.Go(func() { s.post(ike.Answer{ID: id, Value: s.guarded(run)}) })
}

// guarded runs a computation; a fault in it fails the SA that asked and nothing else.
func (s *shard) guarded(run func() ike.Reply) (reply ike.Reply) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("a fault of ours", zap.String("panic", fmt.Sprint(r)), zap.Stack("stack"))
			reply = ike.WorkDone{Err: fmt.Errorf("martlet: internal fault: %v", r)}
		}
	}()
	return run()
}

func (s *shard) usage(q ike.Usage) ike.UsageReply {
	ids := make([]uint64, len(q.Children))
	for i, id := range q.Children {
		ids[i] = uint64(id)
	}
	heard, sent := s.node.plane.Usage(ids)
	ago := func(t time.Time) int64 {
		if t.IsZero() {
			return -1
		}
		return int64(max(0, time.Since(t)))
	}
	return ike.UsageReply{Heard: ago(heard), Sent: ago(sent)}
}

// planeEvents is what the data plane tells: IKE messages to their engine, ESP without
// SA as a hint.
func (n *Node) planeEvents() esp.Events {
	return &planeEvents{n}
}

// planeEvents passes on what the packet loops tell. An event that finds the queue full is
// dropped: the plane tells again.
type planeEvents struct{ node *Node }

// IKE implements esp.Events.
func (e *planeEvents) IKE(sock udpencap.Socket, p udpencap.Packet) {
	e.node.engines.receive(sock, p)
}

// UnknownSPI implements esp.Events.
func (e *planeEvents) UnknownSPI(path esp.Path, spi uint32) {
	s := e.node.engines.ofESP(spi)
	select {
	case s.in <- ike.UnknownSPI{Path: enginePath(path), SPI: spi}:
	default:
	}
}

// Acquire implements esp.Events. Whoever arms a connection at the time sets up the host as well, for
// which the packet loop does not wait.
func (e *planeEvents) Acquire(f esp.Flow) { e.node.tasks.Go(func() { e.node.wanted(f) }) }

// Remapped implements esp.Events.
func (e *planeEvents) Remapped(child uint64, path esp.Path) {
	id := ike.ChildID(child)
	select {
	case e.node.engines.shards[id.Shard()].in <- ike.Remapped{Child: id, Path: enginePath(path)}:
	default:
	}
}

// Expire implements esp.Events.
func (e *planeEvents) Expire(child uint64, hard bool) {
	id := ike.ChildID(child)
	// It is told once only, and must not keep the packet loop.
	e.node.tasks.Go(func() {
		e.node.engines.shards[id.Shard()].post(ike.ChildAged{Child: id, Hard: hard})
	})
}
