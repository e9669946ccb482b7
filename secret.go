package martlet

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"martlet/crypto/suite"
	"martlet/ike"
	"martlet/tun/privsep"
)

// secretLen is the length of a secret of the node's own, in octets.
const secretLen = 32

// ownSecret is a random secret that stays the same when the node is started again: it is
// kept in a file that nobody else may read. One that is damaged is replaced.
func ownSecret(services privsep.Services, name string) (suite.Secret, error) {
	b, err := services.Secret(name)
	if err == nil && len(b) != secretLen {
		b = make([]byte, secretLen)
		rand.Read(b)
		err = services.ReplaceSecret(name, b)
	}
	if err != nil {
		return nil, fmt.Errorf("martlet: secret: %w", err)
	}
	return b, nil
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
	if n.conf().Node.State != "" {
		var err error
		if n.secrets.crash, err = ownSecret(n.services, privsep.CrashSecret); err != nil {
			n.log.Warn("peers will not be told of a crash: " + err.Error())
		}
		if n.secrets.tickets, err = ticketKey(n.services, time.Now()); err == nil {
			n.tasks.Go(func() { n.advanceTickets() })
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
func ticketKey(services privsep.Services, now time.Time) (ike.TicketKey, error) {
	b, err := services.Secret(privsep.TicketKey)
	if err != nil {
		return ike.TicketKey{}, fmt.Errorf("martlet: secret: %w", err)
	}
	key := newTicketKey(now)
	if len(b) == 4+secretLen {
		stored := ike.TicketKey{Epoch: binary.BigEndian.Uint32(b), Key: b[4:]}
		if advanced, ok := stored.Advance(max(stored.Epoch, key.Epoch-1)); ok && stored.Epoch <= key.Epoch {
			key = advanced
		}
	}
	if err := services.ReplaceSecret(privsep.TicketKey, append(binary.BigEndian.AppendUint32(nil, key.Epoch), key.Key...)); err != nil {
		return key, fmt.Errorf("martlet: secret: %w", err)
	}
	return key, nil
}

// advanceTickets keeps the file of the ticket key as young as the engines' keys.
func (n *Node) advanceTickets() {
	tick := time.NewTicker(24 * time.Hour)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			if _, err := ticketKey(n.services, now); err != nil {
				n.log.Warn("the key of tickets could not be advanced: " + err.Error())
			}
		case <-n.ctx.Done():
			return
		}
	}
}
