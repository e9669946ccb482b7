package firewall

import (
	"errors"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// What others may do to our tables before we give up.
const (
	maxFights = 5
	fightTime = time.Minute
)

const putBack = "another program has removed the packet filter of the tunnel, or changed it; it is put back"

// watch hears of each transaction that anybody carries out on nftables. Whoever loads rules of his own
// most often begins with "flush ruleset", and takes ours away with them.
type watch struct {
	conn   *netlink.Conn
	fights *rate.Limiter
	told   bool
	calm   bool          // nobody else has touched our tables, as far as was heard, since all of them was sent
	done   chan struct{} // closed when nothing of it runs
}

// begin begins the watch, in the namespace of the calling thread. f.mu is held.
func (f *firewall) begin() {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	if err != nil {
		f.log.Warn("a program that removes our packet filter would not be noticed: nftables cannot be watched", zap.Error(err))
		return
	}
	f.watch = &watch{conn: conn, fights: rate.NewLimiter(rate.Every(fightTime/maxFights), maxFights), done: make(chan struct{})}
	go f.follow(f.watch)
}

// follow looks at our tables after each transaction that concerned them, and whenever more was told
// than there was room for.
func (f *firewall) follow(w *watch) {
	defer close(w.done)
	var concerned bool
	for {
		messages, err := w.conn.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			f.changed(w, 0, "")
		case err != nil:
			f.lost(w, err)
			return
		}
		for _, m := range messages {
			if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < 4 {
				continue
			}
			switch kind := m.Header.Type & 0xff; kind {
			case unix.NFT_MSG_NEWGEN: // ends a transaction
				if concerned {
					f.changed(w, m.Header.PID, attribute(m.Data[4:], unix.NFTA_GEN_PROC_NAME))
				}
				concerned = false
			case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN,
				unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
				// Tables, chains and rules have their table's name at the same place.
				concerned = concerned || f.has(attribute(m.Data[4:], unix.NFTA_TABLE_NAME))
			}
		}
	}
}

// attribute is the text of the first of its kind, "" without one.
func attribute(b []byte, kind uint16) string {
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return ""
	}
	for d.Next() {
		if d.Type() == kind {
			return d.String()
		}
	}
	return ""
}

func (f *firewall) has(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.tables, func(t table) bool { return t.name == name })
}

// lost tells of the end of a watch that nobody ended. The next Set begins another one.
func (f *firewall) lost(w *watch, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch == w {
		f.watch = nil
		w.conn.Close()
		f.log.Warn("a program that removes our packet filter would not be noticed any more", zap.Error(err))
	}
}

// changed puts our tables back if they are not whole after what the program by has done, with the socket
// of this port.
func (f *firewall) changed(w *watch, port uint32, by string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch != w || port == f.port {
		return
	}
	w.calm = false // other rules may be as many
	if f.whole() {
		return
	}
	who := zap.String("program", by)
	if !w.fights.Allow() {
		f.watch = nil
		w.conn.Close()
		f.log.Error("the packet filter of the tunnel is not in force: another program has removed it again and again; have it leave tables of others alone (flush its own ones, not the ruleset), then start martlet again",
			zap.String("table", f.tables[0].name), who)
		return
	}
	err := f.commit("put back table "+f.tables[0].name, func(conn *nftables.Conn) error {
		for _, t := range f.tables {
			if err := build(conn, t, unknown(t), time.Until(f.hole)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.log.Error("the packet filter of the tunnel is not in force: another program has changed it, and it could not be put back", who, zap.Error(err))
		return
	}
	w.calm = true
	if !w.told {
		w.told = true
		f.log.Warn(putBack, zap.String("table", f.tables[0].name), who)
	}
}

// whole tells whether each chain is there with as many rules as it was given. What cannot be read is
// not: to put it back does no harm. f.mu is held.
func (f *firewall) whole() bool {
	for _, t := range f.tables {
		kernel := t.kernel()
		there, err := f.conn.ListChainsOfTableFamily(kernel.Family)
		if err != nil {
			return false
		}
		for _, c := range t.chains {
			at := slices.IndexFunc(there, func(k *nftables.Chain) bool { return k.Table.Name == t.name && k.Name == c.name })
			if at < 0 {
				return false
			}
			if rules, err := f.conn.GetRules(kernel, there[at]); err != nil || len(rules) != len(c.rules) {
				return false
			}
		}
	}
	return true
}
