package level2

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"martlet"
	"martlet/config"
)

// childTS are the selectors of an SA's children.
func childTS(sa martlet.SAStatus) []string {
	var out []string
	for _, c := range sa.Children {
		out = append(out, fmt.Sprintf("%s %s === %s", c.Name, strings.Join(c.Local, " "), strings.Join(c.Remote, " ")))
	}
	slices.Sort(out)
	return out
}

// The peer holds in two children what is one of ours: there are two SAs with our name, which
// are rekeyed and lost apart, and what is lost comes back.
func TestOneChildOfSeveralSAs(t *testing.T) {
	inBubble(t, 710, func(w *world) {
		near, far := sites(config.KeepUp, "")
		near.Connections["site"].Children["net"].Remote = []string{"10.1.0.0/16", "10.4.0.0/16"}
		far.Connections["site"].Children["more"] = &config.Child{Local: []string{"10.4.0.0/16"}, Remote: []string{"10.2.0.0/16"}}
		b := w.gateway(far)
		a := w.start(w.net.Host("near", usual, clientAddr), near, true)
		works := func() {
			w.Helper()
			want := []string{"net 10.2.0.0/16 === 10.1.0.0/16", "net 10.2.0.0/16 === 10.4.0.0/16"}
			if got := childTS(a.sa()); !slices.Equal(got, want) {
				w.Fatalf("children %v", got)
			}
			for _, dst := range []string{"10.1.0.1", "10.4.0.1"} {
				f := flow{a, b, mustAddr("10.2.0.1"), mustAddr(dst)}
				f.to.take()
				f.send(0, 5)
				pass(time.Second)
				if n := len(f.arrived(5)); n != 5 {
					w.Errorf("%d of 5 packets arrived at %s", n, dst)
				}
			}
		}
		pass(2 * time.Minute)
		works()
		if err := a.Rekey(w.Context(), "site", "net"); err != nil {
			w.Fatal(err)
		}
		pass(10 * time.Second)
		works()
		pass(3 * time.Hour)
		works()
		b.crash()
		b = w.start(b.host, far, true)
		pass(10 * time.Minute)
		works()
		a.Disconnect("site")
		pass(time.Minute)
		a.clean()
		b.clean()
	})
}

// A child of one protocol waits for a packet of that protocol.
func TestPacketOfAProtocolOpensItsChild(t *testing.T) {
	inBubble(t, 711, func(w *world) {
		near, far := sites(config.KeepOnDemand, "")
		near.Connections["site"].Children["net"].Remote = []string{"10.1.0.0/16[udp]", "10.7.0.0/16[udp]"}
		near.Connections["site"].Children["net"].Local = []string{"10.2.0.0/16[udp]"}
		a := w.start(w.net.Host("near", usual, clientAddr), near, true)
		b := w.gateway(far)
		f := flow{a, b, mustAddr("10.2.0.1"), serverAddr}
		tcp := packet(f.src, f.dst, 0)
		tcp[9] = 6
		a.tun.Inject(tcp)
		pass(10 * time.Second)
		a.clean()
		f.send(0, 1)
		pass(time.Second)
		f.to.take()
		f.send(1, 3)
		pass(time.Second)
		if n := len(f.arrived(4)); n != 3 {
			w.Errorf("%d of 3 packets arrived", n)
		}
		if got := childTS(a.sa()); !slices.Equal(got, []string{"net 10.2.0.0/16[udp] === 10.1.0.0/16[udp]"}) {
			w.Errorf("children %v", got)
		}
	})
}

// Several SAs share the traffic of a child, in both directions (RFC 9611).
func TestParallelSAsShareTheTraffic(t *testing.T) {
	inBubble(t, 712, func(w *world) {
		near, far := sites(config.KeepUp, "")
		near.Connections["site"].Children["net"].Parallel = 4
		b := w.gateway(far)
		a := w.start(w.net.Host("near", usual, clientAddr), near, true)
		pass(time.Minute)
		round := func() {
			w.Helper()
			for n := range 60 {
				host := fmt.Sprintf("10.1.0.%d", n+1)
				there, back := flow{a, b, mustAddr("10.2.0.1"), mustAddr(host)}, flow{b, a, mustAddr(host), mustAddr("10.2.0.1")}
				there.send(0, 1)
				back.send(0, 1)
				pass(time.Second)
				if len(there.arrived(1)) != 1 || len(back.arrived(1)) != 1 {
					w.Fatalf("with %s: not all packets arrived", host)
				}
			}
			for _, sa := range []martlet.SAStatus{a.sa(), b.sa()} {
				if len(sa.Children) != 4 {
					w.Fatalf("children %v", childTS(sa))
				}
				for _, c := range sa.Children {
					if c.PacketsIn < 4 || c.PacketsOut < 4 {
						w.Errorf("an SA carried %d in and %d out", c.PacketsIn, c.PacketsOut)
					}
				}
			}
		}
		round()
		if err := a.Rekey(w.Context(), "site", "net"); err != nil {
			w.Fatal(err)
		}
		pass(10 * time.Second)
		round()
		a.Disconnect("site")
		pass(time.Minute)
		a.clean()
		b.clean()
	})
}
