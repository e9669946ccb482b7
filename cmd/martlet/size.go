package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units are binary; each is 1024 of the one before.
var units = []string{"B", "KiB", "MiB", "GiB", "TiB"}

// size writes a number of octets.
func size(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// octets is a flag such as 1GiB, 64M or 1000.
type octets int64

// String writes the flag's value as Set takes it, if it is a whole number of its unit.
func (o *octets) String() string {
	return strings.ReplaceAll(strings.Replace(size(uint64(*o)), ".0 ", " ", 1), " ", "")
}

// Type names the flag's type in help.
func (o *octets) Type() string { return "size" }

// Set reads a number with an optional unit.
func (o *octets) Set(text string) error {
	digits := strings.TrimRight(text, "BKMGTibkmgt")
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("expected a size such as 1GiB or 64MiB, got %q", text)
	}
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(text[len(digits):]), "B"), "I")
	for _, u := range units {
		if unit == strings.TrimSuffix(strings.TrimSuffix(u, "B"), "i") {
			*o = octets(n)
			return nil
		}
		if n > math.MaxInt64/1024 {
			break
		}
		n *= 1024
	}
	return fmt.Errorf("expected a size such as 1GiB or 64MiB, got %q", text)
}
