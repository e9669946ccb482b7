package route

import (
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"
)

// New makes a Router. It keeps its state file in the folder stateDir, which it
// creates; log may be nil. On Linux the Router acts on the network namespace that the
// calling thread is in at Set and Close.
func New(stateDir string, log *zap.Logger) Router {
	if log == nil {
		log = zap.NewNop()
	}
	return &router{dir: stateDir, log: log}
}

type router struct {
	dir string
	log *zap.Logger

	mu   sync.Mutex
	have state
	file *stateFile // nil until the first Set
}

func (r *router) Set(c Config) error {
	c, err := c.normal()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.apply(c)
}

func (r *router) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		return nil
	}
	return r.apply(Config{})
}

// apply comes to c, the zero Config being nothing at all. The state file is
// written before the host is touched, with all that was and all that will be.
func (r *router) apply(c Config) error {
	if r.file == nil {
		file, err := createStateFile(r.dir, c.Device)
		if err != nil {
			return err
		}
		r.file = file
	}
	others, err := livingOthers(r.dir, r.file)
	if err != nil {
		return err
	}
	next, carryOut, err := prepare(r.have, c, others)
	if err != nil {
		return err
	}
	if c.Device != "" {
		if err := r.file.write(union(r.have, next)); err != nil {
			return err
		}
	}
	if err := carryOut(r.log); err != nil {
		r.have = union(r.have, next)
		return err
	}
	r.have = next
	if c.Device == "" {
		err := r.file.remove()
		r.file = nil
		return err
	}
	return r.file.write(next)
}

// union is what may be in force while a host goes from a to b.
func union(a, b state) state {
	out := b
	if b.Config.Device == "" {
		return a
	}
	out.Config.Addresses, _ = normalPrefixes(both(a.Config.Addresses, b.Config.Addresses), false)
	out.Config.Routes, _ = normalPrefixes(both(a.Config.Routes, b.Config.Routes), true)
	out.Config.Outside, _ = normalPrefixes(both(a.Config.Outside, b.Config.Outside), true)
	out.Config.Unreachable, _ = normalPrefixes(both(a.Config.Unreachable, b.Config.Unreachable), true)
	for _, s := range a.Settings {
		if !inGroup(b.Settings, s.Group) {
			out.Settings = both(out.Settings, []setting{s})
		}
	}
	for _, r := range a.Rows {
		if !r.in(b.Rows) {
			out.Rows = both(out.Rows, []row{r})
		}
	}
	return out
}

// both is a new slice.
func both[T any](a, b []T) []T { return append(a[:len(a):len(a)], b...) }

// each carries out operations in their order. Without one that adds something the next ones
// make no sense; what is to be taken away goes as far as it can.
func each[O interface {
	fmt.Stringer
	removes() bool
}](ops []O, log *zap.Logger, carryOut func(O) error,
) error {
	var failed []error
	for _, op := range ops {
		err := carryOut(op)
		if err == nil {
			log.Debug("route", zap.Stringer("step", op))
			continue
		}
		failed = append(failed, &Error{Step: op.String(), Hint: hint(err), Err: err})
		if !op.removes() {
			break
		}
	}
	return errors.Join(failed...)
}

func ignore(err error, harmless ...error) error {
	for _, h := range harmless {
		if errors.Is(err, h) {
			return nil
		}
	}
	return err
}
