package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var b bytes.Buffer
	if err := sampleReport().writeTable(&b); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	for _, want := range []string{
		"A <fast> & quiet CPU, 2 cores", "2 rounds of 5 s",
		"3.5 Gbit/s", "2 (2 - 2)", "≥ 1.5×", "met", "missed", "not measured", "≤ 30 MiB", "≤ 4×",
		"socks, wireguard-go, round 2: it ended\n      and said why",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	for _, f := range figures {
		if !strings.Contains(out, "\n"+f.name) {
			t.Errorf("no %s", f.name)
		}
	}
}

// TestWithoutBar: a figure that has no bar is shown, and neither met nor missed.
func TestWithoutBar(t *testing.T) {
	f := figure{name: "plain one", unit: "ms", key: "k", plain: true, lower: true}
	r := &report{Figures: []*result{resultOf(&f, map[string][]values{sideMartlet: {{"k": 7}}})}}
	var b bytes.Buffer
	if err := r.writeTable(&b); err != nil {
		t.Fatal(err)
	}
	if out := b.String(); !strings.Contains(out, "plain one  7 ms") || strings.Contains(out, "met") || strings.Contains(out, "missed") {
		t.Error(out)
	}
	// The legend has one box of each kind.
	if out := string(r.plot()); !strings.Contains(out, "7 ms, no bar") || strings.Count(out, `class="missed"`)+strings.Count(out, `class="met"`) != 2 {
		t.Error(out)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 18: "18", 1.5: "1.5", 1.004: "1.0", 0.834: "0.83", 14.04: "14.0", 1926.4: "1926", 0.0123: "0.0123", -0.5: "-0.5",
	} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

// TestPlot: it is XML, names every figure, and nothing lies outside of it.
func TestPlot(t *testing.T) {
	for name, r := range map[string]*report{"full": sampleReport(), "empty": {}} {
		out := r.plot()
		d := xml.NewDecoder(bytes.NewReader(out))
		for {
			tok, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
			e, ok := tok.(xml.StartElement)
			if !ok {
				continue
			}
			for _, a := range e.Attr {
				if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") || strings.HasPrefix(a.Value, "-") {
					t.Errorf("%s: %s has %s=%q", name, e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
		for _, f := range r.Figures {
			if !strings.Contains(string(out), escape(f.Name)) {
				t.Errorf("%s: no %s", name, f.Name)
			}
		}
	}
}

func TestPlotAxis(t *testing.T) {
	p := &plotter{low: -1, high: 1}
	p.widen(0.2, 9, 0, -1)
	if p.low != -3 || p.high != 4 {
		t.Errorf("the axis is 2^%v to 2^%v", p.low, p.high)
	}
	for v, want := range map[float64]float64{0: plotLeft, 0.125: plotLeft, 16: plotRight, 1e9: plotRight} {
		if got := p.x(v); got != want {
			t.Errorf("%v lies at %v, want %v", v, got, want)
		}
	}
}
