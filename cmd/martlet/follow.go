package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"martlet"
)

// quiet is how long nothing happens before the follower says that it still waits: by
// then two messages were lost.
const quiet = 5 * time.Second

// follower prints what happens to a connection.
type follower struct {
	w         io.Writer
	name      string
	request   []string             // the families of which a virtual address is asked for
	events    <-chan martlet.Event // closed when we end
	asks      <-chan bool          // whether somebody is asked for a password from now on
	connected chan error           // what came of connecting, once
	stands    func() error         // called when it stands for the first time; may be nil

	established bool
	down        *martlet.Event // once an established SA went down
	again       bool           // it is brought up again
}

// follow returns when connecting failed, when the connection went down for good, and when the
// events end; the error is that of the connection.
func (f *follower) follow(status func() martlet.Status) error {
	connected := f.connected
	silent := time.NewTimer(quiet)
	defer silent.Stop()
	asking := false
	for {
		select {
		case asking = <-f.asks:
			silent.Reset(quiet)
			continue
		case <-silent.C:
			if connected != nil && !asking { // else it is not the gateway that we wait for
				fmt.Fprintf(f.w, "  no answer for %v; asking again\n", quiet)
			}
			continue
		case err := <-connected:
			// What led to it was sent before.
			for n := len(f.events); n > 0; n-- {
				if ev, ok := <-f.events; ok {
					f.take(ev)
				}
			}
			if err != nil {
				return err
			}
			connected = nil
			if f.down == nil {
				printUp(f.w, status(), f.name, f.request)
			}
			if f.stands != nil {
				if err := f.stands(); err != nil {
					return err
				}
			}
		case ev, ok := <-f.events:
			if !ok && connected != nil {
				return <-connected // it ends with the same context
			}
			if !ok {
				return nil
			}
			f.take(ev)
			silent.Reset(quiet)
			if f.again && ev.Kind == martlet.EventChildUp && ev.Connection == f.name {
				f.again = false
				printUp(f.w, status(), f.name, f.request)
			}
		}
		if connected == nil && f.down != nil && f.down.Kept {
			fmt.Fprintf(f.w, "martlet: %s is down: %s; connecting again\n", f.name, f.down.Text)
			f.down, f.established, f.again = nil, false, true
		}
		// While connecting, an SA that fails may be one of several tries.
		if connected == nil && f.down != nil {
			if f.down.Err != nil {
				return f.down.Err
			}
			fmt.Fprintf(f.w, "martlet: %s is down: %s\n", f.name, f.down.Text)
			return nil
		}
	}
}

// take prints an event that is news to who waits for the connection.
func (f *follower) take(ev martlet.Event) {
	if ev.Connection != f.name {
		return
	}
	switch ev.Kind {
	case martlet.EventStage:
		fmt.Fprintf(f.w, "  %-16s %s\n", ev.Stage, took(ev.Took))
	case martlet.EventEstablished:
		f.established = true
	case martlet.EventWarning, martlet.EventMoved, martlet.EventRekeyed, martlet.EventRekeyFailed, martlet.EventReloading, martlet.EventReloaded: // stand in the log
	case martlet.EventRedirected:
		fmt.Fprintf(f.w, "  redirected to %s\n", ev.Text)
	case martlet.EventRetry:
		what := ev.Text
		if ev.Err != nil {
			what = ev.Err.What
		}
		fmt.Fprintf(f.w, "  %s; trying again in %s\n", what, took(ev.Took))
	case martlet.EventDown:
		if f.established && !ev.Replaced {
			f.down = &ev
		}
	case martlet.EventChildFailed:
		if ev.Err != nil {
			fmt.Fprintf(f.w, "  child %s failed: %s\n", ev.Child, ev.Err.What)
		}
	case martlet.EventChildUp:
		fmt.Fprintf(f.w, "  child %s: %s\n", ev.Child, ev.Text)
	case martlet.EventChildDown:
		fmt.Fprintf(f.w, "  child %s is down: %s\n", ev.Child, ev.Text)
	}
}

// printUp prints what was negotiated, and what of it is less than one may expect.
func printUp(w io.Writer, s martlet.Status, name string, request []string) {
	for _, sa := range s.SAs {
		if sa.Connection != name {
			continue
		}
		by := s.Device
		if s.InProcess {
			by = "this process"
		}
		if len(sa.Addresses) > 0 {
			by = list(sa.Addresses) + " by " + by
		}
		fmt.Fprintf(w, "martlet: %s is up: %s, peer %s at %v, %s\n", name, by, sa.RemoteID, sa.RemoteAddr, sa.Suite)
		for _, family := range request {
			isIt := func(a netip.Prefix) bool { return a.Addr().Is4() == (family == "ipv4") }
			if !slices.ContainsFunc(sa.Addresses, isIt) {
				fmt.Fprintf(w, "  note: the peer gave no %s address; traffic of that family does not go through the tunnel\n", family)
			}
		}
		if len(sa.DNS) > 0 && s.InProcess {
			fmt.Fprintf(w, "  names are resolved inside, by %s%s\n", list(sa.DNS), domains(sa))
		}
	}
	if s.Resolvers != nil {
		printResolvers(w, s.Resolvers)
	}
}

// printResolvers tells who is asked for names.
func printResolvers(w io.Writer, r *martlet.ResolversStatus) {
	switch {
	case r.Err != "":
		fmt.Fprintf(w, "  note: names are not asked of %s, as they should be: %s\n", list(r.Servers), r.Err)
	case len(r.Domains) > 0:
		fmt.Fprintf(w, "  names below %s are asked of %s\n", strings.Join(r.Domains, ", "), list(r.Servers))
	default:
		fmt.Fprintf(w, "  names are asked of %s\n", list(r.Servers))
	}
}

// took writes a duration with three digits at most.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
