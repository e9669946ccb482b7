package route

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"martlet/tun/platform"
)

const lockSuffix = ".lock"

// stateFile is a file, and beside it one with a lock for as long as the Router lives: the
// system drops the lock when the process is killed, and an open file could not be replaced.
type stateFile struct {
	path    string
	boot    string
	ns      uint64
	lock    *os.File
	content []byte // of the file
}

func createStateFile(dir, device string) (*stateFile, error) {
	s, err := newStateFile(dir, device)
	if err != nil {
		return nil, err
	}
	s.lock, err = takeLock(s.path)
	if errors.Is(err, platform.ErrLocked) {
		return nil, inUse(s.path, device)
	}
	if err != nil {
		return nil, fmt.Errorf("route: state file: %w", err)
	}
	return s, nil
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+lockSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := platform.Lock(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (s *stateFile) write(st state) error {
	content, err := s.describe(st)
	if err != nil {
		return err
	}
	if bytes.Equal(content, s.content) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), ".route-*")
	if err != nil {
		return fmt.Errorf("route: state file: %w", err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("route: state file: %w", err)
	}
	s.content = content
	return nil
}

func (s *stateFile) remove() error {
	err := ignore(os.Remove(s.path), fs.ErrNotExist)
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close(), ignore(os.Remove(s.lock.Name()), fs.ErrNotExist))
		s.lock = nil
	}
	if err != nil {
		return fmt.Errorf("route: state file: %w", err)
	}
	return nil
}

func locked(path string) bool {
	f, err := takeLock(path)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, platform.ErrLocked)
}

// forget removes the state file of a Router that is not alive, and its lock.
func forget(path string) error {
	return errors.Join(os.Remove(path), ignore(os.Remove(path+lockSuffix), fs.ErrNotExist))
}
