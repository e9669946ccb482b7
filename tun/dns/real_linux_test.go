package dns

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// realOwner is a real program that owns the resolvers of a host, and how it is asked.
type realOwner struct {
	manner string
	given  bool // manner is not decided but given
	splits bool
	later  bool // it does what it is told in its own time
	// state shows what the program has made of what it was told.
	state func(t *testing.T) string
	// all and split are the state when all names go into the tunnel, and when some do.
	all, split string
	// warns is what a person is told, beside that a manner cannot split.
	warns string
}

const cannotSplit = "all names go to the resolvers of the tunnel, not only those of its domains"

// ofTunnel gives a Config the device of the tunnel.
func ofTunnel(c Config) Config {
	c.Device = tunnelLink
	return c
}

var (
	allInside  = map[string]string{"www.example.org": inside, "host.corp.example": inside, "host.lab.example": inside, "host": inside}
	someInside = map[string]string{"www.example.org": outside, "host.corp.example": inside, "host.eu.corp.example": inside, "host.lab.example": inside, "host": inside, "corpx.example": outside}
	allOutside = map[string]string{"www.example.org": outside, "host.corp.example": outside, "host.lab.example": outside}
)

// try shows that the owner does what it is told: all names, some names, and as before after the
// process that told it was killed, and after one that ends in order.
func (o realOwner) try(t *testing.T) {
	t.Helper()
	before := o.state(t)
	wantAddresses(t, "before", allOutside)

	p := o.setter(t)
	p.set(ofTunnel(everything()))
	o.wantState(t, o.all)
	wantAddresses(t, "all names", allInside)
	if strings.Contains(p.said(), cannotSplit) {
		t.Error("a person is told of domains, and there are none")
	}
	p.set(ofTunnel(split()))
	o.wantSplit(t, "some names", p)
	p.kill()
	o.wantSplit(t, "killed", p)
	o.recover(t, before)

	p = o.setter(t)
	p.set(ofTunnel(split()))
	o.wantSplit(t, "some names at first", p)
	p.set(ofTunnel(everything()))
	o.wantState(t, o.all)
	wantAddresses(t, "all names after some", allInside)
	p.close()
	o.wantState(t, before)
	wantAddresses(t, "closed", allOutside)
}

// setter starts one, which decides as is meant.
func (o realOwner) setter(t *testing.T) *setterProcess {
	t.Helper()
	given := ""
	if o.given {
		given = o.manner
	}
	p := startSetter(t, given)
	if !strings.Contains(p.said(), `{"manner": "`+o.manner+`"`) {
		t.Fatalf("it is not %s:\n%s", o.manner, p.said())
	}
	return p
}

// wantState compares the state, which may come later, but before the time of the tests is over.
func (o realOwner) wantState(t *testing.T, want string) {
	t.Helper()
	if deadline, limited := t.Deadline(); o.later && limited {
		for o.state(t) != want && time.Until(deadline) > rootTime/2 {
			runtime.Gosched()
		}
	}
	same(t, want, o.state(t))
}

func (o realOwner) wantSplit(t *testing.T, when string, p *setterProcess) {
	t.Helper()
	o.wantState(t, o.split)
	want := allInside
	if o.splits {
		want = someInside
	}
	wantAddresses(t, when, want)
	if got := strings.Contains(p.said(), cannotSplit); got == o.splits {
		t.Errorf("%s: a person is told that the manner cannot split: %v", when, got)
	}
	if !strings.Contains(p.said(), o.warns) {
		t.Errorf("%s: a person is not told that %s:\n%s", when, o.warns, p.said())
	}
}

// recover undoes in this process what a killed one left.
func (o realOwner) recover(t *testing.T, before string) {
	t.Helper()
	if err := Recover(setterState, zap.NewNop()); err != nil {
		t.Error(err)
	}
	o.wantState(t, before)
	wantAddresses(t, "recovered", allOutside)
	if left, err := os.ReadDir(setterState); err != nil || len(left) > 0 {
		t.Errorf("in the state folder: %v, %v", left, err)
	}
}

// resolvConfLines is /etc/resolv.conf without comments: what its readers heed.
func resolvConfLines(t *testing.T) string {
	t.Helper()
	return lines(get(t, "/etc/resolv.conf"))
}

func lines(content string) string {
	var b strings.Builder
	for line := range strings.Lines(content) {
		if !strings.HasPrefix(line, "#") && line != "\n" {
			b.WriteString(line)
		}
	}
	return b.String()
}

// linkTo makes /etc/resolv.conf a link.
func linkTo(t *testing.T, to string) {
	t.Helper()
	if err := os.Remove("/etc/resolv.conf"); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.Symlink(to, "/etc/resolv.conf"); err != nil {
		t.Fatal(err)
	}
}

func wantLinkTo(t *testing.T, to string) {
	t.Helper()
	if got, err := os.Readlink("/etc/resolv.conf"); got != to {
		t.Errorf("/etc/resolv.conf leads to %q, want %s: %v", got, to, err)
	}
}

func TestRealFile(t *testing.T) {
	inRoot(t, nil, func(t *testing.T) {
		networkUp(t)
		tunnelUp(t)
		const before = "# of a person\nnameserver 192.0.2.53\nsearch lan\n"
		put(t, "/etc/resolv.conf", before)
		realOwner{
			manner: mannerFile,
			state:  resolvConfLines,
			all:    "nameserver 10.1.0.53\nnameserver fd00:1::53\nsearch corp.example\n",
			split:  "nameserver 10.1.0.53\nnameserver fd00:1::53\nsearch corp.example eu.corp.example\n",
		}.try(t)
		same(t, before, get(t, "/etc/resolv.conf"))
	})
}
