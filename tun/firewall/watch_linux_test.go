package firewall

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/time/rate"

	"martlet/test/netns"
)

// watched is a Firewall whose words of warning arrive.
func watched() (fw *firewall, logs *observer.ObservedLogs, words chan zapcore.Level) {
	core, logs := observer.New(zap.WarnLevel)
	words = make(chan zapcore.Level, 100)
	log := zap.New(core, zap.Hooks(func(e zapcore.Entry) error { words <- e.Level; return nil }))
	return New(log).(*firewall), logs, words
}

func word(t *testing.T, words chan zapcore.Level, want zapcore.Level) {
	t.Helper()
	select {
	case got := <-words:
		if got != want {
			t.Fatalf("got a word of level %s, want %s", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("no word of level %s", want)
	}
}

// until waits for the rules that nft(8) lists.
func until(t *testing.T, want string) {
	t.Helper()
	limit := time.After(patience)
	var got string
	for again := time.Tick(10 * time.Millisecond); ; {
		if got = nft(t, "list", "ruleset"); got == want {
			return
		}
		select {
		case <-again:
		case <-limit:
			t.Fatalf("the rules are:\n%swant:\n%s", got, want)
		}
	}
}

func TestWatchPutsTablesBack(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	fw, logs, words := watched()
	r := gateway() // with a table for ARP
	r.KillSwitch, r.HoleUntil = true, time.Unix(1, 0)
	if err := fw.Set(r); err != nil {
		t.Fatal(err)
	}
	for i, harm := range [][]string{
		{"flush", "ruleset"},
		{"flush", "chain", "inet", "martlet-martlet0", "output"},
		{"insert", "rule", "inet", "martlet-martlet0", "output", "accept"},
		{"delete", "table", "arp", "martlet-martlet0"},
	} {
		nft(t, harm...)
		if i == 0 {
			word(t, words, zap.WarnLevel) // one for all of them
		}
		until(t, r.String())
	}
	if all := logs.All(); len(all) != 1 || all[0].ContextMap()["program"] != "nft" {
		t.Errorf("%+v", all)
	}
	if err := fw.Clear(); err != nil {
		t.Fatal(err)
	}
	if got := nft(t, "list", "ruleset"); got != "" {
		t.Errorf("after Clear:\n%s", got)
	}
	if left := sockets(t); len(left) != 0 {
		t.Errorf("left open: %v", left)
	}
}

// A table that its owner has given up is nobody's.
func TestWatchEnds(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	fw, _, _ := watched()
	if err := fw.Set(closed()); err != nil {
		t.Fatal(err)
	}
	if err := fw.Leave(); err != nil {
		t.Fatal(err)
	}
	if left := sockets(t); len(left) != 0 {
		t.Errorf("still watching: %v", left)
	}
}

func TestWatchGivesUp(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	fw, _, words := watched()
	if err := fw.Set(closed()); err != nil {
		t.Fatal(err)
	}
	fw.mu.Lock()
	ended := fw.watch.done
	fw.watch.fights = rate.NewLimiter(0, 2) // no minute ends in this test
	fw.mu.Unlock()
	nft(t, "flush", "ruleset")
	word(t, words, zap.WarnLevel)
	until(t, closedTable)
	nft(t, "flush", "ruleset")
	until(t, closedTable)
	nft(t, "flush", "ruleset")
	word(t, words, zap.ErrorLevel)
	<-ended
	if got := nft(t, "list", "ruleset"); got != "" {
		t.Errorf("put back once more:\n%s", got)
	}
	// Another Set begins again.
	if err := fw.Set(closed()); err != nil {
		t.Fatal(err)
	}
	nft(t, "flush", "ruleset")
	word(t, words, zap.WarnLevel)
	until(t, closedTable)
	if err := fw.Clear(); err != nil {
		t.Fatal(err)
	}
}

func TestPatienceIsOfOneMinute(t *testing.T) {
	netns.Enter(t)
	fw, _, _ := watched()
	if err := fw.Set(closed()); err != nil {
		t.Fatal(err)
	}
	defer fw.Clear()
	fights, now := fw.watch.fights, time.Now()
	allowed := slices.Collect(func(yield func(int) bool) {
		for i := range maxFights * 2 {
			if fights.AllowN(now, 1) && !yield(i) {
				return
			}
		}
	})
	if len(allowed) != maxFights {
		t.Errorf("at once %d fights, want %d", len(allowed), maxFights)
	}
	if !fights.AllowN(now.Add(fightTime), maxFights) {
		t.Error("a minute later there is no patience")
	}
}
