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
	early    chan error                          // of Recover while the child starts, for who asks for it first
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
	return answer, descriptors(files), (&message{files: files}).drop
}

func (s *Server) do(m message) (answer any, files []*os.File, err error) {
	s.mu.Lock()
	settings := s.settings
	s.mu.Unlock()
	// What a request is about, if it is about something; of each message one is read.
	var in struct {
		device wantedDevice
		mtu    int
		routes route.Config
		rules  firewall.Rules
		names  dns.Config
		socket wantedSocket
		secret secret
		asked  asked
	}
	about := map[string]any{
		doOpen: &in.device, doMTU: &in.mtu, doRoutes: &in.routes, doRules: &in.rules, doNames: &in.names,
		doSocket: &in.socket, doSecret: &in.secret, doReplace: &in.secret, doFile: &in.asked,
	}[m.Do]
	if about != nil {
		if err := decode(m.Body, about); err != nil {
			return nil, nil, fmt.Errorf("privsep: %s: %w", m.Do, err)
		}
	}
	switch m.Do {
	case doRecover:
		err = s.recovered()
	case doOpen:
		return s.open(in.device)
	case doMTU:
		err = s.setMTU(in.mtu)
	case doRoutes:
		err = s.setRoutes(&settings, in.routes)
	case doNoRoutes:
		err = s.undo(&s.set.routes, s.router.Close)
	case doRules:
		err = s.setRules(&settings, in.rules)
	case doNoRules:
		err = s.undo(&s.set.rules, s.firewall.Clear)
	case doLeaveRules:
		err = s.undo(&s.set.rules, s.firewall.Leave)
	case doNames:
		err = s.setNames(&settings, in.names)
	case doNoNames:
		err = s.closeNames()
	case doSocket:
		err = s.socket(&settings, in.socket, m.files)
	case doControl:
		return s.listen(&settings)
	case doKeyLog:
		if settings.KeyLog == "" {
			return nil, nil, errRefused
		}
		tables, err := s.Services.KeyLog()
		if err != nil {
			return nil, nil, err
		}
		return nil, tables[:], nil
	case doSecret, doReplace:
		if settings.State == "" || in.secret.Name != CrashSecret && in.secret.Name != TicketKey || len(in.secret.Value) > maxSecret {
			return nil, nil, errRefused
		}
		if m.Do == doReplace {
			return nil, nil, s.Services.ReplaceSecret(in.secret.Name, in.secret.Value)
		}
		in.secret.Value, err = s.Services.Secret(in.secret.Name)
		return in.secret, nil, err
	case doFile:
		file, path, err := s.Files.get(in.asked)
		if err != nil || file == nil {
			return path, nil, err
		}
		return nil, []*os.File{file}, nil
	default:
		if more := s.More[m.Do]; more != nil {
			return more(m.Body)
		}
		err = fmt.Errorf("privsep: %q is no request", m.Do)
	}
	return nil, nil, err
}

// errRefused is the answer to what this program never asks for.
var errRefused = errors.New("privsep: refused: this is not of the tunnel's device and settings")

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
