package arch

import (
	"errors"
	"fmt"
	"strings"

	"github.com/forgepipe/forgepipe/model/checkpoint"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// Version is that of the graphs that Build makes. It is raised when they change.
const Version = 2

// Network is an architecture around the weights of a checkpoint.
type Network struct {
	// Architecture is its name, such as "RRDBNet".
	Architecture string
	// Details are what its sizes are, such as "4x, 23 blocks of 64 features".
	Details string
	// Preset is how pictures are prepared for it, a name of package model's presets;
	// empty: they go in as they are, red, green and blue in 0..1.
	Preset string
	// Graph is the network. It reads the checkpoint's tensors when it is written, so the
	// files stay open until then.
	Graph *onnx.Graph
}

// An architecture is recognised from the names of its weights, and built around them.
type architecture struct {
	name string
	// marks are keys that all checkpoints of it have, and few others; of several namings,
	// one is enough.
	marks [][]string
	// ignore are the beginnings of keys that are in its checkpoints and of no use here,
	// such as CLIP's text half.
	ignore []string
	// apart is a mark of a part of its weights that often comes in a file of its own, and
	// missing says what is to be done about the others.
	apart, missing string
	// parts are those that it can be built in.
	parts []Part
	build func(n *net)
}

// The architectures, those before others whose marks are more.
var architectures = []architecture{
	icNet,
	lpips,
	hyperIQA,
	clip,
	dinoV2,
	sscd,
	compact,
	rrdbNet,
	span,
	realPLKSR,
	resNet,
}

// ErrUnknown is wrapped by the errors of checkpoints that are of no architecture that is
// known.
var ErrUnknown = errors.New("the architecture is not known")

// Options say how a network is built.
type Options struct {
	// Type is that of its elements, onnx.Float32 or onnx.Float16; 0 is onnx.Float32.
	Type onnx.ElementType
	// GELU is the activation of a CLIP network whose file does not tell it.
	GELU GELU
	// Part is what of the network is built; "" is all of it.
	Part Part
}

// Part is a part of a network, which is a graph of its own: what the one gives, the other
// takes. ICNet has parts, and no other architecture.
type Part string

// The parts. The body takes pictures. The head takes a piece of the body's features, such
// as those of a tile, and so tells what the whole network would otherwise be run for.
const (
	Body Part = "body"
	Head Part = "head"
)

// GELU is a way to compute that activation (Hendrycks and Gimpel 2016).
type GELU string

// The ways. LAION trained its CLIP networks with the exact one, OpenAI with the quick
// one, x sigmoid(1.702 x). Files in OpenAI's own form and in open_clip's tell whose they
// are; those in Hugging Face's do not.
const (
	ExactGELU GELU = "exact"
	QuickGELU GELU = "quick"
)

// Build recognises the network whose weights the files have, which together are one
// checkpoint, and builds it. An
// error of one that is not known wraps ErrUnknown, and says which is the nearest and
// what of it does not fit.
func Build(o Options, files ...*checkpoint.File) (*Network, error) {
	var nearest *net
	for _, a := range architectures {
		n, err := newNet(a, o, files)
		if err != nil {
			return nil, err
		}
		if !n.w.marked(a.marks) {
			n.w.misfit = fmt.Sprintf("there is no %q", n.w.missing(a.marks))
		} else {
			n.build()
		}
		if n.w.refused != nil {
			return nil, fmt.Errorf("building %s: %w", a.name, n.w.refused)
		}
		if n.w.misfit == "" {
			if err := n.Err(); err != nil {
				return nil, fmt.Errorf("building %s: %w", a.name, err)
			}
			return n.network(), nil
		}
		if nearest == nil || len(n.w.used) > len(nearest.w.used) {
			nearest = n
		}
	}
	for _, a := range architectures {
		if a.apart != "" && nearest.w.has(a.apart) && len(nearest.w.used) == 0 {
			return nil, fmt.Errorf("%w: %s", ErrUnknown, a.missing)
		}
	}
	about := "none has weights of these names"
	if used := len(nearest.w.used); used > 0 {
		about = fmt.Sprintf("the nearest is %s, of which %d of the %d tensors fit, but %s", nearest.arch.name, used, len(nearest.w.tensors), nearest.w.misfit)
	} else if first := nearest.w.order; len(first) > 0 {
		about += fmt.Sprintf(" (the first is %q)", first[0])
	}
	return nil, fmt.Errorf("%w: %s; known are %s. Export the network as ONNX (torch.onnx.export) and use that file", ErrUnknown, about, strings.Join(Names(), ", "))
}

// Names are those of the architectures that Build knows.
func Names() []string {
	names := make([]string, len(architectures))
	for i, a := range architectures {
		names[i] = a.name
	}
	return names
}
