package martlet

import (
	"testing"

	"martlet/config"
)

func TestWherePacketsEnd(t *testing.T) {
	doors := map[string]*config.Proxy{"main": {Listen: "127.0.0.1:1080"}}
	for _, test := range []struct {
		name      string
		mode      string
		container bool
		proxies   map[string]*config.Proxy
		refused   string
		want      bool
	}{
		{name: "nothing said, and no right: the error tells of --userspace", refused: "no right"},
		{name: "nothing said, with doors: the error tells that they need it", proxies: doors},
		{name: "nothing said in a container with every right", container: true},
		{name: "nothing said in a container", container: true, refused: "no right", want: true},
		{name: "nothing said in a container, with doors", container: true, proxies: doors, want: true},
		{name: "a device is asked for in a container", mode: "tun", container: true, refused: "no right"},
		{name: "userspace by root", mode: "userspace", want: true},
		{name: "auto by root", mode: "auto"},
		{name: "auto by root, with doors", mode: "auto", proxies: doors, want: true},
		{name: "auto without a right", mode: "auto", refused: "no right", want: true},
	} {
		c := &config.Config{Node: config.Node{Mode: test.mode}, Proxies: test.proxies}
		got, why := inProcess(c, test.container, func() string { return test.refused })
		if got != test.want || got != (why != "") {
			t.Errorf("%s: %v, because %q", test.name, got, why)
		}
	}
}
