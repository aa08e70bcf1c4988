// Package write is the stage "write": it writes items into a folder and passes
// them on.
//
// An item that still is its source file's picture is copied byte for byte;
// another becomes a PNG, which loses nothing. Every file gets its name only when
// it is complete, what an earlier run wrote and is right already is left alone,
// and a file that no run wrote is never replaced unless the pipeline says so.
package write

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/forgepipe/forgepipe/internal/imageio"
	"github.com/forgepipe/forgepipe/pipeline"
)

const (
	formatKeep = "keep"
	formatPNG  = "png"

	sidecarsKeep = "keep"
	sidecarsDrop = "drop"
)

// Info declares the stage.
func Info() pipeline.Info {
	return pipeline.Info{
		Name:  "write",
		Short: "Writes images into a folder and passes them on.",
		Long: `Writes every image that arrives into a folder, with its sidecars beside it, and passes it on. The tree of the source is kept: sub/photo.jpg becomes sub/photo.png, and its tile at x 512, y 0 becomes sub/photo_x512_y0.png.

With format keep, an image that no stage has changed is copied byte for byte, with its metadata and under its own extension; with png it is copied when it is a PNG. Everything else is written as PNG, which loses nothing: 16 bits stay 16 bits, gray stays gray, alpha is kept, the picture is upright. Metadata is not written then, since it may tell where a photograph was taken.

The images of a pair are written into the folders hq and lq, under the same name and as PNG.

Name is a template: {dir} is the source's folder, {stem} its file name without the extension, {suffix} the place of a tile, {hash} 16 digits made from the whole ID, {ext} the extension. A template under which two images could get the same name is refused. A file that is there already and that no run of this pipeline wrote is left alone, and the image that should have its name fails, unless overwrite is set.`,
		Fields: []pipeline.Field{
			{
				Name: "path", Type: pipeline.FieldPath, Required: true, Cosmetic: true,
				Doc:      "The folder to write into. It is made if it is missing, and must not lie inside the input folder.",
				Examples: []string{"./out"},
			},
			{
				Name: "format", Type: pipeline.FieldEnum, Enum: []string{formatKeep, formatPNG}, Default: formatKeep,
				Doc: "keep copies unchanged images in the format they have and writes others as PNG; png makes everything PNG.",
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
	png       bool
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
		env: e, folder: filepath.Clean(c.String("path")), png: c.String("format") == formatPNG,
		sidecars: c.String("sidecars") == sidecarsKeep, overwrite: c.Bool("overwrite"),
	}
	var err error
	if s.root, err = filepath.Abs(s.folder); err != nil {
		return nil, c.Errorf("path", 0, "finding the folder: %w", err)
	}
	if info, err := os.Stat(s.root); err == nil && !info.IsDir() {
		return nil, c.Errorf("path", 0, "%s is a file: name a folder", s.folder)
	}
	if s.name, err = pipeline.ParseTemplate(c.String("name"), e.Lineage); err != nil {
		return nil, c.Errorf("name", 0, "%w", err)
	}
	return s, nil
}

// Writes is the folder.
func (s *Stage) Writes() []pipeline.OutputTree {
	return []pipeline.OutputTree{{Root: s.folder, Template: s.name.String()}}
}

// Batch is how many items share one commit of the run store.
func (s *Stage) Batch() pipeline.BatchSpec { return pipeline.BatchSpec{Size: 16} }

// encoderBytes is what the PNG encoder takes beside the picture: a zlib writer
// with its window and tables, and some rows.
const encoderBytes = 2 << 20

// Cost is one picture at a time: the copy in RGB that PNG wants of a JPEG's
// samples, or the bytes of a file that is copied.
func (s *Stage) Cost(_ pipeline.Device, batch []*pipeline.Item) pipeline.Cost {
	if len(batch) == 0 {
		return pipeline.Cost{Work: 4*12_000_000 + encoderBytes}
	}
	var work int64
	for _, it := range batch {
		if s.copies(it) {
			work = max(work, it.Source().Size)
		} else {
			size := it.Size()
			work = max(work, 4*int64(size.X)*int64(size.Y)+encoderBytes)
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

// copies reports whether the item's source file is what is to be written.
func (s *Stage) copies(it *pipeline.Item) bool {
	if !it.Unchanged() {
		return false
	}
	_, paired := it.Pair()
	return it.Source().Format == string(imageio.PNG) || !s.png && !paired
}

// outputs appends the files that belong to one item.
func (s *Stage) outputs(to []pipeline.Output, it *pipeline.Item) []pipeline.Output {
	o := pipeline.Output{Item: it, Root: s.root, Template: s.name, Overwrite: s.overwrite}
	_, paired := it.Pair()
	if paired {
		o.Root = filepath.Join(s.root, "hq")
	}
	picture := o
	if s.copies(it) {
		picture.Ext = s.ext(it.Source())
		if paired {
			picture.Ext = ".png" // the name of its companion
		}
		picture.Ident = "copy"
		picture.Encode = reading(copyDecodable(it))
	} else {
		picture.Ext = ".png"
		picture.Ident = imageio.Encoder()
		picture.Encode = reading(encodePNG(it.Frame))
	}
	to = append(to, picture)
	if paired {
		lq := o
		lq.Root, lq.Part, lq.Ext = filepath.Join(s.root, "lq"), "lq", ".png"
		lq.Ident = imageio.Encoder()
		lq.Encode = reading(encodePNG(it.PairFrame))
		to = append(to, lq)
	}
	if !s.sidecars {
		return to
	}
	for _, sc := range it.Source().Sidecars {
		side := o
		side.Part, side.Ext = sc.Ext, sc.Ext
		side.Ident = fmt.Sprintf("copy of %d bytes from %d", sc.Size, sc.Time)
		side.Encode = reading(copySidecar(sc))
		to = append(to, side)
	}
	return to
}

// ext is the extension of a copied file: its own, unless that says nothing or
// the pipeline asks for PNG.
func (s *Stage) ext(src pipeline.SourceInfo) string {
	if !s.png && imageio.KnownExtension(src.Name) {
		return path.Ext(src.Name)
	}
	if src.Format == string(imageio.JPEG) {
		return ".jpg"
	}
	return "." + src.Format
}

type encode = func(ctx context.Context, w io.Writer) error

func encodePNG(frame func(context.Context) (*pipeline.Frame, error)) encode {
	return func(ctx context.Context, w io.Writer) error {
		f, err := frame(ctx)
		if err != nil {
			return err
		}
		return imageio.EncodePNG(w, f.Image, imageio.PNGOptions{})
	}
}

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

// copyDecodable copies the item's file, and makes sure that it is a whole
// picture: a data set must not get a file that nobody could decode.
func copyDecodable(it *pipeline.Item) func(context.Context, io.Writer) error {
	return func(ctx context.Context, w io.Writer) error {
		if err := it.CopySource(ctx, w); err != nil {
			return err
		}
		_, err := it.Frame(ctx)
		return err
	}
}
