//go:build unix && !darwin

package dns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
)

// file is the manner where nobody else can be asked: /etc/resolv.conf is ours while the tunnel
// stands. What another program writes over it becomes what comes back in the end, as the resolvers
// of the network where the host is now; ours is put before it again, but not for ever.
type file struct {
	path   string
	device string
	log    *zap.Logger
	now    func() time.Time

	mu     sync.Mutex
	config Config
	text   string // of ours; "" when it is not there
	fights patience
	told   bool
	stop   func() // of the watch; nil when there is none
}

func newFile(path, device string, log *zap.Logger) *file {
	return &file{path: path, device: device, log: log, now: time.Now}
}

func (f *file) set(c Config) error {
	f.mu.Lock()
	before, err := f.before()
	if err == nil {
		f.config, f.fights = c, patience{}
		err = f.put(before)
	}
	watched := f.stop != nil
	f.mu.Unlock()
	if err != nil || watched {
		return err
	}
	stop, err := watch(f.path, f.changed)
	if err != nil {
		f.log.Warn("other programs may write over our resolvers: their file cannot be watched", zap.String("file", f.path), zap.Error(err))
		return nil
	}
	f.mu.Lock()
	f.stop = stop
	f.mu.Unlock()
	f.changed() // since it was written
	return nil
}

// before is what shall come back in the end. f.mu is held.
func (f *file) before() (former, error) {
	now, err := readFormer(f.path)
	if err != nil {
		return former{}, f.failed("read "+f.path, err)
	}
	o, mine := parseOurs(now.Content)
	switch {
	case now.Kind != "file" || !mine:
		return now, nil
	case o.Device != f.device && exists(o.Device):
		return former{}, &Error{"set the resolvers in " + f.path, fmt.Errorf("they are those of the tunnel on %s", o.Device), "end that one first: this file holds those of one tunnel"}
	}
	return o.Before, nil
}

// put writes ours. f.mu is held.
func (f *file) put(before former) error {
	text := ours{f.device, before}.text(f.config.Servers, f.config.Search)
	if len(text) > maxConf {
		return &Error{"write " + f.path, fmt.Errorf("with what is there now it has %d octets, at most %d are read", len(text), maxConf), "shorten it: a resolver needs a few lines"}
	}
	if err := replace(f.path, former{Kind: "file", Content: text, Mode: 0o644}); err != nil {
		return f.failed("write "+f.path, err)
	}
	f.text = text
	return nil
}

func (f *file) undo() error {
	f.mu.Lock()
	stop := f.stop
	f.stop, f.text = nil, ""
	f.mu.Unlock()
	if stop != nil {
		stop() // waits for changed, which takes f.mu
	}
	now, err := readFormer(f.path)
	if err != nil {
		return f.failed("read "+f.path, err)
	}
	o, mine := parseOurs(now.Content)
	if now.Kind != "file" || !mine || o.Device != f.device {
		f.log.Info("the resolvers are left as they are: another program has set them since", zap.String("file", f.path), zap.String("owner", parseConf(now.Content).Owner))
		return nil
	}
	if err := replace(f.path, o.Before); err != nil {
		return f.failed("put back "+f.path, err)
	}
	return nil
}

// changed looks whether the file is still ours, and puts ours back.
func (f *file) changed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.text == "" {
		return
	}
	now, err := readFormer(f.path)
	if err == nil && now.Kind == "file" && now.Content == f.text {
		return
	}
	who := zap.String("owner", parseConf(now.Content).Owner)
	if err == nil && f.fights.lost(f.now()) {
		err = fmt.Errorf("it was written over %d times within %s", maxFights, fightTime)
	}
	if err == nil {
		err = f.putBack(now)
	}
	if err != nil {
		f.text = ""
		f.log.Error("the resolvers of this host are no longer those of the tunnel, and names may leave it: another program writes over them; have it leave the file alone, or run systemd-resolved",
			zap.String("file", f.path), who, zap.Error(err))
		return
	}
	if !f.told {
		f.told = true
		f.log.Warn("another program has written over our resolvers; ours are put back, its own wait for the end of the tunnel", zap.String("file", f.path), who)
	}
}

// putBack writes ours in place of now, which comes back in the end. A file that is away is most often
// about to be written: then what was before ours still holds, and one that comes first stands. f.mu is held.
func (f *file) putBack(now former) error {
	if now.Kind == "none" {
		err := writeNew(f.path, []byte(f.text), 0o644)
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) { // a file system without second names
			return replace(f.path, former{Kind: "file", Content: f.text, Mode: 0o644})
		}
	}
	before, err := f.before()
	if err != nil {
		return err
	}
	return f.put(before)
}

func (f *file) failed(what string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, fs.ErrPermission):
		hint = "run as root; a file that root cannot change has an attribute (lsattr) or is mounted read-only"
	case readOnly(err):
		hint = "mount it writable, or set the resolvers where it comes from: a container gets them by --dns, a pod by dnsConfig"
	}
	return &Error{what, err, hint}
}

// sweepFile puts back what was before a file of ours whose device is no more.
func sweepFile(path string, alive func(string) bool, log *zap.Logger) error {
	now, err := readFormer(path)
	if err != nil {
		return nil //nolint:nilerr // a file that cannot be read is not ours
	}
	o, mine := parseOurs(now.Content)
	if now.Kind != "file" || !mine || alive(o.Device) {
		return nil
	}
	log.Info("putting back the resolvers that a killed program replaced", zap.String("file", path), zap.String("device", o.Device))
	return newFile(path, o.Device, log).undo()
}

// What other programs may do to the file before we give up.
const (
	maxFights = 5
	fightTime = time.Minute
)

// patience counts the fights of the last minute.
type patience struct{ times []time.Time }

// lost tells whether this fight is one too many.
func (p *patience) lost(now time.Time) bool {
	for len(p.times) > 0 && now.Sub(p.times[0]) >= fightTime {
		p.times = p.times[1:]
	}
	p.times = append(p.times, now)
	return len(p.times) >= maxFights
}

// readFormer reads a file as what it is, without following a link.
func readFormer(path string) (former, error) {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return former{Kind: "none"}, nil
	case err != nil:
		return former{}, err
	case st.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(path)
		return former{Kind: "link", Content: to}, err
	case !st.Mode().IsRegular():
		return former{}, &fs.PathError{Op: "read", Path: path, Err: errors.New("it is not a file")}
	}
	b, err := readFile(path, maxConf)
	return former{Kind: "file", Content: string(b), Mode: st.Mode().Perm()}, err
}

// replace puts there what was, at once: a reader finds the one or the other. Where the file is a
// mount of its own, as in containers, or its folder cannot be written, it is written over.
func replace(path string, with former) error {
	switch with.Kind {
	case "none":
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	case "link":
		// The name is free: only one Host writes this file.
		aside := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"-martlet")
		if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(with.Content, aside); err != nil {
			return err
		}
		if err := os.Rename(aside, path); err != nil {
			_ = os.Remove(aside) // what failed before says more
			return err
		}
		return nil
	}
	err := writeFile(path, []byte(with.Content), with.Mode)
	if err == nil || !mounted(err) {
		return err
	}
	st, statErr := os.Lstat(path)
	if statErr != nil || !st.Mode().IsRegular() {
		return err // not through a link
	}
	return writeOver(path, with.Content)
}

// writeOver has the new content there before the file is cut to its length: ours holds the former
// one, is longer, and so never has a part of it at its end.
func writeOver(path, content string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Truncate(int64(len(content)))
	}
	return errors.Join(err, f.Close())
}
