package interop

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// ping sends echo requests from an address to another, until an answer comes.
func (ns *namespace) ping(from, to string) {
	ns.t.Helper()
	var last string
	until(ns.t, "ping from "+from+" to "+to, func() bool {
		out, err := ns.try("ping", "-n", "-I", from, "-c", "1", "-W", "2", to)
		last = out
		return err == nil
	})
	// Now that it works it works each time. A peer on a busy machine may lose one, but not
	// one in each of three runs.
	var out string
	for range 3 {
		var err error
		out, err = ns.try("ping", "-n", "-I", from, "-c", "5", "-i", "0.05", "-W", "5", to)
		if err == nil && strings.Contains(out, " 0% packet loss") {
			return
		}
	}
	ns.t.Errorf("ping from %s to %s loses some each time:\n%s\nbefore:\n%s", from, to, out, last)
}

// silent fails the test if a ping is answered.
func (ns *namespace) silent(from, to string) {
	ns.t.Helper()
	if out, err := ns.try("ping", "-n", "-I", from, "-c", "3", "-i", "0.1", "-W", "1", to); err == nil || strings.Contains(out, "bytes from") {
		ns.t.Errorf("ping from %s to %s is answered:\n%s", from, to, out)
	}
}

// stream sends 5 MB by iperf3 from one host to the other, and then the other way. Octets that
// are still on their way when the sender has sent its last are not counted.
func stream(t testing.TB, client *namespace, from string, server *namespace, to string) {
	t.Helper()
	s := server.spawn("iperf3", nil, "iperf3", "-s", "-B", to, "--forceflush")
	for i, way := range []string{"", "-R"} {
		s.says(fmt.Sprintf("(test #%d)", i+1)) // it listens anew for each
		args := []string{"iperf3", "-c", to, "-B", from, "-n", "5M", "-J", "--connect-timeout", "10000"}
		if way != "" {
			args = append(args, way)
		}
		out, err := client.try(args...)
		var r struct {
			Error string
			End   struct {
				Received struct {
					Bytes float64
				} `json:"sum_received"`
			}
		}
		if jsonErr := json.Unmarshal([]byte(out), &r); err != nil || jsonErr != nil || r.Error != "" {
			t.Errorf("iperf3 %s from %s to %s: %v %v %s\n%s", way, from, to, err, jsonErr, r.Error, tail(out, 10))
			continue
		}
		if r.End.Received.Bytes < 1<<20 {
			t.Errorf("iperf3 %s from %s to %s: %.0f octets arrived", way, from, to, r.End.Received.Bytes)
		}
	}
	s.stop(15)
}

// outage pings the other inside 20 times a second, calls f, and tells for how many milliseconds
// there was no answer.
func (ns *namespace) outage(from string, f func()) int {
	ns.t.Helper()
	p := ns.spawn("ping", nil, "ping", "-n", "-D", "-I", from, "-i", "0.05", "-w", "30", inB4)
	p.says("icmp_seq=20 ")
	f()
	next := sequences(p.out.String())
	until(ns.t, "pings are answered again", func() bool { return sequences(p.out.String()) > next+40 })
	p.stop(2)
	longest, last := 0, 0
	for _, m := range icmpSeq.FindAllStringSubmatch(p.out.String(), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			ns.t.Fatal(err)
		}
		longest = max(longest, n-last-1)
		last = n
	}
	return longest * 50
}

var icmpSeq = regexp.MustCompile(`icmp_seq=(\d+) ttl`)

// sequences counts the answers.
func sequences(out string) int { return len(icmpSeq.FindAllString(out, -1)) }
