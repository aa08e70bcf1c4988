// Package compare shows what was done to pictures. Its stage "compare" draws a sheet or
// an animation of every item that arrives, [Folders] compares two folders and [Files]
// two files. What is drawn, and how, is in package sheet below it.
package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"path/filepath"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/compare/sheet"
	"github.com/forgepipe/forgepipe/stages/internal/outputs"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "compare",
		Short: "Draws sheets or animations that show what was done to images.",
		Long: `Draws a sheet or an animation of every image that arrives, writes it into a folder, and passes the image on as it is. Of a pair, the low-quality image is compared with the high-quality one; of a single image, its source file with what the stages before have made of it, after upscale or resize for example. A tile has no file of its own that it could be compared with, so that a single tile fails: put this stage before tile, or compare pairs.

The smaller picture is enlarged to the size of the larger one, with nearest so that its pixels are seen. Above the pictures stand their names and sizes, and of the two the PSNR in dB, the mean and the largest of the absolute differences, over red, green and blue (and alpha, where one has it) in levels from 0 to 255. They are measured at full size, of region alone where one is given.

What a PNG shows is its layout. With side it is the two pictures beside each other. With split it is one picture, before on the left of a line and after on the right of it. With difference it is a map of the largest difference of the channels at every pixel, from black for none to light yellow; its scale is drawn below it, and ends at the power of two under which 999 of 1000 pixels lie that differ at all. With sheet it is all of these.

gif and webp are animations that show before for a quarter of the time, become after, show that, and become before again, for ever. GIF has 256 colours and is large; webp needs libwebp, and is much smaller. A frame holds only what is not as in the one before. Until a webp is whole, up to a byte of each pixel of each of its frames is in memory: where that is too much, take fewer seconds, a smaller fps or max_side, or more speed.

Pictures with more than max_side pixels along a side are drawn smaller: in the map of differences, each point is then the largest of those that it stands for. Small pictures are magnified, by a whole number, to about 320 pixels. What is transparent is drawn on checks. A picture of 16 bits is measured with all of them, and drawn with 8. The colour profile is kept where both pictures have the same.

Sheets are outputs as those of write are: one that is right is not drawn again, one that is no longer wanted goes to the trash. In a manifest, path is the file of write also where this stage comes after it.`,
		Examples: []pipeline.Example{
			{Doc: "A sheet of each image: before, after, both in one, and where they differ.", YAML: "compare: {path: ./sheets}"},
			{Doc: "The middle of each pair, pixel by pixel.", YAML: `compare: {path: ./sheets, layout: side, region: "256,256,96,96"}`},
			{Doc: "An animation in which a line moves across, in four seconds there and back.", YAML: "compare: {path: ./shown, format: gif, transition: wipe, seconds: 4, max_side: 480}"},
		},
		Fields:  fields(),
		Version: sheet.Version,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

func fields() []pipeline.Field {
	return []pipeline.Field{
		{
			Name: "path", Type: pipeline.FieldPath, Required: true, Cosmetic: true,
			Doc:      "The folder to write into. It is made if it is missing, and must not lie inside the input folder.",
			Examples: []string{"./sheets"},
		},
		{
			Name: "format", Type: pipeline.FieldEnum, Enum: sheet.Formats, Default: string(sheet.PNG),
			Doc: "png is a sheet, gif and webp are animations.",
		},
		{
			Name: "layout", Type: pipeline.FieldEnum, Enum: sheet.Layouts, Default: string(sheet.All),
			Doc: "What a png shows: sheet is all of the others, side the two beside each other, split one with a line between before and after, difference the map of differences.",
		},
		{
			Name: "position", Type: pipeline.FieldFloat, Unit: "of the width", Default: "0.5", Min: sheet.MinPosition, Max: sheet.MaxPosition,
			Doc: "Where the line of split is. For the layouts sheet and split.",
		},
		{
			Name: "labels", Type: pipeline.FieldBool, Default: "true",
			Doc: "Whether names, sizes and measures are written above the pictures. The map of differences always has its scale.",
		},
		{
			Name: "filter", Type: pipeline.FieldEnum, Enum: sheet.Filters, Default: "nearest",
			Doc: "The filter with which the smaller picture is enlarged. " + sheet.FilterDoc,
		},
		{
			Name: "region", Type: pipeline.FieldString,
			Doc:      "The part to show: x, y, width and height in pixels of the larger picture, and the same part of the smaller one. What reaches beyond the border is left out; an image that has none of it fails.",
			Examples: []string{"100,50,64,64"},
		},
		{
			Name: "max_side", Type: pipeline.FieldInt, Unit: "px", Default: "1024", Min: sheet.MinSide, Max: sheet.MaxSide,
			Doc: "How long the longer side of a picture on the sheet is at most. For gif, 480 keeps files small.",
		},
		{
			Name: "transition", Type: pipeline.FieldEnum, Enum: sheet.Transitions, Default: string(sheet.Fade),
			Doc: "How an animation goes from one picture to the other: fade mixes them, wipe moves a line across, cut takes no time. For gif and webp.",
		},
		{
			Name: "seconds", Type: pipeline.FieldFloat, Unit: "s", Default: "2", Min: sheet.MinSeconds, Max: sheet.MaxSeconds,
			Doc: "How long an animation takes, there and back, before it is repeated. For gif and webp.",
		},
		{
			Name: "fps", Type: pipeline.FieldFloat, Unit: "frames a second", Default: "30", Min: sheet.MinFPS, Max: sheet.MaxFPS,
			Doc: "How many frames an animation has in a second. gif counts in hundredths of a second: frames then take turns, so that none is more than one off and the whole is exact. For gif and webp.",
		},
		{
			Name: "speed", Type: pipeline.FieldFloat, Unit: "times", Default: "1", Min: sheet.MinSpeed, Max: sheet.MaxSpeed,
			Doc: "How many times as fast an animation is played: with 2 it takes half of seconds, and has half as many frames. For gif and webp.",
		},
		{
			Name: "name", Type: pipeline.FieldString, Default: pipeline.DefaultTemplate,
			Doc:      "How files are called within the folder, as in write.",
			Examples: []string{pipeline.DefaultTemplate, "{hash}{ext}"},
		},
		{
			Name: "overwrite", Type: pipeline.FieldBool, Cosmetic: true, Default: "false",
			Doc: "Whether files may be replaced that no run of this pipeline wrote.",
		},
	}
}

// belongs says to which formats fields belong that not all have.
var belongs = map[string][]string{
	"layout": {string(sheet.PNG)}, "position": {string(sheet.PNG)},
	"transition": {string(sheet.GIF), string(sheet.WebP)}, "seconds": {string(sheet.GIF), string(sheet.WebP)},
	"fps": {string(sheet.GIF), string(sheet.WebP)}, "speed": {string(sheet.GIF), string(sheet.WebP)},
}

// options reads how sheets are drawn.
func options(c pipeline.Config) (sheet.Options, error) {
	format := c.String("format")
	for _, f := range fields() {
		if formats := belongs[f.Name]; formats != nil && c.IsSet(f.Name) && formats[0] != format && formats[len(formats)-1] != format {
			return sheet.Options{}, c.Errorf(f.Name, 0, "format %s has no %s: take it away, or set format: %s", format, f.Name, formats[0])
		}
	}
	o := sheet.Options{
		Format: sheet.Format(format), Layout: sheet.Layout(c.String("layout")), NoLabels: !c.Bool("labels"),
		Filter: c.String("filter"), MaxSide: int(c.Int("max_side")), Position: c.Float("position"),
		Transition: sheet.Transition(c.String("transition")), Seconds: c.Float("seconds"), FPS: c.Float("fps"), Speed: c.Float("speed"),
	}
	if c.IsSet("position") && o.Layout != sheet.All && o.Layout != sheet.Split {
		return o, c.Errorf("position", 0, "layout %s has no line: take position away, or set layout: split", o.Layout)
	}
	if text := c.String("region"); text != "" {
		r, err := sheet.ParseRegion(text)
		if err != nil {
			return o, c.Errorf("region", 0, "%w", err)
		}
		o.Region = r
	}
	if o.Format == sheet.WebP {
		if _, err := imageio.WebPLibrary(); err != nil {
			return o, c.Errorf("format", 0, "%w: %w", pipeline.ErrLacking, err)
		}
	}
	return o, o.Check()
}

// Stage draws sheets.
type Stage struct {
	env       pipeline.Env
	folder    string // as configured
	root      string // absolute
	name      pipeline.Template
	options   sheet.Options
	overwrite bool
}

var (
	_ pipeline.Stage   = (*Stage)(nil)
	_ pipeline.Writer  = (*Stage)(nil)
	_ pipeline.Coster  = (*Stage)(nil)
	_ pipeline.Batcher = (*Stage)(nil)
)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	s := &Stage{env: e, folder: filepath.Clean(c.String("path")), overwrite: c.Bool("overwrite")}
	var err error
	if s.options, err = options(c); err != nil {
		return nil, err
	}
	if s.root, s.name, err = outputs.Tree(c, e); err != nil {
		return nil, err
	}
	return s, nil
}

// Writes is the folder.
func (s *Stage) Writes() []pipeline.OutputTree {
	return []pipeline.OutputTree{{Root: s.folder, Template: s.name.String()}}
}

// Batch is small: a sheet takes long, and its pictures stay in memory until all of a
// batch are drawn.
func (s *Stage) Batch() pipeline.BatchSpec { return pipeline.BatchSpec{Size: 4} }

// Cost is one sheet at a time, with the source's picture where that is decoded for it.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	if len(batch) == 0 {
		size := image.Pt(4000, 3000)
		return pipeline.Cost{Work: s.options.Bytes(size, size) + decoding(pipeline.SourceInfo{Width: size.X, Height: size.Y, Size: 4 << 20})}
	}
	var work int64
	for _, it := range batch {
		scale, paired := it.Pair()
		src := it.Source()
		switch {
		case paired:
			work = max(work, s.options.Bytes(it.Size().Div(scale), it.Size()))
		case it.Unchanged():
			work = max(work, s.options.Bytes(it.Size(), it.Size()))
		default:
			work = max(work, s.options.Bytes(image.Pt(src.Width, src.Height), it.Size())+decoding(src))
		}
	}
	return pipeline.Cost{Work: work}
}

// decoding is what reading and decoding a source takes: up to 8 bytes a pixel, twice
// while it is turned, and the file.
func decoding(src pipeline.SourceInfo) int64 {
	b := 8 * int64(src.Width) * int64(src.Height)
	if src.Turned {
		b *= 2
	}
	return b + src.Size
}

// Process draws the batch. An item that cannot be drawn fails; Publish says so to the
// item.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	outputs := make([]pipeline.Output, 0, len(batch))
	out := batch[:0:len(batch)]
	for _, it := range batch {
		if _, paired := it.Pair(); !paired && it.Lineage() != "" {
			it.Fail(errors.New("it was cut from its source file, and has none of its own to be compared with: put compare before the stage that cuts, or compare pairs"))
			continue
		}
		outputs = append(outputs, s.output(it))
		out = append(out, it)
	}
	if err := s.env.Publish(ctx, outputs); err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Stage) output(it *pipeline.Item) pipeline.Output {
	ext := "." + string(s.options.Format)
	return pipeline.Output{
		// As a part of its own it is not what a manifest means by the item's file.
		Item: it, Part: "compare", Root: s.root, Template: s.name, Ext: ext, Overwrite: s.overwrite,
		Ident: fmt.Sprintf("sheet %d, %s, %+v", sheet.Version, s.options.Encoder(), s.options),
		Encode: func(ctx context.Context, w io.Writer) error {
			before, after, err := s.pictures(ctx, it)
			if err != nil && ctx.Err() == nil {
				// In its own words: an error of the disk that is read must not end
				// the run as one of the disk that is written to would.
				return errors.New(err.Error())
			}
			if err != nil {
				return err
			}
			_, err = sheet.Encode(ctx, w, before, after, s.options)
			return err
		},
	}
}

// pictures are those that are compared.
func (s *Stage) pictures(ctx context.Context, it *pipeline.Item) (before, after sheet.Picture, err error) {
	now, err := it.Frame(ctx)
	if err != nil {
		return before, after, err
	}
	if _, paired := it.Pair(); paired {
		lq, err := it.PairFrame(ctx)
		if err != nil {
			return before, after, err
		}
		name := "LQ"
		if src, _ := it.PairSource(); src.Name != "" {
			name += ": " + pipeline.EscapeID(src.Name)
		}
		return sheet.Picture{Name: name, Image: lq.Image, ICC: lq.ICC}, sheet.Picture{Name: "HQ: " + it.ID(), Image: now.Image, ICC: now.ICC}, nil
	}
	before, after = sheet.Picture{Name: "Before: " + it.ID()}, sheet.Picture{Name: "After: " + it.ID(), Image: now.Image, ICC: now.ICC}
	if it.Unchanged() {
		before.Image, before.ICC = now.Image, now.ICC
		return before, after, nil
	}
	before.Image, before.ICC, err = s.source(ctx, it)
	return before, after, err
}

// source decodes the item's file once more: its picture from before is no longer there.
func (s *Stage) source(ctx context.Context, it *pipeline.Item) (image.Image, []byte, error) {
	if it.Source().Path == "" {
		return nil, nil, errors.New("it does not come from a file that it could be compared with")
	}
	var b bytes.Buffer
	b.Grow(int(it.Source().Size))
	if err := it.CopySource(ctx, &b); err != nil {
		return nil, nil, err
	}
	img, icc, err := decode(b.Bytes(), s.env.Limits)
	if err != nil {
		return nil, nil, fmt.Errorf("looking at the source file: %w", err)
	}
	return img, icc, nil
}

// decode decodes a file, and its colour profile.
func decode(data []byte, lim pipeline.Limits) (image.Image, []byte, error) {
	h, err := imageio.ReadHeader(data, lim)
	if err != nil {
		return nil, nil, err
	}
	img, err := imageio.Decode(data, h, lim)
	if err != nil {
		return nil, nil, err
	}
	return img, imageio.ICCProfile(data), nil
}
