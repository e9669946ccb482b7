package netmon

import (
	"testing"
	"time"
)

func TestSlept(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for gap, want := range map[time.Duration]bool{
		poll: false, poll + snoozed: false, poll + snoozed + 1: true, 8 * time.Hour: true, -time.Hour: false,
	} {
		if got := slept(begin, begin.Add(gap)); got != want {
			t.Errorf("%v between two looks: %v", gap, got)
		}
	}
}

func TestLastChangeIsKept(t *testing.T) {
	m := &monitor{changes: make(chan Change, 1)}
	m.tell(Change{Woken: true})
	m.tell(Change{})
	if c := <-m.Changes(); !c.Woken {
		t.Error("that the host slept got lost")
	}
	select {
	case <-m.Changes():
		t.Error("two changes for one reader that was late")
	default:
	}
}
