// Package martlet is an IKEv2/IPsec VPN that needs no kernel IPsec: a client, a
// gateway and a site-to-site peer that a program can have inside itself.
//
// A Node is one end. Fill in its Config, Start it, Connect to a gateway, and dial:
//
//	node := &martlet.Node{Config: cfg}
//	if err := node.Start(ctx); err != nil { … }
//	defer node.Close()
//	if err := node.Connect(ctx, "office"); err != nil { … }
//	conn, err := node.DialContext(ctx, "tcp", "10.1.0.1:80")
//
// That needs no privilege: packets end in a TCP/IP stack inside the process, and IKE
// and ESP go through ordinary UDP sockets. With Host set, the Node is the whole
// machine's: it opens a TUN device and sets addresses, routes and packet filter, which needs
// root, and undoes all of it on Close.
//
// Errors that concern the tunnel are *Error: what happened, why we think so, and
// what to do, with a stable code.
package martlet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/esp"
	"martlet/esp/udpencap"
	"martlet/ike"
	"martlet/ike/aaa"
	"martlet/tun"
	"martlet/tun/netmon"
	"martlet/tun/netstack"
)

// Version is the program's version, set by -ldflags.
var Version = "devel"

// Error is a failure that a person should understand.
type Error = ike.Error

// Class groups errors by who can mend them.
type Class = ike.Class

// The classes of errors.
const (
	ClassNetwork        = ike.ClassNetwork
	ClassAuthentication = ike.ClassAuthentication
	ClassPolicy         = ike.ClassPolicy
	ClassConfiguration  = ike.ClassConfiguration
)

// Node is one end of tunnels. The fields are set before Start and not changed after.
// Methods may be called by several goroutines at once, those that are not Start or Close only
// after Start returned without an error.
type Node struct {
	// Config must be complete: loaded by package config, or completed by it. What it points to
	// is not changed either; Reload takes another one.
	Config *config.Config
	// Load reads the configuration again, when that is asked for over the control socket or by
	// ReloadFile; nil where there is no file.
	Load func() (*config.Config, error)
	// Logger takes what a person wants to know the next morning; nil is silent.
	Logger *zap.Logger
	// Serve opens the configured ports, lets peers come in, and brings up the connections that
	// are to be up. Without it the Node only connects, from ephemeral ports, when Connect is
	// called.
	Serve bool
	// Host makes the tunnel the host's: a TUN device with addresses, routes and
	// packet filter, undone on Close. It needs root.
	Host bool
	// Prompt asks a person for a user name, where Login has none, and a password. It is
	// called when a gateway has proven who it is and wants them, by one goroutine at a
	// time; the context ends when it is too late. Nil means that there is nobody to ask.
	Prompt func(context.Context, Login) (user string, password []byte, err error)
	// Device replaces the TUN device or the in-process stack. The Node closes it.
	Device tun.Device
	// Bind replaces the operating system's UDP sockets, and, where it is a
	// udpencap.StreamNetwork, TCP; where it is not, there is no TCP.
	Bind udpencap.Listener
	// Capture, if not nil, gets the outer packets as a pcap file, and the keys
	// that open them go where Config.Node.KeyLog says.
	Capture *Capture

	log     *zap.Logger
	engines *engines
	plane   *esp.Plane
	device  tun.Device
	sockets *sockets
	blocked blockedUDP
	network netmon.Monitor  // nil where nobody knows of changes
	stack   *netstack.Stack // nil unless packets end in this process
	host    *host           // nil unless Host
	leases  leases
	keepers keepers
	current atomic.Pointer[config.Config] // Config, or what Reload put in its place
	demands demands
	peers   *registry
	vouch   atomic.Pointer[revocation]
	events  broadcaster
	keylog  *keyLog
	secrets secrets
	limit   sparing
	logins  logins
	fitted  atomic.Bool // the device's MTU came from a child
	started atomic.Bool
	closing sync.Once
	ending  atomic.Bool     // Close has begun
	ctx     context.Context // ends with the Node
	cancel  context.CancelFunc
	gone    context.Context // ends when Close has undone what Start did
	left    context.CancelFunc
	tasks   sync.WaitGroup

	reloading sync.Mutex

	mu       sync.Mutex
	attempts map[string]*attempt      // by connection: who waits for it
	turns    map[string]chan struct{} // by connection: full while somebody brings it up
}

// Start opens device and sockets and starts the engines. It returns at once; peers
// may come in from then on if Serve is set.
func (n *Node) Start(ctx context.Context) (err error) {
	if n.Config == nil {
		return errors.New("martlet: Node.Config is nil: load one with config.Load")
	}
	if n.started.Swap(true) {
		return errors.New("martlet: a Node starts only once")
	}
	n.log = n.Logger
	if n.log == nil {
		n.log = zap.NewNop()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if control := n.Config.Node.Control; n.Host && control != "" {
		// Before anything of the host is touched that a running one has set.
		if err := onlyOne(ctx, control); err != nil {
			return err
		}
	}
	n.current.Store(n.Config)
	n.ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	n.gone, n.left = context.WithCancel(context.WithoutCancel(ctx))
	n.attempts, n.turns = map[string]*attempt{}, map[string]chan struct{}{}
	n.logins = logins{turn: make(chan struct{}, 1), said: map[string]ike.CredentialReply{}, at: map[string]time.Time{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()

	n.vouch.Store(newRevocation(n.Config, newFetcher(n.ctx, &n.tasks, fetchDialer(n.Config.Node.Mark, n.Host)), n.log.Named("revocation")))
	n.peers = newRegistry(n.Config, n.log)
	n.peers.terminate = func(t ike.Terminate) { n.tasks.Go(func() { n.engines.of(t.SA).post(t) }) }
	n.peers.usage = n.childUsage
	if n.Config.Node.KeyLog != "" {
		if n.keylog, err = openKeyLog(n.Config.Node.KeyLog); err != nil {
			return err
		}
	}
	if n.device, err = n.openDevice(); err != nil {
		return err
	}
	n.plane = esp.New(n.device, n.planeEvents(), n.log.Named("esp"))
	n.sockets = newSockets(n)
	if err := n.openRADIUS(); err != nil {
		return err
	}
	n.openSecrets()
	n.engines = newEngines(n)
	n.engines.start()
	if err := n.watchNetwork(); err != nil {
		return err
	}
	if n.Serve {
		if err := n.sockets.listen(); err != nil {
			return err
		}
	}
	n.plane.Start()
	if n.Serve {
		for _, conn := range n.Config.Connections {
			n.keep(conn)
			n.arm(conn)
		}
	}
	return nil
}

// openDevice chooses where inner packets go: a given device, the host's TUN
// device, or the stack in this process.
func (n *Node) openDevice() (tun.Device, error) {
	switch {
	case n.Device != nil:
		return n.Device, nil
	case n.Host:
		var err error
		n.host, err = openHost(n.conf(), n.Serve, n.log.Named("host"))
		if err != nil {
			return nil, err
		}
		return n.host.device, nil
	}
	mtu := n.conf().Node.MTU
	if mtu == 0 {
		mtu = defaultMTU
	}
	stack, err := netstack.New(mtu)
	if err != nil {
		return nil, fmt.Errorf("martlet: %w", err)
	}
	n.stack = stack
	for _, pool := range n.conf().Pools {
		if pool.Gateway.IsValid() {
			if err := stack.AddAddress(pool.Gateway); err != nil {
				return nil, errors.Join(fmt.Errorf("martlet: %w", err), stack.Close())
			}
		}
	}
	return stack, nil
}

// Close deletes the SAs at their peers, waits until they said so or for a second, and
// undoes what Start did. The second call does nothing.
func (n *Node) Close() error {
	var errs []error
	n.closing.Do(func() {
		n.started.Store(true) // one that was closed does not start any more
		n.ending.Store(true)
		if n.device == nil && n.Device != nil {
			errs = append(errs, n.Device.Close())
		}
		if n.cancel == nil {
			return
		}
		if n.engines != nil {
			n.peers.commanded("", aaa.CauseNASReboot)
			n.engines.shutdown(time.Second)
		}
		if n.peers != nil {
			n.peers.close()
		}
		n.cancel()
		if n.network != nil {
			errs = append(errs, n.network.Close())
		}
		if n.host != nil {
			errs = append(errs, n.host.restore())
		}
		if n.plane != nil {
			n.plane.Close()
		} else if n.stack != nil {
			errs = append(errs, n.stack.Close())
		} else if n.host != nil {
			errs = append(errs, n.host.device.Close())
		}
		n.left()
		n.tasks.Wait()
		n.events.close()
		if n.keylog != nil {
			errs = append(errs, n.keylog.close())
		}
	})
	return errors.Join(errs...)
}

// conf is the configuration that is in force; before Start, Config.
func (n *Node) conf() *config.Config {
	if c := n.current.Load(); c != nil {
		return c
	}
	return n.Config
}

// Addresses are the addresses on which a serving Node listens, those with
// encapsulation first.
func (n *Node) Addresses() []netip.AddrPort { return n.sockets.listening() }
