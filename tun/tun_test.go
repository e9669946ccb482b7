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
		_, err := Open("martlet0", mtu)
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

func TestGather(t *testing.T) {
	buf := make([]byte, slot)
	b, ok := gather(buf, Frame{Pieces: [][]byte{[]byte("ab"), nil, []byte("c")}})
	if !ok || string(b[headroom:]) != "abc" || cap(b) != slot {
		t.Errorf("got %q, capacity %d, %v", b[headroom:], cap(b), ok)
	}
	if _, ok := gather(buf, Frame{}); ok {
		t.Error("took an empty frame")
	}
	if _, ok := gather(buf, Frame{Pieces: [][]byte{make([]byte, MaxMTU)}}); !ok {
		t.Error("refused the longest packet")
	}
	if _, ok := gather(buf, Frame{Pieces: [][]byte{make([]byte, MaxMTU), {1}}}); ok {
		t.Error("took a packet that is too long")
	}
}

func TestRefused(t *testing.T) {
	one := errors.New("one")
	for want, err := range []error{nil, one, errors.Join(one, one), errors.Join(errors.Join(one, one), one)} {
		if got := refused(err); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
}
