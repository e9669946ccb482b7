// Package platform is what routes, resolvers and packet filters want alike of an operating system:
// that a program of it does something, and that a file is locked.
package platform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// patience is how long a program may take to do what it is told.
const patience = 20 * time.Second

// mostSaid is how many octets of what a program said an error has.
const mostSaid = 500

// Run runs a program, which reads stdin, and returns its output. When it fails, the error has what it
// said, too.
func Run(stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = time.Second // a daemon that it starts may keep the output open
	out, err := cmd.CombinedOutput()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return string(out), nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %s", patience)
	}
	if said := bytes.TrimSpace(out[:min(len(out), mostSaid)]); len(said) > 0 {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return string(out), err
}
