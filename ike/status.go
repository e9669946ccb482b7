package ike

import (
	"slices"
	"time"
)

// Statuses returns what there is, in order of creation.
func (e *Engine) Statuses() []Status {
	var out []Status
	e.all(func(s *ikeSA) {
		if s.state != stateClosed && s.state != stateReplaced {
			out = append(out, s.status())
		}
	})
	return out
}

// Brief is what a Status says that needs no memory of its own: of many SAs a sum can be made of it.
type Brief struct {
	Connection string
	State      string
	Initiator  bool
	Since      time.Time // zero until it is established
	Heard      time.Time // as in Status
	Children   int
}

// Briefs calls f for each SA of Statuses, in that order. It allocates nothing.
func (e *Engine) Briefs(f func(Brief)) {
	e.all(func(s *ikeSA) {
		if s.state == stateClosed || s.state == stateReplaced {
			return
		}
		b := Brief{State: s.state.String(), Initiator: s.opener, Since: s.since, Heard: s.heard, Children: len(s.children)}
		if s.conn != nil {
			b.Connection = s.conn.Name
		}
		f(b)
	})
}

// StatusesOf is Statuses of some connections.
func (e *Engine) StatusesOf(wanted func(connection string) bool) []Status {
	var out []Status
	e.all(func(s *ikeSA) {
		if s.state != stateClosed && s.state != stateReplaced && s.conn != nil && wanted(s.conn.Name) {
			out = append(out, s.status())
		}
	})
	return out
}

func (s *ikeSA) status() Status {
	st := Status{
		SA: s.id(), Initiator: s.opener, State: s.state.String(),
		SPIi: s.spii, SPIr: s.spir, Line: s.line, Path: s.espPath,
		Local: s.local, Remote: s.remote, Suite: s.suite, Lease: s.lease, Since: s.since,
		Stages: slices.Clone(s.stages), Extensions: s.exts.names(), Conditions: s.conds.names(),
		Heard: s.heard, Rekey: s.deadlines[dueRekey], Ends: s.deadlines[dueHard],
	}
	if s.conn != nil {
		st.Connection = s.conn.Name
		st.Patience = s.patience()
	}
	if s.ppk.used {
		st.Conditions = append(st.Conditions, "ppk")
	}
	if s.conn != nil {
		st.Incomplete = s.incomplete()
	}
	for _, c := range s.children {
		info := c.ChildInfo
		info.Rekey, info.Ends = c.rekeyAt, c.ends
		st.Children = append(st.Children, info)
	}
	return st
}

// names lists the extensions by their notifies, and what else is known of the peer.
func (x extension) names() []string {
	var out []string
	for _, n := range []struct {
		bit  extension
		name string
	}{
		{extFragmentation, "IKEV2_FRAGMENTATION_SUPPORTED"},
		{extSignatureHashes, "SIGNATURE_HASH_ALGORITHMS"},
		{extMOBIKE, "MOBIKE_SUPPORTED"},
		{extEAPOnly, "EAP_ONLY_AUTHENTICATION"},
		{extRedirect, "REDIRECT_SUPPORTED"},
		{extIntermediate, "INTERMEDIATE_EXCHANGE_SUPPORTED"},
		{extPPK, "USE_PPK"},
		{extChildless, "CHILDLESS_IKEV2_SUPPORTED"},
		{extMultipleAuth, "MULTIPLE_AUTH_SUPPORTED"},
		{extWindows, "Windows"},
	} {
		if x&n.bit != 0 {
			out = append(out, n.name)
		}
	}
	return out
}

// names lists what is true.
func (c condition) names() []string {
	var out []string
	for _, n := range []struct {
		bit  condition
		name string
	}{
		{condNATHere, "nat-here"},
		{condNATThere, "nat-there"},
		{condEncapForced, "encap-forced"},
	} {
		if c&n.bit != 0 {
			out = append(out, n.name)
		}
	}
	return out
}
