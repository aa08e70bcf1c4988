package onnx

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Header is what a model's file tells about itself.
type Header struct {
	IRVersion       int64          // of the file's format
	Opsets          []OpsetVersion // versions of the operators that it uses
	Producer        string         // the program that wrote the file
	ProducerVersion string         // that program's version
	Domain          string         // the namespace that its producer gives it
	ModelVersion    int64          // that its producer gives it
	Graph           string         // the graph's name
	Inputs          []Port         // without those that the file has weights for
	Outputs         []Port         // in the file's order
	// Ops counts the nodes by operator, also those within other nodes and in
	// functions. Operators that are not ONNX's own have their domain before the
	// name: "com.microsoft.FusedConv".
	Ops map[string]int
	// Parameters are the elements of all tensors in the file, and WeightBytes what
	// they take, wherever they lie.
	Parameters, WeightBytes int64
	// External are the files beside the model's that hold weights, in the order of
	// the graph.
	External []External
	Metadata map[string]string // what else the file says, by key
}

// OpsetVersion is the version of a domain's operators; ONNX's own domain is "".
type OpsetVersion struct {
	Domain  string // "" or such as "com.microsoft"
	Version int64  // from 1
}

// Port is an input or output of a network.
type Port struct {
	Name  string      // that runs are given tensors by
	Type  ElementType // Undefined for what is no tensor
	Shape []int64     // -1 is dynamic; nil: not even the number of dimensions is told
	Axes  []string    // as long as Shape: the names of dynamic dimensions, or ""
}

// External is a file that holds weights.
type External struct {
	Name  string // in the model's own directory
	Bytes int64  // that it must have at least
}

// ReadHeader reads the header of a model's file. Weights are skipped. A file that
// is no ONNX model, is damaged, or keeps weights in a file outside of its own
// directory gives an error; whether those files are there is not looked at.
func ReadHeader(path string) (*Header, error) {
	// A pipe must not be opened: that waits for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading an ONNX model: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading the ONNX model %s: it is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading an ONNX model: %w", err)
	}
	defer f.Close()
	h, err := Inspect(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("reading the ONNX model %s: %w", path, err)
	}
	return h, nil
}

// Inspect reads the header of a model of size bytes, as ReadHeader does.
func Inspect(r io.ReaderAt, size int64) (*Header, error) {
	if size > maxFile {
		return nil, fmt.Errorf("it has %d bytes, and ONNX models have at most %d: "+
			"it is something else, or its weights belong into a file of their own (external data)", size, maxFile)
	}
	h := &headerReader{
		walker: walker{r: r, size: size},
		h:      &Header{Ops: map[string]int{}, Metadata: map[string]string{}},
		files:  map[string]int{},
	}
	if err := h.model(); err != nil {
		return nil, fmt.Errorf("no ONNX model, or a damaged one: %w", err)
	}
	return h.h, nil
}

// headerReader fills a header.
type headerReader struct {
	walker
	h      *Header
	graphs int
	files  map[string]int // places in External
}

func (h *headerReader) model() error {
	if h.size == 0 {
		return errors.New("the file is empty")
	}
	whole := field{typ: protowire.BytesType, end: h.size}
	err := h.message(whole, func(f field) (err error) {
		switch f.num {
		case modelIRVersion:
			h.h.IRVersion, err = h.number(f)
		case modelProducer:
			h.h.Producer, err = h.keep(f)
		case modelProducerVersion:
			h.h.ProducerVersion, err = h.keep(f)
		case modelDomain:
			h.h.Domain, err = h.keep(f)
		case modelVersion:
			h.h.ModelVersion, err = h.number(f)
		case modelOpset:
			err = h.opset(f)
		case modelMetadata:
			err = h.metadata(f)
		case modelGraph:
			if h.graphs++; h.graphs > 1 {
				return errors.New("it has two graphs")
			}
			err = h.graph(f, 0)
		case modelTraining:
			err = h.message(f, func(f field) error {
				if f.num == trainInit || f.num == trainGraph {
					return h.graph(f, 1)
				}
				return nil
			})
		case modelFunction:
			err = h.message(f, func(f field) error {
				switch f.num {
				case functionOps:
					return h.node(f, 1)
				case functionDef:
					return h.attribute(f, 1)
				}
				return nil
			})
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case h.graphs == 0:
		return errors.New("it has no graph")
	case h.h.IRVersion < 1:
		return errors.New("it does not tell the version of its format (ir_version)")
	}
	return nil
}

func (h *headerReader) opset(f field) error {
	var o OpsetVersion
	err := h.message(f, func(f field) (err error) {
		switch f.num {
		case opsetDomain:
			o.Domain, err = h.keep(f)
		case opsetVersion:
			o.Version, err = h.number(f)
		}
		return err
	})
	if o.Domain == "ai.onnx" {
		o.Domain = "" // two names of one domain
	}
	if h.text += 64; h.text > maxText {
		return errText
	}
	h.h.Opsets = append(h.h.Opsets, o)
	return err
}

func (h *headerReader) metadata(f field) error {
	var key, value string
	err := h.message(f, func(f field) (err error) {
		switch f.num {
		case entryKey:
			key, err = h.keep(f)
		case entryValue:
			value, err = h.keep(f)
		}
		return err
	})
	h.h.Metadata[key] = value
	return err
}

// graph reads the model's graph at depth 0, and those within nodes below.
func (h *headerReader) graph(f field, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("graphs are nested more than %d deep", maxDepth)
	}
	err := h.message(f, func(f field) (err error) {
		switch f.num {
		case graphNode:
			return h.node(f, depth)
		case graphInitializer:
			return h.tensor(f)
		case graphSparse:
			return h.sparse(f)
		}
		if depth > 0 {
			return nil // the ports of an inner graph are no one's concern
		}
		switch f.num {
		case graphName:
			h.h.Graph, err = h.keep(f)
		case graphInput:
			err = h.port(f, &h.h.Inputs)
		case graphOutput:
			err = h.port(f, &h.h.Outputs)
		}
		return err
	})
	if err != nil || depth > 0 || len(h.h.Inputs) == 0 {
		return err
	}
	return h.dropWeights(f)
}

// dropWeights takes from the inputs of a graph those that it has weights for,
// which may come before or after them in the file.
func (h *headerReader) dropWeights(f field) error {
	have := map[string]bool{}
	for _, p := range h.h.Inputs {
		have[p.Name] = false
	}
	named := func(f field) error {
		return h.message(f, func(f field) error {
			if f.num != tensorName {
				return nil
			}
			name, err := h.short(f)
			if _, ok := have[string(name)]; ok {
				have[string(name)] = true
			}
			return err
		})
	}
	err := h.message(f, func(f field) error {
		switch f.num {
		case graphInitializer:
			return named(f)
		case graphSparse:
			return h.message(f, func(f field) error {
				if f.num == sparseValues {
					return named(f)
				}
				return nil
			})
		}
		return nil
	})
	h.h.Inputs = slices.DeleteFunc(h.h.Inputs, func(p Port) bool { return have[p.Name] })
	return err
}

func (h *headerReader) node(f field, depth int) error {
	var op, domain string
	err := h.message(f, func(f field) error {
		switch f.num {
		case nodeOp, nodeDomain:
			b, err := h.short(f)
			if f.num == nodeOp {
				op = string(b)
			} else {
				domain = string(b)
			}
			return err
		case nodeAttribute:
			return h.attribute(f, depth)
		}
		return nil
	})
	if domain != "" && domain != "ai.onnx" {
		op = domain + "." + op
	}
	if _, ok := h.h.Ops[op]; !ok {
		if h.text += len(op) + 64; h.text > maxText {
			return errText
		}
	}
	h.h.Ops[op]++
	return err
}

// attribute looks for tensors and graphs in an attribute: they count too, and can
// name files.
func (h *headerReader) attribute(f field, depth int) error {
	return h.message(f, func(f field) error {
		switch f.num {
		case attrTensor, attrTensors:
			return h.tensor(f)
		case attrSparse, attrSparses:
			return h.sparse(f)
		case attrGraph, attrGraphs:
			return h.graph(f, depth+1)
		}
		return nil
	})
}

func (h *headerReader) sparse(f field) error {
	return h.message(f, func(f field) error {
		if f.num == sparseValues || f.num == sparseIndices {
			return h.tensor(f)
		}
		return nil
	})
}

func (h *headerReader) port(f field, to *[]Port) error {
	var p Port
	err := h.message(f, func(f field) (err error) {
		switch f.num {
		case infoName:
			p.Name, err = h.keep(f)
		case infoType:
			err = h.message(f, func(f field) error {
				if f.num != typeTensor {
					return nil
				}
				return h.tensorType(f, &p)
			})
		}
		return err
	})
	if h.text += 128; h.text > maxText {
		return errText
	}
	*to = append(*to, p)
	return err
}

func (h *headerReader) tensorType(f field, p *Port) error {
	return h.message(f, func(f field) error {
		switch f.num {
		case plainType:
			t, err := h.number(f)
			p.Type = ElementType(t)
			return err
		case plainShape:
			p.Shape, p.Axes = []int64{}, []string{}
			return h.message(f, func(f field) error {
				if f.num != shapeDim {
					return nil
				}
				return h.dim(f, p)
			})
		}
		return nil
	})
}

func (h *headerReader) dim(f field, p *Port) error {
	size, name := int64(-1), ""
	err := h.message(f, func(f field) (err error) {
		switch f.num {
		case dimValue:
			size, err = h.number(f)
			name = ""
		case dimParam:
			name, err = h.keep(f)
			size = -1
		}
		return err
	})
	// Some exporters write 0 or -1 for what is dynamic.
	if size < 1 {
		size = -1
	}
	if h.text += 64; h.text > maxText {
		return errText
	}
	p.Shape, p.Axes = append(p.Shape, size), append(p.Axes, name)
	return err
}

// tensor reads a tensor but for its data, and checks that they are as many as its
// dimensions say.
func (h *headerReader) tensor(f field) error {
	var (
		t        ElementType
		name     string
		elements = int64(1)
		floats   int64 // bytes of numbers of fixed size
		varints  int64 // bytes of other numbers
		strings  int64
		rawLen   = int64(-1)
		location int64
		external struct{ name, offset, length string }
	)
	err := h.message(f, func(f field) (err error) {
		switch f.num {
		case tensorName:
			var b []byte
			b, err = h.short(f)
			name = string(b)
		case tensorType:
			var v int64
			v, err = h.number(f)
			t = ElementType(v)
		case tensorDims:
			err = h.numbers(f, func(d int64) error {
				switch {
				case d < 0:
					return fmt.Errorf("weights have a dimension of %d", d)
				case d > 0 && elements > math.MaxInt64/16/d:
					return errors.New("weights have more elements than can be counted")
				}
				elements *= d
				return nil
			})
		case tensorRaw:
			if f.typ != protowire.BytesType {
				return errors.New("weights have data of a wrong kind")
			}
			rawLen = f.end - f.start
		case tensorFloats, tensorDoubles:
			switch f.typ {
			case protowire.BytesType:
				floats += f.end - f.start
			case protowire.Fixed32Type:
				floats += 4
			case protowire.Fixed64Type:
				floats += 8
			}
		case tensorInt32s, tensorInt64s, tensorUint64s:
			if f.typ == protowire.BytesType {
				varints += f.end - f.start
			} else {
				varints++
			}
		case tensorStrings:
			strings++
		case tensorLocation:
			location, err = h.number(f)
		case tensorExternal:
			var key, value string
			err = h.message(f, func(f field) error {
				if f.num != entryKey && f.num != entryValue {
					return nil
				}
				b, err := h.short(f)
				if f.num == entryKey {
					key = string(b)
				} else {
					value = string(b)
				}
				return err
			})
			switch key {
			case "location":
				external.name = value
				// Every one is checked, whichever of several a reader would take.
				if err == nil {
					err = checkLocation(value)
				}
			case "offset":
				external.offset = value
			case "length":
				external.length = value
			}
		}
		return err
	})
	if err != nil {
		return named(name, err)
	}
	size := (elements*int64(t.Bits()) + 7) / 8 // of up to 128 bits: checked below
	if t.Bits() > 0 && elements > (math.MaxInt64-7)/int64(t.Bits()) {
		return named(name, errors.New("they have more bytes than can be counted"))
	}
	switch {
	case location == 1:
		err = h.external(external.name, external.offset, external.length, size)
	case rawLen >= 0:
		if t.Bits() > 0 && rawLen != size {
			err = fmt.Errorf("they have %d bytes, and their dimensions need %d", rawLen, size)
		}
		size = rawLen
	case floats > 0:
		// A complex number is two of them, and each type has its own field.
		if floats != size {
			err = fmt.Errorf("they have %d bytes, and their dimensions need %d", floats, size)
		}
	case strings > 0:
		if strings != elements {
			err = fmt.Errorf("they have %d strings, and their dimensions need %d", strings, elements)
		}
	case t.Bits() >= 8 && varints < elements, t.Bits() < 8 && varints < size:
		// A number has at least one byte; how many there are is not counted.
		err = fmt.Errorf("they have %d bytes of numbers, which are too few for %d elements", varints, elements)
	}
	if err == nil && (h.h.Parameters > math.MaxInt64-elements || h.h.WeightBytes > math.MaxInt64-size) {
		err = errors.New("they have more elements than can be counted")
	}
	if err != nil {
		return named(name, err)
	}
	h.h.Parameters += elements
	h.h.WeightBytes += size
	return nil
}

// named says which weights an error is about.
func named(name string, err error) error {
	if name == "" {
		return err
	}
	return fmt.Errorf("weights %.200q: %w", name, err)
}

// checkLocation refuses a file of weights that is not in the model's directory: a
// model must not have other files read.
func checkLocation(name string) error {
	clean := strings.TrimPrefix(name, "./")
	if clean == "" || clean == "." || clean == ".." || strings.ContainsAny(clean, "/\\\x00") || filepath.IsAbs(name) {
		return fmt.Errorf("the file of weights %.200q is not in the model's own directory; "+
			"put it there, and save the model with its bare name", name)
	}
	return nil
}

// external counts weights in a file of their own.
func (h *headerReader) external(name, offset, length string, size int64) error {
	if name == "" {
		return errors.New("the file that holds them is not told")
	}
	var from int64
	if offset != "" {
		var err error
		if from, err = parse("offset", offset); err != nil {
			return err
		}
	}
	if length != "" {
		n, err := parse("length", length)
		if err != nil {
			return err
		}
		if n != size {
			return fmt.Errorf("they have %d bytes in %q, and their dimensions need %d", n, name, size)
		}
	}
	if from > math.MaxInt64-size {
		return fmt.Errorf("the offset %d in %q is not possible", from, name)
	}
	name = strings.TrimPrefix(name, "./")
	if i, ok := h.files[name]; ok {
		h.h.External[i].Bytes = max(h.h.External[i].Bytes, from+size)
		return nil
	}
	if h.text += len(name) + 128; h.text > maxText {
		return errText
	}
	h.files[name] = len(h.h.External)
	h.h.External = append(h.h.External, External{name, from + size})
	return nil
}

// parse reads a number that external data give as text.
func parse(what, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("the %s %.40q of their data is no number", what, s)
	}
	return n, nil
}
