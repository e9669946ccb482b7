package tun

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

// fakeLibrary gives packets from a list and keeps what is written.
type fakeLibrary struct {
	give    [][]byte
	written []string
	closed  bool
	named   error
}

func (f *fakeLibrary) Name() (string, error) { return "fake0", f.named }
func (f *fakeLibrary) BatchSize() int        { return 2 }

func (f *fakeLibrary) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if f.closed {
		return 0, os.ErrClosed
	}
	n := min(len(bufs), len(f.give))
	for i, p := range f.give[:n] {
		sizes[i] = copy(bufs[i][offset:], p)
	}
	f.give = f.give[n:]
	return n, nil
}

func (f *fakeLibrary) Write(bufs [][]byte, offset int) (int, error) {
	if f.closed {
		return 0, os.ErrClosed
	}
	var errs []error
	for _, b := range bufs {
		if b[offset] == 'x' {
			errs = append(errs, errors.New("refused"))
			continue
		}
		f.written = append(f.written, string(b[offset:]))
	}
	return len(bufs) - len(errs), errors.Join(errs...)
}

func (f *fakeLibrary) Close() error {
	f.closed = true
	return nil
}

func TestPortable(t *testing.T) {
	long := make([]byte, MaxMTU)
	fake := &fakeLibrary{give: [][]byte{{}, {}, {1}, {}, {2}, long}}
	var set error
	var d Device
	d, err := newPortable(fake, 1400, func(_ library, name string, mtu int) error {
		if name != "fake0" || mtu != 1300 {
			t.Errorf("set mtu %d of %s", mtu, name)
		}
		return set
	})
	if err != nil {
		t.Fatal(err)
	}
	if d.Name() != "fake0" || d.MTU() != 1400 || len(d.Queues()) != 1 || d.Queues()[0].Batch() != 2 || !d.Takes(GSONone) || d.Takes(GSOTCPv4) {
		t.Errorf("name %s, mtu %d", d.Name(), d.MTU())
	}
	if err := d.SetMTU(1300); err != nil || d.MTU() != 1300 {
		t.Errorf("mtu %d, %v", d.MTU(), err)
	}
	set = errors.New("no")
	if err := d.SetMTU(1300); !errors.Is(err, set) {
		t.Errorf("got %v", err)
	}
	if err := d.SetMTU(MinMTU - 1); err == nil {
		t.Error("took a small MTU")
	}

	q := d.Queues()[0]
	if n, err := q.TryRead(make([]Frame, 2)); n != 0 || err != nil {
		t.Errorf("TryRead: %d, %v", n, err)
	}
	if n, err := q.Read(nil); n != 0 || err != nil {
		t.Errorf("Read of nothing: %d, %v", n, err)
	}
	frames := []Frame{{Offload: Offload{Partial: true}}, {}, {}}
	for _, want := range []string{"[1]", "[1 65535]"} {
		n, err := q.Read(frames)
		var got []int
		for _, f := range frames[:n] {
			got = append(got, len(f.Pieces[0]))
			if f.Offload != (Offload{}) || len(f.Pieces) != 1 || cap(f.Pieces[0])-len(f.Pieces[0]) < tailroom {
				t.Errorf("%+v, %d octets of %d", f.Offload, len(f.Pieces[0]), cap(f.Pieces[0]))
			}
		}
		if fmt.Sprint(got) != want || err != nil {
			t.Errorf("read %v, %v; want %s", got, err, want)
		}
	}

	n, err := q.Write([]Frame{
		{Pieces: [][]byte{[]byte("a"), []byte("b")}},
		{Pieces: [][]byte{[]byte("x")}},
		{Pieces: [][]byte{[]byte("super")}, Offload: Offload{GSO: GSOUDP}},
		{},
		{Pieces: [][]byte{[]byte("c")}},
		{Pieces: [][]byte{[]byte("\x01\x02\x00\x00")}, Offload: Offload{Partial: true, Offset: 2}},
	})
	if got := fmt.Sprintf("%q", fake.written); n != 3 || err != nil || got != `["ab" "c" "\x01\x02\xfe\xfd"]` {
		t.Errorf("took %d, %v: %s", n, err, got)
	}

	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Error(err)
	}
	if _, err := q.Read(frames); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if _, err := q.Write([]Frame{{Pieces: [][]byte{{1}}}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	fake = &fakeLibrary{named: errors.New("no name")}
	if _, err := newPortable(fake, 1400, nil); !errors.Is(err, fake.named) || !fake.closed {
		t.Errorf("without a name: %v, closed %v", err, fake.closed)
	}
}

func TestGather(t *testing.T) {
	buf := make([]byte, headroom+MaxMTU, slot)
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
