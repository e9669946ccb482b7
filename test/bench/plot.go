package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
)

// The plot's measures, in pixels.
const (
	plotWidth  = 1000
	plotLeft   = 300 // where the axis begins; names stand left of it
	plotRight  = 740 // where it ends; numbers stand right of it
	plotTop    = 96
	rowHeight  = 36
	headHeight = 44 // of a group's heading, in which its axis is labelled
	barHeight  = 14
)

const plotStyle = `
	.page { fill: #ffffff } text { fill: #1f2328; font: 13px sans-serif } .title { font-size: 18px; font-weight: bold }
	.group { font-weight: bold } .small { font-size: 11px } .quiet { fill: #656d76 } .end { text-anchor: end } .middle { text-anchor: middle }
	.grid { stroke: #d0d7de } .one { stroke: #8c959f } .met { fill: #3b82c4 } .missed { fill: #e08b3a }
	.line { stroke: #1f2328; stroke-width: 1.5 } .bar { stroke: #1f2328; stroke-width: 3 }
	@media (prefers-color-scheme: dark) {
		.page { fill: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9198a1 } .grid { stroke: #30363d } .one { stroke: #6e7681 }
		.line { stroke: #e6edf3 } .bar { stroke: #e6edf3 }
	}
`

// plot draws each figure as a bar on a logarithmic axis: 1 is the peer, or the limit, and
// more is better. Whiskers reach from the worst round to the best.
func (r *report) plot() []byte {
	type group struct {
		title string
		rows  []*result
	}
	groups := []group{{title: "times a peer"}, {title: "against a limit"}}
	for _, f := range r.Figures {
		i := 0
		if f.BarOf != "ratio" {
			i = 1
		}
		groups[i].rows = append(groups[i].rows, f)
	}
	height := plotTop + 24
	for _, g := range groups {
		if len(g.rows) > 0 {
			height += headHeight + rowHeight*len(g.rows)
		}
	}
	p := &plotter{low: -1, high: 1}
	for _, f := range r.Figures {
		if s, bar, ok := f.score(); ok {
			p.widen(s.Min, s.Max, bar)
		}
	}
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d">`, plotWidth, height, plotWidth, height)
	p.printf("<title>Martlet beside its peers</title><style>%s</style>", plotStyle)
	p.printf(`<rect class="page" width="%d" height="%d"/>`, plotWidth, height)
	p.text(20, 32, "title", "Martlet beside its peers")
	p.text(20, 52, "small quiet", fmt.Sprintf("%s, %d cores, Linux %s, %s, %s; median, worst and best of %d rounds in turn",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Machine.Date.Format("2006-01-02"), r.Rounds))
	p.legend(20, 72)
	y := plotTop
	for _, g := range groups {
		if len(g.rows) == 0 {
			continue
		}
		p.head(y, g.title, len(g.rows))
		y += headHeight
		for _, f := range g.rows {
			p.row(y, f)
			y += rowHeight
		}
	}
	p.printf("</svg>\n")
	return p.b.Bytes()
}

type plotter struct {
	b         bytes.Buffer
	low, high float64 // the axis' ends, as powers of 2
}

// widen makes room for values, as far as that is sensible.
func (p *plotter) widen(all ...float64) {
	for _, v := range all {
		if e := math.Log2(v); !math.IsNaN(e) && !math.IsInf(e, 0) {
			p.low = max(-5, min(p.low, math.Floor(e)))
			p.high = min(6, max(p.high, math.Ceil(e)))
		}
	}
}

// x is where a value lies; one beyond the axis lies at its end.
func (p *plotter) x(v float64) float64 {
	e := min(p.high, max(p.low, math.Log2(v)))
	return plotLeft + (plotRight-plotLeft)*(e-p.low)/(p.high-p.low)
}

func (p *plotter) printf(format string, args ...any) {
	fmt.Fprintf(&p.b, format+"\n", args...)
}

func (p *plotter) text(x float64, y int, class, s string) {
	p.printf(`<text x="%.1f" y="%d" class="%s">%s</text>`, x, y, class, escape(s))
}

func (p *plotter) vertical(class string, x float64, from, to int) {
	p.printf(`<line class="%s" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, class, x, x, from, to)
}

func (p *plotter) legend(x float64, y int) {
	p.printf(`<rect class="met" x="%.1f" y="%d" width="24" height="10"/>`, x, y-9)
	p.text(x+30, y, "small", "bar met")
	p.printf(`<rect class="missed" x="%.1f" y="%d" width="24" height="10"/>`, x+90, y-9)
	p.text(x+120, y, "small", "bar missed")
	p.vertical("bar", x+206, y-11, y+3)
	p.text(x+216, y, "small", "the bar")
	p.text(x+280, y, "small", "Right is better, also where less is; the axis doubles from line to line.")
}

// head is a group's heading with the axis below it and the grid through its rows.
func (p *plotter) head(y int, title string, rows int) {
	p.text(20, y+30, "group", title)
	bottom := y + headHeight + rows*rowHeight
	for e := p.low; e <= p.high; e++ {
		v := math.Exp2(e)
		class := "grid"
		if e == 0 {
			class = "one"
		}
		p.vertical(class, p.x(v), y+headHeight-8, bottom)
		label := number(v) + "×"
		if e < 0 {
			label = "1/" + number(1/v)
		}
		p.text(p.x(v), y+30, "small quiet middle", label)
	}
}

// row is one figure: who against whom, the bar with its whiskers, and the numbers.
func (p *plotter) row(y int, f *result) {
	middle := y + rowHeight/2
	peer := f.Peer
	if f.BarOf != "ratio" {
		peer = ""
	}
	if peer == "" {
		p.text(20, middle+4, "", f.Name)
	} else {
		p.text(20, middle-2, "", f.Name)
		p.text(20, middle+12, "small quiet", "against "+peer)
	}
	if v := f.judged(); v != nil && f.BarOf == "nothing" {
		p.text(plotRight+14, middle+4, "", quantity(v, f.Unit)+", no bar")
		return
	}
	s, bar, ok := f.score()
	if !ok {
		p.text(plotRight+14, middle+4, "quiet", "not measured")
		return
	}
	class := "missed"
	if f.Met {
		class = "met"
	}
	from, to := p.x(1), p.x(s.Median)
	if from > to {
		from, to = to, from
	}
	p.printf(`<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>`, class, from, middle-barHeight/2, max(2, to-from), barHeight)
	low, high := p.x(s.Min), p.x(s.Max)
	if high-low >= 1 {
		p.printf(`<line class="line" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, low, high, middle, middle)
		p.vertical("line", low, middle-4, middle+4)
		p.vertical("line", high, middle-4, middle+4)
	}
	p.vertical("bar", p.x(bar), middle-rowHeight/2+4, middle+rowHeight/2-4)
	first, second := number(f.judged().Median), quantity(f.Value, f.Unit)
	if f.BarOf == "ratio" {
		first += "×"
		second += " / " + quantity(spreadOf(present(f.Peers)), "")
	} else {
		first, second = second, ""
	}
	if second == "" {
		p.text(plotRight+14, middle+4, "", first+", bar "+f.barText())
		return
	}
	p.text(plotRight+14, middle-2, "", first+", bar "+f.barText())
	p.text(plotRight+14, middle+12, "small quiet", second)
}

func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}
