package firewall

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"martlet/test/netns"
)

// client is what a client without a kill switch has before it knows its addresses.
func client() Rules {
	return Rules{Device: "martlet0", Mark: 7, RestoreMark: true, IsolateClients: true, ClampMSS: 1400}
}

// answered is a client that knows them.
func answered(address string) Rules {
	r := client()
	r.ProtectAddresses = []netip.Prefix{netip.MustParsePrefix(address)}
	return r
}

// parts are the tables, chains and sets that nft has listed, by table and name. Chains are listed in the
// order in which they were made, which matters to no packet.
func parts(list string) map[string]string {
	out := map[string]string{}
	var table, part string
	for line := range strings.Lines(list) {
		switch name, _, opens := strings.Cut(strings.TrimSpace(line), " {"); {
		case opens && line[0] != '\t':
			table, part = name, name
		case opens:
			part = table + " " + name
		}
		if strings.Trim(line, "\t}\n") != "" {
			out[part] += line
		}
	}
	return out
}

// listed is what nft lists with handles, which are new to all that was made anew.
func listed(t *testing.T) map[string]string {
	t.Helper()
	return parts(nft(t, "-a", "list", "ruleset"))
}

// others are the parts that are not among the former ones as they are.
func others(former, now map[string]string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if former[name] != now[name] {
			out = append(out, name)
		}
	}
	return out
}

func withoutHandles(all map[string]string) map[string]string {
	handle := regexp.MustCompile(` # handle \d+`)
	out := map[string]string{}
	for name, text := range all {
		out[name] = handle.ReplaceAllString(text, "")
	}
	return out
}

func TestSetSendsWhatDiffers(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	fw := New(nil)
	defer fw.Clear()
	const ip, arp = "table inet martlet-martlet0", "table arp martlet-martlet0"
	other, open, alone := answered("10.9.0.6/32"), answered("10.9.0.6/32"), answered("10.9.0.6/32")
	other.Mark = 8
	open.IsolateClients, open.ClampMSS = false, 0 // no chain forward
	alone.RestoreMark = false                     // no table for ARP
	var former map[string]string
	for i, step := range []struct {
		Rules
		want []string
	}{
		{client(), []string{arp, arp + " chain restore", ip, ip + " chain forward", ip + " chain restore", ip + " chain save"}},
		{answered("10.9.0.5/32"), []string{ip + " chain protect"}},
		{answered("10.9.0.6/32"), []string{ip + " chain protect"}},
		{answered("10.9.0.6/32"), nil},
		{open, nil},
		{answered("10.9.0.6/32"), []string{ip + " chain forward"}},
		{other, []string{arp + " chain restore", ip + " chain restore", ip + " chain save"}},
		{alone, nil},
		{answered("10.9.0.6/32"), []string{arp, arp + " chain restore", ip + " chain restore", ip + " chain save"}},
	} {
		if err := fw.Set(step.Rules); err != nil {
			t.Fatal(err)
		}
		now := listed(t)
		if diff := cmp.Diff(step.want, others(former, now)); diff != "" {
			t.Errorf("made by step %d (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(parts(step.String()), withoutHandles(now)); diff != "" {
			t.Errorf("listed after step %d (-want +got):\n%s", i, diff)
		}
		former = now
	}
}

// transactions are those that the kernel has counted in this thread's namespace.
func transactions(t *testing.T) uint32 {
	t.Helper()
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   make([]byte, 4), // of any family
	})
	if err != nil || len(answer) != 1 {
		t.Fatalf("%d answers, %v", len(answer), err)
	}
	d, err := netlink.NewAttributeDecoder(answer[0].Data[4:])
	if err != nil {
		t.Fatal(err)
	}
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		if d.Type() == unix.NFTA_GEN_ID {
			return d.Uint32()
		}
	}
	t.Fatal("the answer has no number")
	return 0
}

func TestSetOfTheSameSendsNothing(t *testing.T) {
	netns.Enter(t)
	fw := New(nil)
	defer fw.Clear()
	var before uint32
	for i, address := range []string{"10.9.0.5/32", "10.9.0.5/32", "10.9.0.6/32"} {
		if err := fw.Set(answered(address)); err != nil {
			t.Fatal(err)
		}
		now := transactions(t)
		if (now == before) != (i == 1) {
			t.Errorf("Set %d: %d transactions have become %d", i, before, now)
		}
		before = now
	}
}

// chance are rules of any kind. No hole is open, whose
// elements nft would list with the time that is left.
func chance(r *rand.Rand) Rules {
	some := func(of ...string) (out []netip.Prefix) {
		for _, p := range of {
			if r.IntN(2) == 0 {
				out = append(out, netip.MustParsePrefix(p))
			}
		}
		return out
	}
	out := Rules{
		Device: "martlet0", Mark: 7 + r.Uint32N(2), RestoreMark: r.IntN(2) == 0, IsolateClients: r.IntN(2) == 0,
		KillSwitch:       r.IntN(2) == 0,
		ClampMSS:         []int{0, 1300, 1400}[r.IntN(3)],
		Ports:            [][]uint16{nil, {500, 4500}}[r.IntN(2)],
		TCPPorts:         [][]uint16{nil, {443}}[r.IntN(2)],
		ProtectAddresses: some("10.9.0.5/32", "fd00:9::5/128"),
		Masquerade:       some("10.9.0.0/24", "fd00:9::/64"),
		Local:            some("192.168.7.0/24", "fd00:7::/64"),
	}
	if r.IntN(2) == 0 {
		out.HoleUntil = time.Unix(1, 0)
	}
	return out
}

// Whatever was in force before, a Set makes what it would make of nothing, and makes nothing anew that
// was there.
func TestSetsOneAfterAnother(t *testing.T) {
	needNft(t)
	netns.Enter(t)
	fresh := newPlace(t)
	r := rand.New(rand.NewPCG(17, 4))
	fw := New(nil)
	defer fw.Clear()
	var former map[string]string
	stayed := 0
	for i := range 40 {
		rules := chance(r)
		if err := fw.Set(rules); err != nil {
			t.Fatal(err)
		}
		now := listed(t)
		alone := New(nil)
		set(t, fresh, alone, rules)
		want := parts(fresh.Run("nft", "list", "ruleset"))
		fresh.Do(alone.Clear)
		if diff := cmp.Diff(want, withoutHandles(now)); diff != "" {
			t.Fatalf("step %d, %+v (-fresh +got):\n%s", i, rules, diff)
		}
		changed := others(withoutHandles(former), withoutHandles(now))
		if diff := cmp.Diff(changed, others(former, now)); diff != "" {
			t.Fatalf("made anew by step %d, %+v (-want +got):\n%s", i, rules, diff)
		}
		stayed += len(now) - len(changed)
		former = now
	}
	if stayed < 40 {
		t.Errorf("only %d parts have stayed: the test shows little", stayed)
	}
}

// A client whose address changes.
func BenchmarkSet(b *testing.B) {
	netns.Enter(b)
	fw := New(nil)
	defer fw.Clear()
	rules := []Rules{answered("10.9.0.5/32"), answered("10.9.0.6/32")}
	for i := 0; b.Loop(); i++ {
		if err := fw.Set(rules[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}
