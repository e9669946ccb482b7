package udpencap

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// shard opens n file descriptors for ESP beside the one for IKE, and has the kernel tell the
// datagrams apart. Either all is well then or there is none of them. refused, if not
// nil, is what a test says in the kernel's place.
func (s *socket) shard(o options, n int, refused error) (err error) {
	defer func() {
		if err == nil {
			return
		}
		for _, d := range s.esp {
			d.conn.Close()
		}
		s.esp = nil
		_ = s.ike.setInt(unix.SOL_SOCKET, unix.SO_REUSEPORT, 0)
	}()
	// The group of those that share a port begins with the second.
	if err := s.ike.setInt(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	o.df, o.share = true, true
	for i := range n {
		d, err := o.descriptor(s.local)
		if err != nil {
			return err
		}
		s.esp = append(s.esp, d)
		if i > 0 {
			continue
		}
		if err := errors.Join(refused, s.ike.attach(n)); err != nil {
			return err
		}
	}
	return nil
}

// setInt sets an option.
func (d *descriptor) setInt(level, name, value int) (err error) {
	if e := d.raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, value) }); e != nil {
		return e
	}
	return os.NewSyscallError("setsockopt", err)
}

// attach gives the group the program that chooses one of n shards.
func (d *descriptor) attach(n int) (err error) {
	raw, err := bpf.Assemble(shardProgram(n))
	if err != nil {
		return fmt.Errorf("assemble: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	e := d.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &program)
	})
	if e != nil {
		return e
	}
	return os.NewSyscallError("setsockopt", err)
}

// shardProgram returns the index of the file descriptor for a datagram, in the order in which
// they were bound: 0 for IKE, which begins with the non-ESP marker, and else 1 and
// up by the high octet of the SPI. The low bits would not do: an engine of IKE has the same in
// all of its SPIs, and the children of one SA would come to one shard. What is too short to have
// an SPI, such as a keepalive, ends the program with 0.
func shardProgram(n int) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 24},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: uint32(n - 1)},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 1},
		bpf.RetA{},
		bpf.RetConstant{Val: 0},
	}
}
