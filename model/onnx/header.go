package onnx

import (
	"errors"
	"fmt"
	"io"
	"os"
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

// Dims is the shape for messages: "batch x 3 x ? x 224", or "of any shape".
func (p Port) Dims() string {
	if p.Shape == nil {
		return "of any shape"
	}
	axes := make([]string, len(p.Shape))
	for i, n := range p.Shape {
		switch {
		case n >= 0:
			axes[i] = strconv.FormatInt(n, 10)
		case i < len(p.Axes) && p.Axes[i] != "":
			axes[i] = p.Axes[i]
		default:
			axes[i] = "?"
		}
	}
	return strings.Join(axes, " x ")
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
