package dns

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watch calls changed after the file at path was written, replaced or removed. The func that is
// returned ends it, and returns when changed does not run any more.
func watch(path string, changed func()) (stop func(), err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	events := os.NewFile(uintptr(fd), "inotify")
	// The folder, for files that come in its place; not when they are created, since nothing is
	// in them then, but a link is whole from the beginning.
	const folder = unix.IN_CLOSE_WRITE | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(path), folder|unix.IN_ONLYDIR); err != nil {
		return nil, errors.Join(&os.PathError{Op: "watch", Path: filepath.Dir(path), Err: err}, events.Close())
	}
	// And the file itself, which can be written by another name where it is a mount. It is not
	// there when it is being replaced just now, and then the folder tells.
	_, _ = unix.InotifyAddWatch(fd, path, unix.IN_CLOSE_WRITE|unix.IN_DONT_FOLLOW)
	var task sync.WaitGroup
	task.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := events.Read(buf)
			if err != nil {
				return // closed
			}
			if concerns(buf[:n], path) {
				changed()
			}
		}
	})
	return func() {
		events.Close()
		task.Wait()
	}, nil
}

// concerns tells whether one of the events is of the file.
func concerns(events []byte, path string) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&events[0]))
		end := min(unix.SizeofInotifyEvent+int(e.Len), len(events))
		name := string(bytes.TrimRight(events[unix.SizeofInotifyEvent:end], "\x00"))
		events = events[end:]
		if name != "" && name != filepath.Base(path) {
			continue
		}
		if e.Mask&unix.IN_CREATE != 0 {
			st, err := os.Lstat(path)
			if err != nil || st.Mode().IsRegular() {
				continue
			}
		}
		return true
	}
	return false
}
