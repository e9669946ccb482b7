package martlet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"martlet/ike"
	"martlet/ike/eap"
)

// Login is what a person is asked for: a user name and a password that the configuration
// does not have.
type Login struct {
	Connection string
	Gateway    string // the identity that the gateway has proven
	User       string // empty: the name is wanted too
}

// promptWait is how long a person may take. Gateways forget who logs in so slowly: ours
// does so after 3 minutes.
const promptWait = 150 * time.Second

// logins are what people said, for when a connection is brought up again. What a
// gateway refused is asked anew.
type logins struct {
	turn chan struct{} // full while somebody is asked

	mu   sync.Mutex
	said map[string]ike.CredentialReply // by connection
	at   map[string]time.Time
}

// credential answers an engine that needs a password.
func (n *Node) credential(q ike.Credential) ike.CredentialReply {
	if n.Prompt == nil {
		return ike.CredentialReply{Err: errors.New("the configuration has none, and there is nobody to ask")}
	}
	ctx, cancel := context.WithTimeout(n.ctx, promptWait)
	defer cancel()
	select {
	case n.logins.turn <- struct{}{}:
		defer func() { <-n.logins.turn }()
	case <-ctx.Done():
		return ike.CredentialReply{Err: ctx.Err()}
	}
	n.logins.mu.Lock()
	said, ok := n.logins.said[q.Connection]
	n.logins.mu.Unlock()
	if ok {
		return said
	}
	user, password, err := n.Prompt(ctx, Login{Connection: q.Connection, Gateway: q.Gateway.String(), User: q.User})
	if err != nil {
		return ike.CredentialReply{Err: fmt.Errorf("nobody gave a password: %w", err)}
	}
	said = ike.CredentialReply{User: user, Password: password}
	n.logins.mu.Lock()
	defer n.logins.mu.Unlock()
	n.logins.said[q.Connection], n.logins.at[q.Connection] = said, time.Now()
	return said
}

// slow tells whether an attempt that began then failed because a person took so long that the
// gateway had forgotten it. What was said is known now.
func (l *logins) slow(connection string, began time.Time, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == ike.CodePeerDead && l.at[connection].After(began)
}

// unsay makes a person be asked again after what was said was refused.
func (n *Node) unsay(h ike.Down) {
	if h.Initiator && h.Err != nil && h.Err.Code.Class() == ClassAuthentication {
		n.logins.mu.Lock()
		defer n.logins.mu.Unlock()
		delete(n.logins.said, h.Connection)
	}
}

// account finds a user of ours.
func (n *Node) account(q ike.Account) ike.AccountReply {
	if u := n.conf().Users[q.Name]; u != nil {
		return ike.AccountReply{Account: &eap.Account{Password: u.Password.Value}}
	}
	return ike.AccountReply{}
}
