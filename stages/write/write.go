// Package write is the stage "write": it writes items into a folder and passes
// them on.
//
// An item that still is its source file's picture is copied byte for byte where
// the format allows it; others are encoded, as PNG, which loses nothing, unless
// the pipeline asks for JPEG or WebP. Every file gets its name only when
// it is complete, what an earlier run wrote and is right already is left alone,
// and a file that no run wrote is never replaced unless the pipeline says so.
package write

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
	"github.com/forgepipe/forgepipe/stages/internal/outputs"
)

const (
	sidecarsKeep = "keep"
	sidecarsDrop = "drop"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "write",
		Short: "Writes images into a folder and passes them on.",
		Long: `Writes every image that arrives into a folder, with its sidecars beside it, and passes it on. The tree of the source is kept: sub/photo.jpg becomes sub/photo.png, and its tile at x 512, y 0 becomes sub/photo_x512_y0.png.

With format keep, an image that no stage has changed is copied byte for byte, with its metadata and under its own extension, and everything else is written as PNG. With png, jpeg or webp, everything gets that format; an image that no stage has changed and whose file has it already is copied byte for byte, whatever quality or level say.

PNG loses nothing: 16 bits stay 16 bits, gray stays gray, alpha is kept. JPEG and WebP have 8 bits: samples of 16 are rounded. JPEG has no alpha, so that a picture which is transparent somewhere fails; WebP has no gray and no side above 16383 pixels, and keeps alpha exactly. A lossless WebP keeps every sample of 8 bits, and a picture of 16 fails. WebP needs libwebp, and JPEG with a subsampling other than 4:2:0 needs libturbojpeg.

What is encoded is upright and keeps its colour profile. Other metadata, such as EXIF, is not written, since it may tell where a photograph was taken; a copied file keeps all of it.

The images of a pair are written into the folders hq and lq, under the same name and in the same format. With keep, both are copied when no stage has changed either, each under the extension it has; otherwise they become PNG. A file that has the format already is copied here too, if its own picture is unchanged. A file of a pair that is stored turned (EXIF orientation) is never copied but encoded upright, so that the two match for whoever reads them.

Name is a template: {dir} is the source's folder, {stem} its file name without the extension, {suffix} the place of a tile, {hash} 16 digits made from the whole ID, {ext} the extension. A template under which two images could get the same name is refused. A file that is there already and that no run of this pipeline wrote is left alone, and the image that should have its name fails, unless overwrite is set.`,
		Examples: []pipeline.Example{
			{Doc: "Everything as PNG.", YAML: "write: {path: ./out, format: png}"},
			{Doc: "What no stage has changed as a copy of its file, the rest as PNG.", YAML: "write: {path: ./out, format: keep}"},
			{Doc: "JPEG files in one folder, under names that tell nothing.", YAML: `write: {path: ./out, format: jpeg, quality: 92, subsampling: "4:2:0", name: "{hash}{ext}"}`},
		},
		Fields: []pipeline.Field{
			{
				Name: "path", Type: pipeline.FieldPath, Required: true, Cosmetic: true,
				Doc:      "The folder to write into. It is made if it is missing, and must not lie inside the input folder.",
				Examples: []string{"./out"},
			},
			{
				Name: "format", Type: pipeline.FieldEnum, Enum: []string{formatKeep, formatPNG, formatJPEG, formatWebP}, Default: formatKeep,
				Doc: "keep copies unchanged images in the format they have and writes others as PNG; png, jpeg and webp make everything that.",
			},
			{
				Name: "level", Type: pipeline.FieldInt, Unit: "of zlib", Default: "1", Min: 1, Max: 9,
				Doc: "How hard PNG is compressed. It changes only the size: for photographs, 6 takes more than twice the time of 1 for 12 % less, 8 eight times for 17 %. For png and keep.",
			},
			{
				Name: "quality", Type: pipeline.FieldInt, Unit: "points", Min: 1, Max: 100,
				Doc: "How much is kept, up to 100. Unless given it is 95 for jpeg and 90 for webp; it has no meaning for others, nor for a lossless webp.",
			},
			{
				Name: "subsampling", Type: pipeline.FieldEnum, Enum: []string{"4:4:4", "4:2:2", "4:2:0"}, Default: "4:4:4",
				Doc: "The resolution of colour in a jpeg: full, half across, or half in both directions. Only for jpeg; a lossy webp always has 4:2:0.",
			},
			{
				Name: "lossless", Type: pipeline.FieldBool, Default: "false",
				Doc: "Whether a webp keeps every pixel as it is. Only for webp.",
			},
			{
				Name: "name", Type: pipeline.FieldString, Default: pipeline.DefaultTemplate,
				Doc:      "How files are called within the folder.",
				Examples: []string{pipeline.DefaultTemplate, "{hash}{ext}", "{dir}{stem}/{stem}{suffix}{ext}"},
			},
			{
				Name: "sidecars", Type: pipeline.FieldEnum, Enum: []string{sidecarsKeep, sidecarsDrop}, Default: sidecarsKeep,
				Doc: "Whether the files that travel with an image (captions, metadata) are copied beside it, for a tile as for the whole image.",
			},
			{
				Name: "overwrite", Type: pipeline.FieldBool, Cosmetic: true, Default: "false",
				Doc: "Whether files may be replaced that no run of this pipeline wrote.",
			},
		},
		Version: 1,
		New: func(_ context.Context, c pipeline.Config, e pipeline.Env) (pipeline.Stage, error) {
			return newStage(c, e)
		},
	}
}

// Stage writes items.
type Stage struct {
	env       pipeline.Env
	folder    string // as configured
	root      string // absolute
	name      pipeline.Template
	keep      bool
	enc       encoding
	sidecars  bool
	overwrite bool
}

var (
	_ pipeline.Stage   = (*Stage)(nil)
	_ pipeline.Writer  = (*Stage)(nil)
	_ pipeline.Coster  = (*Stage)(nil)
	_ pipeline.Batcher = (*Stage)(nil)
)

func newStage(c pipeline.Config, e pipeline.Env) (*Stage, error) {
	s := &Stage{
		env: e, folder: filepath.Clean(c.String("path")), keep: c.String("format") == formatKeep,
		sidecars: c.String("sidecars") == sidecarsKeep, overwrite: c.Bool("overwrite"),
	}
	var err error
	if s.enc, err = newEncoding(c); err != nil {
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

// Batch is how many items share one commit of the run store.
func (s *Stage) Batch() pipeline.BatchSpec { return pipeline.BatchSpec{Size: 16} }

// Cost is one picture at a time: what its encoder takes, or the bytes of a file
// that is copied.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	if len(batch) == 0 {
		return pipeline.Cost{Work: s.enc.bytes(image.Pt(4000, 3000))}
	}
	var work int64
	cost := func(size image.Point, src pipeline.SourceInfo, copied bool) {
		if copied {
			work = max(work, src.Size)
		} else {
			work = max(work, s.enc.bytes(size))
		}
	}
	for _, it := range batch {
		kept := s.keeps(it)
		hq, lq := copyable(it)
		cost(it.Size(), it.Source(), kept || s.fits(it.Source(), hq))
		if scale, paired := it.Pair(); paired {
			src, _ := it.PairSource()
			cost(it.Size().Div(scale), src, kept || s.fits(src, lq))
		}
	}
	return pipeline.Cost{Work: work}
}

// Process writes the batch. An item that cannot be written fails; Publish says
// so to the item.
func (s *Stage) Process(ctx context.Context, batch []*pipeline.Item) ([]*pipeline.Item, error) {
	outputs := make([]pipeline.Output, 0, len(batch))
	for _, it := range batch {
		outputs = s.outputs(outputs, it)
	}
	if err := s.env.Publish(ctx, outputs); err != nil {
		return nil, err
	}
	return batch, nil
}

// copyable reports of the item's picture and of its companion whether their
// files are what is to be seen. In a pair a file that is turned only when it is
// shown does not count: who reads both and passes over EXIF would get two
// pictures that do not match.
func copyable(it *pipeline.Item) (hq, lq bool) {
	_, paired := it.Pair()
	src, unchanged := it.PairSource()
	return it.Unchanged() && (!paired || !it.Source().Turned), unchanged && !src.Turned
}

// keeps reports whether the item's files are copied in whatever format they
// have. Of a pair both are, or neither is.
func (s *Stage) keeps(it *pipeline.Item) bool {
	hq, lq := copyable(it)
	_, paired := it.Pair()
	return s.keep && hq && (lq || !paired)
}

// fits reports whether a file can be copied because it has the format that is
// written.
func (s *Stage) fits(src pipeline.SourceInfo, copyable bool) bool {
	return copyable && src.Format == string(s.enc.format)
}

// outputs appends the files that belong to one item.
func (s *Stage) outputs(to []pipeline.Output, it *pipeline.Item) []pipeline.Output {
	o := pipeline.Output{Item: it, Root: s.root, Template: s.name, Overwrite: s.overwrite}
	_, paired := it.Pair()
	if paired {
		o.Root = filepath.Join(s.root, "hq")
	}
	kept := s.keeps(it)
	hqCopy, lqCopy := copyable(it)
	to = append(to, s.picture(o, it.Source(), kept, hqCopy, it.CopySource, it.Frame))
	if paired {
		lq := o
		lq.Root, lq.Part = filepath.Join(s.root, "lq"), "lq"
		src, _ := it.PairSource()
		to = append(to, s.picture(lq, src, kept, lqCopy, it.CopyPairSource, it.PairFrame))
	}
	if !s.sidecars {
		return to
	}
	for _, sc := range it.Source().Sidecars {
		side := o
		side.Part, side.Ext = sc.Ext, sc.Ext
		side.Ident = fmt.Sprintf("copy of %s, %d bytes from %d", sc.Path, sc.Size, sc.Time)
		side.Encode = reading(copySidecar(sc))
		to = append(to, side)
	}
	return to
}

// picture completes the output of a picture, which is copied or encoded.
func (s *Stage) picture(o pipeline.Output, src pipeline.SourceInfo, kept, copyable bool, copyFile encode, frame frame) pipeline.Output {
	o.Ext = s.enc.ext
	if kept {
		o.Ext = ext(src)
	}
	if kept || s.fits(src, copyable) {
		o.Ident = "copy"
		o.Encode = reading(copyDecodable(copyFile, frame))
		return o
	}
	o.Ident = s.enc.ident
	o.Encode = reading(func(ctx context.Context, w io.Writer) error {
		f, err := frame(ctx)
		if err != nil {
			return err
		}
		return s.enc.encode(w, f)
	})
	return o
}

// ext is the extension of a file that is kept as it is: its own, unless that
// says nothing.
func ext(src pipeline.SourceInfo) string {
	switch {
	case imageio.KnownExtension(src.Name):
		return path.Ext(src.Name)
	case src.Format == string(imageio.JPEG):
		return ".jpg"
	}
	return "." + src.Format
}

type (
	encode = func(ctx context.Context, w io.Writer) error
	frame  = func(ctx context.Context) (*pipeline.Frame, error)
)

// copySidecar copies a file that must still be the one that the source saw.
func copySidecar(sc pipeline.Sidecar) encode {
	return func(_ context.Context, w io.Writer) error {
		// O_NONBLOCK: should it have become a named pipe, nothing waits for it.
		f, err := os.OpenFile(sc.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("opening the sidecar: %w", err)
		}
		defer f.Close()
		n, err := io.Copy(w, io.LimitReader(f, sc.Size+1))
		if err != nil {
			return fmt.Errorf("copying the sidecar %s: %w", sc.Path, err)
		}
		info, err := f.Stat()
		if err != nil {
			return fmt.Errorf("looking at the sidecar: %w", err)
		}
		if !info.Mode().IsRegular() || n != sc.Size || info.Size() != sc.Size || info.ModTime().UnixNano() != sc.Time {
			return fmt.Errorf("the sidecar %s changed while the run was going: run again when nothing writes to it", sc.Path)
		}
		return nil
	}
}

// reading keeps an input that cannot be read from ending the run: an error of
// the input's disk is about one item, the same error of the output's disk about
// all.
func reading(f encode) encode {
	return func(ctx context.Context, w io.Writer) error {
		out := &watched{w: w}
		err := f(ctx, out)
		if err == nil || out.err != nil || ctx.Err() != nil {
			return err
		}
		return errors.New(err.Error())
	}
}

// watched remembers that writing failed.
type watched struct {
	w   io.Writer
	err error
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	if err != nil {
		w.err = err
	}
	return n, err
}

// copyDecodable copies a picture's file, and makes sure that it is a whole
// picture: a data set must not get a file that nobody could decode.
func copyDecodable(copyFile encode, frame frame) encode {
	return func(ctx context.Context, w io.Writer) error {
		if err := copyFile(ctx, w); err != nil {
			return err
		}
		_, err := frame(ctx)
		return err
	}
}
