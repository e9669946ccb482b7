package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// writeTable prints the report for people.
func (r *report) writeTable(w io.Writer) error {
	fmt.Fprintf(w, "%s, %d cores, Linux %s, %s, %s; %d rounds of %d s in turn, took %.0f s\n\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Machine.Date.Format("2006-01-02"), r.Rounds, r.Seconds, r.Took)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tMartlet\tpeer\t\tratio or value (min - max)\tbar\t")
	for _, f := range r.Figures {
		ratio, bar := "", f.barText()
		switch {
		case f.judged() == nil:
			ratio, bar = "not measured", bar+"\t"
		case f.BarOf == "nothing":
			bar += "\t"
		case f.Met:
			bar += "\tmet"
		default:
			bar += "\tmissed"
		}
		if s := f.judged(); s != nil {
			ratio = fmt.Sprintf("%s (%s - %s)", number(s.Median), number(s.Min), number(s.Max))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, quantity(f.Value, f.Unit), quantity(spreadOf(present(f.Peers)), f.Unit), f.Peer, ratio, bar)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i, f := range r.Failed {
		if i == 0 {
			fmt.Fprintln(w, "\nCould not be measured:")
		}
		fmt.Fprintf(w, "  %s, %s, round %d: %s\n", f.Trial, f.Side, f.Round, strings.ReplaceAll(f.Why, "\n", "\n      "))
	}
	return nil
}

// barText is the bar as the table shows it.
func (r *result) barText() string {
	if r.BarOf == "nothing" {
		return "-"
	}
	sign := "≥ "
	if r.Better == "lower" {
		sign = "≤ "
	}
	if r.BarOf == "ratio" {
		return sign + number(r.Bar) + "×"
	}
	return sign + withUnit(r.Bar, r.Unit)
}

// quantity is the median with its unit.
func quantity(s *spread, unit string) string {
	if s == nil {
		return "-"
	}
	return withUnit(s.Median, unit)
}

func withUnit(v float64, unit string) string {
	if unit == "×" {
		return number(v) + unit
	}
	return strings.TrimSpace(number(v) + " " + unit)
}

// number has three digits that say something.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1:
		return strings.TrimSuffix(fmt.Sprintf("%.2f", v), "0")
	default:
		return fmt.Sprintf("%.3g", v)
	}
}
