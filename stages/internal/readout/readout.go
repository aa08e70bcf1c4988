// Package readout reads a number out of what a network gives for a picture, as pipelines
// name it: "quality" is the one number of that output, "logits[2]" the third of several,
// "softmax(logits)[2]" its probability, "mean(map)" what all of a map come to.
package readout

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/pipeline"
)

// Syntax is how a number is written, for messages and documentation.
const Syntax = `OUTPUT, OUTPUT[i], softmax(OUTPUT)[i], argmax(OUTPUT), mean(OUTPUT), min(OUTPUT) or max(OUTPUT)`

// Doc lists the ways to write a number, for the description of a stage.
const Doc = `- OUTPUT: the one number that the output of that name has for a picture.
- OUTPUT[i]: one of several, counted from 0 in the order in which the network gives them.
- softmax(OUTPUT)[i]: its probability, where the numbers are the scores of classes that exclude each other.
- argmax(OUTPUT): the place of the largest, a whole number.
- mean(OUTPUT): the mean of all its numbers; min(OUTPUT) is the least and max(OUTPUT) the largest.

A number that is not finite fails the item.`

// Number is a number that can be read from an output.
type Number struct {
	Output   string // its name; empty: the only one
	function string // that is applied to all numbers of the output; empty: none
	index    int    // of one of them; -1: none
}

// The functions that take all numbers of an output. All but softmax give one.
var functions = []string{"softmax", "argmax", "mean", "min", "max"}

// Parse reads what Syntax says.
func Parse(text string) (Number, error) {
	n, rest := Number{index: -1}, strings.TrimSpace(text)
	if i := strings.LastIndexByte(rest, '['); i >= 0 && strings.HasSuffix(rest, "]") {
		at, err := strconv.Atoi(strings.TrimSpace(rest[i+1 : len(rest)-1]))
		if err != nil || at < 0 {
			return n, fmt.Errorf("%s is no place among the numbers of an output: they are counted from 0, as in %s[0]", rest[i:], strings.TrimSpace(rest[:i]))
		}
		n.index, rest = at, strings.TrimSpace(rest[:i])
	}
	if name, inner, ok := strings.Cut(rest, "("); ok && strings.HasSuffix(inner, ")") {
		if !slices.Contains(functions, name) {
			return n, fmt.Errorf("there is no function %s: there are %s", name, strings.Join(functions, ", "))
		}
		n.function, rest = name, strings.TrimSpace(strings.TrimSuffix(inner, ")"))
	}
	n.Output = rest
	switch {
	case rest == "":
		return n, fmt.Errorf("%q names no output: write %s", text, Syntax)
	case n.function == "softmax" && n.index < 0:
		return n, fmt.Errorf("softmax(%s) are as many numbers as the output has: say which one, as in softmax(%[1]s)[0]", rest)
	case n.function != "" && n.function != "softmax" && n.index >= 0:
		return n, fmt.Errorf("%s(%s) is one number, and has no place %d: leave [%[3]d] out", n.function, rest, n.index)
	}
	return n, nil
}

// Only is the one number of the only output.
func Only() Number { return Number{index: -1} }

// Type is that of the attribute that the number becomes.
func (n Number) Type() pipeline.Type {
	if n.function == "argmax" {
		return pipeline.TypeInt
	}
	return pipeline.TypeFloat
}

// Check reports what the shape of the output says against the number, as far as it is
// told before the network runs. The first axis is the pictures.
func (n Number) Check(p onnx.Port) error {
	if p.Shape == nil || n.function != "" && n.index < 0 {
		return nil
	}
	count := int64(1)
	for _, d := range p.Shape[1:] {
		if d < 0 {
			return nil
		}
		count *= d
	}
	return n.fits(p.Name, count)
}

// fits reports that an output of so many numbers for a picture has not what is wanted.
func (n Number) fits(output string, count int64) error {
	switch {
	case count == 0:
		return fmt.Errorf("the output %s has no numbers", output)
	case n.index < 0 && n.function == "" && count != 1:
		return fmt.Errorf("the output %s has %d numbers for a picture, of which one is wanted: say which, as in %[1]s[0], or what of all of them, as in mean(%[1]s)", output, count)
	case int64(n.index) >= count:
		return fmt.Errorf("the output %s has %d numbers for a picture, counted from 0: there is no %[1]s[%[3]d]", output, count, n.index)
	}
	return nil
}

var attribute = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// IsAttribute tells whether an attribute can be called so: that conditions can name it.
func IsAttribute(name string) bool { return attribute.MatchString(name) }

// ErrNotFinite is that of numbers that are infinite or none.
var ErrNotFinite = errors.New("the network gives numbers that are not finite: the picture may be prepared otherwise than it wants (see preset), or float16 is too narrow for it")

// Finite reports whether all numbers are.
func Finite(data []float32) error {
	for _, x := range data {
		if x-x != 0 { // of what is infinite or no number it is no number
			return ErrNotFinite
		}
	}
	return nil
}

// Of reads the number from what the network gave for one picture; see Type.
func (n Number) Of(out *model.Tensor) (pipeline.Value, error) {
	data := numbers(out)
	if err := n.fits(n.Output, int64(len(data))); err != nil {
		return pipeline.Value{}, err
	}
	if n.function == "" {
		data = data[max(n.index, 0):][:1]
	}
	if err := Finite(data); err != nil {
		return pipeline.Value{}, err
	}
	switch n.function {
	case "argmax":
		return pipeline.Int(int64(slices.Index(data, slices.Max(data)))), nil
	case "softmax":
		return pipeline.Float(softmax(data, n.index)), nil
	case "mean":
		return pipeline.Float(mean(data)), nil
	case "min":
		return pipeline.Float(float64(slices.Min(data))), nil
	case "max":
		return pipeline.Float(float64(slices.Max(data))), nil
	}
	return pipeline.Float(float64(data[0])), nil
}

// numbers are those of an output, to be read only: a map may be too large to be copied
// for each number of it.
func numbers(out *model.Tensor) []float32 {
	if out.Type.Size() == 4 { // float32: there is only float16 beside it
		return out.Float32s()
	}
	return out.Numbers()
}

// softmax is the i-th of them.
func softmax(data []float32, i int) float64 {
	top := float64(slices.Max(data)) // so that the powers are at most 1
	var sum float64
	for _, x := range data {
		sum += math.Exp(float64(x) - top)
	}
	return math.Exp(float64(data[i])-top) / sum
}

func mean(data []float32) float64 {
	var sum float64
	for _, x := range data {
		sum += float64(x)
	}
	return sum / float64(len(data))
}

// Find is the output of that name; without one, the only output. The error lists those
// that there are.
func Find(outputs []onnx.Port, name string) (onnx.Port, error) {
	i := slices.IndexFunc(outputs, func(p onnx.Port) bool { return p.Name == name })
	switch {
	case i >= 0:
		return outputs[i], nil
	case name == "" && len(outputs) == 1:
		return outputs[0], nil
	case name == "":
		return onnx.Port{}, fmt.Errorf("the network has several outputs, so name the one that is meant: %s", List(outputs))
	}
	return onnx.Port{}, fmt.Errorf("the network has no output %q: there are %s", name, List(outputs))
}

// List names outputs and their shapes, for messages.
func List(outputs []onnx.Port) string {
	var all []string
	for _, p := range outputs {
		all = append(all, fmt.Sprintf("%s (%s)", p.Name, p.Dims()))
	}
	return strings.Join(all, ", ")
}
