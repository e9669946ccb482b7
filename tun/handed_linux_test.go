package tun_test

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"

	"martlet/tun"
)

// TestHandedOver: who takes a device reads and writes it as who opened it would, after that has closed
// its files; the MTU is set by the one who opened it.
func TestHandedOver(t *testing.T) {
	var opened []tun.Device
	a, b := pair(t, func(name string, mtu, queues int) (tun.Device, error) {
		d, err := tun.Open(name, mtu, queues)
		if err != nil {
			return nil, err
		}
		opened = append(opened, d)
		h, files, err := tun.HandOver(d)
		if err != nil {
			return nil, err
		}
		return tun.Take(h, files, d.SetMTU)
	}, 2)
	if n := len(a.device.Queues()); n != 2 || len(opened[0].Queues()) != 0 {
		t.Errorf("%d queues, and %d are left", n, len(opened[0].Queues()))
	}
	var super atomic.Bool
	relay(t, a.device, b.device, func(_ tun.Device, _ int, f tun.Frame) {
		if f.Offload.GSO != tun.GSONone {
			super.Store(true)
		}
	})
	for _, family := range families {
		transfer(t, a, b, family.server, 1<<20)
	}
	if err := a.device.SetMTU(1380); err != nil || a.device.MTU() != 1380 || opened[0].MTU() != 1380 {
		t.Errorf("MTU %d, of who opened it %d, %v", a.device.MTU(), opened[0].MTU(), err)
	}
	if err := opened[1].Close(); err != nil {
		t.Error(err)
	}
	if err := b.device.SetMTU(1380); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the MTU is set by who has closed it: %v", err)
	}
	if !super.Load() && a.device.Takes(tun.GSOTCPv4) {
		t.Error("no super-packet came")
	}
	if _, err := tun.Take(tun.Handed{Name: "x"}, nil, nil); err == nil {
		t.Error("a device without a file is taken")
	}
	if _, _, err := tun.HandOver(nil); err == nil {
		t.Error("no device is handed over")
	}
}
