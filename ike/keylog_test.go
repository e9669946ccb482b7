package ike

import (
	"bytes"
	"testing"
	"time"
)

func TestKeyLog(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	logs := map[*host][]KeyLogEntry{}
	for _, h := range []*host{a, b} {
		h.e.cfg.KeyLog = func(k KeyLogEntry) { logs[h] = append(logs[h], k) }
	}
	a.initiate("home", b)
	w.run(time.Second)
	if len(logs[a]) != 2 || len(logs[b]) != 2 {
		t.Fatalf("%d and %d entries, want 2 each", len(logs[a]), len(logs[b]))
	}
	x, y := logs[a][0], logs[b][0]
	if x.SPIi != y.SPIi || x.SPIr != y.SPIr || !bytes.Equal(x.SKei, y.SKei) || !bytes.Equal(x.SKer, y.SKer) || len(x.SKei) == 0 || x.Child != nil {
		t.Error("keys of the IKE SA")
	}
	if c, d := logs[a][1].Child, logs[b][1].Child; c == nil || d == nil || !sameKeys(c.In, d.Out) {
		t.Error("keys of the child SA")
	}
	if x.Connection != "home" || y.Connection != "" || logs[b][1].Connection != "rw" {
		t.Errorf("of connections %q, %q and %q: who answers knows it when the peer has said who it is", x.Connection, y.Connection, logs[b][1].Connection)
	}
}

// TestKeysThatStand: they are those that the log was told of, for who asks later.
func TestKeysThatStand(t *testing.T) {
	client, gateway := pskPair(t)
	w, a, b := pair(t, client, gateway)
	var told, stand []KeyLogEntry
	a.e.cfg.KeyLog = func(k KeyLogEntry) { told = append(told, k) }
	a.initiate("home", b)
	a.e.Keys(func(KeyLogEntry) { t.Error("keys of an SA whose peer has not answered") })
	w.run(time.Second)
	a.e.Keys(func(k KeyLogEntry) { stand = append(stand, k) })
	if len(told) != 2 || len(stand) != 2 {
		t.Fatalf("%d entries were told and %d stand, want 2 each", len(told), len(stand))
	}
	if x, y := told[0], stand[0]; x.SPIi != y.SPIi || x.SPIr != y.SPIr || !bytes.Equal(x.SKei, y.SKei) || !bytes.Equal(x.SKer, y.SKer) {
		t.Error("keys of the IKE SA")
	}
	x, y := told[1].Child, stand[1].Child
	if y == nil || !sameKeys(x.In, y.In) || !sameKeys(x.Out, y.Out) || x.SPIIn != y.SPIIn || x.Path != y.Path || len(y.In.Encr) == 0 {
		t.Error("keys of the child SA")
	}
}
