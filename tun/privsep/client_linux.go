package privsep

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// variable tells a child which descriptor leads to its parent.
const variable = "_MARTLET_PARENT"

// hello is what a child is told first.
type hello struct {
	Process int             `json:"process"`
	User    string          `json:"user"`
	Limits  []string        `json:"limits,omitempty"` // what it is not kept from
	Files   []told          `json:"files,omitempty"`
	More    json.RawMessage `json:"more,omitempty"`
}

// Client is a child's way to what its parent does for it.
type Client struct {
	wire *wire
	hello
	signals chan os.Signal

	mu    sync.Mutex
	last  uint64
	calls map[uint64]chan message
	given given
}

// Join is nil, but in a process that Start made. Then it is the first that this does. Signals
// for it come from its parent alone, by Signals; when the parent ends so does the process.
func Join() (*Client, error) {
	if os.Getenv(variable) == "" {
		return nil, nil //nolint:nilnil // most processes are nobody's child
	}
	if err := os.Unsetenv(variable); err != nil {
		return nil, err
	}
	// To have started a program makes one dumpable again.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl", err)
	}
	if err := powerless(); err != nil {
		return nil, err
	}
	// A terminal tells them to parent and child.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	file := os.NewFile(childsEnd, "parent")
	conn, err := net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("privsep: the parent is not at the end of a unix socket")
	}
	c := &Client{wire: &wire{conn: u}, signals: make(chan os.Signal, 16), calls: map[uint64]chan message{}}
	m, err := c.wire.read()
	if err == nil && m.Do != tellHello {
		err = errors.New("privsep: the parent does not say who it is")
	}
	if err == nil {
		err = json.Unmarshal(m.Body, &c.hello)
	}
	if err == nil {
		err = c.give(c.hello.Files, m.files)
	}
	if err != nil {
		return nil, err
	}
	go func() {
		_ = c.listen()
		os.Exit(1) // nobody restores the host but who is started next
	}()
	return c, nil
}

// listen takes what the parent says until it is gone.
func (c *Client) listen() error {
	for {
		m, err := c.wire.read()
		if err != nil {
			return err
		}
		if m.ID == 0 {
			var number syscall.Signal
			if m.Do == tellSignal && json.Unmarshal(m.Body, &number) == nil {
				c.signals <- number
			}
			continue
		}
		c.mu.Lock()
		waits := c.calls[m.ID]
		delete(c.calls, m.ID)
		c.mu.Unlock()
		if waits != nil {
			waits <- m
		}
	}
}

// Signals are those that the parent got.
func (c *Client) Signals() <-chan os.Signal { return c.signals }

// More reads what Options.More was.
func (c *Client) More(to any) error { return json.Unmarshal(c.hello.More, to) }

// User is what Start made of this process.
func (c *Client) User() (name string, limits []string) { return c.hello.User, c.Limits }

// Call asks for something and waits for the answer. out may be nil.
func (c *Client) Call(do string, in, out any, fds ...int) ([]*os.File, error) {
	m := message{Do: do}
	if in != nil {
		var err error
		if m.Body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	answered := make(chan message, 1)
	c.mu.Lock()
	c.last++
	m.ID = c.last
	c.calls[m.ID] = answered
	c.mu.Unlock()
	if err := c.wire.write(m, fds...); err != nil {
		return nil, fmt.Errorf("privsep: %s: %w", do, err)
	}
	answer := <-answered // or this process ends
	if answer.Fault != nil {
		answer.drop()
		return nil, answer.Fault
	}
	if out != nil {
		if err := json.Unmarshal(answer.Body, out); err != nil {
			answer.drop()
			return nil, fmt.Errorf("privsep: %s: %w", do, err)
		}
	}
	return answer.files, nil
}

// order is a Call without an answer.
func (c *Client) order(do string, in any) error {
	_, err := c.Call(do, in, nil)
	return err
}

// file is a Call whose answer is one file.
func (c *Client) file(do string, in any) (*os.File, error) {
	files, err := c.Call(do, in, nil)
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("privsep: %s: %d files came", do, len(files))
	}
	if err != nil {
		(&message{files: files}).drop()
		return nil, err
	}
	return files[0], nil
}
