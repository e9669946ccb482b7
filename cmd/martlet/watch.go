package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"martlet"
)

// redraw is how often a status on a terminal is drawn anew though nothing happened: ages and
// counters go on.
const redraw = time.Second

// watchStatus shows the status until a signal, or until the running martlet ends: drawn anew on a terminal; as
// JSON, a line for each event, with the whole status; else once, and then a line for each event.
func watchStatus(cmd *cobra.Command, control *martlet.Control, asJSON bool) error {
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	events, err := control.Watch(ctx)
	if err != nil {
		return err
	}
	var tick <-chan time.Time
	out, ok := w.(interface{ Fd() uintptr })
	terminal := !asJSON && ok && term.IsTerminal(int(out.Fd()))
	if terminal {
		t := time.NewTicker(redraw)
		defer t.Stop()
		tick = t.C
	}
	show := func() error {
		s, err := control.Status(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(w).Encode(s)
		}
		var b bytes.Buffer
		if terminal {
			b.WriteString("\x1b[H\x1b[2J")
		}
		printStatus(&b, s, time.Now())
		_, err = w.Write(b.Bytes())
		return err
	}
	if err := show(); err != nil {
		return err
	}
	for {
		select {
		case <-tick:
		case ev, ok := <-events:
			switch {
			case ctx.Err() != nil:
				return nil // whoever watches has seen enough
			case !ok:
				fmt.Fprintln(cmd.ErrOrStderr(), "martlet: the one that was watched has ended")
				return nil
			case !asJSON && !terminal:
				fmt.Fprintln(w, eventLine(ev))
				continue
			}
		}
		// One that ends refuses to tell its status; its events end soon.
		if _, refused := errors.AsType[*martlet.Error](show()); refused {
			tick = nil
		}
	}
}

// eventLine is one event for people.
func eventLine(ev martlet.Event) string {
	var b strings.Builder
	b.WriteString(ev.Time.Format("15:04:05") + " " + ev.Connection)
	if ev.Child != "" {
		b.WriteString(" child " + ev.Child)
	}
	b.WriteString(": " + strings.ReplaceAll(string(ev.Kind), "-", " "))
	if ev.Stage != "" {
		b.WriteString(" " + ev.Stage)
	}
	if ev.Peer != "" {
		b.WriteString(", peer " + ev.Peer)
	}
	text := ev.Text
	if ev.Err != nil {
		text = ev.Err.What
	}
	if text != "" {
		b.WriteString(": " + oneLine(text))
	}
	switch {
	case ev.Kind == martlet.EventRetry:
		b.WriteString("; again in " + took(ev.Took))
	case ev.Took > 0:
		b.WriteString(", " + took(ev.Took))
	}
	return b.String()
}
