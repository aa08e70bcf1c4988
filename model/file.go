package model

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"image"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forgepipe/forgepipe/model/arch"
	"github.com/forgepipe/forgepipe/model/onnx"
)

// File is a network's file that has been looked at, not loaded: what the plan and
// the check of a pipeline need.
type File struct {
	Path string // as it was given
	// Hash is a SHA-256 in hexadecimal, of those of the file and of the ones that hold its
	// weights; of a checkpoint also of how a network is made of it.
	Hash   string
	Header *onnx.Header // what the file says of the network
	Input  onnx.Port    // that takes pictures, of four axes
	// Outputs are those that were asked for, in that order: runs give one tensor for
	// each.
	Outputs []onnx.Port
	// Spec is how pictures are brought to Input: what FileOptions say, completed
	// from the graph.
	Spec Spec
	// Batch is how many pictures a run must have, where the graph fixes that; else 0.
	Batch int

	network string // the ONNX file: Path, or what was made of a checkpoint
	seen    []seen
	as      onnx.ElementType // that it is rewritten to when it is loaded; Undefined: it stays as it is
}

// seen is how a file was when it was hashed.
type seen struct {
	name  string
	size  int64
	mtime time.Time
}

// unchanged refuses files that are others than those that were hashed: results
// would be known by the wrong hash.
func (f *File) unchanged() error {
	for _, s := range f.seen {
		info, err := os.Stat(s.name)
		if err != nil {
			return err
		}
		if info.Size() != s.size || !info.ModTime().Equal(s.mtime) {
			return fmt.Errorf("%s has changed since the pipeline was planned: run again", s.name)
		}
	}
	return nil
}

// FileOptions say what a graph does not tell. The zero value is for a network of
// which nothing is known.
type FileOptions struct {
	// Spec is how pictures are prepared. Layout, channels, element type and size are
	// the graph's where they are not set; where both say something they must agree.
	Spec Spec
	// Outputs name the outputs that are wanted, in the order in which they are. It may
	// be left out where there is a DefaultOutput.
	Outputs []string
	// Beside are more files of a checkpoint whose weights come in several, such as the
	// backbone that LPIPS' layers belong to.
	Beside []string
	// Preset is a name of Presets, where it is known which of them is for the network. It
	// is the Spec when that is zero, and tells of a checkpoint what its weights do not:
	// "clip" and "clip-openai" are of networks with other activations.
	Preset string
	// Part is what of a checkpoint's network is opened, which is a network of its own with
	// its own Hash; "" is all of it. The error of a file that is an ONNX file wraps
	// ErrNoParts.
	Part arch.Part
}

// Kind is a SHA-256 in hexadecimal, of the network's Hash, of the name of one of Outputs and
// of how pictures are prepared. What two files give can be compared where it is the same:
// numbers of another network, another output or other pixels have nothing to do with each
// other.
func (f *File) Kind(output int) string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%d %s %q %+v", kindVersion, f.Hash, f.Outputs[output].Name, f.Spec)))
}

// kindVersion is for changes of what Fill makes of a picture: numbers of before and after
// are not compared.
const kindVersion = 1

// ErrNoParts is what an error is where a Part was asked for of an ONNX file.
var ErrNoParts = errors.New("only a checkpoint can be opened in parts")

// Open looks at a model: an ONNX file, or a checkpoint (safetensors, or what torch.save
// writes) of an architecture that package arch knows, whose network is built once and
// kept in the user's cache folder. It reads the whole file, for its hash, and keeps none
// of the weights. An error says what about it does not fit and what to set.
func Open(path string, o FileOptions) (*File, error) {
	f := &File{Path: path, network: path}
	if err := f.read(o); err != nil {
		return nil, err
	}
	o.Spec = f.prepared(o)
	if err := f.choose(o); err != nil {
		return nil, fmt.Errorf("using the model %s: %w", path, err)
	}
	if f.Hash == "" {
		if err := f.hash(); err != nil {
			return nil, fmt.Errorf("reading the model %s: %w", path, err)
		}
	}
	return f, nil
}

// read reads the header. That of a checkpoint is its network's, which is known by the
// checkpoint's hash.
func (f *File) read(o FileOptions) error {
	weights, err := isCheckpoint(f.Path)
	if err != nil {
		return fmt.Errorf("reading the model %s: %w", f.Path, err)
	}
	if weights {
		return f.fromCheckpoint(o)
	}
	if f.Header, err = onnx.ReadHeader(f.Path); err == nil && o.Part != "" {
		return fmt.Errorf("opening the %s of the model %s: %w, and this is an ONNX file", o.Part, f.Path, ErrNoParts)
	}
	return err
}

// choose finds the input and the outputs, and completes the spec.
func (f *File) choose(o FileOptions) (err error) {
	if f.Input, err = imageInput(f.Header.Inputs); err != nil {
		return err
	}
	if f.Outputs, err = outputs(f.Header, o.Outputs); err != nil {
		return err
	}
	n := f.Input.Shape[0]
	if n > 0 {
		f.Batch = int(n)
	}
	for _, p := range f.Outputs {
		if out := p.Shape; out != nil && (len(out) == 0 || out[0] >= 0 && out[0] != n) {
			return fmt.Errorf("its output %s (%s) has no value for each picture of its input (%s): the first axis of both must be the pictures", p.Name, p.Dims(), f.Input.Dims())
		}
	}
	f.Spec, err = complete(o.Spec, f.Input)
	return err
}

// imageInput is the one that takes pictures. All of a network's inputs must be
// given, so there can be no other.
func imageInput(inputs []onnx.Port) (onnx.Port, error) {
	i := slices.IndexFunc(inputs, func(p onnx.Port) bool { return len(p.Shape) == 4 })
	switch {
	case i < 0:
		return onnx.Port{}, fmt.Errorf("it has no input for pictures: one of four axes (pictures, channels, rows, columns) is wanted, and its inputs are %s", ports(inputs))
	case len(inputs) > 1:
		return onnx.Port{}, fmt.Errorf("it wants more than a picture, which cannot be given: its inputs are %s", ports(inputs))
	}
	p := inputs[i]
	if p.Type != onnx.Float32 && p.Type != onnx.Float16 {
		return onnx.Port{}, fmt.Errorf("its input %s takes elements of type %s, and only float32 and float16 are supported", p.Name, p.Type)
	}
	if p.Shape[0] == 0 {
		return onnx.Port{}, fmt.Errorf("its input %s takes no pictures: %s", p.Name, p.Dims())
	}
	return p, nil
}

// DefaultOutput is the name of the output that is meant where none is named: the only one,
// or the one of several that the file tells of (see arch.OutputKey); "" where there is
// none.
func DefaultOutput(h *onnx.Header) string {
	if len(h.Outputs) == 1 {
		return h.Outputs[0].Name
	}
	name := h.Metadata[arch.OutputKey]
	if !slices.ContainsFunc(h.Outputs, func(p onnx.Port) bool { return p.Name == name }) {
		return ""
	}
	return name
}

// outputs are those of these names, in their order, or the DefaultOutput.
func outputs(h *onnx.Header, names []string) ([]onnx.Port, error) {
	have, usual := h.Outputs, DefaultOutput(h)
	switch {
	case len(have) == 0:
		return nil, errors.New("it has no output")
	case len(names) == 0 && usual == "":
		return nil, fmt.Errorf("it has several outputs, so name those that are wanted (output): %s", ports(have))
	case len(names) == 0:
		names = []string{usual}
	}
	var chosen []onnx.Port
	for i, name := range names {
		at := slices.IndexFunc(have, func(p onnx.Port) bool { return p.Name == name })
		switch {
		case at < 0:
			return nil, fmt.Errorf("it has no output %q: its outputs are %s", name, ports(have))
		case slices.Contains(names[:i], name):
			return nil, fmt.Errorf("its output %s is asked for twice: name each once", name)
		}
		if p := have[at]; p.Type != onnx.Float32 && p.Type != onnx.Float16 {
			return nil, fmt.Errorf("its output %s has elements of type %s, and only float32 and float16 are supported", p.Name, p.Type)
		}
		chosen = append(chosen, have[at])
	}
	return chosen, nil
}

// OutputNames are the names of Outputs.
func (f *File) OutputNames() []string {
	names := make([]string, len(f.Outputs))
	for i, p := range f.Outputs {
		names[i] = p.Name
	}
	return names
}

// complete takes from the input what the spec does not say, and refuses what does
// not go with it.
func complete(s Spec, p onnx.Port) (Spec, error) {
	depth := func(n int64) bool { return n == 3 || n == 1 }
	if s.Layout == "" {
		s.Layout = NCHW
		if !depth(p.Shape[1]) && depth(p.Shape[3]) {
			s.Layout = NHWC
		}
	}
	channels, height, width := p.Shape[1], p.Shape[2], p.Shape[3]
	if s.Layout == NHWC {
		height, width, channels = p.Shape[1], p.Shape[2], p.Shape[3]
	}
	if s.Channels == "" && channels == 1 {
		s.Channels = Gray
	}
	element := Float32
	if p.Type == onnx.Float16 {
		element = Float16
	}
	if s.Element != "" && s.Element != element {
		return s, fmt.Errorf("its input %s takes %s, not %s", p.Name, element, s.Element)
	}
	s.Element = element
	if s.Width == 0 && s.Height == 0 && width > 0 && height > 0 && (s.Resize == "" || s.Resize == Squash) && s.Shorter == 0 {
		s.Resize, s.Width, s.Height = Squash, int(width), int(height)
	}
	if err := s.Validate(); err != nil {
		return s, err
	}
	if channels > 0 && int64(s.Depth()) != channels {
		return s, fmt.Errorf("its input %s takes %d channels (%s), and pictures are given with %d: set layout or channels, or export the network for RGB pictures", p.Name, channels, p.Dims(), s.Depth())
	}
	// Two pictures of other shapes tell whether the size is always the same.
	for _, src := range []image.Point{{X: 1000, Y: 700}, {X: 300, Y: 900}} {
		if got := s.OutputSize(src); width > 0 && int64(got.X) != width || height > 0 && int64(got.Y) != height {
			return s, fmt.Errorf("its input %s takes pictures of one size (%s), and %d x %d would come as %d x %d: set width and height, or leave both to the model", p.Name, p.Dims(), src.X, src.Y, got.X, got.Y)
		}
	}
	return s, nil
}

// ports lists inputs or outputs for messages.
func ports(list []onnx.Port) string {
	if len(list) == 0 {
		return "none"
	}
	var all []string
	for _, p := range list {
		all = append(all, fmt.Sprintf("%s (%s %s)", p.Name, p.Type, p.Dims()))
	}
	return strings.Join(all, ", ")
}

// hash reads all bytes that make the network.
func (f *File) hash() error {
	h := sha256.New()
	if err := f.add(h, f.Path); err != nil {
		return err
	}
	for _, e := range f.Header.External {
		name := filepath.Join(filepath.Dir(f.Path), e.Name)
		// The name is in the model's folder; a link could lead anywhere from there.
		info, err := os.Lstat(name)
		if err != nil {
			return fmt.Errorf("looking for its weights: %w", err)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("its weights %s are no regular file", name)
		}
		if info.Size() < e.Bytes {
			return fmt.Errorf("its weights %s have %d bytes, and it needs %d: the file is cut short", name, info.Size(), e.Bytes)
		}
		if err := f.add(h, name); err != nil {
			return err
		}
	}
	f.Hash = hex.EncodeToString(h.Sum(nil))
	return nil
}

// add adds a file to the hash, and remembers how it was.
func (f *File) add(h hash.Hash, name string) error {
	r, err := os.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return err
	}
	this := seen{name, info.Size(), info.ModTime()}
	f.seen = append(f.seen, this)
	sum, known := sums.Load(this)
	if !known {
		content := sha256.New()
		n, err := io.Copy(content, r)
		if err != nil {
			return err
		}
		if n != this.size {
			return fmt.Errorf("%s changes while it is read: run again when it is whole", name)
		}
		sum = string(content.Sum(nil))
		sums.Store(this, sum)
	}
	_, err = io.WriteString(h, sum.(string))
	return err
}

// sums are those of files that this process has read, so that a network that several
// stages name is read once.
var sums sync.Map // of string by seen
