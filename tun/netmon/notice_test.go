package netmon

import (
	"net/netip"
	"testing"
)

func TestNews(t *testing.T) {
	const tunnel, ethernet = 7, 2
	v4, v6 := netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")
	half, lan := netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("192.0.2.0/24")
	for name, c := range map[string]struct {
		notice        notice
		matters, sure bool
	}{
		"a link went up or down":               {notice{about: aLink, link: ethernet}, true, false},
		"an address came or went":              {notice{about: anAddress, link: ethernet}, true, false},
		"the default route":                    {notice{aRoute, ethernet, v4}, true, true},
		"the default route of IPv6":            {notice{aRoute, ethernet, v6}, true, true},
		"a default route of nobody knows what": {notice{aRoute, 0, v4}, true, true},
		"the tunnel's own default route":       {notice{aRoute, tunnel, v4}, false, false},
		"half of everything":                   {notice{aRoute, ethernet, half}, false, false},
		"a route beside":                       {notice{aRoute, ethernet, lan}, false, false},
		"a route that cannot be read":          {notice{aRoute, ethernet, netip.Prefix{}}, false, false},
		"what else was told is lost":           {notice{about: aLoss}, true, true},
	} {
		got, matters := c.notice.news(func() int { return tunnel })
		if matters != c.matters || got.sure != c.sure {
			t.Errorf("%s: matters %v, sure %v", name, matters, got.sure)
		}
	}
	if _, matters := (notice{aRoute, 0, v4}).news(func() int { return 0 }); !matters {
		t.Error("without a tunnel a route without an interface is taken for its own")
	}
}

// TestNotifyEnds: whoever tells is not held up once the monitor is closed.
func TestNotifyEnds(t *testing.T) {
	m := newMonitor("none", nil)
	close(m.stop)
	m.notify(make(chan news), notice{about: aLoss})
}
