package martlet

import (
	"strconv"
	"strings"
)

// exposition is metrics in the text format of Prometheus, version 0.0.4. A family begins with
// counter or gauge, and all its samples follow at once; a family without samples is left out.
type exposition struct {
	text   []byte
	name   string
	header string // of the family, until its first sample
}

func (x *exposition) counter(name, help string) { x.family(name, "counter", help) }
func (x *exposition) gauge(name, help string)   { x.family(name, "gauge", help) }

func (x *exposition) family(name, kind, help string) {
	x.name = name
	x.header = "# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n"
}

// count adds a sample of a whole number; labels are names and values in turn.
func (x *exposition) count(v uint64, labels ...string) {
	x.series(labels)
	x.text = append(strconv.AppendUint(x.text, v, 10), '\n')
}

// value adds a sample.
func (x *exposition) value(v float64, labels ...string) {
	x.series(labels)
	x.text = append(strconv.AppendFloat(x.text, v, 'g', -1, 64), '\n')
}

// truth adds a sample of 1 or 0.
func (x *exposition) truth(v bool, labels ...string) {
	if v {
		x.count(1, labels...)
		return
	}
	x.count(0, labels...)
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (x *exposition) series(labels []string) {
	x.text = append(x.text, x.header...)
	x.header = ""
	x.text = append(x.text, x.name...)
	for i := 0; i+1 < len(labels); i += 2 {
		x.text = append(x.text, "{,"[min(i, 1)])
		x.text = append(append(x.text, labels[i]...), `="`...)
		x.text = append(append(x.text, labelEscapes.Replace(labels[i+1])...), '"')
	}
	if len(labels) > 0 {
		x.text = append(x.text, '}')
	}
	x.text = append(x.text, ' ')
}
