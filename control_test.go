package martlet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"martlet/ike"
)

// A Node that is closed does not wait for the context of its control socket.
func TestCloseEndsControl(t *testing.T) {
	client := startNode(t, false, fmt.Sprintf(clientText, "127.0.0.1", 4500))
	client.Config.Node.Control = filepath.Join(t.TempDir(), "c.sock")
	if err := client.ServeControl(context.Background(), func() {}); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- client.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Close waits for the control socket for ever")
	}
}

// While a Node undoes what it did, its socket answers that it is ending, and nobody else
// takes the host; after that it is gone.
func TestControlOfAnEndingNode(t *testing.T) {
	client := startNode(t, false, fmt.Sprintf(clientText, "127.0.0.1", 4500))
	path := filepath.Join(t.TempDir(), "c.sock")
	client.Config.Node.Control = path
	if err := client.ServeControl(context.Background(), func() { t.Error("it was told to end") }); err != nil {
		t.Fatal(err)
	}
	codeOf := func(err error) ike.Code {
		e, _ := errors.AsType[*Error](err)
		if e == nil {
			return ""
		}
		return e.Code
	}
	control := NewControl(path)
	client.ending.Store(true)
	_, err := control.Status(t.Context())
	for what, err := range map[string]error{"status": err, "up": control.Up(t.Context(), "office", ""), "down": control.Down(t.Context(), "")} {
		if codeOf(err) != ike.CodeTerminated {
			t.Errorf("%s of one that is ending: %v", what, err)
		}
	}
	if err := Alone(t.Context(), path); codeOf(err) != ike.CodeHost {
		t.Errorf("another one beside it: %v", err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := Alone(t.Context(), path); err != nil {
		t.Errorf("another one after it: %v", err)
	}
	if _, err := control.Status(t.Context()); codeOf(err) != ike.CodeHost {
		t.Errorf("status of one that ended: %v", err)
	}
}

// A martlet that is stopped, or hangs, is still there: its host must not be set up anew.
func TestOneThatDoesNotAnswerIsRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	only := make(chan error, 1)
	go func() { only <- Alone(t.Context(), path) }()
	select {
	case err = <-only:
	case <-time.After(30 * time.Second):
		t.Fatal("it is waited for, for ever")
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != ike.CodeHost {
		t.Errorf("got %v", err)
	}
}

// Events come over the socket as they happen, until the Node ends.
func TestWatchOverControl(t *testing.T) {
	gateway := startNode(t, true, gatewayText)
	client := startNode(t, false, clientOf(gateway, netip.Addr.Is4))
	client.Config.Node.Control = filepath.Join(t.TempDir(), "c.sock")
	if err := client.ServeControl(t.Context(), func() {}); err != nil {
		t.Fatal(err)
	}
	events, err := NewControl(client.Config.Node.Control).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Connect(testContext(t), ""); err != nil {
		t.Fatal(err)
	}
	var kinds []EventKind
	for ev := range events {
		kinds = append(kinds, ev.Kind)
		if ev.Kind == EventChildUp {
			go client.Close()
		}
	}
	for _, want := range []EventKind{EventStage, EventEstablished, EventChildUp, EventDown} {
		if !slices.Contains(kinds, want) {
			t.Errorf("no %s among %v", want, kinds)
		}
	}
	if _, err := NewControl(client.Config.Node.Control).Watch(t.Context()); err == nil {
		t.Error("somebody answers after the end")
	}
}
