package tun

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

func TestOpenRefuses(t *testing.T) {
	for _, mtu := range []int{0, MinMTU - 1, MaxMTU + 1} {
		_, err := Open("martlet0", mtu, 1)
		var open *OpenError
		if !errors.As(err, &open) || open.Name != "martlet0" || !strings.Contains(err.Error(), "want 576 to 65535") {
			t.Errorf("mtu %d: got %v", mtu, err)
		}
	}
}

func TestOpenError(t *testing.T) {
	err := error(&OpenError{Name: "tun9", Hint: "do this", Err: fs.ErrPermission})
	if want := `tun: open "tun9": permission denied; do this`; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if !errors.Is(err, os.ErrPermission) {
		t.Error("the cause is lost")
	}
}
