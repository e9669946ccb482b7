package interop

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"martlet"
)

// rekeyScenarios replace SAs while packets are on their way, with each way to agree on
// keys.
var rekeyScenarios = []scenario{
	{name: "no-pfs", auth: "psk", swanESP: "aes256gcm16", check: checkRekey("noesn")},
	{name: "pfs", auth: "psk", esp: "aes256gcm16-ecp256", swanESP: "aes256gcm16-ecp256", check: checkRekey("ecp256")},
	{name: "pfs-of-strongswan-only", auth: "psk", swanESP: "aes256gcm16-x25519,aes256gcm16", check: checkRekey("-")},
	{
		name: "wrong-group-first", auth: "psk", check: checkRekey("-"),
		esp: "aes256gcm16-ecp256-x25519-modp2048", swanESP: "aes256gcm16-modp2048-ecp384-x25519",
	},
}

func TestRekey(t *testing.T) {
	t.Parallel()
	for _, sc := range rekeyScenarios {
		for _, role := range []string{"initiator", "responder"} {
			t.Run(sc.name+"/"+role, func(t *testing.T) {
				start(t)
				sc.play(t, role == "initiator")
			})
		}
	}
}

// checkRekey has each side replace the child and the IKE SA, and then both of them at once,
// with pings both ways all the time, none of which may be lost. group is what the children
// have in the end, "noesn" is none, and "-" any.
func checkRekey(group string) func(t *testing.T, p *pair) {
	return func(t *testing.T, p *pair) {
		p.traffic(t, inA4, inB4)
		ours := func(args ...string) {
			if out, err := p.m.martlet(append([]string{"rekey", "-c", p.m.config, "site"}, args...)...); err != nil {
				t.Errorf("martlet rekey: %v\n%s", err, out)
			}
		}
		theirs := func(args ...string) {
			if out, err := p.s.ctl(append([]string{"--rekey"}, args...)...); err != nil {
				t.Errorf("swanctl --rekey: %v\n%s", err, out)
			}
		}
		steps := []struct {
			name string
			act  func()
			ike  bool
		}{
			{"child by martlet", func() { ours("net") }, false},
			{"child by strongSwan", func() { theirs("--child", "net") }, false},
			{"IKE SA by martlet", func() { ours() }, true},
			{"IKE SA by strongSwan", func() { theirs("--ike", "c") }, true},
			{"child by martlet, on the new SA", func() { ours("net") }, false},
			{"child by strongSwan, on the new SA", func() { theirs("--child", "net") }, false},
			{"child by both", func() { theirs("--child", "net"); ours("net") }, false},
			{"IKE SA by both", func() { theirs("--ike", "c"); ours() }, true},
		}
		// A peer on a busy machine may lose one packet, but not one in each of three runs.
		var lost string
		for range 3 {
			there := p.net.a.spawn("ping", nil, "ping", "-n", "-I", inA4, "-i", "0.02", "-W", "5", inB4)
			back := p.net.b.spawn("ping", nil, "ping", "-n", "-I", inB4, "-i", "0.02", "-W", "5", inA4)
			for _, step := range steps {
				before := p.onlySA(t)
				step.act()
				until(t, step.name+" is replaced", func() bool {
					now := p.m.status()
					if now == nil || len(now.SAs) != 1 || len(now.SAs[0].Children) != 1 {
						return false
					}
					return now.SAs[0].Children[0].SPIIn != before.Children[0].SPIIn && !step.ike || now.SAs[0].SPIi != before.SPIi && step.ike
				})
			}
			lost = ""
			for _, proc := range []*process{there, back} {
				proc.stop(syscall.SIGINT)
				if gap := unanswered(proc.out.String()); gap != "" {
					lost += gap
				}
			}
			if lost == "" {
				break
			}
		}
		if lost != "" {
			t.Errorf("pings were lost each time:\n%s", lost)
		}
		p.traffic(t, inA4, inB4)
		p.oneEach(t)
		p.status = p.m.status()
		if got := p.status.SAs[0].Children[0].Suite; group != "-" && !strings.Contains(got+"-", "-"+group+"-") || group == "noesn" && got != "aes256gcm16-noesn" {
			t.Errorf("the child's algorithms are %q, want the group %q", got, group)
		}
	}
}

// unanswered tells which of a ping's requests were not answered, but for the last ones, whose
// answers it did not wait for.
func unanswered(out string) string {
	var gaps []string
	want := 1
	for _, found := range regexp.MustCompile(`icmp_seq=(\d+)`).FindAllStringSubmatch(out, -1) {
		n, err := strconv.Atoi(found[1])
		if err != nil {
			return err.Error()
		}
		for ; want < n; want++ {
			gaps = append(gaps, strconv.Itoa(want))
		}
		want = n + 1
	}
	if want < 10 {
		return "hardly any answer:\n" + out
	}
	return strings.Join(gaps, " ")
}

// onlySA is Martlet's only IKE SA.
func (p *pair) onlySA(t *testing.T) martlet.SAStatus {
	t.Helper()
	var sa martlet.SAStatus
	until(t, "one SA with one child", func() bool {
		s := p.m.status()
		if s == nil || len(s.SAs) != 1 || len(s.SAs[0].Children) != 1 {
			return false
		}
		sa = s.SAs[0]
		return true
	})
	return sa
}

// oneEach checks that both sides have the same SA with the same child, and no other.
func (p *pair) oneEach(t *testing.T) {
	t.Helper()
	until(t, "both sides have the same SA and child", func() bool {
		sa, text := p.onlySA(t), p.s.sas()
		return strings.Count(text, "ESTABLISHED") == 1 && strings.Count(text, "INSTALLED") == 1 &&
			strings.Contains(text, strings.ToLower(sa.SPIi)) && strings.Contains(text, fmt.Sprint(sa.Children[0].SPIOut))
	})
}
