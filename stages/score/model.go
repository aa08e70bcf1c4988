package score

import (
	"cmp"
	"context"
	"image"
	"regexp"
	"slices"

	"github.com/forgepipe/forgepipe/model"
	"github.com/forgepipe/forgepipe/model/onnx"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/icnet"
	"github.com/forgepipe/forgepipe/stages/internal/readout"
	"github.com/forgepipe/forgepipe/stages/network"
)

// hyperiqa is the preset of HyperIQA (Su et al. 2020), whose score is that of 25 crops.
const hyperiqa = "hyperiqa"

// scoreOutput is the output that is the score where a network has several.
const scoreOutput = "score"

const (
	whole = "whole"
	crops = "crops"
	tiles = "tiles"
)

// modelLong describes what a network measures.
const modelLong = `model names a network, an ONNX file that takes pictures and gives a score: IC9600 (complexity), HyperIQA (quality), an aesthetics predictor, or one of your own. What it says becomes one attribute, called name. For several numbers of one network, and for vectors, there is infer.

output says which number is the score; without it that is the output "score", or the only output, which must have one number:

` + readout.Doc + `

regions says what of a picture the network gets:

- whole: all of it, prepared as the fields from preset to std say; see embed. Size, channels, layout and element type are read from the file, and red, green and blue in 0..1, squashed to the size that the network wants, are what a network of which nothing is known gets.
- crops: grid x grid pieces of the size that the network wants, spread evenly from edge to edge, so that they overlap in small pictures and leave gaps in large ones. Column i of n begins at floor(i (width - size) / (n - 1)), and rows likewise.
- tiles: all pieces of that size that stand side by side, from the upper left corner. What is left at the right and at the bottom, less than a tile, is not looked at.

The size is that of the network's input, or width and height. Pieces are taken as they are; a picture that is smaller is first made larger with filter, just so that a piece fits. combine makes one score of those of all pieces. The pieces of several pictures share batches.

preset: hyperiqa takes crops as its published implementation does (pyiqa 0.1): 5 x 5 of 224 px, whose columns begin at i floor((width - 224) / 5), of a picture whose sides are made at least 225 px, bilinear. It rounds what it made larger to 8 bits, which pyiqa does not.

mode: native gives IC9600 the picture in its own size, with a mirrored margin of 32 px, sides that are made multiples of 64, and no mean or std: as tools do that look at tiles. Its numbers are not those of mode: paper. A picture of more than 4 million pixels is scaled down to so many, since a pixel takes about 300 bytes.

` + network.Devices

var modelExamples = []pipeline.Example{
	{Doc: "The same of a file of your own.", YAML: "score: {model: ./ic9600.pth, preset: ic9600, name: complexity}"},
	{Doc: "The quality that HyperIQA gives to an image, in 0..1: the mean of 25 crops.", YAML: "score: {model: ./hyperiqa.onnx, preset: hyperiqa}"},
	{Doc: "The worst of all tiles of an image, by the second number of an output.", YAML: "score:\n  model: ./artefacts.onnx\n  output: logits[1]\n  regions: tiles\n  width: 256\n  height: 256\n  combine: max"},
}

// modelFields are those of a network.
func modelFields() []pipeline.Field {
	file := network.ModelField("./ic9600.onnx")
	file.Required = false
	return slices.Concat(
		[]pipeline.Field{
			file,
			{Name: "name", Type: pipeline.FieldString, Doc: "What the attribute is called; by default like the file, without its extension and with _ for what is neither letter nor digit."},
			{Name: "output", Type: pipeline.FieldString, Doc: "Which number is the score, where the network has several.", Examples: []string{"quality", "logits[1]", "softmax(logits)[1]"}},
			{Name: "regions", Type: pipeline.FieldEnum, Enum: []string{whole, crops, tiles}, Doc: "What of a picture the network gets; by default the whole, and crops with preset: hyperiqa."},
			{Name: "mode", Type: pipeline.FieldEnum, Enum: []string{paper, native}, Doc: "How IC9600 gets a picture: paper (the default) squashes it to 512 x 512, native leaves it as it is."},
			{Name: "grid", Type: pipeline.FieldInt, Unit: "crops", Min: 1, Max: 64, Doc: "How many crops there are in each direction, with regions: crops; 5 by default."},
			{Name: "combine", Type: pipeline.FieldEnum, Enum: combinations(), Doc: "How the scores of crops or tiles become one; mean by default."},
		},
		network.PreparationFields(),
		network.RunFields(),
	)
}

// noName is what the name of an attribute cannot have.
var noName = regexp.MustCompile(`[^A-Za-z0-9_]`)

// modelName is that of the attribute.
func modelName(c pipeline.Config) string {
	if name := c.String("name"); name != "" {
		return name
	}
	name := noName.ReplaceAllString(network.NameOf(c), "_")
	if readout.IsAttribute(name) {
		return name
	}
	return "_" + name
}

func modelMakes(c pipeline.Config) pipeline.Made {
	m := pipeline.Made{Name: modelName(c), Type: pipeline.TypeFloat, Doc: "what the network gives the image"}
	if n, err := number(c); err == nil {
		m.Type = n.Type()
	}
	return m
}

// number is the one that output names.
func number(c pipeline.Config) (readout.Number, error) {
	if c.String("output") == "" {
		return readout.Only(), nil
	}
	return readout.Parse(c.String("output"))
}

// regionsOf is what of a picture the network gets.
func regionsOf(c pipeline.Config, preset string) string {
	if preset == hyperiqa {
		return cmp.Or(c.String("regions"), crops)
	}
	return cmp.Or(c.String("regions"), whole)
}

// newModel makes the stage of a network.
func newModel(c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
	name := modelName(c)
	_, builtin := pipeline.Builtins()[name]
	switch {
	case c.IsSet("metrics"):
		return nil, c.Errorf("model", 0, "metrics and model are two ways to score: give each an entry of its own")
	case !readout.IsAttribute(name):
		return nil, c.Errorf("name", 0, "an attribute cannot be called %q: use letters, digits and _", name)
	case builtin:
		return nil, c.Errorf("name", 0, "every item has the attribute %s: give this one another name", name)
	}
	m, err := network.Find(c)
	if err != nil {
		return nil, err
	}
	if err := checkMode(c, m); err != nil {
		return nil, err
	}
	n, err := number(c)
	if err != nil {
		return nil, c.Errorf("output", 0, "%w", err)
	}
	if c.String("output") == "" {
		n.Output = model.DefaultOutput(m.Header)
		if slices.ContainsFunc(m.Header.Outputs, func(p onnx.Port) bool { return p.Name == scoreOutput }) {
			n.Output = scoreOutput // IC9600 has a map, too
		}
	}
	port, err := readout.Find(m.Header.Outputs, n.Output)
	if err == nil {
		n.Output = port.Name
		err = n.Check(port)
	}
	if err != nil {
		return nil, c.Errorf("output", 0, "%w", err)
	}
	r, err := newRegions(c, m)
	if err != nil {
		return nil, err
	}
	if c.String("mode") == native {
		m.Spec = icnet.Spec
	}
	f, err := m.Open(port.Name)
	if err != nil {
		return nil, err
	}
	o := network.Running(c)
	o.Doing = "scoring"
	if c.String("mode") == native {
		s, err := newNative(e, f, o, name, n)
		if err != nil {
			return nil, c.Errorf("library", 0, "%w", err)
		}
		return s, nil
	}
	if r != nil {
		if n.Type() != pipeline.TypeFloat { // places among an output's numbers cannot be combined
			return nil, c.Errorf("output", 0, "each of several pieces has an argmax of its own: set regions: whole, or take a number that can be combined, as softmax(%s)[0]", n.Output)
		}
		if r.size = image.Pt(f.Spec.Width, f.Spec.Height); r.size.X == 0 {
			return nil, c.Errorf("regions", 0, "the network takes pictures of any size: say with width and height how large the pieces are")
		}
		s, err := newPieces(e, f, o, *r, name, n)
		if err != nil {
			return nil, c.Errorf("library", 0, "%w", err)
		}
		return s, nil
	}
	s, err := network.New(e, f, o, func(it *pipeline.Item, out *model.Tensor) error {
		v, err := n.Of(out)
		if err == nil {
			it.SetAttr(name, v)
		}
		return err
	})
	if err != nil {
		return nil, c.Errorf("library", 0, "%w", err)
	}
	return s, nil
}

// newRegions is what the configuration says of pieces, nil where the network gets whole
// pictures. The network's preparation becomes that of a piece.
func newRegions(c pipeline.Config, m *network.Model) (*regions, error) {
	kind := regionsOf(c, m.Preset)
	if kind == whole {
		for _, f := range []string{"grid", "combine"} {
			if c.IsSet(f) {
				return nil, c.Errorf(f, 0, "it is for crops or tiles: set regions, or leave %s out", f)
			}
		}
		return nil, nil
	}
	for _, f := range []string{"resize", "shorter", "crop", "multiple"} {
		if c.IsSet(f) {
			return nil, c.Errorf(f, 0, "%s are taken as they are: leave %s out", kind, f)
		}
	}
	switch {
	case c.String("decode") == "fast":
		return nil, c.Errorf("decode", 0, "%s are taken from the picture at its full scale: leave decode out", kind)
	case kind == tiles && c.IsSet("grid"):
		return nil, c.Errorf("grid", 0, "as many tiles are taken as there are: leave grid out, or take regions: crops")
	}
	r := &regions{crops: kind == crops, combine: cmp.Or(c.String("combine"), combinations()[0])}
	if r.grid = 5; c.IsSet("grid") {
		r.grid = int(c.Int("grid"))
	}
	spec := &m.Spec
	spec.Resize, spec.Shorter, spec.Crop = "", 0, ""
	if r.crops && m.Preset == hyperiqa {
		r.published = true
		spec.Filter = cmp.Or(spec.Filter, "bilinear")
		if !c.IsSet("width") && !c.IsSet("height") {
			spec.Width, spec.Height = 224, 224
		}
	}
	return r, nil
}

// Pieces scores regions of pictures with a network. What runs it is a network.Stage.
type Pieces struct {
	*network.Stage
	regions
	spec      model.Spec // of a piece
	name      string
	number    readout.Number
	maxPixels int64
}

var _ pipeline.Stage = (*Pieces)(nil)

func newPieces(e pipeline.Env, f *model.File, o network.Options, r regions, name string, n readout.Number) (*Pieces, error) {
	s := &Pieces{regions: r, spec: f.Spec, name: name, number: n, maxPixels: e.Limits.MaxPixels}
	o.Part = r.size
	var err error
	s.Stage, err = network.NewParts(e, f, o, s.begin)
	return s, err
}

// begin cuts a picture into its regions. It is decoded once for all of them.
func (s *Pieces) begin(ctx context.Context, it *pipeline.Item) (network.Job, error) {
	f, err := it.Frame(ctx)
	if err != nil {
		return network.Job{}, err
	}
	img, size, err := s.fitting(ctx, f.Image)
	if err != nil {
		return network.Job{}, err
	}
	var scores []float64
	part := func(at image.Point) network.Part {
		p := network.Part{Take: func(out []*model.Tensor) error {
			v, err := s.number.Of(out[0])
			scores = append(scores, v.Float())
			return err
		}}
		p.Shape = s.spec.Shape(1, s.size)[1:]
		p.Fill = func(ctx context.Context, dst []byte) error {
			return s.spec.FillPart(ctx, dst, img, model.Part{X: float64(at.X), Y: float64(at.Y), Scale: 1, Size: s.size})
		}
		return p
	}
	return network.Job{
		Parts: func(yield func(network.Part) bool) {
			for at := range s.places(size) {
				if !yield(part(at)) {
					return
				}
			}
		},
		Done: func() error {
			it.Done()
			it.SetAttr(s.name, pipeline.Float(s.together(scores)))
			return nil
		},
	}, nil
}

// Cost adds to that of the pieces the pictures that are made larger.
func (s *Pieces) Cost(d pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	c := s.Stage.Cost(d, batch)
	if d == pipeline.Host {
		for _, it := range batch {
			c.Work += s.enlargedBytes(it.Size(), s.spec.Filter)
		}
	}
	return c
}
