package martlet

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"martlet/crypto/suite"
	"martlet/ike"
)

// secretLen is the length of a secret of the node's own, in octets.
const secretLen = 32

// ownSecret is a random secret that stays the same when the node is started again: it is
// kept in a file of dir that nobody else may read. One that is damaged is replaced.
func ownSecret(dir, name string) (suite.Secret, error) {
	path := filepath.Join(dir, name)
	b, err := readOwn(path)
	if err != nil || len(b) == secretLen {
		return b, err
	}
	return newSecret(dir, path)
}

// readOwn reads a file that nobody else may read; nothing where there is none.
func readOwn(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("martlet: secret: %w", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("martlet: secret: %s may be read by others (%v); remove it", path, info.Mode())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("martlet: secret: %w", err)
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
	crash   suite.Secret // for crash tokens; empty: none
	tickets ike.TicketKey
}

// openSecrets makes or finds the secrets of a gateway. Without a folder for them it works,
// but its peers learn of its crash by waiting only, and their tickets end with it.
func (n *Node) openSecrets() {
	if !n.Serve {
		return
	}
	dir := n.conf().Node.State
	if dir != "" {
		var err error
		if n.secrets.crash, err = ownSecret(dir, "crash-secret"); err != nil {
			n.log.Warn("peers will not be told of a crash: " + err.Error())
		}
		if n.secrets.tickets, err = ticketKey(dir, time.Now()); err == nil {
			n.tasks.Go(func() { n.advanceTickets(dir) })
			return
		}
		n.log.Warn("tickets will not outlive this program: " + err.Error())
	}
	n.secrets.tickets = newTicketKey(time.Now())
}

func newTicketKey(now time.Time) ike.TicketKey {
	key := make([]byte, secretLen)
	rand.Read(key)
	return ike.TicketKey{Epoch: ike.EpochOf(now), Key: key}
}

// ticketKey is the key of tickets of yesterday, made of the one that the file has, which it
// replaces: the keys of the days before are gone then.
func ticketKey(dir string, now time.Time) (ike.TicketKey, error) {
	path := filepath.Join(dir, "ticket-key")
	b, err := readOwn(path)
	if err != nil {
		return ike.TicketKey{}, err
	}
	key := newTicketKey(now)
	if len(b) == 4+secretLen {
		stored := ike.TicketKey{Epoch: binary.BigEndian.Uint32(b), Key: b[4:]}
		if advanced, ok := stored.Advance(max(stored.Epoch, key.Epoch-1)); ok && stored.Epoch <= key.Epoch {
			key = advanced
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return key, fmt.Errorf("martlet: secret: %w", err)
	}
	if err := replaceFile(path, append(binary.BigEndian.AppendUint32(nil, key.Epoch), key.Key...)); err != nil {
		return key, fmt.Errorf("martlet: secret: %w", err)
	}
	return key, nil
}

// advanceTickets keeps the file of the ticket key as young as the engines' keys.
func (n *Node) advanceTickets(dir string) {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if _, err := ticketKey(dir, now); err != nil {
				n.log.Warn("the key of tickets could not be advanced: " + err.Error())
			}
		case <-n.ctx.Done():
			return
		}
	}
}
