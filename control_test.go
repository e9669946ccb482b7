package martlet

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"
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
