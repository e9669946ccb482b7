package privsep

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"martlet/tun"
)

const (
	// maxMessage is what a message may have in octets: room for the routes of a large gateway.
	maxMessage = 16 << 20
	// maxFiles is what the kernel lets a message have (unix(7), SCM_MAX_FD).
	maxFiles = 253
)

// message is a request, the answer to one, or what the parent tells unasked, which has the number 0.
// On the wire it is its length in 4 octets, with which its files come, and JSON.
type message struct {
	ID    uint64          `json:"id,omitempty"`
	Do    string          `json:"do,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
	Fault *fault          `json:"fault,omitempty"`

	files []*os.File
}

// drop closes the files that came along, or went: the other end has its own.
func (m *message) drop() {
	for _, f := range m.files {
		_ = f.Close() // nothing was written to it here
	}
	m.files = nil
}

// descriptors are those of files, which stay open as long as these do.
func descriptors(files []*os.File) (out []int) {
	for _, f := range files {
		if c, err := f.SyscallConn(); err == nil {
			_ = c.Control(func(fd uintptr) { out = append(out, int(fd)) })
		}
	}
	return out
}

// wire is one end.
type wire struct {
	conn    *net.UnixConn
	writing sync.Mutex
}

func (w *wire) write(m message, fds ...int) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > maxMessage {
		return fmt.Errorf("privsep: a message of %d octets, at most %d are sent", len(text), maxMessage)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	w.writing.Lock()
	defer w.writing.Unlock()
	if _, _, err := w.conn.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(text))), rights, nil); err != nil {
		return err
	}
	_, err = w.conn.Write(text)
	return err
}

func (w *wire) read() (message, error) {
	var head [4]byte
	rights := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, rn, flags, _, err := w.conn.ReadMsgUnix(head[:], rights)
	if err != nil {
		return message{}, err
	}
	if n == 0 {
		return message{}, io.EOF
	}
	files, err := filesOf(rights[:rn])
	m := message{files: files}
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = errors.New("privsep: more files came than a message has")
	}
	if err == nil {
		_, err = io.ReadFull(w.conn, head[n:])
	}
	length := binary.BigEndian.Uint32(head[:])
	if err == nil && length > maxMessage {
		err = fmt.Errorf("privsep: a message of %d octets, at most %d are read", length, maxMessage)
	}
	if err != nil {
		m.drop()
		return message{}, err
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(w.conn, text); err != nil {
		m.drop()
		return message{}, err
	}
	if err := decode(text, &m); err != nil {
		m.drop()
		return message{}, fmt.Errorf("privsep: %w", err)
	}
	return m, nil
}

// filesOf takes over the descriptors of control messages, whatever else is wrong with these.
func filesOf(b []byte) (out []*os.File, err error) {
	parts, err := unix.ParseSocketControlMessage(b)
	if err != nil {
		return nil, err
	}
	for i := range parts {
		fds, e := unix.ParseUnixRights(&parts[i])
		err = errors.Join(err, e)
		for _, fd := range fds {
			out = append(out, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return out, err
}

// decode reads one value of JSON that has no other fields and nothing behind it.
func decode(text []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something stands behind the value")
	}
	return nil
}

// fault is an error on its way to the other process.
type fault struct {
	Text  string        `json:"text"`
	Hint  string        `json:"hint,omitempty"` // of a device, or a key log, that could not be opened
	Errno syscall.Errno `json:"errno,omitempty"`
	Path  string        `json:"path,omitempty"` // of a file
}

func faultOf(err error) *fault {
	if err == nil {
		return nil
	}
	f := &fault{Text: err.Error()}
	if e, ok := errors.AsType[*tun.OpenError](err); ok {
		f.Text, f.Hint = e.Err.Error(), e.Hint
	}
	if e, ok := errors.AsType[*KeyTableError](err); ok {
		f.Text, f.Hint, f.Path = e.Why, e.Hint, e.Name
	}
	f.Errno, _ = errors.AsType[syscall.Errno](err)
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		f.Path = e.Path
	}
	return f
}

func (f *fault) Error() string { return f.Text }

// Unwrap is what who handles the error looks for.
func (f *fault) Unwrap() []error {
	var out []error
	if f.Errno != 0 {
		out = append(out, f.Errno)
	}
	if f.Path != "" {
		out = append(out, &fs.PathError{Op: "open", Path: f.Path, Err: f.Errno})
	}
	return out
}
