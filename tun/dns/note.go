package dns

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"martlet/tun/platform"
)

const (
	noteSuffix = ".dns.json"
	lockSuffix = ".dns.lock"
	maxNote    = 1 << 12 // octets
)

// note is what must be known to undo what a process did.
type note struct {
	Manner string `json:"manner"`
	Device string `json:"device"`
	Record string `json:"record"` // our name with resolvconf
}

// parseNote reads a note. The folder belongs to root, but what stands in it becomes part of
// commands and paths, and is looked at as closely as what comes from elsewhere.
func parseNote(b []byte) (note, error) {
	var n note
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		return note{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return note{}, errors.New("something stands behind the note")
	}
	if err := errors.Join(checkDevice(n.Device), checkDevice(n.Record)); err != nil {
		return note{}, err
	}
	if !strings.HasSuffix(n.Record, n.Device) {
		return note{}, fmt.Errorf("record %q is not of device %q", n.Record, n.Device)
	}
	return n, nil
}

// noteFile is a note and the lock of its Host: the system drops the lock when the process is killed.
type noteFile struct {
	path string
	lock *os.File
}

// openNote takes the lock. Its error is platform.ErrLocked when another Host has it.
func openNote(dir, device string) (*noteFile, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("dns: state folder: %w", err)
	}
	base := filepath.Join(dir, device+"."+scope())
	for range 10 {
		f, err := os.OpenFile(base+lockSuffix, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("dns: state folder: %w", err)
		}
		if err := platform.Lock(f); err != nil {
			f.Close()
			return nil, &Error{"set the resolvers for " + device, err, "end the other program that has them, see " + base + noteSuffix}
		}
		// The one who had the lock may have removed the file since it was opened.
		named, err := os.Stat(base + lockSuffix)
		if held, err2 := f.Stat(); err == nil && err2 == nil && os.SameFile(named, held) {
			return &noteFile{base + noteSuffix, f}, nil
		}
		f.Close()
	}
	return nil, &Error{"set the resolvers for " + device, platform.ErrLocked, "another program comes and goes in " + dir}
}

// write need not reach the disk: state that outlives a reboot tells itself whose it is.
func (f *noteFile) write(n note) error {
	b, err := json.Marshal(n)
	if err == nil {
		err = writeFile(f.path, append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("dns: note what must be undone: %w", err)
	}
	return nil
}

func (f *noteFile) read() (note, error) {
	b, err := readFile(f.path, maxNote)
	if err != nil {
		return note{}, err
	}
	return parseNote(b)
}

// remove takes the note away and lets the lock go.
func (f *noteFile) remove() error {
	if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dns: state folder: %w", err)
	}
	// While the lock is held, so that nobody gets a lock on a file without a name. Windows
	// removes no open file: there it goes afterwards, if nobody else has opened it.
	held := os.Remove(f.lock.Name())
	err := f.release()
	if held != nil {
		_ = os.Remove(f.lock.Name()) // or the next one does
	}
	return err
}

func (f *noteFile) release() error { return f.lock.Close() }

// notedDevices are those with a note in the folder and of this network namespace.
func notedDevices(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("dns: state folder: %w", err)
	}
	var out []string
	for _, e := range entries {
		device, ours := strings.CutSuffix(e.Name(), "."+scope()+noteSuffix)
		if ours && checkDevice(device) == nil {
			out = append(out, device)
		}
	}
	return out, nil
}

// writeFile makes or replaces a file at once: a reader finds the former or the new one.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	return writeAside(path, content, mode, os.Rename)
}

// writeNew makes a file at once where there is none. Its error is fs.ErrExist where there is one.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	return writeAside(path, content, mode, os.Link)
}

// writeAside writes a file of another name, which is given its name in the end.
func writeAside(path string, content []byte, mode fs.FileMode, name func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = name(f.Name(), path)
	}
	_ = os.Remove(f.Name()) // after a rename it is gone
	return err
}

// readFile refuses more than most octets.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("longer than %d octets", most)}
	}
	return b, nil
}
