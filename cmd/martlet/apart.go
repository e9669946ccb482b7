package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"martlet"
	"martlet/config"
	"martlet/tun/privsep"
)

// parentProcess is the process of root that does for this one what needs the rights of root.
type parentProcess struct {
	services privsep.Services
	files    config.Files
	forget   func() // the files that were read
	call     func(do string, in, out any) ([]*os.File, error)
	told     told
	end      context.Context  // is done when the program is to end
	hangups  <-chan os.Signal // tell it to read its file again
	user     string           // whom this process runs as
	limits   []string         // what it is not kept from
}

// parent is set before anything else is done, in a process without rights; nil in every other.
var parent *parentProcess

// told is what the parent found out for its child.
type told struct {
	File     string        `json:"file,omitempty"` // of the profile that was picked
	Args     []string      `json:"args"`           // the rest of the command line
	Notify   bool          `json:"notify,omitempty"`
	Watchdog time.Duration `json:"watchdog_ns,omitempty"`
}

// What a child asks for beside what package privsep knows.
const (
	askReload   = "reload"   // that the parent reads the configuration too, since it may name other files
	askDetach   = "detach"   // for what takes the place of the terminal
	askPassword = "password" // of --password-command
	askNotify   = "notify"   // that systemd is told something
)

// work is what a command does in a child.
type work struct {
	source  *source
	spare   *spare
	args    []string
	log     string // of the background
	command string // that tells the password
}

// inProcess is martlet.InProcess. Only who sets up the host has a parent.
func inProcess(c *config.Config) (bool, string) {
	if parent != nil {
		return false, ""
	}
	return martlet.InProcess(c)
}

// services are those of the parent; nil is this process by itself.
func services() privsep.Services {
	if parent == nil {
		return nil
	}
	return parent.services
}

// reread reads the configuration again.
func reread(from *source) func() (*config.Config, error) {
	return func() (*config.Config, error) {
		if parent != nil {
			if _, err := parent.call(askReload, nil, nil); err != nil {
				return nil, err
			}
		}
		return from.again()
	}
}

// password is the answer to askPassword.
type password struct {
	User  string         `json:"user,omitempty"`
	Value []byte         `json:"value,omitempty"`
	Err   *martlet.Error `json:"error,omitempty"`
}

// passwordBy is commandPrompt, by the parent where there is one.
func passwordBy(command string, stderr io.Writer) func(context.Context, martlet.Login) (string, []byte, error) {
	if parent == nil {
		return commandPrompt(command, stderr)
	}
	return func(_ context.Context, l martlet.Login) (string, []byte, error) {
		var out password
		if _, err := parent.call(askPassword, l, &out); err != nil {
			return "", nil, err
		}
		if out.Err != nil {
			return "", nil, out.Err
		}
		return out.User, out.Value, nil
	}
}

// sayApart logs what this process is, if it has a parent.
func sayApart(log *zap.Logger) {
	if parent == nil {
		return
	}
	log.Info("runs as " + parent.user + " without capabilities; the parent keeps routes, packet filter and resolvers")
	if len(parent.limits) > 0 {
		log.Warn("the process that speaks to the network is less confined than it could be: " + strings.Join(parent.limits, "; "))
	}
}

// handler is a Handler of package privsep whose request is of one type.
func handler[T any](do func(T) (any, []*os.File, error)) func(json.RawMessage) (any, []*os.File, error) {
	return func(body json.RawMessage) (any, []*os.File, error) {
		var in T
		if len(body) > 0 {
			if err := json.Unmarshal(body, &in); err != nil {
				return nil, nil, err
			}
		}
		return do(in)
	}
}
