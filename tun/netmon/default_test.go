package netmon

import (
	"net"
	"testing"
)

func TestChoose(t *testing.T) {
	const up = net.FlagUp
	links := []net.Interface{
		{Index: 1, Name: "lo0", Flags: up | net.FlagLoopback},
		{Index: 2, Name: "en0", Flags: up},
		{Index: 3, Name: "en1", Flags: up},
		{Index: 4, Name: "en2"},
		{Index: 5, Name: "utun0", Flags: up | net.FlagPointToPoint},
		{Index: 6, Name: "utun7", Flags: up | net.FlagPointToPoint},
	}
	for name, c := range map[string]struct {
		routes []defaultRoute
		want   string
	}{
		"none":                            {nil, ""},
		"one":                             {[]defaultRoute{{link: 3}}, "en1"},
		"the lower metric":                {[]defaultRoute{{link: 2, metric: 600}, {link: 3, metric: 100}}, "en1"},
		"the first of the same metric":    {[]defaultRoute{{link: 3}, {link: 2}}, "en1"},
		"never the tunnel":                {[]defaultRoute{{link: 6}, {link: 2, metric: 9}}, "en0"},
		"the tunnel alone":                {[]defaultRoute{{link: 6}}, ""},
		"another program's tunnel":        {[]defaultRoute{{link: 5}}, "utun0"},
		"not by a link that is down":      {[]defaultRoute{{link: 4}, {link: 2, metric: 9}}, "en0"},
		"not by loopback, which refuses":  {[]defaultRoute{{link: 1}}, ""},
		"not by a link that has gone":     {[]defaultRoute{{link: 9}, {link: 2}}, "en0"},
		"scoped last":                     {[]defaultRoute{{link: 2, scoped: true}, {link: 3, metric: 9}}, "en1"},
		"scoped, where the tunnel has it": {[]defaultRoute{{link: 6}, {link: 5, scoped: true}, {link: 2, scoped: true}}, "en0"},
		"scoped into the system's tunnel": {[]defaultRoute{{link: 5, scoped: true}}, ""},
	} {
		got, ok := choose(c.routes, links, "utun7")
		if got.Name != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got.Name, ok, c.want)
		}
	}
}
