package infer

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/readout"
)

// A declaration is what an element of attributes or vectors says: NAME, or NAME = RIGHT.
type declaration struct {
	name, right string
	offset      int  // of the right side, in characters
	plain       bool // there is no right side, so it is the name
}

func declare(text string) declaration {
	left, right, ok := strings.Cut(text, "=")
	d := declaration{name: strings.TrimSpace(left), right: strings.TrimSpace(right), plain: !ok}
	if d.plain {
		d.right = d.name
	} else {
		space := len(right) - len(strings.TrimLeft(right, " "))
		d.offset = utf8.RuneCountInString(left) + 1 + space
	}
	return d
}

// wanted gathers the outputs that the network is asked for, each once.
type wanted struct {
	c     pipeline.Config
	have  []onnx.Port
	usual string // the one that is meant where none is named; "": there is none
	names []string
}

// use is the place of an output among those that are asked for.
func (w *wanted) use(name string) (int, error) {
	p, err := readout.Find(w.have, name)
	if err != nil {
		return 0, err
	}
	if i := slices.Index(w.names, p.Name); i >= 0 {
		return i, nil
	}
	w.names = append(w.names, p.Name)
	return len(w.names) - 1, nil
}

// usePlain is use for a name that stands alone: that of an output, or a free one for the
// output that is meant where none is named.
func (w *wanted) usePlain(name string) (int, error) {
	named := func(p onnx.Port) bool { return p.Name == name }
	if w.usual != "" && !slices.ContainsFunc(w.have, named) {
		name = w.usual
	}
	i, err := w.use(name)
	if err != nil {
		err = fmt.Errorf("%w; %s can be the name of one: write %[2]s = OUTPUT", err, name)
	}
	return i, err
}

// all reads what the pipeline asks for.
func (w *wanted) all() (numbers []number, vectors []vector, err error) {
	taken := map[string]bool{}
	for i, text := range w.c.Strings("attributes") {
		d := declare(text)
		fail := func(offset int, err error) error {
			return &pipeline.FieldError{Field: "attributes", Element: i + 1, Offset: offset, Err: err}
		}
		_, builtin := pipeline.Builtins()[d.name]
		switch {
		case d.plain && strings.ContainsAny(d.name, "[("):
			return nil, nil, fail(0, fmt.Errorf("%s needs a name: write NAME = %[1]s", d.name))
		case !readout.IsAttribute(d.name):
			return nil, nil, fail(0, fmt.Errorf("an attribute cannot be called %q: give it a name of letters, digits and _, as in NAME = %s", d.name, d.right))
		case builtin:
			return nil, nil, fail(0, fmt.Errorf("every item has the attribute %s: give this one another name", d.name))
		case taken[d.name]:
			return nil, nil, fail(0, fmt.Errorf("two attributes are called %s", d.name))
		}
		taken[d.name] = true
		n := number{name: d.name}
		if n.Number, err = readout.Parse(d.right); err != nil {
			return nil, nil, fail(d.offset, err)
		}
		use := w.use
		if d.plain {
			use = w.usePlain
		}
		if n.output, err = use(n.Output); err == nil {
			n.Output = w.names[n.output]
			port, _ := readout.Find(w.have, n.Output)
			err = n.Check(port)
		}
		if err != nil {
			return nil, nil, fail(d.offset, err)
		}
		numbers = append(numbers, n)
	}
	clear(taken)
	for i, text := range w.c.Strings("vectors") {
		d := declare(text)
		fail := func(offset int, err error) error {
			return &pipeline.FieldError{Field: "vectors", Element: i + 1, Offset: offset, Err: err}
		}
		switch {
		case d.name == "" || d.right == "":
			return nil, nil, fail(0, fmt.Errorf("%q is no vector: write NAME, or NAME = OUTPUT", text))
		case taken[d.name]:
			return nil, nil, fail(0, fmt.Errorf("two vectors are called %s", d.name))
		}
		taken[d.name] = true
		v := vector{name: d.name}
		use := w.use
		if d.plain {
			use = w.usePlain
		}
		if v.output, err = use(d.right); err != nil {
			return nil, nil, fail(d.offset, err)
		}
		vectors = append(vectors, v)
	}
	return numbers, vectors, nil
}
