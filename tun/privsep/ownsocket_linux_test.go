package privsep

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestControlSocketIsMadeOwn: there is no moment at which others may use it.
func TestControlSocketIsMadeOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	listener, err := (&net.ListenConfig{Control: ownSocket}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
