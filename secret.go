package martlet

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"martlet/crypto/suite"
)

// secretLen is the length of a secret of the node's own, in octets.
const secretLen = 32

// ownSecret is a random secret that stays the same when the node is started again: it is
// kept in a file of dir that nobody else may read. One that is damaged is replaced.
func ownSecret(dir, name string) (suite.Secret, error) {
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return newSecret(dir, path)
	case err != nil:
		return nil, fmt.Errorf("martlet: secret: %w", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("martlet: secret: %s may be read by others (%v); remove it", path, info.Mode())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("martlet: secret: %w", err)
	}
	if len(b) != secretLen {
		return newSecret(dir, path)
	}
	return b, nil
}

// newSecret makes one. The file is whole or not there, whenever the machine stops.
func newSecret(dir, path string) (suite.Secret, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("martlet: secret: %w", err)
	}
	b := make([]byte, secretLen)
	rand.Read(b)
	if err := replaceFile(path, b); err != nil {
		return nil, fmt.Errorf("martlet: secret: %w", err)
	}
	return b, nil
}

// replaceFile writes a file that only we may read in place of another.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// secrets are those of a gateway that outlive it.
type secrets struct {
	crash suite.Secret // for crash tokens; empty: none
}

// openSecrets makes or finds the secrets of a gateway. Without them it works, but its peers
// learn of its crash by waiting only.
func (n *Node) openSecrets() {
	dir := n.Config.Node.State
	if !n.Serve || dir == "" {
		return
	}
	var err error
	if n.secrets.crash, err = ownSecret(dir, "crash-secret"); err != nil {
		n.log.Warn("peers will not be told of a crash: " + err.Error())
	}
}
