package dns

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"go.uber.org/zap"

	"martlet/tun/platform"
)

// manner is one way to set the resolvers for the tunnel of one device.
type manner interface {
	// set makes them what c says, in place of what an earlier set said.
	set(c Config) error
	// undo takes away what set did in this process or in one that was killed. Where there is
	// nothing, nothing is done.
	undo() error
}

// decision is the choice of a manner.
type decision struct {
	Manner string
	// Splits tells whether the manner can send only some names to the servers.
	Splits bool
	// Prefix comes before the device in the name of our record with resolvconf.
	Prefix  string
	Reasons []string
}

// system is what differs from one operating system to another.
type system interface {
	decide() (decision, error)
	// manner makes the one of a note, which may be of another process.
	manner(n note) (manner, error)
	// sweep undoes what tells itself that it is of a device for which alive is false.
	sweep(alive func(device string) bool) error
}

// New decides how the resolvers of this host are set, and logs why. In the folder state, which it
// creates, is noted what must be undone; without a folder nothing is. log may be nil.
func New(state string, log *zap.Logger) (Host, error) {
	log = orNop(log)
	return newHost(newSystem(log), state, log)
}

// Recover undoes what programs that were killed left: what is noted in the folder state, and what
// belongs to devices that are no more. Hosts that are alive keep theirs. Call it before devices
// are opened; log may be nil.
func Recover(state string, log *zap.Logger) error {
	log = orNop(log)
	return recoverAll(newSystem(log), state, log)
}

func orNop(log *zap.Logger) *zap.Logger {
	if log == nil {
		return zap.NewNop()
	}
	return log
}

type host struct {
	system   system
	decision decision
	state    string
	log      *zap.Logger

	mu     sync.Mutex
	manner manner // nil until Set
	device string // of manner
	note   *noteFile
	warned bool
}

func newHost(s system, state string, log *zap.Logger) (*host, error) {
	d, err := s.decide()
	if err != nil {
		return nil, err
	}
	log.Info("how the resolvers of this host will be set", zap.String("manner", d.Manner), zap.Strings("because", d.Reasons))
	return &host{system: s, decision: d, state: state, log: log}, nil
}

func (h *host) Set(c Config) error {
	c, err := c.normal()
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.manner != nil && h.device != c.Device {
		if err := h.undo(); err != nil {
			return err
		}
	}
	if h.manner == nil {
		if err := h.begin(c.Device); err != nil {
			return err
		}
	}
	if !c.all() && !h.decision.Splits && !h.warned {
		h.warned = true
		h.log.Warn("all names go to the resolvers of the tunnel, not only those of its domains: this host cannot tell them apart; systemd-resolved could",
			zap.String("manner", h.decision.Manner), zap.Strings("domains", c.Domains))
	}
	if err := h.manner.set(c); err != nil {
		return err
	}
	h.log.Info("the resolvers of this host are those of the tunnel", zap.String("manner", h.decision.Manner), zap.String("device", c.Device),
		zap.Stringers("servers", c.Servers), zap.Strings("domains", c.Domains), zap.Strings("search", c.Search))
	return nil
}

// begin notes what will have to be undone. h.mu is held.
func (h *host) begin(device string) error {
	n := note{Manner: h.decision.Manner, Device: device, Record: h.decision.Prefix + device}
	m, err := h.system.manner(n)
	if err != nil {
		return err
	}
	if h.state != "" {
		if h.note, err = openNote(h.state, device); err != nil {
			return err
		}
		if err := h.note.write(n); err != nil {
			err = errors.Join(err, h.note.remove())
			h.note = nil
			return err
		}
	}
	h.manner, h.device = m, device
	return nil
}

func (h *host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.undo()
}

func (h *host) undo() error {
	if h.manner != nil {
		if err := h.manner.undo(); err != nil {
			return err
		}
		h.manner = nil
		h.log.Info("the resolvers of this host are its own again", zap.String("manner", h.decision.Manner), zap.String("device", h.device))
	}
	if h.note != nil {
		if err := h.note.remove(); err != nil {
			return err
		}
		h.note = nil
	}
	return nil
}

func recoverAll(s system, state string, log *zap.Logger) error {
	living := map[string]bool{}
	var failed []error
	devices, err := notedDevices(state)
	if err != nil {
		failed = append(failed, err)
	}
	for _, device := range devices {
		file, err := openNote(state, device)
		if errors.Is(err, platform.ErrLocked) {
			living[device] = true
			continue
		}
		if err == nil {
			err = file.recover(s, log)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("dns: undo what a killed program left for %s: %w", device, err))
		}
	}
	failed = append(failed, s.sweep(func(device string) bool { return living[device] || exists(device) }))
	return errors.Join(failed...)
}

// recover undoes what the note tells of. After an error it is kept, for the next attempt.
func (f *noteFile) recover(s system, log *zap.Logger) error {
	n, err := f.read()
	if err != nil {
		log.Warn("a note of what to undo cannot be read, and goes", zap.String("file", f.path), zap.Error(err))
		return f.remove()
	}
	log.Info("undoing what a killed program left", zap.String("manner", n.Manner), zap.String("device", n.Device))
	m, err := s.manner(n)
	if err == nil {
		err = m.undo()
	}
	if err != nil {
		return errors.Join(err, f.release())
	}
	return f.remove()
}

func exists(device string) bool {
	_, err := net.InterfaceByName(device)
	return err == nil
}
