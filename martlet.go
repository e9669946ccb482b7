// Package martlet is an IKEv2/IPsec VPN that needs no kernel IPsec: a client, a
// gateway and a site-to-site peer that a program can have inside itself.
//
// A Node is one end. Load a configuration, Start it, Connect to a gateway, and dial:
//
//	cfg, err := config.Load("office.toml")
//	node := &martlet.Node{Config: cfg}
//	if err := node.Start(ctx); err != nil { … }
//	defer node.Close()
//	if err := node.Connect(ctx, "office"); err != nil { … }
//	conn, err := node.DialContext(ctx, "tcp", "10.1.0.1:80")
//
// That needs no privilege: packets end in a TCP/IP stack inside the process, and IKE
// and ESP go through ordinary UDP sockets. Programs beside this one get in by the proxies and
// forwards of the configuration, and with Serve and Forward the Node is a gateway whose clients
// reach what this process reaches. With Host set, the Node is the whole
// machine's: it opens a TUN device and sets addresses, routes and packet filter, which needs
// root, and undoes all of it on Close.
//
// Errors that concern the tunnel are *Error: what happened, why we think so, and
// what to do, with a stable code.
package martlet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
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
	"martlet/tun/privsep"
)

// Version is the program's version, set by -ldflags.
var Version = "devel"

// Error is a failure that a person should understand: see ike.Error for its fields, and ike.Code
// for the codes.
type Error = ike.Error

// Code is the stable name of a kind of failure.
type Code = ike.Code

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
	// Recent returns the last lines of the log, for who asks over the control socket; nil where
	// nobody keeps them.
	Recent func() []byte
	// Serve opens the configured ports, lets peers come in, and brings up the connections that
	// are to be up. Without it the Node only connects, from ephemeral ports, when Connect is
	// called.
	Serve bool
	// Host makes the tunnel the host's: a TUN device with addresses, routes and
	// packet filter, undone on Close. It needs root. What Config.Node.Mode asks for a Node does not
	// heed by itself: InProcess tells what to set.
	Host bool
	// Enclave gives the tunnel to one program alone, which has no other way out. It is for a Node
	// that connects. It needs no privilege where the system lets users make namespaces.
	Enclave *Enclave
	// Forward gives the peers of a Node that serves the network that this process itself can
	// reach: their TCP connections, UDP flows and ICMP echoes end here and go on as ordinary sockets,
	// to where Config.Userspace lets them. It needs no privilege, and is refused with Host, Enclave
	// or Device.
	Forward bool
	// Prompt asks a person for a user name, where Login has none, and a password. It is
	// called when a gateway has proven who it is and wants them, by one goroutine at a
	// time; the context ends when it is too late. Nil means that there is nobody to ask.
	Prompt func(context.Context, Login) (user string, password []byte, err error)
	// Services does what a Host needs the rights of root for; nil is this process by itself.
	Services privsep.Services
	// Device replaces the TUN device or the in-process stack: this process can dial nothing through
	// it (see DialContext), and the host is left as it is. The Node closes it.
	Device tun.Device
	// Bind replaces the operating system's UDP sockets, and, where it is a
	// udpencap.StreamNetwork, TCP; where it is not, there is no TCP.
	Bind udpencap.Listener
	// Capture, if not nil, gets the outer packets as a pcap file, and the keys
	// that open them go where Config.Node.KeyLog says.
	Capture *Capture

	services    privsep.Services // Services, or this process
	log         *zap.Logger
	engines     *engines
	plane       *esp.Plane
	device      tun.Device
	sockets     *sockets
	blocked     blockedUDP
	network     netmon.Monitor // nil where nobody knows of changes
	inside      *resolvers     // those of the tunnel, of a Host
	outside     *net.Resolver  // nil: the host's own
	remembered  remembered
	translators translators
	stack       *netstack.Stack     // nil unless packets end in this process
	forwarder   *netstack.Forwarder // nil unless Forward
	host        *host               // nil unless Host
	leases      leases
	ways        ways
	doors       doors
	probes      pathProbes
	keepers     keepers
	footprint   Footprint
	current     atomic.Pointer[config.Config] // Config, or what Reload put in its place
	demands     demands
	peers       *registry
	vouch       atomic.Pointer[revocation]
	events      broadcaster
	health      health
	traffic     traffic
	monitor     *monitor // nil unless Config.Node.Monitor
	keylog      *keyLog
	captures    captures
	secrets     secrets
	limit       sparing
	logins      logins
	fitted      fitted
	started     atomic.Bool
	closing     sync.Once
	dismissed   atomic.Bool     // to disconnect is the last that was asked
	ending      atomic.Bool     // Close has begun
	ctx         context.Context // ends with the Node
	cancel      context.CancelFunc
	gone        context.Context // ends when Close has undone what Start did
	left        context.CancelFunc
	tasks       sync.WaitGroup

	reloading sync.Mutex
	crossings crossings

	mu       sync.Mutex
	attempts map[string]*attempt      // by connection: who waits for it
	turns    map[string]chan struct{} // by connection: full while somebody brings it up
}

// Start opens device and sockets and starts the engines. It returns at once; peers
// may come in from then on if Serve is set, and connections that are to be up are brought up;
// without Serve that is for Connect and Keep. Later the end of ctx does nothing: Close does. Without
// Serve a Host is set up beside all that, and Connect fails where that does. A kill
// switch is in force before anything else is done, and stays so after an error from then on.
func (n *Node) Start(ctx context.Context) (err error) {
	if n.Config == nil {
		return errors.New("martlet: Node.Config is nil: load one with config.Load")
	}
	if n.Forward && (!n.Serve || n.Host || n.Enclave != nil || n.Device != nil) {
		return errors.New("martlet: Node.Forward is for one that serves and whose packets end in this process: with Serve, and without Host, Enclave and Device")
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
	if err := n.mayBlock(); err != nil {
		return err
	}
	n.services = n.Services
	if n.services == nil {
		n.services = Direct(n.Config, n.log.Named("host"))
	}
	if control := n.Config.Node.Control; n.Host && control != "" {
		// Before anything of the host is touched that a running one has set.
		if err := Alone(ctx, control); err != nil {
			return err
		}
	}
	n.current.Store(n.Config)
	n.footprint = FootprintOf(n.Config)
	n.footprint.say(n.Config, n.log)
	n.ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	n.gone, n.left = context.WithCancel(context.WithoutCancel(ctx))
	n.attempts, n.turns = map[string]*attempt{}, map[string]chan struct{}{}
	n.logins = logins{turn: make(chan struct{}, 1), said: map[string]ike.CredentialReply{}, at: map[string]time.Time{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Abandon())
		}
	}()

	if n.monitor, err = openMonitor(n.ctx, n); err != nil {
		return err
	}
	if n.Host {
		n.inside = newResolvers(n.services.Resolvers, n.log.Named("host"))
		n.outside = outsideResolver(n.control, n.inside)
	}
	n.vouch.Store(newRevocation(n.Config, newFetcher(n.ctx, &n.tasks, n.outsideDialer()), n.log.Named("revocation")))
	n.peers = newRegistry(n.Config, n.log)
	n.peers.terminate = func(t ike.Terminate) { n.tasks.Go(func() { n.engines.of(t.SA).post(t) }) }
	n.peers.usage = n.childUsage
	n.peers.vacated = n.vacated
	if n.Config.Node.KeyLog != "" {
		if n.keylog, err = keyLogOf(n.services.KeyLog()); err != nil {
			return err
		}
	}
	if n.device, err = n.openDevice(); err != nil {
		return err
	}
	if n.host != nil && !n.Serve {
		n.tasks.Go(n.host.begin)
	}
	n.plane = esp.New(n.captures.device(n.device), n.planeEvents(), n.log.Named("esp"))
	if n.Capture != nil {
		n.captures.outer.add(n.Capture)
	}
	n.sockets = newSockets(n)
	if err := n.openRADIUS(); err != nil {
		return err
	}
	n.openSecrets()
	n.probes.node = n
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
	if err := n.openDoors(); err != nil {
		return err
	}
	n.health.since = time.Now()
	n.health.running.Store(true)
	n.monitor.serve()
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
		n.host, err = openHost(n.conf(), n.Serve, n.footprint.lanes(n.Serve), n.services, n.inside, n.log.Named("host"))
		if err != nil {
			return nil, err
		}
		return n.host.device, nil
	case n.Enclave != nil:
		return n.Enclave.device(n.log.Named("enclave")), nil
	}
	mtu := cmp.Or(n.conf().Node.MTU, defaultMTU)
	var stack *netstack.Stack
	var err error
	if n.Forward {
		stack, err = n.openForwarding(mtu)
	} else {
		stack, err = netstack.New(mtu, n.footprint.tcpBuffers())
	}
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

// Close lets nobody more through proxies and forwards, and waits for those who are until
// Config.Node.Drain is over. Then it deletes the SAs at their peers, waits until they said so or for
// a second, and undoes what Start did, a kill switch last. What was opened inside the tunnel ends,
// and calls that wait return an error. The second call does nothing.
func (n *Node) Close() error { return n.close(false) }

// close is Close, after which a kill switch may stay in force.
func (n *Node) close(blocked bool) error {
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
		n.closeDoors()
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
			errs = append(errs, n.host.restore(blocked))
			if blocked && n.conf().Node.KillSwitch {
				n.log.Warn(stillBlocked)
			}
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
		n.monitor.close() // so late: probes are answered while the Node ends
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

// Addresses are the outer addresses on which a serving Node listens, those with
// encapsulation first.
func (n *Node) Addresses() []netip.AddrPort { return n.sockets.listening() }
