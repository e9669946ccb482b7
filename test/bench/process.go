package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long the harness waits for what must come: a tunnel that opens, a program
// that ends.
const patience = 20 * time.Second

// process is a program that runs beside the harness. Its output is kept.
type process struct {
	name string
	cmd  *exec.Cmd
	out  output
	done chan struct{} // closed when it has ended
}

// output is written by a process and read by the harness.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// spawn starts a program. Who spawns stops.
func spawn(name string, env []string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	apart(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s does not start: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop ends the process in order, and by force if that takes too long.
func (p *process) stop() {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if p.ended() {
			return
		}
		_ = p.cmd.Process.Signal(sig) // it may have ended just now
		select {
		case <-p.done:
		case <-time.After(4 * time.Second):
		}
	}
}

// says waits until the output has a text.
func (p *process) says(ctx context.Context, text string) error {
	return until(ctx, p.name+" says "+text, func() (bool, error) {
		if strings.Contains(p.out.String(), text) {
			return true, nil
		}
		return false, p.fault()
	})
}

// fault is the error that it has ended too early.
func (p *process) fault() error {
	if !p.ended() {
		return nil
	}
	return fmt.Errorf("%s ended: %v\n%s", p.name, p.cmd.ProcessState, tail(p.out.String(), 10))
}

// until asks again and again until something holds.
func until(ctx context.Context, what string, holds func() (bool, error)) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("waited %v in vain: %s", patience, what)
		case <-tick.C:
		}
	}
}

// pause lets some time of a measurement pass.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// command runs a program to its end and returns its standard output.
func command(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	apart(cmd)
	if err := cmd.Run(); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = errors.New("it took too long")
		}
		return stdout.String(), fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, excerpt(stderr.String()+"\n"+stdout.String()))
	}
	return stdout.String(), nil
}

// excerpt is the beginning and the end of what a program said: the fault stands in either.
func excerpt(s string) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	if len(all) > 10 {
		all = append(append(all[:4:4], "…"), all[len(all)-6:]...)
	}
	return strings.Join(all, "\n")
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
