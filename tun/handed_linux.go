package tun

import (
	"errors"
	"fmt"
	"os"
)

// Handed is what another process has to know of a device whose files it gets.
type Handed struct {
	Name   string   `json:"name"`
	MTU    int      `json:"mtu"`
	Header bool     `json:"header,omitempty"` // packets go with a virtio header
	UDP    bool     `json:"udp,omitempty"`    // the kernel takes super-packets of datagrams
	Big    bool     `json:"big,omitempty"`    // words of headers are in big endian
	Limits []string `json:"limits,omitempty"`
}

// HandOver is a device that Open made as another process takes it: one file for each queue. Who hands
// over closes the files when the other has them, so that the interface ends with the other process. The
// device has no queues from then on, and SetMTU works until Close.
func HandOver(of Device) (Handed, []*os.File, error) {
	d, ok := of.(*device)
	if !ok {
		return Handed{}, nil, errors.New("tun: only a device of this system can be handed over")
	}
	h := Handed{Name: d.name, MTU: d.MTU(), Header: d.header, UDP: d.udp, Limits: d.limits}
	var files []*os.File
	for _, q := range d.queues {
		h.Big = q.big
		files = append(files, q.file)
	}
	d.queues = nil
	return h, files, nil
}

// Take is the device that another process opened and handed over. It owns the files. Only that
// process may set the MTU, which setMTU asks it for.
func Take(h Handed, files []*os.File, setMTU func(mtu int) error) (Device, error) {
	if len(files) == 0 || h.Name == "" {
		return nil, errors.New("tun: what was handed over is no device")
	}
	d := &device{name: h.Name, header: h.Header, udp: h.UDP, limits: h.Limits, mtu: h.MTU, control: -1, setMTU: setMTU}
	for i, f := range files {
		conn, err := f.SyscallConn()
		if err != nil {
			for _, f := range files[i:] {
				err = errors.Join(err, f.Close())
			}
			return nil, errors.Join(fmt.Errorf("tun: take %s: %w", h.Name, err), d.Close())
		}
		d.queues = append(d.queues, newQueue(d, f, conn, h.Big))
	}
	return d, nil
}
