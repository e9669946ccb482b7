package firewall

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

// Who changes a part of a table that is gone makes all of it, though the watch has heard of nothing.
func TestSetBeforeTheWatchHears(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	other, open, more := answered("10.9.0.6/32"), answered("10.9.0.5/32"), answered("10.9.0.5/32")
	open.IsolateClients, open.ClampMSS = false, 0
	more.Masquerade = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")} // a chain more
	holed := holed(time.Unix(1, 0))
	holed.RestoreMark = true
	for _, c := range []struct {
		harm          string
		before, after Rules
	}{
		{"flush ruleset", answered("10.9.0.5/32"), other},
		{"flush ruleset", answered("10.9.0.5/32"), client()},
		{"flush ruleset", client(), answered("10.9.0.5/32")},
		{"flush ruleset", answered("10.9.0.5/32"), open},
		{"flush ruleset", answered("10.9.0.5/32"), more},
		{"flush ruleset", holed, holed},
		{"delete table inet martlet-martlet0", answered("10.9.0.5/32"), other},
		{"flush ruleset; add table inet martlet-martlet0", answered("10.9.0.5/32"), other},
		{"delete chain inet martlet-martlet0 protect", answered("10.9.0.5/32"), other},
	} {
		fw, _, words := watched()
		if err := fw.Set(c.before); err != nil {
			t.Fatal(err)
		}
		fw.mu.Lock() // who watches waits for it
		former := fw.watch
		nft(t, strings.Fields(c.harm)...)
		err := fw.set(c.after)
		got := nft(t, "list", "ruleset")
		fw.mu.Unlock()
		if err != nil {
			t.Fatalf("%s: %v", c.harm, err)
		}
		if diff := cmp.Diff(parts(c.after.String()), parts(got)); diff != "" {
			t.Fatalf("%s, then a Set (-want +got):\n%s", c.harm, diff)
		}
		word(t, words, zap.WarnLevel)
		<-former.done
		// It is watched over as before.
		nft(t, "flush", "ruleset")
		word(t, words, zap.WarnLevel)
		until(t, c.after.String())
		if err := fw.Clear(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a Set leaves as it is may be gone: the watch puts it back.
func TestWatchPutsBackWhatASetLeft(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	fw, _, words := watched()
	if err := fw.Set(answered("10.9.0.5/32")); err != nil {
		t.Fatal(err)
	}
	defer fw.Clear()
	want := answered("10.9.0.6/32")
	fw.mu.Lock()
	nft(t, "flush", "chain", "inet", "martlet-martlet0", "forward")
	err := fw.set(want)
	fw.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	word(t, words, zap.WarnLevel)
	until(t, want.String())
}

// After a change that the watch lets be, a Set sends everything.
func TestSetAfterAnotherHand(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	r := client()
	for _, harm := range []string{
		"replace rule arp martlet-martlet0 restore handle 2 accept", // as many as before
		"add chain arp martlet-martlet0 restore { policy drop; }",
		"add table inet martlet-martlet0 { flags dormant; }",
	} {
		fw, logs, _ := watched()
		if err := fw.Set(r); err != nil {
			t.Fatal(err)
		}
		nft(t, harm)
		if nft(t, "list", "ruleset") == r.String() {
			t.Fatalf("%s: nothing has changed", harm)
		}
		limit := time.After(patience)
		for again, calm := time.Tick(time.Millisecond), true; calm; {
			select {
			case <-again:
			case <-limit:
				t.Fatalf("%s: nobody has heard of it", harm)
			}
			fw.mu.Lock()
			calm = fw.watch.calm
			fw.mu.Unlock()
		}
		if err := fw.Set(r); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.String(), nft(t, "list", "ruleset")); diff != "" {
			t.Errorf("%s, then a Set (-want +got):\n%s", harm, diff)
		}
		if n := logs.Len(); n != 0 {
			t.Errorf("%s: %+v", harm, logs.All())
		}
		if err := fw.Clear(); err != nil {
			t.Fatal(err)
		}
	}
}

// Where nobody watches any more a Set sends everything, and begins to watch again.
func TestSetAfterTheWatchIsLost(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	fw, _, words := watched()
	r := answered("10.9.0.5/32")
	if err := fw.Set(r); err != nil {
		t.Fatal(err)
	}
	lost := fw.watch
	lost.conn.Close()
	word(t, words, zap.WarnLevel)
	<-lost.done
	nft(t, "flush", "ruleset")
	if err := fw.Set(r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.String(), nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	nft(t, "flush", "ruleset")
	word(t, words, zap.WarnLevel)
	until(t, r.String())
	if err := fw.Clear(); err != nil {
		t.Fatal(err)
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
