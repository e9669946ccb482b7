package firewall

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// New makes a Firewall; log may be nil. It acts on the network namespace that the
// calling thread is in at the first Set, and at the first one after a Clear.
func New(log *zap.Logger) Firewall {
	if log == nil {
		log = zap.NewNop()
	}
	return &firewall{log: log}
}

type firewall struct {
	log *zap.Logger

	mu     sync.Mutex
	tables []table   // in force
	hole   time.Time // when theirs closes
	watch  *watch    // nil without conn, and after too many fights
	// conn stays open while there are tables. When a socket of nftables is closed the kernel
	// waits until no processor uses what was deleted before, by any socket: 10 to 20 ms, in
	// which no other transaction begins.
	conn *nftables.Conn
	port uint32 // of its socket, by which the kernel tells who did what
}

func (f *firewall) Set(r Rules) error {
	if err := r.check(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set(r)
}

// set carries out a Set. f.mu is held.
func (f *firewall) set(r Rules) error {
	known := f.watch != nil && f.watch.calm
	wanted, err := f.replace(r, known)
	if known && errors.Is(err, unix.ENOENT) {
		// What was taken for there is not: the watch has not heard of it yet, and has ended now.
		if wanted, err = f.replace(r, false); err == nil {
			f.log.Warn(putBack, zap.String("table", r.table()))
		}
	}
	if err != nil {
		return err
	}
	f.tables, f.hole = wanted, r.HoleUntil
	if f.watch != nil {
		f.watch.calm = true
	}
	f.log.Debug("firewall set", zap.Stringer("table", r))
	return nil
}

// replace sends what tables need to be what r says, and returns them. If it is known that the former ones
// are in force this is what differs from them, and it fails with ENOENT if one of these is gone: a part of
// a table is never made without the rest. f.mu is held.
func (f *firewall) replace(r Rules, known bool) (wanted []table, err error) {
	if f.watch == nil {
		f.begin() // first, so that nothing is missed that comes after
	}
	wanted = r.tables()
	return wanted, f.commit("set table "+r.table(), func(conn *nftables.Conn) error {
		for _, t := range f.tables {
			if !slices.ContainsFunc(wanted, t.same) {
				erase(conn, t)
			}
		}
		for _, t := range wanted {
			var former remains
			if i := slices.IndexFunc(f.tables, t.same); i >= 0 && known {
				t, former = difference(t, f.tables[i])
			} else if i >= 0 {
				former = remains{chains: f.tables[i].chainNames(), hole: f.tables[i].hole}
			} else if r.KillSwitch {
				former = unknown(t) // a killed process may have left it, and it must not open
			} else {
				erase(conn, t)
			}
			if err := build(conn, t, former, time.Until(r.HoleUntil)); err != nil {
				return err
			}
		}
		return nil
	})
}

// commit carries out one transaction. After an error the socket may have answers that
// nobody waits for: the next transaction gets another one. f.mu is held.
func (f *firewall) commit(what string, fill func(*nftables.Conn) error) (err error) {
	if f.conn == nil {
		if f.conn, f.port, err = connect(nftables.AsLasting()); err != nil {
			return errors.Join(failed("open nftables", err), f.disconnect())
		}
	}
	err = fill(f.conn)
	if err == nil {
		err = f.conn.Flush()
	}
	if err != nil {
		return errors.Join(failed(what, err), f.disconnect())
	}
	return nil
}

// disconnect also ends the watch, which puts tables back by the socket. f.mu is held.
func (f *firewall) disconnect() error {
	if f.watch != nil {
		f.watch.conn.Close()
		f.watch = nil
	}
	if f.conn == nil {
		return nil
	}
	err := f.conn.CloseLasting()
	f.conn = nil
	return err
}

func (f *firewall) Clear() error {
	return f.end(func() error {
		if len(f.tables) == 0 {
			return nil
		}
		return f.commit("remove table "+f.tables[0].name, func(conn *nftables.Conn) error {
			for _, t := range f.tables {
				erase(conn, t)
			}
			return nil
		})
	})
}

func (f *firewall) Leave() error { return f.end(func() error { return nil }) }

// end gives up the tables, unless what comes first fails, and returns when nothing of the watch runs.
func (f *firewall) end(first func() error) error {
	f.mu.Lock()
	w := f.watch
	err := first()
	if err == nil {
		f.tables = nil
		err = f.disconnect()
	}
	f.mu.Unlock()
	if w != nil {
		<-w.done
	}
	return err
}

// Recover removes the tables of ours whose interface does not exist, and tells whether there were
// any: a TUN vanishes with its process, the table of a killed process stays. That of the device
// keep is spared, which may be about to be opened.
func Recover(keep string, log *zap.Logger) (found bool, err error) {
	if log == nil {
		log = zap.NewNop()
	}
	conn, _, err := connect()
	if err != nil {
		return false, failed("open nftables", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return false, failed("list tables", err)
	}
	for _, t := range tables {
		device, ours := strings.CutPrefix(t.Name, TablePrefix)
		if !ours || device == keep {
			continue
		}
		if _, err := net.InterfaceByName(device); err == nil {
			continue
		}
		log.Info("removing the table of a killed process", zap.String("table", t.Name))
		conn.DelTable(t)
		found = true
	}
	if !found {
		return false, nil
	}
	if err := conn.Flush(); err != nil {
		return false, failed("remove tables", err)
	}
	return true, nil
}

// connect makes room for a large table: a transaction is sent as a whole, and
// each of its parts is acknowledged. The port is that of a lasting socket.
func connect(opts ...nftables.ConnOption) (conn *nftables.Conn, port uint32, err error) {
	conn, err = nftables.New(append(opts, nftables.WithSockOptions(func(c *netlink.Conn) error {
		port, err = portOf(c)
		return errors.Join(err, c.SetWriteBuffer(4<<20), c.SetReadBuffer(4<<20))
	}))...)
	return conn, port, err
}

func portOf(c *netlink.Conn) (port uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var own unix.Sockaddr
		if own, failed = unix.Getsockname(int(fd)); failed == nil {
			port = own.(*unix.SockaddrNetlink).Pid
		}
	})
	return port, errors.Join(err, failed)
}

// same tells whether other has the same place.
func (t table) same(other table) bool { return t.family == other.family && t.name == other.name }

func (t table) kernel() *nftables.Table {
	family := nftables.TableFamilyINet
	if t.family == "arp" {
		family = nftables.TableFamilyARP
	}
	return &nftables.Table{Family: family, Name: t.name}
}

// erase removes a table whether it is there or not: adding one that exists
// changes nothing, and then it does exist.
func erase(conn *nftables.Conn, t table) {
	conn.DelTable(conn.AddTable(t.kernel()))
}

func failed(what string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		hint = "; needs CAP_NET_ADMIN: run as root"
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.ENOENT):
		hint = "; the kernel lacks a part of nftables: load nf_tables, nft_ct, nft_fib_inet, nft_masq and nft_socket, and build it with NF_TABLES_ARP"
	}
	return fmt.Errorf("firewall: %s: %w%s", what, err, hint)
}
