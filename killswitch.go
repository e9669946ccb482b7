package martlet

import (
	"errors"
	"slices"

	"go.uber.org/zap"

	"martlet/config"
	"martlet/ike"
	"martlet/tun/dns"
	"martlet/tun/firewall"
	"martlet/tun/route"
)

// stillBlocked is what a person has to know after an end that nobody asked for.
const stillBlocked = "the kill switch stays in force: nothing leaves this host until martlet is started again, or `martlet down` opens it"

// mayBlock refuses a kill switch where nothing of the host goes through the tunnel.
func (n *Node) mayBlock() error {
	if !n.Config.Node.KillSwitch || n.Host && n.Device == nil {
		return nil
	}
	return &Error{
		Code: ike.CodeHost,
		What: "there can be no kill switch here",
		Why:  "packets of the tunnel end in this process, so that nothing else of this host goes through it, and node.kill_switch would promise what it cannot keep",
		Hint: "take node.kill_switch out of the configuration, since what uses the tunnel here has no way around it; or run on the host as root, with node.mode = \"tun\"",
	}
}

// block puts a kill switch in force, before there is a device. What a crashed program left under
// its name is replaced in one go.
func block(c *config.Config, filter firewall.Firewall) error {
	local := slices.DeleteFunc(excluded(c, c.Node.Device, nil), everything)
	err := filter.Set(firewall.Rules{Device: c.Node.Device, Mark: c.Node.Mark, KillSwitch: true, Local: local})
	if err != nil {
		return hostError(c, "the kill switch could not be put in force; nothing was begun", err)
	}
	return nil
}

// Abandon is Close for an end that nobody asked for: a kill switch stays in force, until a Node is
// started again or Undo is called. After Disconnect, unless Connect followed, it is Close.
func (n *Node) Abandon() error { return n.close(!n.dismissed.Load()) }

// Undo undoes what Nodes set up on this host and left when they were killed or abandoned, a kill
// switch above all; state is their Config.Node.State. It reports whether there was anything. What
// belongs to one that runs stays. It needs root.
func Undo(state string, log *zap.Logger) (found bool, err error) {
	err = errors.Join(dns.Recover(state, log), route.Recover(state, log))
	found, failed := firewall.Recover("", log)
	return found, errors.Join(err, failed)
}
