package privsep

import (
	"errors"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"martlet/tun"
	"martlet/tun/dns"
	"martlet/tun/firewall"
	"martlet/tun/route"
)

// The requests of a child.
const (
	doRecover    = "recover"
	doOpen       = "open device"
	doMTU        = "set mtu"
	doRoutes     = "set routes"
	doNoRoutes   = "close routes"
	doRules      = "set rules"
	doNoRules    = "clear rules"
	doLeaveRules = "leave rules"
	doNames      = "set resolvers"
	doNoNames    = "close resolvers"
	doSocket     = "socket"
	doControl    = "control"
	doKeyLog     = "key log"
	doSecret     = "secret"
	doReplace    = "replace secret"
	doFile       = "file"
)

// What the parent tells unasked.
const (
	tellHello  = "hello"
	tellSignal = "signal"
)

type (
	wantedDevice struct {
		MTU    int `json:"mtu"`
		Queues int `json:"queues"`
	}
	// wantedSocket is what is done to the socket that comes along, each if it is not zero.
	wantedSocket struct {
		Outside bool           `json:"outside,omitempty"`
		Buffer  int            `json:"buffer,omitempty"`
		Bind    netip.AddrPort `json:"bind,omitzero"`
	}
	secret struct {
		Name  string `json:"name"`
		Value []byte `json:"value,omitempty"`
	}
)

const (
	// maxQueues is what a message can take, and more than a device has.
	maxQueues = maxFiles
	// maxBuffer is what a socket may have in octets.
	maxBuffer = 64 << 20
	// maxSecret is what a secret may have in octets.
	maxSecret = 4096
	// maxAtWork is how many requests are worked at.
	maxAtWork = 32
)

// recoverEarly does it while the child starts, which takes longer. A kill switch comes first where there is one.
func (s *Server) recoverEarly() {
	if s.settings.KillSwitch {
		return
	}
	s.early = make(chan error, 1)
	early := s.early
	s.working.Go(func() { early <- s.Services.Recover() })
}

func (s *Server) recovered() error {
	s.mu.Lock()
	early := s.early
	s.early = nil
	s.mu.Unlock()
	if early != nil {
		return <-early
	}
	return s.Services.Recover()
}

func (s *Server) open(w wantedDevice) (any, []*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.device != nil || w.Queues > maxQueues {
		return nil, nil, errRefused
	}
	device, err := s.Services.OpenDevice(w.MTU, w.Queues)
	if err != nil {
		return nil, nil, err
	}
	h, files, err := tun.HandOver(device)
	if err != nil {
		return nil, nil, errors.Join(err, device.Close())
	}
	s.device = device
	return h, files, nil
}

func (s *Server) setMTU(mtu int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.device == nil {
		return errRefused
	}
	return s.device.SetMTU(mtu)
}

// ours tells whether a device is that of the tunnel, as it is called or was to be called.
func (s *Server) ours(settings *Settings, device string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return device != "" && (device == settings.Device || s.device != nil && device == s.device.Name())
}

func (s *Server) setRoutes(settings *Settings, c route.Config) error {
	if !s.ours(settings, c.Device) || c.Mark != settings.Way.Mark || c.Table != settings.Table || c.Priority != 0 || c.MTU != 0 {
		return errRefused
	}
	s.note(&s.set.routes)
	return s.router.Set(c)
}

func (s *Server) setRules(settings *Settings, r firewall.Rules) error {
	if !s.ours(settings, r.Device) || r.Mark != settings.Way.Mark || r.KillSwitch != settings.KillSwitch {
		return errRefused
	}
	s.note(&s.set.rules)
	return s.firewall.Set(r)
}

func (s *Server) setNames(settings *Settings, c dns.Config) error {
	if !s.ours(settings, c.Device) {
		return errRefused
	}
	s.mu.Lock()
	host := s.names
	s.mu.Unlock()
	if host == nil {
		var err error
		if host, err = s.Services.Resolvers(); err != nil {
			return err
		}
		s.mu.Lock()
		if s.names == nil {
			s.names = host
		}
		host = s.names
		s.mu.Unlock()
	}
	s.note(&s.set.names)
	return host.Set(c)
}

func (s *Server) closeNames() error {
	s.mu.Lock()
	host := s.names
	s.mu.Unlock()
	if host == nil {
		return nil
	}
	return s.undo(&s.set.names, host.Close)
}

// note notes that something is, or may be, set.
func (s *Server) note(set *bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*set = true
}

// undo notes that it is not any more, if nothing fails.
func (s *Server) undo(set *bool, by func() error) error {
	if err := by(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	*set = false
	return nil
}

// socket prepares a socket of the child, which is the same open file here.
func (s *Server) socket(settings *Settings, w wantedSocket, files []*os.File) error {
	if len(files) != 1 || w.Buffer < 0 || w.Buffer > maxBuffer {
		return errRefused
	}
	c, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	err = onSocket(c, "getsockopt", func(fd int) error {
		family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return err
		}
		kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if err != nil {
			return err
		}
		if family != unix.AF_INET && family != unix.AF_INET6 || kind != unix.SOCK_DGRAM && kind != unix.SOCK_STREAM {
			return errRefused
		}
		return nil
	})
	if err == nil && w.Outside {
		err = s.Services.Control("", "", c)
	}
	if err == nil && w.Buffer > 0 {
		err = s.Services.Buffers(c, w.Buffer)
	}
	if err == nil && w.Bind != (netip.AddrPort{}) {
		if !w.Bind.IsValid() || !slices.Contains(settings.Ports, w.Bind.Port()) {
			return errRefused
		}
		err = s.Services.Bind(c, w.Bind)
	}
	return err
}

// listen makes the control socket, whose path stays until the child has ended.
func (s *Server) listen(settings *Settings) (any, []*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if settings.Control == "" || s.control != nil {
		return nil, nil, errRefused
	}
	l, err := s.Services.ListenControl(settings.Control)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	u, ok := l.(interface {
		SetUnlinkOnClose(bool)
		File() (*os.File, error)
	})
	if !ok {
		return nil, nil, errors.New("privsep: the control socket cannot be handed over")
	}
	u.SetUnlinkOnClose(false)
	file, err := u.File()
	if err != nil {
		return nil, nil, err
	}
	if s.control, err = os.Lstat(settings.Control); err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return nil, []*os.File{file}, nil
}
