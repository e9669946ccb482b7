package privsep

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"go.uber.org/zap"

	"martlet/tun"
	"martlet/tun/dns"
	"martlet/tun/firewall"
	"martlet/tun/route"
)

// Handler answers a request that is not of this package.
type Handler func(body json.RawMessage) (answer any, files []*os.File, err error)

// Server does what a child asks for, as far as its Settings allow.
type Server struct {
	Services Services // that do it; those of Settings
	Files    *Files
	More     map[string]Handler // by request
	Log      *zap.Logger

	mu       sync.Mutex
	settings Settings
	device   tun.Device
	router   route.Router
	firewall firewall.Firewall
	names    dns.Host
	set      struct{ routes, rules, names bool } // that the child has not taken back
	control  os.FileInfo                         // of the socket
	working  sync.WaitGroup
}

// NewServer is a Server for Direct.
func NewServer(d *Direct, files *Files) *Server {
	return &Server{Services: d, Files: files, More: map[string]Handler{}, Log: d.Log, settings: d.Settings, router: d.Router(), firewall: d.Firewall()}
}

// AllowPorts are the low ports that sockets may have from now on.
func (s *Server) AllowPorts(ports []uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings.Ports = ports
}

// serve answers until the wire ends.
func (s *Server) serve(w *wire) error {
	slots := make(chan struct{}, maxAtWork)
	defer s.working.Wait()
	for {
		m, err := w.read()
		if err != nil {
			return err
		}
		slots <- struct{}{}
		s.working.Go(func() {
			defer func() { <-slots }()
			answer, fds, done := s.answer(m)
			err := w.write(answer, fds...)
			done()
			if err != nil {
				_ = w.conn.Close() // who reads hears of it, and the child is ended
			}
		})
	}
}

// answer does what a message asks for. done is called when the answer is sent.
func (s *Server) answer(m message) (answer message, fds []int, done func()) {
	out, files, err := s.do(m)
	m.drop()
	answer = message{ID: m.ID, Fault: faultOf(err)}
	if err == nil && out != nil {
		answer.Body, err = json.Marshal(out)
		answer.Fault = faultOf(err)
	}
	for _, f := range files {
		if c, err := f.SyscallConn(); err == nil {
			_ = c.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
		}
	}
	return answer, fds, func() {
		for _, f := range files {
			_ = f.Close() // the child has its own
		}
	}
}

func (s *Server) do(m message) (any, []*os.File, error) {
	s.mu.Lock()
	settings := s.settings
	s.mu.Unlock()
	switch m.Do {
	case doRecover:
		return nil, nil, s.Services.Recover()
	case doOpen:
		return with(m, s.open)
	case doMTU:
		return with(m, s.setMTU)
	case doRoutes:
		return with(m, func(c route.Config) (any, []*os.File, error) { return nil, nil, s.setRoutes(&settings, c) })
	case doNoRoutes:
		return nil, nil, s.undo(&s.set.routes, s.router.Close)
	case doRules:
		return with(m, func(r firewall.Rules) (any, []*os.File, error) { return nil, nil, s.setRules(&settings, r) })
	case doNoRules:
		return nil, nil, s.undo(&s.set.rules, s.firewall.Clear)
	case doLeaveRules:
		return nil, nil, s.undo(&s.set.rules, s.firewall.Leave)
	case doNames:
		return with(m, func(c dns.Config) (any, []*os.File, error) { return nil, nil, s.setNames(&settings, c) })
	case doNoNames:
		return nil, nil, s.closeNames()
	case doSocket:
		return with(m, func(w wantedSocket) (any, []*os.File, error) { return nil, nil, s.socket(&settings, w, m.files) })
	case doControl:
		return s.listen(&settings)
	case doKeyLog:
		if settings.KeyLog == "" {
			return nil, nil, errRefused
		}
		files, err := s.Services.KeyLog()
		if err != nil {
			return nil, nil, err
		}
		return nil, files[:], nil
	case doSecret:
		return with(m, func(w secret) (any, []*os.File, error) {
			if settings.State == "" || w.Name != CrashSecret && w.Name != TicketKey {
				return nil, nil, errRefused
			}
			b, err := s.Services.Secret(w.Name)
			return secret{Value: b}, nil, err
		})
	case doReplace:
		return with(m, func(w secret) (any, []*os.File, error) {
			if settings.State == "" || w.Name != CrashSecret && w.Name != TicketKey || len(w.Value) > maxSecret {
				return nil, nil, errRefused
			}
			return nil, nil, s.Services.ReplaceSecret(w.Name, w.Value)
		})
	case doFile:
		return with(m, func(a asked) (any, []*os.File, error) {
			file, path, err := s.Files.get(a)
			if err != nil || file == nil {
				return path, nil, err
			}
			return nil, []*os.File{file}, nil
		})
	}
	if more := s.More[m.Do]; more != nil {
		return more(m.Body)
	}
	return nil, nil, fmt.Errorf("privsep: %q is no request", m.Do)
}

// errRefused is the answer to what this program never asks for.
var errRefused = errors.New("privsep: refused: this is not of the tunnel's device and settings")

// with reads the body of a message.
func with[T any](m message, do func(T) (any, []*os.File, error)) (any, []*os.File, error) {
	var in T
	if err := decode(m.Body, &in); err != nil {
		return nil, nil, fmt.Errorf("privsep: %s: %w", m.Do, err)
	}
	return do(in)
}

// restore undoes what the child set and did not take back, and tells whether there was any of it. A kill
// switch stays in force then. It is called when nobody asks any more.
func (s *Server) restore() (left bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed []error
	if s.set.names {
		failed = append(failed, s.names.Close())
	}
	if s.set.routes {
		failed = append(failed, s.router.Close())
	}
	switch {
	case s.set.rules && s.settings.KillSwitch:
		failed = append(failed, s.firewall.Leave())
	case s.set.rules:
		failed = append(failed, s.firewall.Clear())
	}
	left = s.set.names || s.set.routes || s.set.rules
	if s.device != nil {
		failed = append(failed, s.device.Close())
	}
	if s.control != nil {
		// Another one may have put its own there.
		if now, err := os.Lstat(s.settings.Control); err == nil && os.SameFile(now, s.control) {
			failed = append(failed, os.Remove(s.settings.Control))
		}
	}
	return left, errors.Join(failed...)
}
