package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"martlet"
)

// supervised tells systemd how a node fares: READY=1 once the connection stands, or the gateway
// listens; STATUS= with a line for people; RELOADING=1 and READY=1 around a reload; WATCHDOG=1 as
// long as the engines answer, which is what the live probe asks; and STOPPING=1.
type supervised struct {
	node  *martlet.Node
	to    *notifier
	ready bool   // it was told
	line  string // that was told
}

// superviseBy has systemd, if that started us, told about a node that runs. The function that it
// returns tells of the end, and is called before the node closes.
func superviseBy(ctx context.Context, node *martlet.Node) (ending func()) {
	to, err := newNotifier()
	if err != nil {
		node.Logger.Error("systemd hears nothing of this service, and will take it for one that does not start", zap.Error(err))
	}
	if to == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &supervised{node: node, to: to}
	events, ended := node.Watch(ctx), make(chan struct{})
	go func() {
		defer close(ended)
		s.follow(ctx, events)
	}()
	return func() {
		cancel()
		<-ended // no other word comes after this one
		s.send("STOPPING=1", "STATUS=closing")
		to.close()
	}
}

// follow tells of changes until the events end.
func (s *supervised) follow(ctx context.Context, events <-chan martlet.Event) {
	var tick <-chan time.Time
	if s.to.watchdog > 0 {
		ticker := time.NewTicker(s.to.watchdog / 2)
		defer ticker.Stop()
		tick = ticker.C
	}
	// A gateway has many peers, and counts them all for its line.
	pause := time.Second
	if s.node.Serve {
		pause = 10 * time.Second
	}
	later := time.NewTimer(0)
	defer later.Stop()
	var last time.Time
	for {
		select {
		case ev, ok := <-events:
			switch {
			case !ok:
				return
			case ev.Kind == martlet.EventReloading:
				s.reloading()
			case ev.Kind == martlet.EventReloaded && s.ready:
				s.send("READY=1")
			}
			if s.ready {
				later.Reset(max(0, pause-time.Since(last)))
				continue
			}
			s.update(ctx)
		case <-later.C:
			last = time.Now()
			s.update(ctx)
		case <-tick:
			s.live(ctx)
		}
	}
}

// reloading tells of a reload. One before READY=1 is not told, since what ends it would be taken
// for that.
func (s *supervised) reloading() {
	now, err := monotonic()
	switch {
	case err != nil:
		s.node.Logger.Warn("systemd is not told of the reload", zap.Error(err))
	case s.ready:
		s.send("RELOADING=1", now)
	}
}

// update tells what is different since the last time.
func (s *supervised) update(ctx context.Context) {
	if alive, _ := s.node.Alive(ctx); !alive {
		return // the rest would wait for it
	}
	var lines []string
	if !s.ready {
		s.ready = s.node.Serve
		if !s.ready {
			s.ready, _ = s.node.Ready(ctx)
		}
		if s.ready {
			lines = append(lines, "READY=1")
		}
	}
	status := s.node.Status()
	line := summary(&status, s.node.Serve)
	if line != s.line {
		s.line = line
		lines = append(lines, "STATUS="+line)
	}
	if len(lines) > 0 {
		s.send(lines...)
	}
}

// live tells that we live, if we do. A connection may take longer to come up than a service has
// time to start: as long as we live it gets more.
func (s *supervised) live(ctx context.Context) {
	alive, why := s.node.Alive(ctx)
	if !alive {
		if ctx.Err() == nil {
			s.node.Logger.Error("systemd is told nothing, so that it ends this process", zap.String("why", strings.TrimSpace(why)))
		}
		return
	}
	lines := []string{"WATCHDOG=1"}
	if !s.ready {
		lines = append(lines, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", s.to.watchdog.Microseconds()))
	}
	s.send(lines...)
}

func (s *supervised) send(lines ...string) {
	if err := s.to.send(lines...); err != nil {
		s.node.Logger.Warn("systemd was not told of this service's state", zap.Error(err))
	}
}

// Bounds of a summary: connections that it tells of, and octets. systemd takes 4096 at once.
const (
	maxShown   = 4
	maxSummary = 500
)

// summary is a line about a node: its connections, or how many peers a gateway has.
func summary(status *martlet.Status, serve bool) string {
	if serve {
		peers := 0
		for i := range status.SAs {
			if status.SAs[i].State == "established" {
				peers++
			}
		}
		return fmt.Sprintf("listening on %s, %s up", list(status.Listening), count(peers, "peer"))
	}
	var about []string
	told := map[string]bool{}
	for i := range status.SAs {
		sa := &status.SAs[i]
		if told[sa.Connection] || sa.State != "established" {
			continue
		}
		told[sa.Connection] = true
		parts := []string{sa.Connection + ": up"}
		for _, a := range sa.Addresses {
			parts = append(parts, a.Addr().String())
		}
		about = append(about, strings.Join(append(parts, sa.RemoteID), ", "))
	}
	for _, w := range status.Waiting {
		if told[w.Connection] {
			continue
		}
		told[w.Connection] = true
		what := w.Text
		if w.Err != nil {
			what = w.Err.What
		}
		about = append(about, w.Connection+": down, "+what)
	}
	for i := range status.SAs {
		if sa := &status.SAs[i]; !told[sa.Connection] {
			told[sa.Connection] = true
			about = append(about, sa.Connection+": "+sa.State)
		}
	}
	if len(about) == 0 {
		return "no tunnel"
	}
	if n := len(about) - maxShown; n > 0 {
		about = append(about[:maxShown], fmt.Sprintf("and %d more", n))
	}
	// Names of peers are theirs to choose; a line of their own would be a word of ours to systemd.
	line := oneLine(strings.Join(about, "; "))
	return strings.ToValidUTF8(line[:min(len(line), maxSummary)], "")
}
